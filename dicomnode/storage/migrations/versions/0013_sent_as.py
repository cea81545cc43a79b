"""How urgent a study's senders are, beside what a rule says. Revision 0013, revises 0012."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of studies whose rule had its say nobody knows any more."""
    op.add_column("node_origin", sa.Column("sent_as", sa.String(16)))
    op.execute("UPDATE node_origin SET sent_as = priority WHERE NOT ruled")
