"""Alembic's folder: one file for each change of the ledger's schema."""
