"""Rejection notes that came in. Revision 0010, revises 0009."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("node_study", sa.Column("rejected", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "node_rejection",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("instance_key", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("note_key", sa.String(length=64), nullable=False),
        sa.Column("note_study_key", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", "instance_key", "kind", name=op.f("pk_node_rejection")),
    )
    op.create_index(op.f("ix_node_rejection_note_study_key"), "node_rejection", ["note_study_key"], unique=False)
