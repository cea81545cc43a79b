from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dicomnode.errors import NodeError, StorageError
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import OPEN, OVERTAKEN, InstanceRow, InstanceState, ResultRole, WorkState
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.notes import KEY_OBJECT_SELECTION
from dicomnode.workflow.recovery import Recovery, as_they_came, end_tries
from tests.unit.workflow.samples import (
    KEY,
    OTHER_STUDY,
    START,
    STUDY,
    WORK,
    Events,
    Time,
    encoded,
    metadata,
    row,
    study_key_of,
    tiny_series,
)
from tests.unit.workflow.test_admission import World as Admitting


class World:
    def __init__(self, ledger: Ledger, spool: Spool, time: Time, events: Events) -> None:
        self.ledger = ledger
        self.spool = spool
        self.activity = ActivityTable()
        self.conflicts: list[InstanceRow] = []
        self.later: list[InstanceRow] = []
        self.failures: list[NodeError] = []
        self.queue = MemoryQueue(
            run_stage=lambda stage, key: True, run_delivery=lambda *_: None, monotonic=time.monotonic
        )
        self.recovery = Recovery(
            ledger,
            spool,
            self.activity,
            self.queue,
            conflict=self.decide,
            later=self.later.extend,
            derivation_key=KEY,
            clock=time.now,
            monotonic=time.monotonic,
            emit=events,
        )

    def decide(self, row: InstanceRow) -> None:
        if self.failures:
            raise self.failures.pop()
        self.conflicts.append(row)


@pytest.fixture
def world(ledger: Ledger, spool: Spool, time: Time, events: Events) -> World:
    return World(ledger, spool, time, events)


def test_the_index_is_brought_up_to_the_spool(world: World, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.workflow.recovery._BATCH", 2)
    images = tiny_series()[:5]
    for image in images:
        data = encoded(image)
        world.spool.append(study_key_of(image), metadata(image, data), data)
    assert world.recovery.rebuild_index() == 5
    assert [one.address.number for one in world.ledger.instances(study_key_of(images[0]))] == [0, 1, 2, 3, 4]
    assert world.recovery.rebuild_index() == 0
    assert events.facts("index.rebuilt") == [{"records": 5}]
    assert world.conflicts == []


@pytest.mark.parametrize("newer", [True, False])
def test_what_a_try_that_was_killed_was_sending_may_be_there(world: World, *, newer: bool) -> None:
    """Where newer results were made meanwhile, no note of theirs names it: one of its own is to."""
    ledger, at = world.ledger, datetime(2026, 1, 1, tzinfo=UTC)
    ledger.record_instances([row(0)])
    works = [replace(WORK, revision=number) for number in (1, 2)]
    for key in works if newer else works[:1]:
        ledger.open_revision(STUDY, f"digest{key.revision}", at)
        ledger.create_work(key, f"digest{key.revision}", at)
        name = f"r{key.revision}"
        result = ResultRow(result_id=name, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
        ledger.record_results(key, [result], ["pacs", "archive"], at)
    assert not ledger.begin_try(["r1"], "pacs")
    end_tries(world.ledger)
    first = ledger.work(works[0])
    assert first is not None
    assert [(one.destination, one.may_be_there) for one in first.deliveries] == [("archive", False), ("pacs", True)]
    assert first.facts.get(OVERTAKEN) == (OPEN if newer else None)
    end_tries(world.ledger)
    assert ledger.work(works[0]) == first


def test_an_instance_that_came_twice_with_other_bytes_is_asked_about(world: World) -> None:
    image = tiny_series()[0]
    for comment in ("one", "two"):
        image.ImageComments = comment
        data = encoded(image)
        world.spool.append(study_key_of(image), metadata(image, data), data)
    assert world.recovery.rebuild_index() == 2
    assert [one.address.number for one in world.conflicts] == [1]


def test_a_torn_end_is_nothing_and_damage_is_an_alarm(world: World, events: Events) -> None:
    for kind in ("torn", "damaged"):
        world.recovery._set_aside(
            Damage(
                study_key=STUDY,
                segment_id="5e" * 8,
                number=1,
                offset=4096,
                kind=kind,  # type: ignore[arg-type]
            )
        )
    assert [(name, level) for name, level, _ in events.seen] == [("segment.torn", "info"), ("segment.damaged", "error")]
    (only,) = world.ledger.quarantined()
    assert (only.study_key, only.what, only.reason) == (STUDY, "segment", "sealed-damaged")


def test_what_was_open_waits_anew_and_what_was_queued_is_queued(world: World, time: Time) -> None:
    world.ledger.record_instances([row(0), row(1, study_key=OTHER_STUDY)])
    for study_key in (STUDY, OTHER_STUDY):
        world.ledger.open_revision(study_key, "digest", time.now())
    world.ledger.create_work(WORK, "digest", time.now())
    time.forward(-600)  # the clock was set back: that hides nothing
    world.ledger.settle(OTHER_STUDY, 1, time.now())
    world.recovery.resume()
    world.recovery.resume()
    (activity,) = world.activity.snapshot()
    assert (activity.study_key, activity.last_received, activity.open_associations) == (STUDY, time.monotonic(), 0)
    assert [entry.name for entry in world.queue.waiting] == [WORK.workflow_id]


def test_an_instance_that_a_crash_left_undecided_is_decided_on_once(world: World, time: Time) -> None:
    world.ledger.record_instances([row(0, instance="i"), row(1, instance="i"), row(2, instance="i")])
    decided = world.ledger.instances(STUDY, InstanceState.QUARANTINED)[1]
    world.ledger.quarantine(STUDY, "instance", "same-uid-other-content", time.now(), address=decided.address)
    world.recovery.resume()
    assert [one.address.number for one in world.conflicts] == [1]


def test_what_cannot_be_decided_for_now_is_handed_over_with_what_follows_of_its_study(world: World, time: Time) -> None:
    """Once each, in their order; another study is decided on at once."""
    world.ledger.record_instances([row(number, instance="i") for number in range(3)])
    note = replace(row(3, instance="note"), sop_class_uid=KEY_OBJECT_SELECTION)
    of_others = [row(number, instance="i", study_key=OTHER_STUDY) for number in (10, 11)]
    world.ledger.record_instances([note, *of_others])
    world.failures = [StorageError("storage-failed")]
    world.recovery.resume()
    assert [one.address for one in world.later] == [row(1).address, row(2).address, note.address]
    assert [one.address for one in world.conflicts] == [of_others[1].address]
    world.recovery.resume()
    assert len(world.later) == 3


def test_a_note_that_a_crash_left_unjudged_is_judged(world: World, time: Time) -> None:
    note = replace(row(1, instance="note"), sop_class_uid=KEY_OBJECT_SELECTION)
    world.ledger.record_instances([row(0), note])
    world.recovery.resume()
    assert world.conflicts == [note]


@pytest.mark.parametrize("end", [WorkState.REFUSED, WorkState.FAILED, WorkState.SUPERSEDED])
def test_what_has_ended_stays_ended(world: World, time: Time, end: WorkState) -> None:
    world.ledger.record_instances([row(0)])
    world.ledger.open_revision(STUDY, "digest", time.now())
    world.ledger.create_work(WORK, "digest", time.now())
    world.ledger.set_work_state(WORK, end, at=time.now())
    world.recovery.resume()
    assert world.queue.waiting == ()


def test_a_damaged_segment_is_set_aside_at_the_start(world: World, events: Events, tmp_path: Path) -> None:
    image = tiny_series()[0]
    data = encoded(image)
    for number in range(3):
        image.InstanceNumber = number
        world.spool.append(study_key_of(image), metadata(image, data), data)
    world.spool.close_study(study_key_of(image))
    (segment,) = [path for path in (tmp_path / "spool").rglob("*") if path.is_file()]
    raw = bytearray(segment.read_bytes())
    raw[len(raw) // 2] ^= 1
    segment.chmod(0o600)
    segment.write_bytes(raw)
    assert world.recovery.rebuild_index() < 3
    assert "segment.damaged" in events.names


@pytest.mark.parametrize("what", ["correction", "rejection-note"])
def test_what_comes_while_a_study_settles_is_judged_after_a_kill(
    world: World, time: Time, events: Events, what: str
) -> None:
    """It is durable, acknowledged and in the index; the study settles; the node is killed before it was judged."""
    admitting = Admitting(world.ledger, time, events)
    admission = admitting.admission()
    admitting.receive(0, 1, 2)
    late = row(50)
    if what == "correction":
        late = replace(late, instance_key=row(1).instance_key, digest="c" * 64)
    else:
        late = replace(late, sop_class_uid=KEY_OBJECT_SELECTION)

    def come() -> None:
        world.ledger.record_instances([late])

    admitting.meanwhile = come
    admission.settle(STUDY)
    world.recovery.resume()
    assert [one.address for one in world.conflicts] == [late.address]
    assert [one.study_key for one in world.activity.snapshot()] == [STUDY]
    admission.settle(STUDY)
    assert world.ledger.open_studies() == ()


def test_what_nobody_has_judged_leaves_a_study_open_that_is_worked_on_anew(
    world: World, time: Time, events: Events
) -> None:
    admitting = Admitting(world.ledger, time, events)
    admission = admitting.admission()
    admitting.receive(0)
    admission.settle(STUDY)
    admitting.receive(1)
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) == 2
    assert [key for key, _ in world.ledger.open_studies()] == [STUDY]


@pytest.mark.parametrize("first_named", [True, False])
def test_an_index_that_is_made_anew_gives_each_record_the_state_that_it_had(
    world: World, monkeypatch: pytest.MonkeyPatch, *, first_named: bool
) -> None:
    """A correction, in a segment of its own, replaces what came before it, whichever of the segments is named first."""
    names = [["0" * 32, "f" * 32], ["f" * 32, "0" * 32]][first_named]
    monkeypatch.setattr("dicomnode.storage.open_segment.secrets.token_hex", lambda _: names.pop())
    image, other = tiny_series()[:2]
    for minutes, comment in enumerate(("as it was", "as it was", "corrected")):
        image.ImageComments = comment
        for one in (image, other):
            data = encoded(one)
            about = replace(metadata(one, data), received_at=START + timedelta(minutes=minutes))
            world.spool.append(study_key_of(one), about, data)
        if not minutes:
            world.spool.close_study(study_key_of(image))
    assert world.recovery.rebuild_index() == 6
    rows = sorted(
        world.ledger.instances(study_key_of(image), None), key=lambda row: (row.received_at, row.address.number)
    )
    assert [row.state.value for row in rows] == ["current", "current", *["duplicate"] * 2, "quarantined", "duplicate"]
    assert world.conflicts == [rows[4]]


def test_what_stands_in_one_segment_keeps_its_order_whatever_the_clock_did() -> None:
    first, second, third = (row(number) for number in range(3))
    set_back = replace(second, received_at=START - timedelta(days=1))
    elsewhere = replace(
        third, address=replace(third.address, segment_id="5e" * 8), received_at=START - timedelta(hours=1)
    )
    assert list(as_they_came([first, set_back, elsewhere])) == [elsewhere, first, set_back]
