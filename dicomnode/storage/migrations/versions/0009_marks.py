"""Studies that nothing is made of. Revision 0009, revises 0007."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "node_mark",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("mark", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", name=op.f("pk_node_mark")),
    )
    op.create_index(op.f("ix_node_mark_mark"), "node_mark", ["mark"], unique=False)
