"""Works that are in a stage for longer than any stage lasts: nobody runs it, and nobody else would say so."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import IN_STAGES, WorkKey, WorkState
from dicomnode.workflow.lateness import stands_since
from dicomnode.workflow.ports import Monotonic

_DAY: Final = 86_400.0


class Lingering:
    """Tells each once, and once a day while it goes on.

    It counts what it has seen itself, by the clock that nobody sets: neither a stop of the node nor a wall clock that is set
    makes a work late.

    Parameters
    ----------
    longest_seconds
        For which a work may be in a stage (`lateness.longest_stage`).
    """

    def __init__(self, ledger: Ledger, longest_seconds: float, *, monotonic: Monotonic, emit: Emit) -> None:
        self._ledger = ledger
        self._longest = longest_seconds
        self._monotonic = monotonic
        self._emit = emit
        #: Since when each is seen, and when it is told next.
        self._seen: dict[tuple[WorkKey, WorkState, datetime], tuple[float, float]] = {}

    def sweep(self) -> None:
        """Look at what is in a stage: one that was begun anew meanwhile counts from then."""
        now, before, self._seen = self._monotonic(), self._seen, {}
        for work in self._ledger.works(IN_STAGES):
            one = (work.key, work.state, stands_since(work))
            since, due = before.get(one, (now, now + self._longest))
            if now > due:
                facts = {"work": work.key.workflow_id, "state": work.state.value, "seconds": round(now - since)}
                self._emit("work.late", level="warning", **facts)
                due = now + _DAY
            self._seen[one] = since, due
