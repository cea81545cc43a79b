"""Originals that came straight from a modality: they may go only when the PACS shows that it holds every one of them.

That it has the results says nothing of the images. May live here: the question and what its answer means; nothing is
deleted. UIDs of patients' objects are compared as blind keys.
"""

from __future__ import annotations

from typing import Final

from dicomnode.errors import NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceState, blind_key
from dicomnode.workflow.ports import Finder, Monotonic

_FIRST_SECONDS: Final = 3600.0
_LONGEST_SECONDS: Final = 86_400.0
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
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._archive = archive
        self._key = derivation_key
        self._monotonic = monotonic
        self._emit = emit
        self._later: dict[str, tuple[float, float]] = {}

    def may_go(self, study_key: str) -> bool:
        """Whether a study may be shredded: it did not come from a modality, or the PACS holds all of it."""
        if not self._ledger.is_straight(study_key):
            return True
        due, wait = self._later.get(study_key, (0.0, _FIRST_SECONDS))
        if self._monotonic() < due:
            return False
        reason = "peer-unreachable"
        try:
            missing = self._missing(study_key)
        except PeerError as error:
            missing, reason = None, error.code
        if missing == 0:
            self._later.pop(study_key, None)
            self._emit("originals.held", study=study_key)
            return True
        self._later[study_key] = (self._monotonic() + wait, min(2 * wait, _LONGEST_SECONDS))
        if missing is None:
            self._emit("originals.unasked", level="warning", study=study_key, reason=reason)
        else:
            self._emit("originals.missing", level="error", study=study_key, missing=missing)
        return False

    def _missing(self, study_key: str) -> int | None:
        """Number of instances that the PACS does not show; None where nobody can be asked.

        Every instance counts, one that was replaced or is in quarantine as well: nobody else may have it. What its owner
        rejected does not, nor the note that says so: a PACS hides both.
        """
        if self._archive is None:
            return None
        rows = [row for row in self._ledger.instances(study_key, None) if row.state not in _REJECTED]
        wanted = {row.instance_key for row in rows} - self._ledger.notes(study_key)
        study_instance_uid = self._study_instance_uid(study_key)
        if study_instance_uid is None:
            return len(wanted)
        query = {"StudyInstanceUID": study_instance_uid}
        for series in self._archive.find("SERIES", {**query, "SeriesInstanceUID": ""}):
            uid = series.get("SeriesInstanceUID", "")
            found = self._archive.find("IMAGE", {**query, "SeriesInstanceUID": uid, "SOPInstanceUID": ""})
            wanted -= {blind_key(self._key, "instance", one.get("SOPInstanceUID", "")) for one in found}
        return len(wanted)

    def _study_instance_uid(self, study_key: str) -> str | None:
        """Out of a record that can be read; None where there is none."""
        for row in self._ledger.instances(study_key, None):
            try:
                return self._spool.read(study_key, row.address)[0].study_instance_uid
            except NodeError:
                continue
        return None
