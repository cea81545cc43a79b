"""How long data stays: a study that is finished and old enough is shredded: its keys and what they sealed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.sections import RetentionSection
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import FINAL_STATES
from dicomnode.workflow.ports import Clock


class Closing(Protocol):
    """Whoever knows which studies are arriving."""

    def closed(self, study_key: str) -> AbstractContextManager[bool]:
        """Keep new instances of a study waiting; False where anything of it is under way already."""
        ...


class Retention:
    """Shreds studies that are past their time.

    Parameters
    ----------
    ledger, spool, objects, keys
        Where a study's data and keys are.
    activity
        Keeps new instances of a study waiting while it is shredded.
    forget
        Deletes what the durable queue keeps of a study.
    may_go
        Whether the originals of a study are safe elsewhere, where they must be.
    settings
        Days.
    sure, emit
        The time that has surely come, in UTC, by which data grows old; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        objects: Objects,
        keys: DataKeys,
        *,
        activity: Closing,
        forget: Callable[[str], None],
        may_go: Callable[[str], bool] = lambda _: True,
        settings: RetentionSection,
        sure: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._objects = objects
        self._keys = keys
        self._activity = activity
        self._forget = forget
        self._may_go = may_go
        self._settings = settings
        self._sure = sure
        self._emit = emit

    def sweep(self) -> int:
        """Shred every expired study whose work has ended; returns how many."""
        shredded = 0
        self._ledger.forget_procedures(self._limit())
        for study_key in self._ledger.expired(self._limit()):
            try:
                shredded += self._may_go(study_key) and self._shred(study_key)
            except NodeError as error:
                self._emit("retention.failed", level="error", study=study_key, reason=error.code)
                if error.code == "ledger-in-use":  # it would hold up the others as long
                    break
        return shredded

    def _limit(self) -> datetime:
        return self._sure() - timedelta(days=self._settings.days)

    def _shred(self, study_key: str) -> bool:
        """Shred one study, unless anything of it is under way or came in since the list was made."""
        with self._activity.closed(study_key) as closed:
            study = self._ledger.study(study_key)
            if not closed or study is None or study.last_received_at >= self._limit():
                return False
            if any(work.state not in FINAL_STATES for work in study.works):
                return False
            self._spool.purge(study_key)  # before the keys: an open segment holds its own
            self._keys.shred(study_key)
            self._objects.purge(study_key)
            self._forget(study_key)
            self._ledger.purge_study(study_key)
        self._emit("study.shredded", study=study_key)
        return True
