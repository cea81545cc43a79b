"""When the first try of an order failed: an export is given up for that age. Revision 0016, revises 0015."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: of tries of before nobody knows, and their age begins with the next that fails."""
    op.add_column("node_order", sa.Column("failed_at", sa.BigInteger(), nullable=True))
