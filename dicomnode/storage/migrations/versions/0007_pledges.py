"""Storage commitment of results. Revision 0007, revises 0006."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("node_delivery", sa.Column("commitment", sa.String(length=16), nullable=True))
    op.create_table(
        "node_pledge",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", "revision", "model", "destination", name=op.f("pk_node_pledge")),
    )
    op.create_index(op.f("ix_node_pledge_state"), "node_pledge", ["state"], unique=False)
