"""Whether a rule says how urgent a study is. Revision 0011, revises 0010."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what came before its senders say it, as they did."""
    op.add_column("node_origin", sa.Column("ruled", sa.Boolean(), server_default=sa.false(), nullable=False))
