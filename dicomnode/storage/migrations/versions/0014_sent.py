"""Whether a destination may have an object, whatever became of its delivery. Revision 0014, revises 0013."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column.

    Which tries of before went out is not known any more: whatever was tried and got no answer, or one that is no refusal
    (PS3.7 C), may be there. A rejection note that names too much does no harm.
    """
    op.add_column("node_delivery", sa.Column("sent", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute(
        "UPDATE node_delivery SET sent = (1 = 1) WHERE state = 'confirmed'"
        " OR status IN (0, 1, 263, 273, 278) OR (status BETWEEN 45056 AND 49151)"
        " OR (attempts > 0 AND status IS NULL AND (reason IS NULL OR reason IN ('peer-aborted', 'timeout', 'peer-too-much',"
        " 'duplicate-unproven', 'cancelled', 'results-retracted', 'instances-rejected')))"
    )
