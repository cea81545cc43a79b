"""Originals that came straight from a modality: they may go only when the PACS shows that it holds every one of them.

That it has the results says nothing of the images. May live here: the question and what its answer means; nothing is
deleted. UIDs of patients' objects are compared as blind keys. Whoever shreds does not wait for the answer: a PACS may be
silent for as long as it likes, and is asked by a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from dicomnode.errors import Fact, PeerError, StorageError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceState, blind_key
from dicomnode.workflow.ports import Finder, Monotonic
from dicomnode.workflow.records import study_instance_uid

_FIRST_SECONDS: Final = 3600.0
_LONGEST_SECONDS: Final = 86_400.0
#: Why an instance that the PACS shows is not known to be held.
_DOUBT: Final = "same-uid-other-content"
_REJECTED: Final = frozenset({InstanceState.REJECTED, InstanceState.EXPIRED})


class Originals:
    """Knows of which studies the originals may go.

    Parameters
    ----------
    archive
        The PACS; None: there is none, and what came from a modality stays.
    derivation_key
        Key of blind keys.
    monotonic
        Clock: a study that is not there is asked for after an hour, then after twice as long, once a day at least.
    beat
        Told before each study that is asked about.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        *,
        archive: Finder | None,
        derivation_key: bytes,
        monotonic: Monotonic,
        emit: Emit,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._archive = archive
        self._key = derivation_key
        self._monotonic = monotonic
        self._emit = emit
        self._beat = beat
        self._later: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._questions: set[str] = set()
        self._held: dict[str, frozenset[str]] = {}  # what the PACS was found to hold, of a study that may go

    def may_go(self, study_key: str) -> bool:
        """Whether a study may be shredded: it did not come from a modality, or the PACS was found to hold all of it.

        Where that is not known, `ask` asks about it.
        """
        if not self._ledger.is_straight(study_key):
            return True
        with self._lock:
            held = self._held.pop(study_key, None)
        if held is not None and held == self._wanted(study_key) and not self._doubtful(study_key):
            return True
        with self._lock:
            self._questions.add(study_key)
        return False

    def answered(self) -> tuple[str, ...]:
        """Studies of which the PACS was found to hold everything, and that are not shredded yet."""
        with self._lock:
            return tuple(self._held)

    def ask(self) -> None:
        """Ask about what `may_go` did not know; where one question has no answer, the others wait for the next time."""
        with self._lock:
            questions, self._questions = sorted(self._questions), set()
        for study_key in questions:
            self._beat()
            if self._monotonic() >= self._later.get(study_key, (0.0, 0.0))[0] and not self._ask(study_key):
                return

    def _ask(self, study_key: str) -> bool:
        """Ask about one study; whether there was an answer."""
        reason, wanted, doubtful = "peer-unreachable", self._wanted(study_key), self._doubtful(study_key)
        _, wait = self._later.get(study_key, (0.0, _FIRST_SECONDS))
        try:
            missing = self._missing(study_key, wanted, doubtful)
        except (PeerError, StorageError) as error:
            missing, reason = None, error.code
        if missing == 0:
            self._later.pop(study_key, None)
            with self._lock:
                self._held[study_key] = wanted
            self._emit("originals.held", study=study_key)
            return True
        self._later[study_key] = (self._monotonic() + wait, min(2 * wait, _LONGEST_SECONDS))
        if missing is None:
            self._emit("originals.unasked", level="warning", study=study_key, reason=reason)
        else:
            why: dict[str, Fact] = {"reason": _DOUBT} if doubtful else {}
            self._emit("originals.missing", level="error", study=study_key, missing=missing, **why)
        return missing is not None

    def _wanted(self, study_key: str) -> frozenset[str]:
        """Instances that the PACS must hold.

        Every instance counts, one that was replaced or is in quarantine as well: nobody else may have it. What its owner
        rejected does not, nor the note that says so: a PACS hides both. It is looked for by its UID alone, which is enough
        where one was replaced by, or is a duplicate of, another: the pixels are the same, or were no whole ones. Else it
        is `_doubtful`.
        """
        rows = [row for row in self._ledger.instances(study_key, None) if row.state not in _REJECTED]
        return frozenset(row.instance_key for row in rows) - self._ledger.notes(study_key)

    def _doubtful(self, study_key: str) -> frozenset[str]:
        """Instances under whose UID two contents came of which one is in quarantine: C-FIND does not tell which one is held.

        What is in quarantine because its record is damaged is gone, whatever the PACS has.
        """
        rows, damaged = self._ledger.instances(study_key, None), self._ledger.damaged(study_key)
        contents: dict[str, set[str]] = {}
        for row in rows:
            contents.setdefault(row.instance_key, set()).add(row.digest)
        return frozenset(
            row.instance_key
            for row in rows
            if row.state is InstanceState.QUARANTINED
            and row.address not in damaged
            and len(contents[row.instance_key]) > 1
        )

    def _missing(self, study_key: str, wanted: frozenset[str], doubtful: frozenset[str]) -> int | None:
        """Number of instances that the PACS does not show, or of which that proves nothing; None where nobody can be asked."""
        if self._archive is None:
            return None
        rows = self._ledger.instances(study_key, None)
        uid_of_study = study_instance_uid(self._spool, rows)
        if uid_of_study is None:
            return len(wanted)
        query = {"StudyInstanceUID": uid_of_study}
        for series in self._archive.find("SERIES", {**query, "SeriesInstanceUID": ""}):
            uid = series.get("SeriesInstanceUID", "")
            found = self._archive.find("IMAGE", {**query, "SeriesInstanceUID": uid, "SOPInstanceUID": ""})
            wanted -= {blind_key(self._key, "instance", one.get("SOPInstanceUID", "")) for one in found}
        return len(wanted | doubtful)
