"""Whether a study came straight from a modality. Revision 0006, revises 0005."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what came before nobody knows."""
    op.add_column("node_origin", sa.Column("straight", sa.Boolean(), server_default=sa.false(), nullable=False))
