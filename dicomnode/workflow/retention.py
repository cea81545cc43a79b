"""How long data stays: a study that is finished and old enough is shredded: its keys and what they sealed."""

from __future__ import annotations

from datetime import timedelta

from dicomnode.config import RetentionSection
from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import FINAL_STATES
from dicomnode.workflow.ports import Clock


class Retention:
    """Shreds studies that are past their time.

    Parameters
    ----------
    ledger, spool, objects, keys
        Where a study's data and keys are.
    settings
        Days.
    clock, emit
        Wall clock in UTC; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        objects: Objects,
        keys: DataKeys,
        *,
        settings: RetentionSection,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._objects = objects
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._emit = emit

    def sweep(self) -> int:
        """Shred every expired study whose work has ended; returns how many."""
        shredded = 0
        for study_key in self._ledger.expired(self._clock() - timedelta(days=self._settings.days)):
            study = self._ledger.study(study_key)
            if study is None or any(work.state not in FINAL_STATES for work in study.works):
                continue
            try:
                self._shred(study_key)
            except NodeError as error:
                self._emit("retention.failed", level="error", study=study_key, reason=error.code)
                continue
            shredded += 1
        return shredded

    def _shred(self, study_key: str) -> None:
        self._spool.purge(study_key)  # before the keys: an open segment holds its own
        self._keys.shred(study_key)
        self._objects.purge(study_key)
        self._ledger.purge_study(study_key)
        self._emit("study.shredded", study=study_key)
