"""What somebody orders of a node. Revision 0005, revises 0004."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "node_order",
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("verb", "study_key", "model", "destination", name=op.f("pk_node_order")),
    )
