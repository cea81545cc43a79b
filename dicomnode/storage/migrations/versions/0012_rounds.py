"""Rounds of storage commitment; nothing waits of works that have ended. Revision 0012, revises 0011."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and cancel deliveries that no try would ever end.

    Where objects were sent again, which requests were made before that is not known: only the last one surely was not. An
    answer to one in between is not taken, and C-FIND shows what is there.
    """
    op.add_column("node_pledge", sa.Column("earlier", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE node_pledge SET earlier = attempts - 1 WHERE resends > 0 AND attempts > 0")
    op.execute(
        "UPDATE node_delivery SET state = 'cancelled' WHERE state = 'waiting' AND result_id IN ("
        "SELECT r.result_id FROM node_result AS r JOIN node_work AS w"
        " ON w.study_key = r.study_key AND w.revision = r.revision AND w.model = r.model"
        " WHERE w.state IN ('done', 'refused', 'failed', 'superseded', 'cancelled'))"
    )
