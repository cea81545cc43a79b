"""What earlier revisions of a study left at destinations: the report that a new one replaces, the objects to retract.

May live here: looking those up. Only what a destination confirmed is a predecessor, and only a note that it confirmed names
anything; but what it may have is named: that a note names what is not there does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydicom import Dataset

from dicomnode.encoded import Limits, read_part10, scan_header, split_part10
from dicomnode.errors import StorageError
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.report import Predecessor
from dicomnode.storage.rows import ResultRow
from dicomnode.study import DeliveryRow, DeliveryState, Purpose, ResultRole, WorkKey, World
from dicomnode.workflow.handover import Handover, Rooms
from dicomnode.workflow.notes import note_of

_DOCUMENTS: Final = frozenset(
    SOP_CLASSES[form] for form in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D, Form.BASIC_TEXT)
)
#: Marks a note that names what a destination may have and never confirmed.
UNSURE: Final = "unsure"
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

    def delivered(self, key: WorkKey, destination: str, *, own: bool = False, sure: bool = True) -> tuple[Dataset, ...]:
        """Objects of earlier revisions that a destination may have and that no rejection note that it has names.

        With `own`, those of this revision alone; without `sure`, those that it may have and did not confirm: some archives refuse
        a note as a whole where it names one object that they lack.

        Raises
        ------
        StorageError
            Where one cannot be read for now: a note that does not name it would leave it standing for good.
        """
        found: list[Dataset] = []
        for earlier in [key] if own else self._earlier(key):
            rows = self._there(earlier, destination)
            there = {row.result_id for row in rows if (row.state is DeliveryState.CONFIRMED) is sure}
            for row in self._rooms.ledger.results(earlier):
                if row.result_id in there:
                    header = self._header(earlier, row)
                    found += [] if header is None else [header]
        named = self._named(key, destination) if found else frozenset()
        return tuple(header for header in found if header.SOPInstanceUID not in named)

    def arrived(self, key: WorkKey, *, connection: Any = None) -> frozenset[tuple[WorkKey, str, str]]:
        """Work, name and destination of all results of earlier revisions that a destination has or may have."""
        study = self._rooms.ledger.study(key.study_key, connection=connection)
        return frozenset(
            (work.key, row.result_id, row.destination)
            for work in (() if study is None else study.works)
            if work.key.model == key.model and work.key.revision < key.revision
            for row in work.deliveries
            if row.may_be_there and row.is_result
        )

    def gone(self, key: WorkKey, destination: str) -> int:
        """How many objects of a work a destination may have that no note can name: what was sealed of them is lost."""
        return sum(
            not self._rooms.objects.exists(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
            for row in self._there(key, destination)
        )

    def _there(self, key: WorkKey, destination: str) -> list[DeliveryRow]:
        """Results of a work that a destination has or may have."""
        rows = self._rooms.ledger.deliveries(key)
        return [row for row in rows if row.destination == destination and row.may_be_there and row.is_result]

    def _notes(self, key: WorkKey, destination: str) -> frozenset[str]:
        """Names of the rejection notes of a work that a destination confirmed."""
        return frozenset(
            row.result_id
            for row in self._rooms.ledger.deliveries(key)
            if row.destination == destination and row.state is DeliveryState.CONFIRMED and not row.is_result
        )

    def _named(self, key: WorkKey, destination: str) -> frozenset[str]:
        """SOP Instance UIDs in all rejection notes of ours, of whatever revision, that a destination confirmed.

        The notes themselves are read: which results were there when one was made does not follow from its revision, nor
        surely from any time. One that is lost names nothing: that something is named twice does no harm.
        """
        study = self._rooms.ledger.study(key.study_key)
        named: set[str] = set()
        for work in () if study is None else study.works:
            notes = self._notes(work.key, destination) if work.key.model == key.model else frozenset()
            for row in self._rooms.ledger.results(work.key) if notes else ():
                if row.result_id in notes:
                    named |= self._uids(work.key, row)
        return frozenset(named)

    def _uids(self, key: WorkKey, row: ResultRow) -> frozenset[str]:
        """What a note names."""
        data = self._sealed(key, row)
        note = None if data is None else note_of(read_part10(data, Limits()))
        return frozenset() if note is None else frozenset().union(*note.named.values())

    def _earlier(self, key: WorkKey) -> list[WorkKey]:
        """Works of the same model on earlier revisions, the newest first."""
        study = self._rooms.ledger.study(key.study_key)
        works = () if study is None else study.works
        keys = {work.key for work in works if work.key.model == key.model and work.key.revision < key.revision}
        return sorted(keys, key=lambda one: -one.revision)

    def _header(self, key: WorkKey, row: ResultRow) -> Dataset | None:
        """Header of a sealed result; None where it cannot be opened any more."""
        data = self._sealed(key, row)
        if data is None:
            return None
        transfer_syntax_uid, encoded = split_part10(data)
        header = scan_header(encoded, transfer_syntax_uid, Limits())
        kept = Dataset()
        kept.SOPClassUID, kept.SOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
        kept.StudyInstanceUID, kept.SeriesInstanceUID = header.study_instance_uid, header.series_instance_uid
        return kept

    def _sealed(self, key: WorkKey, row: ResultRow) -> bytes | None:
        """A sealed result; None where it cannot be opened any more."""
        try:
            return self._handover.get(key, World.IDENTITY, row.result_id, Purpose.RESULT)
        except StorageError as error:
            if error.may_pass:
                raise
            return None
