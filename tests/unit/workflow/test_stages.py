"""The stages over a real ledger, spool and object store, with a tiny phantom and the stand-in for a network."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import KeyStoreError, NodeError, StorageError
from dicomnode.inference import standin
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import (
    WORK_STAGES,
    DeliveryState,
    Purpose,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
    World,
    blind_key,
    input_digest,
)
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.handover import Handover
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.stages import Rooms, Stages
from tests.unit.workflow.samples import (
    EXPLICIT,
    KEY,
    MODEL,
    Events,
    Time,
    encoded,
    metadata,
    study_key_of,
    tiny_series,
)

TREE = Config.model_validate({"destinations": [{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}]})


class Bench:
    """Rooms with a study in them."""

    def __init__(
        self, *, ledger: Ledger, spool: Spool, objects: Objects, keys: DataKeys, time: Time, events: Events
    ) -> None:
        package = standin.package()
        pseudonyms = Pseudonyms(KEY, project="tests", default_issuer="", maximum_date_shift_days=3650)
        self.analyst = Analyst(
            package,
            standin.StandInEngine(package.manifest),
            Deidentifier(AI, pseudonyms),
            tree=TREE,
            derivation_key=KEY,
            issued_at=lambda key: datetime(2026, 3, 1, tzinfo=UTC),
        )
        self.rooms = Rooms(
            spool=spool,
            ledger=ledger,
            objects=objects,
            keys=keys,
            derivation_key=KEY,
            analysts={MODEL: self.analyst},
        )
        self.ledger, self.time, self.events = ledger, time, events
        self.released: list[str] = []
        self.pauses: list[float] = []
        self.ends = False
        self.reported: list[tuple[str, BaseException]] = []
        self.key = WorkKey(study_key="", revision=1, model=MODEL)

    def stages(self, rooms: Rooms | None = None, **options: Any) -> Stages:
        """Stages as a fresh process has them."""
        return Stages(
            rooms or self.rooms,
            TREE,
            released=self.released.append,
            pause=self.pause,
            report=lambda stage, error: self.reported.append((stage, error)),
            clock=self.time.now,
            monotonic=self.time.monotonic,
            emit=self.events,
            **options,
        )

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return self.ends

    def receive(
        self,
        images: list[Dataset],
        *,
        revision: int = 1,
        broken: bytes | None = None,
        facts: dict[str, Any] | None = None,
    ) -> WorkKey:
        """Images of one study, and a queued work on them."""
        study_key = study_key_of(images[0])
        for image in images:
            data = encoded(image) if broken is None or image is not images[-1] else broken
            about = metadata(image, data)
            address = self.rooms.spool.append(study_key, about, data)
            self.ledger.record_instances([row_of(KEY, study_key, address, about)])
        rows = self.ledger.instances(study_key)
        digest = input_digest([(row.instance_key, row.digest) for row in rows])
        self.ledger.open_revision(study_key, digest, self.time.now())
        self.key = WorkKey(study_key=study_key, revision=revision, model=MODEL)
        self.ledger.create_work(self.key, digest, self.time.now(), facts=facts)
        return self.key

    def work(self, key: WorkKey | None = None) -> WorkRow:
        found = self.ledger.work(key or self.key)
        assert found is not None
        return found

    @property
    def ended(self) -> tuple[WorkState, str | None]:
        return self.work().state, self.work().reason

    def results(self) -> dict[ResultRole, bytes]:
        return {
            row.role: self.rooms.objects.get(self.key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
            for row in self.ledger.results(self.key)
        }


@pytest.fixture
def bench(*, ledger: Ledger, spool: Spool, objects: Objects, keys: DataKeys, time: Time, events: Events) -> Bench:
    return Bench(ledger=ledger, spool=spool, objects=objects, keys=keys, time=time, events=events)


@pytest.fixture
def images() -> list[Dataset]:
    return tiny_series()


def test_a_study_goes_all_the_way(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    stages = bench.stages()
    for name in WORK_STAGES:
        assert stages.run(name, key)
    assert bench.ended == (WorkState.READY, None)
    assert bench.released == [key.study_key]
    assert set(bench.work().stages) >= set(WORK_STAGES)
    results = bench.results()
    assert set(results) == set(list(ResultRole)[:4])
    for data in results.values():
        found = read_part10(data, Limits())
        assert str(found.PatientName) == str(images[0].PatientName)
        assert found.StudyInstanceUID == images[0].StudyInstanceUID
    assert {row.state for row in bench.ledger.deliveries(key)} == {DeliveryState.WAITING}
    assert bench.events.names.count("stage.ended") == 3
    assert "study.uids-invalid" not in bench.events.names
    assert "Phantom" not in repr(bench.events.seen)


def test_a_sources_uid_that_is_none_stays_what_it_is_in_the_results_and_is_told(
    bench: Bench, images: list[Dataset]
) -> None:
    with hushed():
        for image in images:
            image.StudyInstanceUID = "1.2.826.0.1.007.4"
    key = bench.receive(images)
    for name in WORK_STAGES:
        assert bench.stages().run(name, key), bench.ended
    assert {read_part10(data, Limits()).StudyInstanceUID for data in bench.results().values()} == {"1.2.826.0.1.007.4"}
    assert bench.events.facts("study.uids-invalid") == [{"study": key.study_key, "uids": 1}]


def test_a_node_that_dies_at_the_end_of_every_stage_makes_the_same_results(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    for name in WORK_STAGES:
        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(bench.ledger, "record_stage", _dies)
            bench.stages().run(name, key)
        went_on = bench.stages().run(name, key)
        assert went_on == (name != WORK_STAGES[-1]), "the last one was done, and nothing follows it"
    assert bench.ended == (WorkState.READY, None)
    again = bench.results()
    assert again
    for name in WORK_STAGES:
        assert not bench.stages().run(name, key), "it is past them"
    assert bench.results() == again
    assert bench.ended == (WorkState.READY, None)


def test_what_a_study_will_take_is_told_before_it_is_copied(bench: Bench, images: list[Dataset]) -> None:
    assert bench.stages().run("prepare", bench.receive(images))
    (told,) = bench.events.facts("work.planned")
    assert told["kind"] == "cpu"
    assert int(told["memory_bytes"]) > sum(len(image.PixelData) for image in images)
    assert told["device_bytes"] == 0


def test_a_study_that_takes_too_much_is_refused_before_it_is_copied(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what its geometry makes of it on the network's grid, not by its own voxels alone."""
    for image in images:
        image.PixelSpacing = [40, 40]
    voxels = sum(len(image.PixelData) for image in images)
    models = TREE.models.model_copy(update={"maximum_memory_bytes": 4 * voxels})
    bench.analyst._tree = TREE.model_copy(update={"models": models})
    monkeypatch.setattr(Handover, "put_copies", _dies)
    assert not bench.stages().run("prepare", bench.receive(images))
    assert bench.ended == (WorkState.REFUSED, "memory-too-large")
    assert int(bench.work().facts["needed"]) > 4 * voxels


class Pair(standin.StandInEngine):
    """An engine for two at once that waits, in every study, for the other one to be there."""

    places = 2

    def __init__(self) -> None:
        super().__init__(standin.package().manifest)
        self.both = Barrier(2, timeout=60)

    def run(self, batch: Any) -> Any:
        self.both.wait()
        return super().run(batch)


def another_study(images: list[Dataset]) -> list[Dataset]:
    for number, image in enumerate(images):
        image.StudyInstanceUID, image.SeriesInstanceUID = "2.25.71", "2.25.72"
        image.SOPInstanceUID = f"2.25.73.{number}"
    return images


def test_networks_on_two_devices_run_at_once_and_what_is_python_takes_turns(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.analyst._engine = Pair()
    assert bench.analyst.places == 2
    works = [bench.receive(images), bench.receive(another_study(tiny_series()))]
    stages = bench.stages()
    inside: list[str] = []
    most: list[int] = []
    recalled: list[WorkKey] = []
    for name in ("_prepare", "_encode"):
        act = getattr(stages, name)

        def counted(*given: Any, act: Any = act, name: str = name) -> Any:
            inside.append(name)
            most.append(len(inside))
            try:
                return act(*given)
            finally:
                inside.pop()

        monkeypatch.setattr(stages, name, counted)
    monkeypatch.setattr(stages.encoding, "recall", lambda key, *_: recalled.append(key))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda key: [stages.run(name, key) for name in WORK_STAGES], works)) == [[True] * 3] * 2
    assert [bench.work(key).state for key in works] == [WorkState.READY] * 2
    assert max(most) == 1
    assert recalled == []
    assert stages._latest == {}


def test_of_works_that_were_overtaken_no_more_is_kept_than_run_at_once(bench: Bench, images: list[Dataset]) -> None:
    stages = bench.stages()
    for made in (images, another_study(tiny_series())):
        key = bench.receive(made)
        assert all(stages.run(name, key) for name in WORK_STAGES[:2])
    assert list(stages._latest) == [key]


def _dies(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_stage_that_was_done_lets_the_next_one_follow(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    bench.ledger.set_work_state(key, WorkState.PREPARING, at=bench.time.now())
    bench.ledger.set_work_state(key, WorkState.INFERRING, at=bench.time.now())
    assert bench.stages().run("prepare", key)
    assert "stage.begun" not in bench.events.names


def test_a_work_that_is_not_there_or_has_ended_does_nothing(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    assert not bench.stages().run("prepare", replace(key, revision=9))
    bench.ledger.set_work_state(key, WorkState.FAILED, at=bench.time.now(), reason="timeout")
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "timeout")
    assert bench.events.names == []


def test_the_first_of_two_revisions_is_superseded(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images[:-1])
    second = bench.receive(images[-1:], revision=2)
    assert not bench.stages().run("prepare", first)
    assert bench.work(first).state is WorkState.SUPERSEDED
    assert bench.stages().run("prepare", second)


def test_a_work_looks_at_no_series_but_those_that_its_rules_gave_it(bench: Bench, images: list[Dataset]) -> None:
    other = deepcopy(images)
    for number, image in enumerate(other):
        image.SeriesInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.78{number}"
        image.SliceThickness = 0.5  # the better one of the two, if it may be had
    study, key_of = str(images[0].StudyInstanceUID), partial(blind_key, KEY, "series")
    both = [*images, *other]
    given = key_of(study, str(images[0].SeriesInstanceUID))
    key = bench.receive(both, facts={"series": given})
    assert bench.stages().run("prepare", key)
    assert Handover(bench.rooms).plan(key)["series_key"] == given


def test_without_rules_the_better_series_is_taken(bench: Bench, images: list[Dataset]) -> None:
    other = deepcopy(images)
    for number, image in enumerate(other):
        image.SeriesInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.78{number}"
        image.SliceThickness = 0.5
    key = bench.receive([*images, *other])
    assert bench.stages().run("prepare", key)
    wanted = blind_key(KEY, "series", str(images[0].StudyInstanceUID), "2.25.77")
    assert Handover(bench.rooms).plan(key)["series_key"] == wanted


def test_an_input_that_is_no_longer_the_admitted_one_is_superseded(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images[:-1])
    data = encoded(images[-1])
    address = bench.rooms.spool.append(key.study_key, metadata(images[-1], data), data)
    bench.ledger.record_instances([row_of(KEY, key.study_key, address, metadata(images[-1], data))])
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.SUPERSEDED, None)


def test_a_work_that_ends_while_a_stage_runs_keeps_its_end(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    stages = bench.stages()
    stages.run("prepare", key)
    stages.run("infer", key)
    encode = bench.analyst.encode

    def overtaken(*arguments: Any, **options: Any) -> Any:
        bench.ledger.set_work_state(key, WorkState.FAILED, at=bench.time.now(), reason="timeout")
        return encode(*arguments, **options)

    monkeypatch.setattr(bench.analyst, "encode", overtaken)
    assert not bench.stages().run("encode", key), "as after a crash: nothing is begun"
    assert bench.ended == (WorkState.FAILED, "timeout")
    assert bench.events.names[-1] == "work.overtaken"
    assert bench.ledger.results(key) == ()


def without_position(images: list[Dataset]) -> None:
    del images[3].ImagePositionPatient


def of_another_patient(images: list[Dataset]) -> None:
    images[3].PatientID = "OTHER"


def of_two_issuers(images: list[Dataset]) -> None:
    images[0].IssuerOfPatientID, images[1].IssuerOfPatientID = "HOSPITAL", "CLINIC"


def of_two_universal_issuers(images: list[Dataset]) -> None:
    for number, image in enumerate(images):
        item = Dataset()
        item.UniversalEntityID, item.UniversalEntityIDType = f"1.2.3.{min(number, 1)}", "ISO"
        image.IssuerOfPatientIDQualifiersSequence = [item]


def mended_mid_scan(images: list[Dataset]) -> None:
    """The technologist corrects the name of the worklist's wrong entry; the Patient ID was right."""
    for image in images[len(images) // 2 :]:
        image.PatientName, image.PatientBirthDate, image.AccessionNumber = "Right^Name", "19600101", "NEW"


def not_mended_mid_scan(images: list[Dataset]) -> None:
    for image in images[: len(images) // 2]:
        image.PatientName, image.PatientBirthDate, image.AccessionNumber = "Wrong^Name", "19500505", "OLD"


def of_another_modality(images: list[Dataset]) -> None:
    for image in images:
        image.Modality = "MR"


@pytest.mark.parametrize("which", [0, -1])
def test_an_issuer_that_one_source_does_not_say_makes_no_second_patient(
    bench: Bench, images: list[Dataset], which: int
) -> None:
    images[which].IssuerOfPatientID = "HOSPITAL"
    key = bench.receive(images)
    assert bench.stages().run("prepare", key)
    assert bench.work(key).reason is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (without_position, "geometry-attribute-missing"),
        (of_another_patient, "patient-mismatch"),
        (of_two_issuers, "patient-mismatch"),
        (of_two_universal_issuers, "patient-mismatch"),
        (mended_mid_scan, "patient-mismatch"),
        (not_mended_mid_scan, "patient-mismatch"),
        (of_another_modality, "no-suitable-series"),
    ],
)
def test_a_study_that_cannot_be_worked_on_is_refused_with_its_reason(
    bench: Bench, images: list[Dataset], change: Callable[[list[Dataset]], None], code: str
) -> None:
    change(images)
    key = bench.receive(images)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.REFUSED, code)
    assert bench.events.seen[-1] == (
        "work.refused",
        "warning",
        {"work": key.workflow_id, "model": MODEL, "reason": code},
    )
    assert not bench.stages().run("infer", key)


def test_an_empty_chest_is_refused_because_nothing_was_found(bench: Bench, images: list[Dataset]) -> None:
    for image in images:
        image.PixelData = b"\x00\x04" * (image.Rows * image.Columns)
    key = bench.receive(images)
    stages = bench.stages()
    assert stages.run("prepare", key)
    assert not stages.run("infer", key)
    assert bench.ended == (WorkState.REFUSED, "nothing-found")
    assert bench.work().facts == {"slices": len(images)}


def test_an_unreadable_object_is_set_aside_and_the_others_go_on(bench: Bench, images: list[Dataset]) -> None:
    stray = deepcopy(images[0])
    stray.SOPInstanceUID = "2.25.99"
    key = bench.receive([*images, stray], broken=b"\x08\x00\x05\x00CS\xff\x7fno data set")
    assert bench.stages().run("prepare", key)
    (aside,) = bench.ledger.quarantined(key.study_key)
    assert (aside.what, aside.reason) == ("instance", "object-malformed")
    assert "object.unreadable" in bench.events.names


def test_a_study_of_nothing_but_unreadable_objects_is_refused(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images[:1], broken=b"\x08\x00\x05\x00CS\xff\x7fno data set")
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.REFUSED, "object-malformed")


def test_an_exception_that_nobody_foresaw_fails_the_work_without_its_text(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)

    def fails(*_: Any) -> None:
        raise ValueError(str(images[0].PatientName))

    monkeypatch.setattr("dicomnode.workflow.preparing.Copier.copy", fails)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "internal")
    assert bench.work().facts == {"stage": "prepare"}
    ((stage, error),) = bench.reported
    assert (stage, type(error)) == ("prepare", ValueError)
    assert "Phantom" not in repr(bench.events.seen)


@pytest.mark.parametrize("stage", WORK_STAGES)
def test_a_model_that_was_taken_away_meanwhile_is_told_so(bench: Bench, images: list[Dataset], stage: str) -> None:
    key = bench.receive(images)
    for name in WORK_STAGES[: WORK_STAGES.index(stage)]:
        assert bench.stages().run(name, key)
    assert not bench.stages(replace(bench.rooms, analysts={})).run(stage, key)
    assert bench.ended == (WorkState.FAILED, "model-not-found")
    assert bench.reported == []


class Failing:
    """A room whose one method fails some times, then works."""

    def __init__(self, room: Any, method: str, errors: list[NodeError]) -> None:
        self._room, self._method, self._errors = room, method, errors

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._room, name)

        def sometimes(*arguments: Any, **options: Any) -> Any:
            if self._errors:
                raise self._errors.pop()
            return real(*arguments, **options)

        return sometimes if name == self._method else real


def test_a_disk_that_fails_twice_is_waited_for(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    objects: Any = Failing(bench.rooms.objects, "put", [StorageError("storage-full")] * 2)
    assert bench.stages(replace(bench.rooms, objects=objects)).run("prepare", key)
    assert bench.pauses == [2.0, 4.0]
    assert bench.events.names.count("stage.again") == 2


def test_a_node_that_ends_leaves_the_work_for_its_next_start(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    bench.ends = True
    objects: Any = Failing(bench.rooms.objects, "put", [StorageError("storage-full")])
    assert not bench.stages(replace(bench.rooms, objects=objects)).run("prepare", key)
    assert bench.work().state is WorkState.PREPARING
    assert bench.pauses == [2.0]


def test_a_stage_that_does_not_end_is_overdue(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    seen: list[tuple[WorkKey, ...]] = []
    stages = bench.stages()

    def slow(*_: Any) -> bool:
        bench.time.forward(100)
        seen.extend([stages.overdue(100), stages.overdue(99)])
        return True

    stages._prepare = slow  # type: ignore[method-assign]
    assert stages.run("prepare", key)
    assert seen == [(), (key,)]
    assert stages.overdue(0) == ()


def test_a_disk_that_stays_broken_fails_the_work(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    objects: Any = Failing(bench.rooms.objects, "put", [StorageError("storage-failed")] * 3)
    assert not bench.stages(replace(bench.rooms, objects=objects)).run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "storage-failed")
    assert len(bench.pauses) == 2


def test_a_key_that_is_gone_is_not_waited_for(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    spool: Any = Failing(bench.rooms.spool, "read", [KeyStoreError("key-missing")])
    assert not bench.stages(replace(bench.rooms, spool=spool)).run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "key-missing")
    assert bench.pauses == []


def test_a_record_that_was_damaged_since_it_came_is_named_and_set_aside(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    row = bench.ledger.instances(key.study_key)[2]
    (path,) = (tmp_path / "spool").rglob(f"{row.address.segment_id}.*")
    changed = bytearray(path.read_bytes())
    changed[row.address.offset + 300] ^= 1
    path.write_bytes(changed)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    (told,) = bench.events.facts("segment.damaged")
    assert (told["study"], told["segment"], told["record"]) == (key.study_key, row.address.segment_id, 2)
    (aside,) = bench.ledger.quarantined(key.study_key)
    assert (aside.address, aside.reason) == (row.address, "sealed-damaged")


def test_a_ledger_that_cannot_take_the_end_is_told_and_raises_nothing(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    ledger: Any = Failing(bench.ledger, "work", [StorageError("ledger-failed")] * 65)
    assert not bench.stages(replace(bench.rooms, ledger=ledger)).run("prepare", key)
    assert bench.events.names[-1] == "ledger.failed"
    assert "work.failed" not in bench.events.names, "it is taken up again"
    assert bench.work().state is WorkState.QUEUED


def test_a_vault_that_lost_the_identity_fails_the_work(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    stages = bench.stages()
    stages.run("prepare", key)
    stages.run("infer", key)
    ledger: Any = Failing(bench.ledger, "none", [])
    ledger.vault = lambda *_: None
    assert not bench.stages(replace(bench.rooms, ledger=ledger)).run("encode", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")


def test_copies_are_pseudonymous_and_sealed_under_their_own_key(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    assert bench.stages().run("prepare", key)
    copy, *others = (read_part10(one, Limits()) for one in Handover(bench.rooms).copies(key))
    assert len(others) == len(images) - 1
    assert copy.file_meta.TransferSyntaxUID == EXPLICIT
    assert str(copy.PatientName) != str(images[0].PatientName)
    assert copy.StudyInstanceUID != images[0].StudyInstanceUID


def test_a_model_that_is_installed_meanwhile_changes_no_input_that_is_closed(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PET/CT study waits for the CT model while one for PET is installed: what was closed is worked on."""
    key = bench.receive(images, facts={"sop_classes": str(images[0].SOPClassUID)})
    other = deepcopy(images[0])
    other.SOPClassUID, other.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", "1.2.3.4.5.6.7"
    data = encoded(other)
    about = metadata(other, data)
    address = bench.rooms.spool.append(key.study_key, about, data)
    bench.ledger.record_instances([row_of(KEY, key.study_key, address, about)])
    both = frozenset({str(images[0].SOPClassUID), str(other.SOPClassUID)})
    monkeypatch.setattr(type(bench.rooms), "sop_classes", property(lambda _: both))
    assert bench.stages().run("prepare", key)
    work = bench.ledger.work(key)
    assert work is not None
    assert work.state is WorkState.PREPARING
