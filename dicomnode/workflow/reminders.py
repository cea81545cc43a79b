"""What waits for a person is told again and again: results that are held, and studies that are held as a flood."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from dicomnode.events import Emit
from dicomnode.sections import RetentionSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import Mark, WorkState
from dicomnode.workflow.ports import Clock

_DAY: Final = timedelta(days=1)


class Reminder:
    """Tells it, each time that it is asked to.

    Parameters
    ----------
    settings
        How long anything is kept.
    sure
        The time that has surely come, in UTC.
    """

    def __init__(self, ledger: Ledger, settings: RetentionSection, *, sure: Clock, emit: Emit) -> None:
        self._ledger = ledger
        self._days = settings.days
        self._sure = sure
        self._emit = emit

    def sweep(self) -> None:
        """One warning about all that waits; none where nothing does. Results that wait for evidence count after a day."""
        now = self._sure()
        works = [
            work
            for work in self._ledger.works((WorkState.HELD, WorkState.READY))
            if work.state is WorkState.HELD or now - work.created_at > _DAY
        ]
        flood = self._ledger.marked((Mark.FLOOD,))
        studies = {work.key.study_key for work in works} | {study_key for study_key, _ in flood}
        received = [found.last_received_at for key in sorted(studies) if (found := self._ledger.study(key)) is not None]
        if received:
            left = round(self._days - (now - min(received)) / _DAY, 1)
            self._emit("held.waiting", level="warning", works=len(works), studies=len(flood), days=left)
