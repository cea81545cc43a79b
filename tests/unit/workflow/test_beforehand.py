"""What is read and de-identified while a study comes: used where it is of the very records, and else as if it were not there."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.encoded import Limits
from dicomnode.errors import StorageError
from dicomnode.results.report import Predecessor
from dicomnode.service.beforehand import open_beforehand
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import WORK_STAGES, InstanceRow, InstanceState, ResultRole, WorkKey, WorkState
from dicomnode.workflow import encoding
from dicomnode.workflow.beforehand import Beforehand, Early
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.handover import Handover
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.selection import without_pixels
from dicomnode.workflow.stages import Stages
from tests.unit.workflow import test_stages
from tests.unit.workflow.samples import KEY, OTHER_STUDY, STUDY, Events, Time, encoded, metadata, ring, row
from tests.unit.workflow.test_stages import TREE, Bench, another_study

bench, images = test_stages.bench, test_stages.images


class Surrounded:
    """A store whose surroundings a test decides."""

    def __init__(self, bench: Bench, **options: Any) -> None:
        self.ranks: dict[str, int] = {}
        self.error: Exception | None = None
        self.wanted, self.free = True, True
        self.held = 0
        self.reported: list[tuple[str, BaseException]] = []
        self.asked = threading.Event()
        settings: dict[str, Any] = {
            "limits": Limits(),
            "most_bytes": 1 << 30,
            "sop_classes": bench.rooms.sop_classes,
            "rank": self.rank,
            "wanted": lambda _: self.wanted,
            "held": lambda: self.held,
            "turn": self.turn,
            "report": lambda stage, error: self.reported.append((stage, error)),
            "emit": bench.events,
        }
        self.bench = bench
        copier: Callable[[], Copier] = lambda: Copier(bench.analyst.deidentifier, Limits())  # noqa: E731
        self.store = Beforehand(bench.rooms.spool, options.pop("copier", copier), **(settings | options))

    def rank(self, study_key: str) -> int:
        if self.error is not None:
            raise self.error
        return self.ranks.get(study_key, 1)

    @contextmanager
    def turn(self) -> Iterator[bool]:
        self.asked.set()
        yield self.free

    def make(self, rows: tuple[InstanceRow, ...]) -> Surrounded:
        """Offer rows and make all that there is to be made."""
        self.store.offer(rows)
        while self.store.step():
            pass
        return self


def run(bench: Bench, key: WorkKey, **options: Any) -> dict[ResultRole, bytes]:
    stages = bench.stages(**options)
    assert all(stages.run(stage, key) for stage in WORK_STAGES), bench.ended
    return bench.results()


def test_a_work_of_what_was_made_early_has_the_very_results(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    early = Surrounded(bench).make(rows)
    kept = early.store.of(key.study_key)
    assert len(kept) == len(images)
    reads: list[Any] = []
    read = bench.rooms.spool.read
    bench.rooms.spool.read = lambda *which: reads.append(which) or read(*which)  # type: ignore[method-assign, func-returns-value]
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    assert len(reads) == 1, "the first image's identity is read, and nothing else"
    stages.sealing.finish(key)
    sealed = list(bench.stages()._handover.copies(key))
    assert bench.stages().run("prepare", key), "as after a crash"
    assert sealed == list(bench.stages()._handover.copies(key)), "copy by copy as without"
    assert bench.events.facts("work.prepared-early") == [{"work": key.workflow_id, "images": len(images)}]


@contextmanager
def another_bench(folder: Path) -> Iterator[Bench]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, ring())
        with closing(Spool(folder / "spool", TREE.intake.model_copy(update={"write_mode": "append"}), keys)) as spool:
            objects = Objects(folder / "objects", keys)
            yield Bench(ledger=ledger, spool=spool, objects=objects, keys=keys, time=Time(), events=Events())


def test_the_results_are_the_same_bytes_with_all_some_and_none_of_it(tmp_path: Path, images: list[Dataset]) -> None:
    found, used = [], []
    for share in (1, 2, 0):
        (folder := tmp_path / str(share)).mkdir()
        with another_bench(folder) as bench:
            key = bench.receive(images)
            rows = bench.ledger.instances(key.study_key)
            early = Surrounded(bench).make(rows[: len(rows) // share] if share else ())
            found.append(run(bench, key, early=early.store.of, used=early.store.used))
            used += [facts["images"] for facts in bench.events.facts("work.prepared-early")]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 1
    assert used == [len(images), len(images) // 2]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_the_network_gets_the_images_that_were_just_sealed_and_they_are_not_opened(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    early = Surrounded(bench).make(rows[missing:])
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    monkeypatch.setattr(Handover, "copies", lambda *_: pytest.fail("opened"))
    assert stages.run("infer", key)
    assert stages.run("encode", key)
    assert len(bench.results()) > 1


def test_where_few_images_were_made_early_the_study_is_not_held_in_memory(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key)[: len(images) // 2 - 1])
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    assert begun(stages) == []


def begun(stages: Stages) -> list[WorkKey]:
    return list(stages._ahead._begun)


def test_a_work_that_is_prepared_again_is_begun_once(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    stages, analysed = bench.stages(early=early.store.of), list[str]()
    analyse = bench.analyst.analyse

    def noted(*given: Any, **options: Any) -> Any:
        analysed.append(threading.current_thread().name)
        return analyse(*given, **options)

    monkeypatch.setattr(bench.analyst, "analyse", noted)
    assert stages.run("prepare", key)
    assert stages.run("prepare", key)
    assert begun(stages) == [key]
    assert stages.run("infer", key)
    assert analysed == ["ahead"]
    assert begun(stages) == []


def test_results_do_not_wait_for_the_images_to_be_sealed(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert all(stages.run(stage, key) for stage in WORK_STAGES)
    assert len(bench.results()) > 1
    assert not Handover(bench.rooms).has_copies(key), "nobody had time for it: the clock stands still"
    stages.close(30)
    assert len(list(Handover(bench.rooms).copies(key))) == len(images)


@pytest.mark.parametrize("dies_after", ["prepare", "infer"])
def test_copies_that_a_kill_left_unsealed_are_made_again_of_the_very_records(
    bench: Bench, images: list[Dataset], dies_after: str
) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    early = Surrounded(bench).make(rows)
    before = WORK_STAGES[: WORK_STAGES.index(dies_after) + 1]
    killed = bench.stages(early=early.store.of)
    assert all(killed.run(stage, key) for stage in before)
    assert not Handover(bench.rooms).has_copies(key)
    assert all(bench.stages().run(stage, key) for stage in WORK_STAGES), bench.ended
    again, results = list(Handover(bench.rooms).copies(key)), bench.results()
    killed.close(30)
    assert again == list(Handover(bench.rooms).copies(key))
    fresh = bench.stages()
    fresh.encoding.encode(key, bench.analyst, fresh.encoding.recall(key, bench.analyst))
    assert bench.results() == results


def test_copies_are_made_again_of_records_that_others_replaced(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    killed = bench.stages(early=early.store.of)
    assert killed.run("prepare", key)
    old = [one.copied.data for one in early.store.of(key.study_key).values()]
    images[0].StationName = "ANOTHER"
    data = encoded(images[0])
    about = metadata(images[0], data)
    bench.ledger.record_instances(
        [row_of(KEY, key.study_key, bench.rooms.spool.append(key.study_key, about, data), about)]
    )
    list(bench.stages()._copies(key))
    assert sorted(Handover(bench.rooms).copies(key)) == sorted(old)


def test_copies_of_records_that_nobody_knows_any_more_are_damaged(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    assert bench.stages(early=early.store.of).run("prepare", key)
    monkeypatch.setattr(bench.ledger, "instances", lambda *_: ())
    assert not bench.stages().run("infer", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")


def made_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """In which threads results are made, and what they replace."""
    made: list[tuple[str, Any]] = []
    encode = bench.analyst.encode

    def noted(*given: Any, **options: Any) -> Any:
        made.append((threading.current_thread().name, options["predecessor"]))
        return encode(*given, **options)

    monkeypatch.setattr(bench.analyst, "encode", noted)
    return made


def test_results_are_begun_before_labels_are_sealed_and_taken(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = bench.receive(images), made_of(bench, monkeypatch)
    stages = bench.stages()
    assert all(stages.run(stage, key) for stage in WORK_STAGES), bench.ended
    assert made == [("ahead", None)]
    assert not stages.encoding._ahead._begun


def test_results_that_replace_another_than_when_they_were_begun_are_made_anew(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = bench.receive(images), made_of(bench, monkeypatch)
    stages = bench.stages()
    assert stages.run("prepare", key)
    assert stages.run("infer", key)
    first = Predecessor(study_instance_uid="1.2.3", series_instance_uid="1.2.4", sop_instance_uid="1.2.5")
    monkeypatch.setattr(stages.encoding._predecessors, "report", lambda _: first)
    assert stages.run("encode", key)
    assert [replaced for _, replaced in made] == [None, first]


def test_results_that_cannot_be_begun_are_left_to_their_stage(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made, stages = bench.receive(images), made_of(bench, monkeypatch), bench.stages()
    report = stages.encoding._predecessors.report
    asked: list[WorkKey] = []

    def fails_once(key: WorkKey) -> Any:
        asked.append(key)
        if len(asked) == 1:
            raise StorageError("ledger-failed")
        return report(key)

    monkeypatch.setattr(stages.encoding._predecessors, "report", fails_once)
    assert all(stages.run(stage, key) for stage in WORK_STAGES), bench.ended
    assert len(made) == 1
    assert made[0][0] != "ahead"


def test_a_work_that_goes_no_further_keeps_nothing(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    assert begun(stages) == [key]
    bench.ledger.open_revision(key.study_key, "0" * 64, bench.time.now())
    assert not stages.run("infer", key)
    assert begun(stages) == []


def test_copies_that_cannot_be_sealed_are_told_and_hold_nobody_up(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))

    def full(*_: Any) -> None:
        raise StorageError("storage-failed")

    stages = bench.stages(early=early.store.of, used=early.store.used)
    monkeypatch.setattr(stages.sealing, "_put", full)
    assert all(stages.run(stage, key) for stage in WORK_STAGES)
    stages.close(30)
    assert bench.events.facts("copies.unsealed") == [{"work": key.workflow_id, "reason": "storage-failed"}]


def test_what_the_network_fails_of_a_work_is_the_works_state(bench: Bench, images: list[Dataset]) -> None:
    for image in images:
        image.PixelData = bytes(len(image.PixelData))
    key = bench.receive(images)
    early = Surrounded(bench).make(bench.ledger.instances(key.study_key))
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    assert not stages.run("infer", key)
    assert bench.ended[1] == "nothing-found"


def test_what_was_made_of_another_record_is_not_used(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    other = Surrounded(bench).make(tuple(replace(one, digest="0" * 64) for one in rows))
    assert len(other.store.of(key.study_key)) == len(rows)
    assert bench.stages(early=other.store.of).run("prepare", key)
    assert bench.events.facts("work.prepared-early") == []
    elsewhere = replace(rows[0], address=replace(rows[0].address, number=999))
    made = other.store.of(key.study_key)[rows[0].instance_key]
    assert not made.is_of(elsewhere)
    assert not made.is_of(rows[0])


def test_what_cannot_be_made_is_left_to_the_work(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images, broken=b"\x08\x00\x05\x00CS\xff\x00")
    rows = bench.ledger.instances(key.study_key)
    gone = replace(rows[1], address=replace(rows[1].address, segment_id="f" * 32))
    early = Surrounded(bench).make((rows[0], gone, rows[-1]))
    assert set(early.store.of(key.study_key)) == {rows[0].instance_key}
    assert early.store.held_bytes == rows[0].length + 65536
    assert early.reported == []
    stages = bench.stages(early=early.store.of, used=early.store.used)
    assert stages.run("prepare", key)
    assert [facts["reason"] for facts in bench.events.facts("object.unreadable")] == ["object-malformed"]
    assert bench.events.facts("work.prepared-early") == [{"work": key.workflow_id, "images": 1}]


def test_an_exception_that_nobody_foresaw_costs_one_image(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)

    class Breaking(Copier):
        calls = 0

        def make(self, file: bytes) -> Any:
            Breaking.calls += 1
            if Breaking.calls == 1:
                raise RuntimeError("Doe^Jane")
            return super().make(file)

    early = Surrounded(bench, copier=lambda: Breaking(bench.analyst.deidentifier, Limits())).make(rows)
    assert [stage for stage, _ in early.reported] == ["beforehand"]
    assert len(early.store.of(key.study_key)) == len(rows) - 1


def test_rows_that_no_model_looks_at_or_that_are_in_quarantine_are_left(bench: Bench) -> None:
    early = Surrounded(bench)
    early.store.offer([replace(row(1), sop_class_uid="1.2.840.10008.5.1.4.1.1.66")])
    early.store.offer([replace(row(1), state=InstanceState.QUARANTINED)])
    assert early.store.held_bytes == 0
    assert not early.store.step()


def test_where_there_is_no_memory_for_it_nothing_is_made(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    off = Surrounded(bench, most_bytes=0)
    off.store.begin()
    off.make(bench.ledger.instances(key.study_key))
    assert off.store.of(key.study_key) == {}
    off.store.end()


def test_there_is_a_bound_and_the_most_urgent_study_has_the_room(bench: Bench) -> None:
    size = row(1).length + 65536
    early = Surrounded(bench, most_bytes=3 * size)
    early.store.offer([row(number) for number in range(5)])
    assert early.store.held_bytes == 3 * size
    early.store.offer([row(9, study_key=OTHER_STUDY)])
    assert early.store.held_bytes == 3 * size, "as urgent: who comes first has it"
    early.ranks[OTHER_STUDY] = 0
    early.store.offer([row(9, study_key=OTHER_STUDY)])
    assert early.store.held_bytes == size, "STAT overtakes"
    early.store.offer([replace(row(8, study_key=OTHER_STUDY), length=1 << 40)])
    assert early.store.held_bytes == size


def test_the_most_urgent_study_goes_first(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images)
    second = bench.receive(another_study(images))
    early = Surrounded(bench)
    early.ranks[second.study_key] = 0
    early.store.offer(bench.ledger.instances(first.study_key))
    early.store.offer(bench.ledger.instances(second.study_key))
    assert early.store.step()
    assert (len(early.store.of(first.study_key)), len(early.store.of(second.study_key))) == (0, 1)


def test_a_ledger_that_fails_when_asked_how_urgent_costs_nothing(bench: Bench) -> None:
    early = Surrounded(bench)
    early.error = StorageError("ledger-failed")
    early.store.offer([row(1)])
    assert early.store.held_bytes > 0
    early.error = RuntimeError("Doe^Jane")
    early.store.offer([row(2, study_key=OTHER_STUDY)])
    assert [stage for stage, _ in early.reported] == ["beforehand"]


def test_a_ledger_that_fails_when_a_study_is_settled_lets_it_be_settled(bench: Bench) -> None:
    def fails(_: str) -> bool:
        raise StorageError("ledger-failed")

    early = Surrounded(bench, wanted=fails)
    early.store.offer([row(1)])
    early.store.settled(STUDY)
    assert early.store.held_bytes == 0


@pytest.mark.parametrize(
    ("acts", "left"),
    [
        (("used",), True),
        (("settled",), True),
        (("used", "settled"), False),
        (("settled", "used"), False),
        (("used", "more", "settled"), True),
        (("settled", "more", "used"), True),
        (("unwanted", "settled"), False),
        (("used", "more", "settled", "used"), False),
    ],
)
def test_it_is_let_go_when_it_has_served(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, acts: tuple[str, ...], left: bool
) -> None:
    early, given = Surrounded(bench), list[int]()
    monkeypatch.setattr("dicomnode.workflow.beforehand.give_back", lambda: given.append(1))
    early.store.offer([row(1)])
    for act in acts:
        if act == "more":
            early.store.offer([row(2)])
        elif act == "unwanted":
            early.wanted = False
        else:
            getattr(early.store, act)(STUDY)
    assert (early.store.held_bytes > 0) is left
    assert len(given) == (0 if left else 1), "its memory goes back to the system"


def test_of_a_study_of_which_nothing_is_kept_nobody_is_asked(bench: Bench) -> None:
    early = Surrounded(bench, wanted=lambda _: pytest.fail("asked"))
    early.store.settled(STUDY)
    early.store.used(STUDY)
    assert early.store.of(STUDY) == {}


def test_what_is_let_go_while_it_is_made_is_not_kept(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    early = Surrounded(bench)
    read = bench.rooms.spool.read

    def reads(*which: Any) -> Any:
        early.wanted = False
        early.store.settled(key.study_key)
        return read(*which)

    bench.rooms.spool.read = reads  # type: ignore[method-assign]
    early.store.offer(rows[:1])
    assert early.store.step()
    assert early.store.held_bytes == 0
    assert bench.events.facts("study.prepared-early") == []


def test_its_thread_makes_what_comes_when_it_has_its_turn(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    early = Surrounded(bench)
    early.free = False
    early.store.begin()
    early.store.offer(rows)
    assert early.asked.wait(10)
    assert early.store.of(key.study_key) == {}, "stages run: they go first"
    told = threading.Event()
    early.store._emit = lambda *_, **__: told.set()
    early.free = True
    assert told.wait(10)
    assert len(early.store.of(key.study_key)) > 0
    early.free = False
    early.store.end()
    assert early.store.held_bytes == 0
    early.store.offer(rows)
    assert early.store.held_bytes == 0, "it has ended"


def test_a_turn_is_had_between_stages_alone(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    turns: list[bool] = []
    stages = bench.stages(used=lambda _: turns.append(_between(stages)))
    assert stages.run("prepare", key)
    assert turns == [False]
    with stages.between() as free, stages.between() as again:
        assert (free, again) == (True, False)
    assert _between(stages)


def _between(stages: Any) -> bool:
    with stages.between() as free:
        return bool(free)


def test_a_header_is_that_of_the_record(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    kept = Surrounded(bench).make(rows).store.of(key.study_key)
    stages = bench.stages()
    for one in rows:
        early = kept[one.instance_key]
        assert isinstance(early, Early)
        plain = without_pixels(stages.records.read(one))
        assert dict(early.header.items()).keys() == dict(plain.items()).keys()
        assert all(early.header[tag] == plain[tag] for tag in plain.keys())  # noqa: SIM118


@pytest.mark.parametrize("settings", [{}, {"start_early": False}, {"early_bytes": 0}])
def test_the_configuration_switches_it(
    bench: Bench, images: list[Dataset], events: Events, ledger: Ledger, settings: dict[str, Any]
) -> None:
    completion = TREE.completion.model_copy(update=settings)
    tree = TREE.model_copy(update={"completion": completion})
    key = bench.receive(images)
    store = open_beforehand(tree, bench.rooms, bench.stages(), limits=Limits(), emit=events)
    store.offer(ledger.instances(key.study_key))
    while store.step():
        pass
    assert bool(store.of(key.study_key)) is (not settings)
    store.settled(key.study_key)
    assert bool(store.of(key.study_key)) is (not settings), "its work is still to be prepared"
    for state in (WorkState.PREPARING, WorkState.INFERRING):
        ledger.set_work_state(key, state, at=bench.time.now())
    store.settled(key.study_key)
    assert store.of(key.study_key) == {}


def test_what_is_to_be_sealed_counts_as_kept_until_it_is(bench: Bench, images: list[Dataset], events: Events) -> None:
    key, stages = bench.receive(images), bench.stages()
    stages.sealing.begin(key, deque([b"four"]))
    store = open_beforehand(TREE, bench.rooms, stages, limits=Limits(), emit=events)
    assert store.held_bytes == 4
    stages.close(30)
    assert store.held_bytes == 0


def test_what_works_hold_leaves_less_room(bench: Bench) -> None:
    early = Surrounded(bench, most_bytes=2 * (row(1).length + 65536))
    early.held = 1
    early.store.offer([row(1), row(2)])
    assert early.store.held_bytes == 1 + row(1).length + 65536


def test_the_key_image_is_drawn_once_and_not_by_the_stage_that_needs_it(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    monkeypatch.setattr(encoding, "picture_of", lambda *_: pytest.fail("drawn again"))
    stages = bench.stages()
    assert all(stages.run(stage, key) for stage in WORK_STAGES), bench.ended
    drawn = bench.results()[ResultRole.KEY_IMAGE]
    monkeypatch.undo()
    again = bench.stages()
    again.encoding.encode(key, bench.analyst, again.encoding.recall(key, bench.analyst))
    assert bench.results()[ResultRole.KEY_IMAGE] == drawn
