"""The stages of a work, each idempotent: prepare (select, de-identify), infer (labels, measurements), encode (results).

What one stage hands to the next lies sealed in the object store; what it tells the durable queue is whether to go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.encoded import Limits, encode_part10, read_dataset, read_part10, wrap_part10
from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.events import Emit
from dicomnode.identity import SourceIdentity
from dicomnode.inference.package import Package
from dicomnode.results.encode import EncodedResult
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import ResultRow
from dicomnode.storage.sealed import SealContext, open_sealed, seal
from dicomnode.storage.spool import Spool
from dicomnode.study import (
    FINAL_STATES,
    InstanceRow,
    Purpose,
    WorkKey,
    WorkRow,
    WorkState,
    World,
    blind_key,
    input_digest,
)
from dicomnode.workflow.analysis import Analysis, Analyst, Issue, copy_series, picture_of
from dicomnode.workflow.ports import Clock, Monotonic
from dicomnode.workflow.selection import Header, SurveyedSeries, choose, patient_of, relevant, survey

_STATE_OF: Final = {"prepare": WorkState.PREPARING, "infer": WorkState.INFERRING, "encode": WorkState.ENCODING}
_ORDER: Final = (
    WorkState.QUEUED,
    WorkState.PREPARING,
    WorkState.INFERRING,
    WorkState.ENCODING,
    WorkState.READY,
    WorkState.DELIVERING,
    WorkState.DONE,
)
#: How often a stage is tried that storage failed: what people mend by making space, for about half an hour.
_TRIES: Final = {"storage-full": 64, "ledger-failed": 64, "storage-failed": 3}
_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What the stages work with."""

    spool: Spool
    ledger: Ledger
    objects: Objects
    keys: DataKeys
    derivation_key: bytes
    analysts: Mapping[str, Analyst]

    @property
    def sop_classes(self) -> frozenset[str]:
        """SOP Classes that any model looks at."""
        return frozenset().union(*(analyst.package.manifest.input.sop_classes for analyst in self.analysts.values()))


class Stages:
    """Runs the stages of works.

    Parameters
    ----------
    rooms
        Storage and one analyst per model.
    tree
        Configuration.
    released
        Called with a study key when its results are ready.
    pause
        Waits some seconds before a stage is tried again; returns True, and early, when the node ends.
    report
        Told of an exception that nobody foresaw.
    """

    def __init__(
        self,
        rooms: Rooms,
        tree: Config,
        *,
        released: Callable[[str], None],
        pause: Callable[[float], bool],
        report: Callable[[str, BaseException], None],
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._rooms = rooms
        self._tree = tree
        self._limits = limits_of(tree)
        self._released = released
        self._pause = pause
        self._report = report
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        self._latest: tuple[WorkKey, Analysis] | None = None
        self._running: dict[WorkKey, float] = {}

    def run(self, stage: str, key: WorkKey) -> bool:
        """Run one stage; whether the next may follow. Never raises: what went wrong is the work's state."""
        try:
            return self._run(stage, key)
        except NodeError as error:
            self._end(key, error)
        except Exception as error:  # noqa: BLE001 - the border: whatever it is becomes a coded state
            self._report(stage, error)
            self._end(key, NodeError("internal", stage=stage))
        return False

    def _run(self, stage: str, key: WorkKey) -> bool:
        tried = 0
        while True:
            self._running[key] = self._monotonic()
            try:
                return self._once(stage, key)
            except StorageError as error:
                tried += 1
                if tried >= _TRIES.get(error.code, 1):
                    raise
                self._emit("stage.again", level="warning", work=key.workflow_id, stage=stage, reason=error.code)
            finally:
                del self._running[key]
            if self._pause(min(_PAUSE_SECONDS * tried, _LONGEST_PAUSE_SECONDS)):
                return False  # the node ends; the next start takes the work up in the state that it has

    def overdue(self, seconds: float) -> tuple[WorkKey, ...]:
        """Works with a stage that has been running for longer than `seconds`."""
        now = self._monotonic()
        return tuple(key for key, began in tuple(self._running.items()) if now - began > seconds)

    def _once(self, stage: str, key: WorkKey) -> bool:
        work = self._rooms.ledger.work(key)
        state = _STATE_OF[stage]
        if work is None or work.state not in _ORDER:
            return False
        if _ORDER.index(work.state) > _ORDER.index(state):
            return work.state in _STATE_OF.values()  # it was done before a crash
        latest = self._rooms.ledger.latest_revision(key.study_key)
        if latest is not None and latest.revision != key.revision:
            self._rooms.ledger.set_work_state(key, WorkState.SUPERSEDED, at=self._clock())
            return False
        self._rooms.ledger.set_work_state(key, state, at=self._clock())
        self._emit("stage.begun", work=key.workflow_id, stage=stage)
        began = self._monotonic()
        going_on = {"prepare": self._prepare, "infer": self._infer, "encode": self._encode}[stage](key, work)
        seconds = self._monotonic() - began
        self._rooms.ledger.record_stage(key, stage, seconds)
        self._emit("stage.ended", work=key.workflow_id, stage=stage, seconds=round(seconds, 3))
        return going_on

    def _end(self, key: WorkKey, error: NodeError) -> None:
        ours = not isinstance(error, StudyError)
        state = WorkState.FAILED if ours else WorkState.REFUSED
        level = "error" if ours else "warning"
        try:
            work = self._rooms.ledger.work(key)
            if work is not None and work.state in FINAL_STATES:  # superseded or past its deadline meanwhile
                self._emit("work.overtaken", work=key.workflow_id, state=work.state.value)
                return
            self._rooms.ledger.set_work_state(key, state, at=self._clock(), reason=error.code, facts=dict(error.facts))
        except NodeError as second:
            self._emit("ledger.failed", level="error", work=key.workflow_id, reason=second.code)
        self._emit(f"work.{state.value}", level=level, work=key.workflow_id, model=key.model, reason=error.code)

    def _analyst(self, key: WorkKey) -> Analyst:
        analyst = self._rooms.analysts.get(key.model)
        if analyst is None:  # taken out of the configuration since
            raise NodeError("model-not-found")
        return analyst

    # prepare -----------------------------------------------------------------------------------------------------

    def _prepare(self, key: WorkKey, work: WorkRow) -> bool:
        rows = relevant(self._rooms.ledger.instances(key.study_key), self._rooms.sop_classes)
        if input_digest([(row.instance_key, row.digest) for row in rows]) != work.input_digest:
            self._rooms.ledger.set_work_state(key, WorkState.SUPERSEDED, at=self._clock())
            return False
        analyst = self._analyst(key)
        by_key = {row.instance_key: row for row in rows}
        chosen = self._select(key, rows, analyst.package)
        members = [by_key[instance_key] for instance_key in chosen.instance_keys]
        copied = copy_series(self._read_all(members), analyst.deidentifier)
        if count := copied.identity.invalid_uids:
            self._emit("study.uids-invalid", level="warning", study=key.study_key, uids=count)
        for row, copy in zip(members, copied.datasets, strict=True):
            data = encode_part10(copy, transfer_syntax_uid=str(copy.file_meta.TransferSyntaxUID))
            self._put(key, World.PSEUDONYM, row.instance_key, Purpose.COPY, data)
        identity = json.dumps(copied.identity.to_json()).encode()
        self._keep_identity(key, chosen.summary.series_key, identity)
        plan = {
            "series_key": chosen.summary.series_key,
            "instances": [row.instance_key for row in members],
            "digest": input_digest([(row.instance_key, row.digest) for row in members]),
        }
        self._put(key, World.PSEUDONYM, self._name(key, "plan"), Purpose.COPY, json.dumps(plan).encode())
        return True

    def _keep_identity(self, key: WorkKey, series_key: str, identity: bytes) -> None:
        data_key = self._rooms.keys.get_or_create(key.study_key, World.IDENTITY)
        context = _vault_context(key, series_key)
        sealed = seal(data_key.key, identity, context=context, key_id=data_key.key_id)
        self._rooms.ledger.put_vault(key.study_key, series_key, key.revision, sealed)

    def _identity(self, key: WorkKey, series_key: str) -> bytes:
        sealed = self._rooms.ledger.vault(key.study_key, series_key, key.revision)
        if sealed is None:
            raise StorageError("sealed-damaged")
        context = _vault_context(key, series_key)
        return open_sealed(self._rooms.keys.get(key.study_key, World.IDENTITY).key, sealed, context=context)

    def _select(self, key: WorkKey, rows: tuple[InstanceRow, ...], package: Package) -> SurveyedSeries:
        headers: list[Header] = []
        patients: set[tuple[str, str]] = set()
        for row in rows:
            try:
                dataset = self._read(row)
            except StudyError as error:
                self._set_aside(key, row, error)
                continue
            patients.add(patient_of(dataset))
            headers.append(
                Header(series_key=row.series_key, instance_key=row.instance_key, dataset=without_pixels(dataset))
            )
        if len(patients) > 1:
            raise StudyError("patient-mismatch", patients=len(patients))
        if not headers:
            raise StudyError("object-malformed", objects=len(rows))
        rule = package.manifest.input
        return choose(survey(headers, rule), rule)

    def _set_aside(self, key: WorkKey, row: InstanceRow, error: StudyError) -> None:
        self._emit("object.unreadable", level="warning", study=key.study_key, reason=error.code)
        self._rooms.ledger.quarantine(key.study_key, "instance", error.code, self._clock(), address=row.address)

    def _read(self, row: InstanceRow) -> Dataset:
        metadata, encoded = self._rooms.spool.read(row.study_key, row.address)
        return read_dataset(encoded, metadata.transfer_syntax_uid, self._limits)

    def _read_all(self, rows: list[InstanceRow]) -> Iterator[Dataset]:
        return (self._read(row) for row in rows)

    # infer -------------------------------------------------------------------------------------------------------

    def _infer(self, key: WorkKey, work: WorkRow) -> bool:
        analyst = self._analyst(key)
        plan = self._plan(key)
        identity = SourceIdentity.from_json(json.loads(self._identity(key, plan["series_key"])))
        issue = Issue(identity=identity, input_digest=plan["digest"])
        analysis = analyst.analyse(self._copies(key), issue=issue)
        self._put(key, World.PSEUDONYM, self._name(key, "labels"), Purpose.LABELS, analysis.packed_labels())
        findings = json.dumps(analysis.findings.to_json()).encode()
        self._put(key, World.PSEUDONYM, self._name(key, "findings"), Purpose.FINDINGS, findings)
        self._latest = (key, analysis)
        return True

    def _copies(self, key: WorkKey) -> list[Dataset]:
        plan = self._plan(key)
        return [
            read_part10(self._get(key, World.PSEUDONYM, name, Purpose.COPY), self._limits) for name in plan["instances"]
        ]

    # encode ------------------------------------------------------------------------------------------------------

    def _encode(self, key: WorkKey, work: WorkRow) -> bool:
        analyst = self._analyst(key)
        analysis = self._recall(key, analyst)
        plan = self._plan(key)
        vault = self._identity(key, plan["series_key"])
        results = analyst.encode(
            analysis,
            picture_of(analysis),
            identity=SourceIdentity.from_json(json.loads(vault)),
            input_digest=plan["digest"],
        )
        rows = [self._keep(key, result) for result in results]
        now = self._clock()
        destinations = [destination.name for destination in self._tree.destinations]
        with self._rooms.ledger.transaction() as connection:
            self._rooms.ledger.record_results(key, rows, destinations, now, connection=connection)
            self._rooms.ledger.set_work_state(key, WorkState.READY, at=now, connection=connection)
        self._latest = None
        self._released(key.study_key)
        return True

    def _keep(self, key: WorkKey, result: EncodedResult) -> ResultRow:
        result_id = blind_key(self._rooms.derivation_key, "result", key.workflow_id, result.role.value)
        part10 = wrap_part10(
            result.encoded,
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
        )
        self._put(key, World.IDENTITY, result_id, Purpose.RESULT, part10)
        return ResultRow(
            result_id=result_id,
            role=result.role,
            sop_class_uid=result.sop_class_uid,
            digest=result.digest,
            length=len(result.encoded),
        )

    def _recall(self, key: WorkKey, analyst: Analyst) -> Analysis:
        if self._latest is not None and self._latest[0] == key:
            return self._latest[1]
        labels = self._get(key, World.PSEUDONYM, self._name(key, "labels"), Purpose.LABELS)
        findings = self._get(key, World.PSEUDONYM, self._name(key, "findings"), Purpose.FINDINGS)
        return analyst.recall(self._copies(key), labels, json.loads(findings))

    # sealed hand-over --------------------------------------------------------------------------------------------

    def _plan(self, key: WorkKey) -> dict[str, Any]:
        data = self._get(key, World.PSEUDONYM, self._name(key, "plan"), Purpose.COPY)
        plan: dict[str, Any] = json.loads(data)
        return plan

    def _name(self, key: WorkKey, what: str) -> str:
        return f"{key.workflow_id}-{what}"

    def _put(self, key: WorkKey, world: World, name: str, purpose: Purpose, data: bytes) -> None:
        self._rooms.objects.put(key.study_key, world, name, purpose, data)

    def _get(self, key: WorkKey, world: World, name: str, purpose: Purpose) -> bytes:
        return self._rooms.objects.get(key.study_key, world, name, purpose)


def _vault_context(key: WorkKey, series_key: str) -> SealContext:
    return SealContext(study_key=key.study_key, object_id=f"{series_key}-{key.revision}", purpose=Purpose.VAULT)


def limits_of(tree: Config) -> Limits:
    """Budgets for reading, out of the configuration."""
    return Limits(
        header_scan_bytes=tree.intake.header_scan_bytes,
        maximum_nesting=tree.reading.maximum_nesting,
        maximum_items=tree.reading.maximum_items,
        maximum_inflated_bytes=tree.reading.maximum_inflated_bytes,
    )


def without_pixels(dataset: Dataset) -> Dataset:
    """The same Data Set without its bulk: hundreds of headers are held at a time."""
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "EncapsulatedDocument"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset
