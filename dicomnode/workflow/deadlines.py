"""Until when results are kept that wait for somebody to let them go.

Pure. As long as their study; what began to be held late, after an outage of the destination, gives people a few days all the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from dicomnode.study import HELD_AT, WorkRow, WorkState

#: Days that are left to people at least, where `retention.days` are more.
HELD_DAYS: Final = 7.0


def kept_until(work: WorkRow, last_received_at: datetime, days: float) -> datetime:
    """When a work that is held, or ready, is given up.

    Parameters
    ----------
    last_received_at
        When the last image of its study came.
    days
        For how long data is kept.
    """
    end = last_received_at + timedelta(days=days)
    since = work.facts.get(HELD_AT)
    if work.state is not WorkState.HELD or not isinstance(since, int):
        return end
    return max(end, datetime.fromtimestamp(since, UTC) + timedelta(days=min(HELD_DAYS, days)))
