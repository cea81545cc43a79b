"""The first stage of a work: which series a model gets, its pseudonymous copies sealed, and whose they are in the vault.

May live here: the order of its steps. What can begin meanwhile is begun (`ahead`), what can wait is left for later (`sealing`);
what the other stages do stands in `stages`.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pydicom import Dataset

from dicomnode.encoded import Limits, SeriesReader
from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.events import Emit
from dicomnode.study import InstanceRow, WorkKey, WorkRow, WorkState, input_digest
from dicomnode.workflow.absent import might_be_chosen, stand_ins
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.beforehand import Early
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.damage import lost
from dicomnode.workflow.handover import Handover, Rooms
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.priors import Priors
from dicomnode.workflow.records import Records
from dicomnode.workflow.routing import classes_of, series_of
from dicomnode.workflow.selection import Header, SurveyedSeries, patient_of, relevant, without_pixels
from dicomnode.workflow.whose import count_patients

#: Share of a work's images, made early, from which on all of them are held in memory at once.
_MOST: Final = 0.5
#: Begins the next stage: of a work, with its plan, the identity as the vault has it, and the copies, read.
Begin = Callable[[WorkKey, Mapping[str, Any], bytes, deque[Dataset]], None]
#: Seals copies of a work that are in memory, later.
SealLater = Callable[[WorkKey, deque[bytes]], None]


class Preparing:
    """Prepares works.

    Parameters
    ----------
    rooms
        Storage and one analyst per model.
    records
        Images as received.
    limits
        Budgets of reading.
    early, used
        What of a study was read and de-identified while it came, by instance; and told when a work was made of it.
    begin, seal
        Told of a work whose images are in memory: it can begin, and they are to be sealed when there is time.
    priors
        Has what was fetched for models that want priors; None: no source is configured.
    unchanged
        Ends a work, of an input of this digest, whose results are where they belong already; whether it did. Before that it
        has the plan kept.
    """

    def __init__(
        self,
        rooms: Rooms,
        records: Records,
        *,
        limits: Limits,
        early: Callable[[str], Mapping[str, Early]],
        used: Callable[[str], None],
        begin: Begin,
        seal: SealLater,
        priors: Priors | None,
        unchanged: Callable[[WorkKey, Analyst, str, Callable[[], object]], bool],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._rooms = rooms
        self._records = records
        self._handover = Handover(rooms)
        self._limits = limits
        self._early, self._used = early, used
        self._begin, self._seal = begin, seal
        self._priors = priors
        self._unchanged = unchanged
        self._clock = clock
        self._emit = emit

    def prepare(self, key: WorkKey, work: WorkRow, analyst: Analyst) -> bool:
        """Do the stage; whether the next may follow.

        Raises
        ------
        StudyError
            Why the study cannot be worked on.
        StorageError
            ``sealed-damaged`` where an image of the series was damaged since it came, and did not come again.
        """
        classes = classes_of(work.facts, self._rooms.sop_classes)
        rows = relevant(self._rooms.ledger.instances(key.study_key), classes)
        gone = lost(self._rooms.ledger, key.study_key)
        if _digest(rows) != work.input_digest:
            latest = self._rooms.ledger.latest_revision(key.study_key)
            if any(row.sop_class_uid in classes for row in gone) and latest and latest.revision == key.revision:
                raise StorageError("sealed-damaged")  # else nothing would come in its place, and nobody be told
            self._rooms.ledger.set_work_state(key, WorkState.SUPERSEDED, at=self._clock())
            return False
        made = self._early(key.study_key)
        early = {row.instance_key: made[row.instance_key] for row in rows if _is_made(made, row)}
        by_key = {row.instance_key: row for row in rows}
        wanted = [row for row in gone if row.sop_class_uid in analyst.package.manifest.input.sop_classes]
        chosen = self._select(key, rows, analyst, series_of(work.facts), early=early, gone=wanted)
        self._tell_plan(key, chosen, analyst)
        members = [by_key[instance_key] for instance_key in chosen.instance_keys]
        plan: dict[str, Any] = {
            "series_key": chosen.summary.series_key,
            "digest": _digest(members),
            "images": len(members),
            "records": [_place(row) for row in members],
        }
        if self._priors is not None and self._priors.are_wanted(key.model):
            self._add_priors(key, plan, self._priors)
        if self._unchanged(key, analyst, plan["digest"], partial(self._handover.put_plan, key, plan)):
            self._used(key.study_key)
            return False
        self._handover.put_identity(key, chosen.summary.series_key, self._put_copies(key, plan, members, early))
        self._handover.put_plan(key, plan)
        return True

    def _put_copies(
        self, key: WorkKey, plan: Mapping[str, Any], members: Sequence[InstanceRow], early: Mapping[str, Early]
    ) -> bytes:
        """Seal the copies of a work's images, or begin the next stage first, where all are in memory; whose they are."""
        copier = Copier(self._rooms.analysts[key.model].deidentifier, self._limits)
        count = sum(row.instance_key in early for row in members)
        if count >= _MOST * len(members):
            images: deque[Dataset] = deque()
            copies = deque(self._make_copies(members, copier, early, images))
            identity = _written(copier)
            self._begin(key, plan, identity, images)
            self._seal(key, copies)
        else:
            self._handover.put_copies(key, self._make_copies(members, copier, early, None))
            identity = _written(copier)
        if count:
            self._emit("work.prepared-early", work=key.workflow_id, images=count)
        self._used(key.study_key)
        if invalid := copier.identity.invalid_uids:
            self._emit("study.uids-invalid", level="warning", study=key.study_key, uids=invalid)
        return identity

    def seal_again(self, key: WorkKey) -> None:
        """Copies that were never sealed, of the very records of which they were made.

        Raises
        ------
        StorageError
            ``sealed-damaged`` where a record is not known any more; errors as `prepare`.
        """
        rows = {_place(row): row for row in self._rooms.ledger.instances(key.study_key, None)}
        members = [rows.get(place) for place in self._handover.plan(key).get("records", [None])]
        if None in members:
            raise StorageError("sealed-damaged")
        copier = Copier(self._rooms.analysts[key.model].deidentifier, self._limits)
        self._handover.put_copies(key, self._make_copies([row for row in members if row], copier, {}, None))

    def _add_priors(self, key: WorkKey, plan: dict[str, Any], priors: Priors) -> None:
        """What was fetched is input, too: results are others with other priors."""
        facts = priors.facts(key)
        plan["priors"] = copied = priors.copy(key)
        if copied:
            plan["digest"] = input_digest(
                [("", plan["digest"]), *((str(n), one["digest"]) for n, one in enumerate(copied))]
            )
        facts["priors"] = len(copied)
        self._rooms.ledger.set_work_state(key, WorkState.PREPARING, at=self._clock(), facts=facts)

    def _select(
        self,
        key: WorkKey,
        rows: tuple[InstanceRow, ...],
        analyst: Analyst,
        series: frozenset[str] | None,
        *,
        early: Mapping[str, Early],
        gone: Sequence[InstanceRow],
    ) -> SurveyedSeries:
        headers: list[Header] = []
        patients: set[tuple[str, str]] = set()
        unasked: set[str] = set()
        readers: dict[str, SeriesReader] = defaultdict(lambda: SeriesReader(self._limits))
        for row in rows:
            found = early.get(row.instance_key)
            try:
                dataset = (
                    found.header if found else without_pixels(readers[row.series_key].read(self._records.file(row)))
                )
            except StudyError as error:
                self._records.set_aside(row, error)
                continue
            patients.add(patient_of(dataset))
            if series is not None and row.series_key not in series:  # no rule gives it to this model
                unasked.add(row.series_key)
                continue
            headers.append(Header(series_key=row.series_key, instance_key=row.instance_key, dataset=dataset))
        if (several := count_patients(patients)) > 1:
            raise StudyError("patient-mismatch", patients=several)
        if gone:
            return self._select_of_whole(key, analyst, headers, [row for row in gone if row.series_key not in unasked])
        if not headers:
            raise StudyError("object-malformed", objects=len(rows))
        return analyst.select(headers)

    def _select_of_whole(
        self, key: WorkKey, analyst: Analyst, headers: Sequence[Header], gone: Sequence[InstanceRow]
    ) -> SurveyedSeries:
        """The series that is chosen with what is lost counted as there: nobody is to take what is left for the whole of it.

        Nor another series, which would not be worked on but for the loss.
        """
        added = stand_ins(headers, gone)
        unknown = {row.series_key for row in gone} - {one.series_key for one in added}
        study = self._rooms.ledger.study(key.study_key)
        works = () if study is None else study.works
        earlier = [one for one in works if one.key.model == key.model and one.key.revision < key.revision]
        if any(might_be_chosen(one, gone, earlier, self._earlier_plan) for one in sorted(unknown)):
            raise StorageError("sealed-damaged")
        if not headers:
            raise StudyError("object-malformed", objects=0)
        chosen = analyst.select([*headers, *added])
        if any(row.series_key == chosen.summary.series_key for row in gone):
            raise StorageError("sealed-damaged")
        return chosen

    def _earlier_plan(self, work: WorkRow) -> Mapping[str, Any] | None:
        try:
            return self._handover.plan(work.key)
        except NodeError as error:  # none was chosen
            if error.may_pass:
                raise
            return None

    def _make_copies(
        self,
        members: Sequence[InstanceRow],
        copier: Copier,
        early: Mapping[str, Early],
        images: deque[Dataset] | None,
    ) -> Iterator[bytes]:
        """Copies of a work's images; and what they are when they are read, where a list for that is given."""
        reader = SeriesReader(self._limits)
        for row in members:
            found = early.get(row.instance_key)
            file = partial(self._records.file, row)
            data = copier.copy(file()) if found is None else copier.take(found.copied, file)
            if images is not None:
                images.append(found.image.pop() if found is not None and found.image else reader.read(data))
            yield data

    def _tell_plan(self, key: WorkKey, chosen: SurveyedSeries, analyst: Analyst) -> None:
        """Say what the work will take, before anything of it is copied."""
        if chosen.geometry is not None:
            plan = analyst.foresee(chosen.geometry)
            why = {"reason": plan.reason} if plan.reason else {}
            self._emit(
                "work.planned",
                work=key.workflow_id,
                model=key.model,
                kind=plan.place,
                memory_bytes=plan.memory_bytes,
                device_bytes=plan.device_bytes,
                **why,
            )


def _is_made(made: Mapping[str, Early], row: InstanceRow) -> bool:
    return row.instance_key in made and made[row.instance_key].is_of(row)


def _digest(rows: Sequence[InstanceRow]) -> str:
    return input_digest([(row.instance_key, row.digest) for row in rows])


def _place(row: InstanceRow) -> str:
    return f"{row.address.segment_id}:{row.address.number}"


def _written(copier: Copier) -> bytes:
    """Whose images were copied, as the vault keeps it."""
    return json.dumps(copier.identity.to_json()).encode()
