"""What waits for a person is told again and again: results that are held, and studies that are held as a flood."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from dicomnode.events import Emit
from dicomnode.sections import RetentionSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import Mark, WorkRow, WorkState
from dicomnode.workflow.deadlines import kept_until
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
        ends = [end for work in works if (end := self._end(work.key.study_key, work)) is not None]
        ends += [end for study_key, _ in flood if (end := self._end(study_key)) is not None]
        if ends:
            left = round((min(ends) - now) / _DAY, 1)
            self._emit("held.waiting", level="warning", works=len(works), studies=len(flood), days=left)

    def _end(self, study_key: str, work: WorkRow | None = None) -> datetime | None:
        """When a work is given up, or a study shredded; None where that is done."""
        study = self._ledger.study(study_key)
        if study is None:
            return None
        if work is None:
            return study.last_received_at + timedelta(days=self._days)
        return kept_until(work, study.last_received_at, self._days)
