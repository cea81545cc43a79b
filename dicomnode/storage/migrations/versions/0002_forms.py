"""Results in several forms, and what destinations are known to take. Revision 0002, revises 0001."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the form of a result, and the table of capabilities."""
    op.add_column("node_result", sa.Column("form", sa.String(length=64), nullable=False, server_default=""))
    op.create_table(
        "node_capability",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=400), nullable=False),
        sa.Column("supported", sa.Boolean(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("destination", "sop_class_uid", name=op.f("pk_node_capability")),
    )
