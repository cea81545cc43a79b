"""Objects that a try is sending right now: what it leaves so when it is killed may be there. Revision 0015, revises 0014."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column: an older version wrote down nothing of the kind."""
    op.add_column("node_delivery", sa.Column("under_way", sa.Boolean(), server_default=sa.false(), nullable=False))
