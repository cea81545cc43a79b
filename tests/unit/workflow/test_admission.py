from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dicomnode.errors import NodeError, StorageError
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WorkKey, WorkRow, WorkState
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.memory_queue import MemoryQueue
from tests.unit.workflow.samples import MODEL, STUDY, WORK, Events, Time, row


class World:
    """Admission over a real ledger and the queue in memory."""

    def __init__(self, ledger: Ledger, time: Time, events: Events) -> None:
        self.ledger = ledger
        self.time = time
        self.caught_up = True
        self.overdue: tuple[WorkKey, ...] = ()
        self.closed: list[str] = []
        self.arriving: set[str] = set()
        self.queue = MemoryQueue(
            run_stage=lambda stage, key: True, run_delivery=lambda *_: None, monotonic=time.monotonic
        )
        self.events = events

    def admission(self, *, models: tuple[str, ...] = (MODEL,), destinations: tuple[str, ...] = ("pacs",)) -> Admission:
        return Admission(
            self.ledger,
            self.queue,
            models=models,
            sop_classes=("1.2.840.10008.5.1.4.1.1.2",),
            destinations=destinations,
            overdue=lambda: self.overdue,
            flush=lambda study_key: self.caught_up,
            close_segments=self.closed.append,
            arriving=lambda study_key: study_key in self.arriving,
            longest_retry_seconds=60.0,
            clock=self.time.now,
            emit=self.events,
        )

    def receive(self, *numbers: int) -> None:
        self.ledger.record_instances([row(number) for number in numbers])

    def advance(self, key: WorkKey = WORK, *, to: WorkState) -> None:
        for state in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY):
            self.ledger.set_work_state(key, state, at=self.time.now())
            if state is to:
                return

    def work(self, key: WorkKey = WORK) -> WorkRow:
        found = self.ledger.work(key)
        assert found is not None
        return found

    @property
    def queued(self) -> list[str]:
        return [entry.name for entry in self.queue.waiting]


@pytest.fixture
def world(ledger: Ledger, time: Time, events: Events) -> World:
    return World(ledger, time, events)


def second(revision: int = 2) -> WorkKey:
    return WorkKey(study_key=STUDY, revision=revision, model=MODEL)


def test_a_start_opens_a_revision_and_queues_each_model_once(world: World) -> None:
    world.receive(0, 1, 2)
    admission = world.admission(models=("a", "b"))
    admission.start(STUDY)
    admission.start(STUDY)
    assert world.queued == [f"{STUDY}-1-a", f"{STUDY}-1-b"]
    assert world.events.names == ["study.started"]
    work = world.work(WorkKey(study_key=STUDY, revision=1, model="a"))
    assert work.state is WorkState.QUEUED
    assert work.stages == {"receive": 2.0}


def test_a_settled_study_that_goes_on_lets_nothing_out_before_it_is_settled_anew(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    world.arriving.add(STUDY)  # a second association brings the rest
    admission.release(STUDY)
    admission.reconcile()
    assert world.work().state is WorkState.READY
    admission.settle(STUDY)  # its end; what it brought was there already
    assert world.work().state is WorkState.DELIVERING
    assert world.events.names.count("study.settled") == 1


def test_nothing_starts_before_the_index_has_caught_up(world: World) -> None:
    world.receive(0)
    world.caught_up = False
    world.admission().start(STUDY)
    assert world.queued == []


def test_nothing_settles_before_the_index_has_caught_up(world: World) -> None:
    world.receive(0)
    world.caught_up = False
    with pytest.raises(StorageError, match="index-behind"):
        world.admission().settle(STUDY)
    assert world.ledger.latest_revision(STUDY) is None
    assert world.closed == []


def test_a_study_without_instances_is_none(world: World) -> None:
    world.admission().start(STUDY)
    world.admission().settle(STUDY)
    world.admission().release(STUDY)
    assert world.events.names == []
    assert world.queued == []


def test_results_go_out_when_the_study_is_settled_and_they_are_ready(world: World) -> None:
    world.receive(0)
    admission = world.admission(destinations=("pacs", "archive"))
    admission.start(STUDY)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.work().state is WorkState.READY, "not settled"
    world.time.forward(40)
    admission.settle(STUDY)
    assert world.work().state is WorkState.DELIVERING
    assert world.queued[1:] == [f"{WORK.workflow_id}:pacs:1", f"{WORK.workflow_id}:archive:1"]
    assert world.closed == [STUDY]
    assert world.events.names == ["study.started", "study.settled", "work.released"]


def test_results_that_come_after_the_quiet_time_go_out_at_once(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.queued == [WORK.workflow_id, f"{WORK.workflow_id}:pacs:1"]


def test_settling_and_releasing_twice_is_doing_it_once(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    for _ in range(2):
        admission.settle(STUDY)
        admission.release(STUDY)
    assert world.events.names.count("study.settled") == 1
    assert world.events.names.count("work.released") == 1
    assert len(world.queued) == 2


def test_without_a_destination_a_work_is_done_when_it_is_ready(world: World) -> None:
    world.receive(0)
    admission = world.admission(destinations=())
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.work().state is WorkState.DONE
    assert world.queued == [WORK.workflow_id]


def test_a_late_instance_opens_a_revision_and_supersedes_what_still_works(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    world.advance(to=WorkState.READY)
    world.receive(1)
    admission.start(STUDY)
    assert world.work().state is WorkState.SUPERSEDED
    assert world.work(second()).state is WorkState.QUEUED
    admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id, second().workflow_id]


def test_what_is_on_its_way_or_ended_is_left_alone_by_a_late_instance(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    world.receive(1)
    admission.settle(STUDY)
    assert world.work().state is WorkState.DELIVERING
    world.ledger.set_work_state(WORK, WorkState.DONE, at=world.time.now())
    world.receive(2)
    admission.settle(STUDY)
    assert world.work().state is WorkState.DONE
    assert world.work(second()).state is WorkState.SUPERSEDED
    assert world.work(second(3)).state is WorkState.QUEUED


def test_only_the_latest_revision_is_released(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    with world.ledger.transaction() as connection:  # a revision that came in between, before it could supersede
        world.ledger.open_revision(STUDY, "other", world.time.now(), connection=connection)
        world.ledger.settle(STUDY, 2, world.time.now(), connection=connection)
    admission.release(STUDY)
    assert world.work().state is WorkState.READY
    assert world.queued == [WORK.workflow_id]


def test_a_crash_inside_the_transaction_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.receive(0)
    admission = world.admission()
    queue: Callable[..., None] = world.queue.enqueue_work

    def fails_after(connection: Any, key: WorkKey) -> None:
        queue(connection, key)
        raise NodeError("internal")

    monkeypatch.setattr(world.queue, "enqueue_work", fails_after)
    with pytest.raises(NodeError, match="internal"):
        admission.start(STUDY)
    assert world.queued == []
    assert world.ledger.latest_revision(STUDY) is None
    assert world.ledger.work(WORK) is None
    monkeypatch.undo()
    admission.start(STUDY)
    assert world.queued == [WORK.workflow_id]


def test_the_wait_is_what_the_stages_did_not_take(world: World) -> None:
    world.receive(0, 1)
    admission = world.admission()
    admission.start(STUDY)
    for stage, seconds in (("prepare", 2.0), ("infer", 5.0), ("encode", 1.0)):
        world.ledger.record_stage(WORK, stage, seconds)
    world.advance(to=WorkState.READY)
    world.time.forward(30)
    admission.settle(STUDY)
    assert world.work().stages["wait"] == 22.0


def test_a_clock_that_was_set_back_waits_for_nothing(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    world.advance(to=WorkState.READY)
    world.time.forward(-500)
    admission.settle(STUDY)
    assert world.work().stages["wait"] == 0.0


def test_reconciling_releases_what_a_crash_held_back(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    admission.reconcile()
    admission.reconcile()
    assert world.work().state is WorkState.DELIVERING
    assert len(world.queued) == 2


@pytest.mark.parametrize("state", [WorkState.QUEUED, WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING])
def test_reconciling_ends_what_is_past_its_deadline(world: World, state: WorkState) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    if state is not WorkState.QUEUED:
        world.advance(to=state)
    world.time.forward(36_000)
    admission.reconcile()
    assert world.work().state is state
    world.overdue = (WORK,)
    admission.reconcile()
    assert (world.work().state, world.work().reason) == (WorkState.FAILED, "timeout")
    assert world.events.facts("work.failed") == [{"work": WORK.workflow_id, "reason": "timeout"}]


def test_reconciling_hastens_a_delivery_that_waits_for_a_time_far_ahead(world: World) -> None:
    """The clock was a month ahead when it was queued, and was set right."""
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, WORK, "pacs", 2, 30 * 86400.0)
        world.queue.enqueue_delivery(connection, WORK, "archive", 2, 60.0)
    admission = world.admission()
    admission.reconcile()
    due = {entry.destination: entry.due for entry in world.queue.waiting}
    assert due == {"pacs": 0.0, "archive": world.time.monotonic() + 60.0}
    assert world.events.facts("delivery.hastened") == [{"deliveries": 1}]
    admission.reconcile()
    assert len(world.events.facts("delivery.hastened")) == 1


@pytest.mark.parametrize("end", [WorkState.FAILED, WorkState.REFUSED])
def test_a_whole_study_that_a_fault_ended_is_tried_again_when_it_is_sent_again(world: World, end: WorkState) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.ledger.set_work_state(WORK, end, at=world.time.now(), reason="storage-full")
    admission.settle(STUDY)
    again = [] if end is WorkState.REFUSED else [second().workflow_id]
    assert world.queued == [WORK.workflow_id, *again]


def test_a_fault_before_the_study_is_whole_is_not_tried_again_at_once(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    world.ledger.set_work_state(WORK, WorkState.FAILED, at=world.time.now(), reason="timeout")
    admission.start(STUDY)
    assert world.queued == [WORK.workflow_id]


def test_what_no_model_looks_at_opens_no_revision(world: World) -> None:
    report = replace(row(7), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22")
    admission = world.admission()
    world.receive(0)
    admission.settle(STUDY)
    world.ledger.record_instances([report])
    admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]


def test_a_study_is_worked_on_anew_and_as_whole_as_it_was(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, "ee" * 16) is None
    admission.start(STUDY)
    for settled in (False, True):
        revision = 3 if settled else 2
        if settled:
            admission.settle(STUDY)
        with world.ledger.transaction() as connection:
            assert admission.reprocess(connection, STUDY) == revision
        latest = world.ledger.latest_revision(STUDY)
        assert latest is not None
        assert (latest.revision, latest.settled_at is not None) == (revision, settled)
        assert world.work(second(revision)).state is WorkState.QUEUED
        assert world.work(second(revision - 1)).state is WorkState.SUPERSEDED
    assert world.queued == [second(number).workflow_id for number in (1, 2, 3)]
    world.advance(second(3), to=WorkState.READY)
    admission.release(STUDY)
    assert world.work(second(3)).state is WorkState.DELIVERING


def test_what_is_held_goes_out_when_it_is_let_go(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    world.advance(to=WorkState.READY)
    world.ledger.set_work_state(WORK, WorkState.HELD, at=world.time.now())
    with world.ledger.transaction() as connection:
        admission.let_go(connection, world.work())
    assert world.work().state is WorkState.DELIVERING
    assert world.queued[1:] == [f"{WORK.workflow_id}:pacs:1"]
