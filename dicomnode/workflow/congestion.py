"""How long studies wait for their turn, and whose studies are refused meanwhile: a queue that does not move grows no more."""

from __future__ import annotations

from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import PRIORITIES
from dicomnode.workflow.activity import NOBODY, ActivityTable
from dicomnode.workflow.ports import Clock


class Congestion:
    """Says whom to refuse; works alone count that wait for their turn.

    Works wait by priority, so that those of a sender stand behind what is as urgent as they are, or more: it is refused
    where any of that waits for too long. Research may wait for long, and no STAT sender is refused for it.

    Parameters
    ----------
    activity
        Told whom to refuse; receptions ask it.
    longest_seconds
        For which a work may wait; 0: for any time.
    sure
        The time that has surely come, in UTC: a clock that jumps ahead refuses nobody.
    """

    def __init__(
        self, ledger: Ledger, activity: ActivityTable, longest_seconds: float, *, sure: Clock, emit: Emit
    ) -> None:
        self._ledger = ledger
        self._activity = activity
        self._longest = longest_seconds
        self._sure = sure
        self._emit = emit

    def sweep(self) -> None:
        """Look at what waits; told when it begins that anybody is refused, when it changes, and when it ends."""
        if not self._longest:
            return
        now = self._sure()
        ages = [((now - since).total_seconds(), priority) for since, priority in self._ledger.waiting_works()]
        refused_from = min((priority for age, priority in ages if age > self._longest), default=NOBODY)
        if refused_from == self._activity.refused_from:
            return
        self._activity.refused_from = refused_from
        if refused_from == NOBODY:
            self._emit("queue.recovered", works=len(ages))
            return
        oldest, kind = round(max(age for age, _ in ages)), PRIORITIES[refused_from]
        self._emit("queue.late", level="error", reason="queue-late", kind=kind, works=len(ages), seconds=oldest)
