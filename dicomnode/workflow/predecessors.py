"""What earlier revisions of a study left at destinations: the report that a new one replaces, the objects to retract.

May live here: looking those up. Only what a destination confirmed is a predecessor: what never arrived replaces nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset

from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import StorageError
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.report import Predecessor
from dicomnode.storage.rows import ResultRow
from dicomnode.study import DeliveryState, Purpose, ResultRole, WorkKey, World
from dicomnode.workflow.handover import Handover, Rooms

_DOCUMENTS: Final = frozenset(
    SOP_CLASSES[form] for form in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D, Form.BASIC_TEXT)
)
_REPORTS: Final = (ResultRole.REPORT, ResultRole.OUTCOME)


class Predecessors:
    """Looks up results of earlier revisions of a study by the same model."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._handover = Handover(rooms)

    def report(self, key: WorkKey) -> Predecessor | None:
        """The newest report or outcome of an earlier revision that a destination confirmed."""
        return next(self.reports(key), None)

    def reports(self, key: WorkKey) -> Iterator[Predecessor]:
        """All of them, the newest first."""
        for earlier in self._earlier(key):
            confirmed = {
                row.result_id
                for row in self._rooms.ledger.deliveries(earlier)
                if row.state is DeliveryState.CONFIRMED and row.role in _REPORTS
            }
            for row in self._rooms.ledger.results(earlier):
                header = self._header(earlier, row) if row.result_id in confirmed else None
                if header is not None and row.sop_class_uid in _DOCUMENTS:
                    yield Predecessor(
                        study_instance_uid=str(header.StudyInstanceUID),
                        series_instance_uid=str(header.SeriesInstanceUID),
                        sop_instance_uid=str(header.SOPInstanceUID),
                        sop_class_uid=row.sop_class_uid,
                    )

    def delivered(self, key: WorkKey, destination: str, *, own: bool = False) -> tuple[Dataset, ...]:
        """Objects of earlier revisions that a destination confirmed and that no rejection note retracted there.

        With `own`, those of this revision alone: none where the note of a later one retracted them.

        Raises
        ------
        StorageError
            Where one cannot be read for now: a note that does not name it would leave it standing for good.
        """
        found: list[Dataset] = []
        if own and any(self._is_rejected(later, destination) for later in self._later(key)):
            return ()
        for earlier in [key] if own else self._earlier(key):
            rows = [row for row in self._rooms.ledger.deliveries(earlier) if row.destination == destination]
            confirmed = {row.result_id: row.role for row in rows if row.state is DeliveryState.CONFIRMED}
            for row in self._rooms.ledger.results(earlier):
                if confirmed.get(row.result_id) not in (None, ResultRole.REJECTION):
                    header = self._header(earlier, row)
                    found += [] if header is None else [header]
            if ResultRole.REJECTION in confirmed.values():
                break  # what came before it was retracted by it
        return tuple(found)

    def gone(self, key: WorkKey, destination: str) -> int:
        """How many objects of a work a destination has that no note can name: what was sealed of them is lost."""
        return sum(
            not self._rooms.objects.exists(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
            for row in self._rooms.ledger.deliveries(key)
            if row.destination == destination and row.state is DeliveryState.CONFIRMED and row.is_result
        )

    def _is_rejected(self, key: WorkKey, destination: str) -> bool:
        """Whether a destination confirmed a rejection note of this revision: it names all that was there before."""
        return any(
            row.state is DeliveryState.CONFIRMED and row.role is ResultRole.REJECTION
            for row in self._rooms.ledger.deliveries(key)
            if row.destination == destination
        )

    def _later(self, key: WorkKey) -> list[WorkKey]:
        study = self._rooms.ledger.study(key.study_key)
        works = () if study is None else study.works
        return [work.key for work in works if work.key.model == key.model and work.key.revision > key.revision]

    def _earlier(self, key: WorkKey) -> list[WorkKey]:
        """Works of the same model on earlier revisions, the newest first."""
        study = self._rooms.ledger.study(key.study_key)
        works = () if study is None else study.works
        keys = {work.key for work in works if work.key.model == key.model and work.key.revision < key.revision}
        return sorted(keys, key=lambda one: -one.revision)

    def _header(self, key: WorkKey, row: ResultRow) -> Dataset | None:
        """Header of a sealed result; None where it cannot be opened any more."""
        try:
            data = self._handover.get(key, World.IDENTITY, row.result_id, Purpose.RESULT)
        except StorageError as error:
            if error.may_pass:
                raise
            return None
        transfer_syntax_uid, encoded = split_part10(data)
        header = scan_header(encoded, transfer_syntax_uid, Limits())
        kept = Dataset()
        kept.SOPClassUID, kept.SOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
        kept.StudyInstanceUID, kept.SeriesInstanceUID = header.study_instance_uid, header.series_instance_uid
        return kept
