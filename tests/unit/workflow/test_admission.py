from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import DeliverySection
from dicomnode.errors import NodeError, StorageError
from dicomnode.routing_rules import FloodGuardSection
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow, ResultRow
from dicomnode.study import (
    INCOMPLETE,
    DeliveryState,
    InstanceRow,
    InstanceState,
    Mark,
    Rejected,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.openings import Judge
from dicomnode.workflow.retraction import wish
from dicomnode.workflow.routing import Route, Share, every
from dicomnode.workflow.standing import Standing
from tests.unit.workflow.samples import MODEL, START, STUDY, WORK, Events, Time, row


@dataclass(frozen=True)
class Decided:
    """Rules that say what a test wants."""

    route: Callable[[str, Sequence[InstanceRow], Sequence[InstanceRow]], Route]
    judge: Judge
    order_export: Callable[[Any, str, str, Sequence[str]], None]
    looks_beside: bool = True


class World:
    """Admission over a real ledger and the queue in memory."""

    def __init__(self, ledger: Ledger, time: Time, events: Events) -> None:
        self.ledger = ledger
        self.time = time
        self.caught_up = True
        self.routed = 0
        self.hold_after_seconds = 0.0
        self.meanwhile: Callable[[], None] = lambda: None
        self.overdue: tuple[WorkKey, ...] = ()
        self.closed: list[str] = []
        self.ordered: list[tuple[str, str, tuple[str, ...]]] = []
        self.order_fails = False
        self.arriving: set[str] = set()
        self.queue = MemoryQueue(
            run_stage=lambda stage, key: True, run_delivery=lambda *_: None, monotonic=time.monotonic
        )
        self.events = events

    def admission(
        self,
        *,
        models: tuple[str, ...] = (MODEL,),
        destinations: tuple[str, ...] = ("pacs",),
        route: Route | None = None,
    ) -> Admission:
        def decide(study_key: str, rows: Sequence[InstanceRow], beside: Sequence[InstanceRow]) -> Route:
            self.routed += 1
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
            return every(models) if route is None else route

        standing = Standing(self.ledger, FloodGuardSection(burst_studies=1), clock=self.time.now)
        return Admission(
            self.ledger,
            self.queue,
            routing=Decided(decide, standing.judge, self._order),
            sop_classes=("1.2.840.10008.5.1.4.1.1.2",),
            destinations=destinations,
            overdue=lambda: self.overdue,
            flush=lambda study_key: self.caught_up,
            close_segments=self.closed.append,
            arriving=lambda study_key: study_key in self.arriving,
            settings=DeliverySection(longest_retry_seconds=60.0, hold_after_seconds=self.hold_after_seconds),
            clocks=self.time,
            emit=self.events,
        )

    def _order(self, connection: Any, study_key: str, export: str, rules: Sequence[str]) -> None:
        self.ordered.append((study_key, export, tuple(rules)))
        if self.order_fails:
            raise StorageError("storage-full")
        order = OrderRow(verb="export", study_key=study_key, destination=export, at=self.time.now())
        self.ledger.give_order(order, connection=connection)

    def receive(self, *numbers: int) -> None:
        self.ledger.record_instances([row(number) for number in numbers])

    def receive_again(self, number: int, turn: int = 1) -> None:
        """The same object, in a record of its own."""
        first = row(number)
        address = replace(first.address, segment_id=f"{turn:016x}")
        (again,) = self.ledger.record_instances([replace(first, address=address, received_at=self.time.now())])
        assert again.state is InstanceState.DUPLICATE

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
    with pytest.raises(StorageError, match="index-behind"):  # whoever asked asks again
        world.admission().start(STUDY)
    assert world.queued == []


def test_nothing_settles_before_the_index_has_caught_up(world: World) -> None:
    world.receive(0)
    world.caught_up = False
    with pytest.raises(StorageError, match="index-behind"):
        world.admission().settle(STUDY)
    assert world.ledger.latest_revision(STUDY) is None
    assert world.closed == []


def test_nothing_settles_where_something_came_while_it_was_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came then may be a note that nobody has judged."""
    world.receive(0)
    counted = Ledger.records

    def behind(ledger: Ledger, study_key: str) -> int:
        world.caught_up = False
        return counted(ledger, study_key)

    monkeypatch.setattr(Ledger, "records", behind)
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


@pytest.mark.parametrize(
    ("state", "confirmed"), [(WorkState.READY, False), (WorkState.HELD, False), (WorkState.HELD, True)]
)
def test_nothing_waits_of_what_is_superseded_and_what_was_delivered_can_be_retracted(
    world: World, state: WorkState, confirmed: bool
) -> None:
    """Held for one destination, and another one has its results: both are told when something new of the study comes."""
    world.receive(0)
    admission = world.admission(destinations=("pacs", "archive"))
    admission.start(STUDY)
    names = ("pacs", "archive") if confirmed else ("archive",)
    result = ResultRow(result_id="a1" * 16, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
    world.ledger.record_results(WORK, [result], names, world.time.now())
    world.advance(to=WorkState.READY)
    if confirmed:
        world.ledger.record_delivery(
            result.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=world.time.now()
        )
    if state is WorkState.HELD:
        for one in (WorkState.DELIVERING, WorkState.HELD):
            world.ledger.set_work_state(WORK, one, at=world.time.now(), reason="patient-changed")
    world.receive(1)
    admission.start(STUDY)
    states = {row.destination: row.state for row in world.work().deliveries}
    assert states == {"archive": DeliveryState.CANCELLED} | ({"pacs": DeliveryState.CONFIRMED} if confirmed else {})
    assert world.work().state is (WorkState.CANCELLED if confirmed else WorkState.SUPERSEDED)
    assert wish(world.ledger, STUDY, None, world.time.now) == ((WORK,) if confirmed else ())


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

    def fails_after(connection: Any, key: WorkKey, **more: Any) -> None:
        queue(connection, key, **more)
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
    admission.reconcile()
    assert world.events.facts("work.failed") == [{"work": WORK.workflow_id, "reason": "timeout"}], "once"


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
    assert world.queued == [WORK.workflow_id], "nothing was sent"
    world.receive_again(0)
    for _ in range(2):
        admission.settle(STUDY)
    again = [] if end is WorkState.REFUSED else [second().workflow_id]
    assert world.queued == [WORK.workflow_id, *again]


@pytest.mark.parametrize("joins", ["1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.22"])
def test_what_joins_a_study_that_failed_is_no_new_try(world: World, joins: str) -> None:
    world.receive(0, 1)
    admission = world.admission()
    admission.settle(STUDY)
    world.ledger.set_work_state(WORK, WorkState.FAILED, at=world.time.now(), reason="storage-full")
    for turn in range(3):
        world.ledger.record_instances([replace(row(100 + turn), sop_class_uid=joins)])
        admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]
    world.time.forward(300.0)
    world.receive_again(1)
    admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id, second().workflow_id]


def test_a_study_without_an_image_for_any_model_is_tried_again_when_any_of_it_is_sent_again(world: World) -> None:
    for turn in range(2):
        magnetic = replace(row(0), sop_class_uid="1.2.840.10008.5.1.4.1.1.4")
        world.ledger.record_instances([replace(magnetic, address=replace(magnetic.address, number=turn))])
        world.admission().settle(STUDY)
        world.ledger.set_work_state(second(turn + 1), WorkState.FAILED, at=world.time.now(), reason="timeout")
    assert world.queued == [WORK.workflow_id, second().workflow_id]


def test_own_results_that_a_pacs_forwards_back_start_nothing(world: World) -> None:
    """It takes the segmentation, refuses the report for good, and routes whatever joins a study to the node."""
    admission = world.admission()
    world.receive(0, 1, 2)
    admission.settle(STUDY)
    roles = (ResultRole.SEGMENTATION, ResultRole.REPORT)
    rows = [ResultRow(result_id=role.value * 4, role=role, sop_class_uid="1.2", digest="d", length=1) for role in roles]
    world.ledger.record_results(WORK, rows, ["pacs"], world.time.now())
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    for made, state in zip(rows, (DeliveryState.CONFIRMED, DeliveryState.REFUSED), strict=True):
        world.ledger.record_delivery(
            made.result_id, "pacs", state=state, status=0, reason="peer-refused-object", at=world.time.now()
        )
    world.ledger.set_work_state(WORK, WorkState.FAILED, at=world.time.now(), reason="peer-refused-object")
    for turn in range(3):
        forwarded = replace(row(100 + turn), sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4")
        world.ledger.record_instances([forwarded])
        world.time.forward(60.0)
        admission.settle(STUDY)
    world.receive_again(0)  # nor the PACS's copy of the images: results are there, `dicomnode retry` delivers them
    admission.settle(STUDY)
    latest = world.ledger.latest_revision(STUDY)
    assert latest is not None
    assert latest.revision == 1


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


def test_a_study_goes_where_its_route_says_and_only_there(world: World) -> None:
    world.receive(0)
    share = Share(rules=("night",), destinations=("trial", "gone"), series=frozenset({"5e" * 16}))
    admission = world.admission(destinations=("pacs", "trial"), route=Route(shares={MODEL: share}, priority="stat"))
    admission.settle(STUDY)
    assert [(entry.name, entry.priority) for entry in world.queue.waiting] == [(WORK.workflow_id, 0)]
    facts = world.work().facts
    assert facts.pop("sop_classes")
    assert facts == {"rules": "night", "destinations": "trial,gone", "series": "5e" * 16}
    assert world.ledger.rank_of_study(STUDY) == ("", "stat")
    assert world.events.facts("study.routed") == [{"study": STUDY, "models": 1, "rules": "night"}]
    world.queue.run_due()
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.queued == [f"{WORK.workflow_id}:trial:1"]


def test_results_that_no_destination_gets_are_done_when_they_are_ready(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=Route(shares={MODEL: Share(rules=("sealed",), destinations=())}))
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.work().state is WorkState.DONE


def test_a_study_that_no_rule_takes_is_settled_without_a_work(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=Route(shares={}, ignored={"5e" * 16: "qa"}))
    admission.settle(STUDY)
    assert world.queued == []
    assert world.ledger.open_studies() == ()
    assert world.events.facts("study.not-routed") == [{"study": STUDY, "rules": "qa"}]
    admission.settle(STUDY)
    assert world.events.names.count("study.not-routed") == 1


def test_a_study_that_no_rule_names_says_so_too(world: World) -> None:
    world.receive(0)
    world.admission(route=Route(shares={})).start(STUDY)
    assert world.events.facts("study.not-routed") == [{"study": STUDY}]


def test_a_study_is_routed_once_for_the_same_input(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.start(STUDY)
    admission.settle(STUDY)
    assert world.routed == 1
    world.receive(1)
    admission.settle(STUDY)
    assert world.routed == 2


def test_what_comes_while_a_study_is_routed_is_not_left_out(world: World) -> None:
    world.receive(0)
    world.meanwhile = lambda: world.receive(1)
    admission = world.admission()
    with pytest.raises(StorageError, match="index-behind"):
        admission.settle(STUDY)
    assert world.ledger.latest_revision(STUDY) is None
    assert world.queued == []
    admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]


def test_a_work_that_fails_while_its_study_is_looked_at_is_tried_again_at_the_next_look(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.receive_again(0)
    plan = admission._plan(STUDY, 1)
    world.ledger.set_work_state(WORK, WorkState.FAILED, at=world.time.now(), reason="timeout")
    with pytest.raises(StorageError, match="index-behind"), world.ledger.transaction() as connection:
        admission._open(connection, STUDY, plan)
    admission.settle(STUDY)
    assert world.queued[-1] == second().workflow_id


def test_the_sender_s_own_priority_stands_where_no_rule_says_another(world: World) -> None:
    world.receive(0)
    world.ledger.rank_study(STUDY, "ct1", "research")
    world.admission().start(STUDY)
    assert [entry.priority for entry in world.queue.waiting] == [2]


@pytest.mark.parametrize(("rule", "expected"), [(None, 0), ("research", 2)])
def test_a_work_that_is_queued_becomes_as_urgent_as_whoever_sends_its_study_again(
    world: World, rule: str | None, expected: int
) -> None:
    world.receive(0)
    world.ledger.rank_study(STUDY, "ct1", "routine")
    admission = world.admission(route=replace(every((MODEL,)), priority=rule))  # type: ignore[arg-type]
    admission.settle(STUDY)
    world.ledger.rank_study(STUDY, "emergency", "stat")
    world.receive_again(0)
    assert [key for key, _ in world.ledger.open_studies()] == [STUDY], (
        "a kill here leaves it to be looked at after the start"
    )
    admission.start(STUDY)
    assert [(entry.name, entry.priority) for entry in world.queue.waiting] == [(WORK.workflow_id, expected)]


def test_results_that_are_on_their_way_become_as_urgent_as_a_rule_says_of_the_newer_revision(world: World) -> None:
    world.receive(0)
    world.admission().settle(STUDY)
    world.queue.run_due()
    world.advance(to=WorkState.READY)
    world.admission().release(STUDY)
    world.receive(1)
    world.admission(route=replace(every((MODEL,)), priority="stat")).settle(STUDY)
    waiting = {entry.name: entry.priority for entry in world.queue.waiting}
    assert waiting == {f"{WORK.workflow_id}:pacs:1": 0, second().workflow_id: 0}


def test_results_that_come_too_late_are_held_and_said_to_be(world: World) -> None:
    world.hold_after_seconds = 600.0
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.time.forward(601)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert (world.work().state, world.work().reason) == (WorkState.HELD, "result-late")
    assert world.events.facts("work.held") == [{"work": WORK.workflow_id, "reason": "result-late", "seconds": 601}]
    assert "work.released" not in world.events.names
    assert world.queued == [WORK.workflow_id]
    admission.reconcile()
    admission.release(STUDY)
    assert world.work().state is WorkState.HELD
    assert world.work().stages["wait"] == 601.0


@pytest.mark.parametrize(("limit", "late"), [(0.0, 10**7), (600.0, 600)])
def test_results_that_come_in_time_go_out(world: World, limit: float, late: float) -> None:
    world.hold_after_seconds = limit
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.time.forward(late)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.work().state is WorkState.DELIVERING


def test_an_age_that_a_jump_of_the_clock_made_up_holds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.hold_after_seconds = 600.0
    monkeypatch.setattr(world.time, "late", lambda: START)
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.time.forward(10**6)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    assert world.work().state is WorkState.DELIVERING


def test_what_is_held_gives_way_to_a_newer_revision_and_that_one_is_in_time(world: World) -> None:
    world.hold_after_seconds = 600.0
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.time.forward(601)
    world.advance(to=WorkState.READY)
    admission.release(STUDY)
    world.ledger.record_instances([replace(row(1), received_at=world.time.now())])
    admission.settle(STUDY)
    assert world.work().state is WorkState.SUPERSEDED
    world.advance(second(), to=WorkState.READY)
    admission.release(STUDY)
    assert world.work(second()).state is WorkState.DELIVERING


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


LACKING = "12 of 300 announced images did not come"


def lacking(world: World) -> list[object]:
    """What each work of the study says that it lacked, revision by revision; None where it says nothing."""
    study = world.ledger.study(STUDY)
    assert study is not None
    return [work.facts.get(INCOMPLETE) for work in study.works]


def test_what_a_study_lacked_when_it_was_settled_stays_with_its_works(world: World) -> None:
    world.receive(0)
    admission = world.admission(models=(MODEL, "other"))
    admission.start(STUDY)
    world.advance(to=WorkState.READY)
    assert lacking(world) == [None, None]
    admission.settle(STUDY, LACKING)
    assert lacking(world) == [LACKING, LACKING]
    assert world.work().state is WorkState.DELIVERING
    with Ledger.open_read_only(Path(str(world.ledger.engine.url.database))) as again:  # whoever looks after a kill
        found = again.work(WORK)
    assert found is not None
    assert found.facts == world.work().facts
    admission.settle(STUDY, LACKING)
    world.receive_again(0)
    assert lacking(world) == [LACKING, LACKING]
    admission.settle(STUDY)  # what was missing came, and is nothing that a model looks at
    assert lacking(world) == [None, None]


def test_a_newer_revision_says_for_itself_what_it_lacks(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY, LACKING)
    world.receive(1)
    admission.start(STUDY)
    assert lacking(world) == [LACKING, None]
    admission.settle(STUDY)
    assert lacking(world) == [LACKING, None]


def test_what_is_worked_on_anew_lacks_what_it_lacked(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY, LACKING)
    with world.ledger.transaction() as connection:
        admission.reprocess(connection, STUDY)
    assert lacking(world) == [LACKING, LACKING]
    with world.ledger.transaction() as connection:
        admission.reprocess(connection, STUDY)
    assert lacking(world) == [LACKING] * 3


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


EXPORTING = Route(shares={MODEL: Share()}, exports={"trial": ("ct", "night")})


def test_a_study_that_a_rule_exports_is_ordered_once_for_each_input(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=EXPORTING)
    admission.start(STUDY)
    admission.start(STUDY)
    admission.settle(STUDY)
    assert world.ordered == [(STUDY, "trial", ("ct", "night"))]
    (order,) = world.ledger.orders()
    assert (order.verb, order.study_key, order.destination) == ("export", STUDY, "trial")
    assert world.events.facts("study.export") == [{"study": STUDY, "destination": "trial", "rules": "ct,night"}]
    world.ledger.end_order(order)
    world.receive(1)
    admission.settle(STUDY)
    assert len(world.ordered) == 2, "a late instance is exported, too"


def test_a_study_that_is_worked_on_anew_is_exported_no_second_time(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=EXPORTING)
    admission.settle(STUDY)
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) == 2
    assert len(world.ordered) == 1


def test_an_order_that_cannot_be_entered_opens_no_revision(world: World) -> None:
    """Audit or ledger refuse: nothing of it stays, and the next look does all of it."""
    world.receive(0)
    world.order_fails = True
    admission = world.admission(route=EXPORTING)
    with pytest.raises(StorageError, match="storage-full"):
        admission.start(STUDY)
    assert world.ledger.latest_revision(STUDY) is None
    assert world.queued == []
    world.order_fails = False
    admission.start(STUDY)
    assert len(world.ledger.orders()) == 1


def test_a_study_that_rules_only_export_goes_to_no_model_and_is_not_called_lost(world: World) -> None:
    world.receive(0)
    world.admission(route=Route(shares={}, exports={"trial": ("ct",)})).start(STUDY)
    assert world.queued == []
    assert not world.events.facts("study.not-routed")


def test_an_old_study_is_kept_and_nothing_is_made_of_it_until_it_is_ordered(
    ledger: Ledger, time: Time, events: Events
) -> None:
    world = World(ledger, time, events)
    admission = world.admission(route=replace(every((MODEL,)), old_days=900, age_days=900))
    world.receive(0, 1)
    admission.start(STUDY)
    admission.settle(STUDY)
    study = ledger.study(STUDY)
    assert study is not None
    assert (study.works, study.revision, world.closed) == ((), 1, [STUDY])
    told = {"study": STUDY, "revision": 1, "days": 900, "kind": "old", "studies": 1}
    assert events.facts("study.old") == [told]
    assert "study.started" not in events.names
    with ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) == 2
    study = ledger.study(STUDY)
    assert study is not None
    assert [work.key.revision for work in study.works] == [2]
    world.receive(2)  # what comes late belongs to what is worked on
    admission.settle(STUDY)
    study = ledger.study(STUDY)
    assert study is not None
    assert sorted(work.key.revision for work in study.works) == [2, 3]
    assert len(events.facts("study.old")) == 1


def test_an_old_study_is_exported_when_it_is_ordered_and_not_before(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=replace(EXPORTING, old_days=900))
    admission.start(STUDY)
    admission.settle(STUDY)
    assert world.ordered == []
    for _ in range(2):
        with world.ledger.transaction() as connection:
            admission.reprocess(connection, STUDY)
        assert world.ordered == [(STUDY, "trial", ("ct", "night"))]


def with_results(world: World, key: WorkKey, *destinations: str) -> None:
    """Results of a work, made for these destinations, and the work ready."""
    result_id = f"2.25.{key.revision}"
    result = ResultRow(result_id=result_id, role=ResultRole.REPORT, sop_class_uid="1.2", digest=result_id, length=1)
    world.ledger.record_results(key, [result], destinations, world.time.now())
    world.advance(key, to=WorkState.READY)


def deliveries(world: World, key: WorkKey = WORK) -> dict[str, DeliveryState]:
    return {one.destination: one.state for one in world.ledger.deliveries(key)}


@pytest.mark.parametrize("share", [Share(), Share(destinations=("old",))])
def test_results_for_a_destination_that_is_gone_are_dead_letters_and_never_called_done(
    world: World, share: Share
) -> None:
    world.receive(0)
    world.admission(route=Route(shares={MODEL: share})).start(STUDY)
    with_results(world, WORK, "old")
    admission = world.admission(destinations=() if share.destinations is None else ("new",))
    admission.settle(STUDY)
    assert (world.work().state, world.work().reason) == (WorkState.FAILED, "config-invalid")
    assert deliveries(world) == {"old": DeliveryState.REFUSED}
    ((key, letter),) = world.ledger.dead_letters(10)
    assert (key, letter.reason) == (WORK, "config-invalid")
    assert world.events.facts("delivery.refused") == [
        {"work": WORK.workflow_id, "reason": "config-invalid", "objects": 1}
    ]


def test_one_destination_that_is_gone_keeps_the_results_from_no_other(world: World) -> None:
    world.receive(0)
    world.admission().start(STUDY)
    with_results(world, WORK, "old", "pacs")
    world.admission(destinations=("pacs",)).settle(STUDY)
    assert world.work().state is WorkState.DELIVERING
    assert deliveries(world) == {"old": DeliveryState.REFUSED, "pacs": DeliveryState.WAITING}


def second_revision(world: World, admission: Admission) -> WorkKey:
    """What comes while the results of the first revision wait for their destinations."""
    world.receive(1)
    admission.settle(STUDY)
    return WorkKey(study_key=STUDY, revision=2, model=MODEL)


def test_newer_results_take_the_place_of_older_ones_that_still_wait(world: World) -> None:
    world.receive(0)
    admission = world.admission(destinations=("pacs", "archive"))
    admission.settle(STUDY)
    with_results(world, WORK, "pacs", "archive")
    admission.release(STUDY)
    newer = second_revision(world, admission)
    assert world.work().state is WorkState.DELIVERING, "until there are newer ones, the older are the best there is"
    assert set(deliveries(world).values()) == {DeliveryState.WAITING}
    with_results(world, newer, "pacs", "archive")
    admission.release(STUDY)
    assert (world.work().state, world.work(newer).state) == (WorkState.SUPERSEDED, WorkState.DELIVERING)
    assert set(deliveries(world).values()) == {DeliveryState.CANCELLED}
    assert set(deliveries(world, newer).values()) == {DeliveryState.WAITING}
    assert world.ledger.dead_letters(10) == ()


def test_what_was_delivered_stays_delivered_and_other_destinations_go_on(world: World) -> None:
    world.receive(0)
    admission = world.admission(destinations=("pacs", "archive"))
    admission.settle(STUDY)
    with_results(world, WORK, "pacs", "archive", "elsewhere")
    admission = world.admission(destinations=("pacs", "archive", "elsewhere"))
    admission.release(STUDY)
    world.ledger.record_delivery(
        "2.25.1", "archive", state=DeliveryState.CONFIRMED, status=0, reason=None, at=world.time.now()
    )
    admission = world.admission(destinations=("pacs", "archive"), route=every((MODEL,)))
    newer = second_revision(world, admission)
    with_results(world, newer, "pacs", "archive")
    admission.release(STUDY)
    assert deliveries(world) == {
        "archive": DeliveryState.CONFIRMED,
        "pacs": DeliveryState.CANCELLED,
        "elsewhere": DeliveryState.WAITING,
    }
    assert world.work().state is WorkState.DELIVERING


def test_a_work_of_which_something_was_delivered_can_still_be_retracted(world: World) -> None:
    world.receive(0)
    admission = world.admission(destinations=("pacs", "archive"))
    admission.settle(STUDY)
    with_results(world, WORK, "pacs", "archive")
    admission.release(STUDY)
    world.ledger.record_delivery(
        "2.25.1", "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=world.time.now()
    )
    newer = second_revision(world, admission)
    with_results(world, newer, "pacs", "archive")
    admission.release(STUDY)
    assert (world.work().state, world.work().reason) == (WorkState.CANCELLED, "cancelled")
    assert deliveries(world) == {"archive": DeliveryState.CANCELLED, "pacs": DeliveryState.CONFIRMED}


AGED = replace(EXPORTING, age_days=900)


def test_the_second_old_study_of_an_hour_is_one_too_many_here_and_is_exported_when_it_is_let_go(world: World) -> None:
    other = "ee" * 16
    world.ledger.record_instances([row(7, study_key=other)])
    world.receive(0)
    admission = world.admission(route=AGED)
    admission.settle(other)
    admission.settle(STUDY)
    assert world.queued == [f"{other}-1-{MODEL}"]
    assert [study for study, *_ in world.ordered] == [other]
    told = {"study": STUDY, "revision": 1, "days": 900, "kind": "flood", "studies": 2}
    assert world.events.facts("study.old") == [told]
    world.receive(1)
    admission.settle(STUDY)
    assert len(world.events.facts("study.old")) == 1
    assert len(world.ordered) == 1
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) == 3
    assert world.queued[1:] == [second(3).workflow_id]
    assert [study for study, *_ in world.ordered] == [other, STUDY]
    world.receive(2)
    admission.settle(STUDY)
    assert world.queued[2:] == [second(4).workflow_id]


def test_late_images_of_a_cancelled_study_start_nothing_and_are_told_once(world: World) -> None:
    world.receive(0)
    admission = world.admission(route=EXPORTING)
    admission.settle(STUDY)
    world.ledger.set_work_state(WORK, WorkState.CANCELLED, at=world.time.now(), reason="cancelled")
    world.ledger.put_mark(STUDY, Mark.CANCELLED, 1, world.time.now())
    for number in (1, 2):
        world.receive(number)
        admission.start(STUDY)
        admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]
    assert len(world.ordered) == 1
    assert world.events.facts("study.cancelled") == [{"study": STUDY, "revision": 2}]
    assert world.ledger.open_studies() == (), "it is settled, and waits for nothing"
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) == 4
    assert world.queued[1:] == [second(4).workflow_id]
    assert len(world.ordered) == 1, "of what was cancelled, nothing leaves the house by itself"


def test_a_cancelled_study_that_failed_is_not_tried_again_when_it_is_sent_again(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.ledger.set_work_state(WORK, WorkState.FAILED, at=world.time.now(), reason="timeout")
    world.ledger.put_mark(STUDY, Mark.CANCELLED, 1, world.time.now())
    world.receive_again(0)
    for _ in range(2):
        admission.settle(STUDY)
    assert world.queued == [WORK.workflow_id]


def test_a_study_of_which_one_model_is_done_is_not_worked_on_anew_because_another_failed(world: World) -> None:
    world.receive(0)
    admission = world.admission(models=("a", "b"))
    admission.settle(STUDY)
    done, failed = (WorkKey(study_key=STUDY, revision=1, model=model) for model in ("a", "b"))
    world.advance(done, to=WorkState.READY)
    world.ledger.set_work_state(failed, WorkState.FAILED, at=world.time.now(), reason="timeout")
    for state in (WorkState.DELIVERING, WorkState.DONE):
        admission.settle(STUDY)
        world.ledger.set_work_state(done, state, at=world.time.now())
    world.receive_again(0)
    admission.settle(STUDY)
    assert world.work(done).state is WorkState.DONE
    assert [name for name in world.queued if ":" not in name] == [done.workflow_id, failed.workflow_id]
    latest = world.ledger.latest_revision(STUDY)
    assert latest is not None
    assert latest.revision == 1


def reject(world: World, *numbers: int, state: InstanceState = InstanceState.REJECTED) -> None:
    world.ledger.take_out(STUDY, [row(number).instance_key for number in numbers], state)


def finish(world: World, key: WorkKey = WORK) -> None:
    world.advance(key, to=WorkState.READY)
    for state in (WorkState.DELIVERING, WorkState.DONE):
        world.ledger.set_work_state(key, state, at=world.time.now())


def test_what_is_left_of_a_rejected_input_is_worked_on_anew(world: World) -> None:
    world.receive(0, 1, 2)
    admission = world.admission()
    admission.settle(STUDY)
    reject(world, 1)
    admission.settle(STUDY)
    assert world.queued == [f"{STUDY}-1-{MODEL}", f"{STUDY}-2-{MODEL}"]


def test_where_nothing_is_left_nothing_is_opened(world: World) -> None:
    world.receive(0, 1)
    admission = world.admission()
    admission.settle(STUDY)
    finish(world)
    other = replace(row(7), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59")  # the note that says so
    world.ledger.record_instances([other])
    reject(world, 0, 1)
    admission.settle(STUDY)
    latest = world.ledger.latest_revision(STUDY)
    assert latest is not None
    assert latest.revision == 1
    assert world.queued == [f"{STUDY}-1-{MODEL}"]
    with world.ledger.transaction() as connection:
        assert admission.reprocess(connection, STUDY) is None


def test_a_note_alone_is_no_input(world: World) -> None:
    note = replace(row(7), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59")
    world.ledger.record_instances([note])
    world.ledger.enter_rejections(STUDY, [row(0).instance_key], Rejected.SAFETY, note=note)
    world.admission().settle(STUDY)
    assert world.queued == []
    world.ledger.record_instances([replace(row(8), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11")])
    world.admission().settle(STUDY)
    assert world.queued == [f"{STUDY}-1-{MODEL}"], "the model says why it is not for it"


@pytest.mark.parametrize("finished", [True, False])
def test_expired_images_replace_no_results_that_were_finished(world: World, finished: bool) -> None:
    world.receive(0, 1, 2)
    admission = world.admission()
    admission.settle(STUDY)
    if finished:
        finish(world)
    reject(world, 1, state=InstanceState.EXPIRED)
    admission.settle(STUDY)
    latest = world.ledger.latest_revision(STUDY)
    assert latest is not None
    assert latest.revision == (1 if finished else 2)


def test_a_report_beside_images_that_all_expired_is_no_input(world: World) -> None:
    world.receive(0)
    world.ledger.record_instances([replace(row(8), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.11")])
    reject(world, 0, state=InstanceState.EXPIRED)
    world.admission().settle(STUDY)
    assert world.queued == []


def test_a_work_that_found_less_than_it_was_to_be_made_of_is_made_of_what_is_left(world: World) -> None:
    world.receive(0, 1, 2)
    admission = world.admission()
    admission.settle(STUDY)
    reject(world, 1, state=InstanceState.EXPIRED)
    world.ledger.set_work_state(WORK, WorkState.SUPERSEDED, at=world.time.now())  # as `prepare` does
    for _ in range(2):
        admission.settle(STUDY)
    assert world.work(second()).state is WorkState.QUEUED
    latest = world.ledger.latest_revision(STUDY)
    assert latest is not None
    assert latest.revision == 2


def test_an_image_that_comes_beside_expired_ones_opens_a_revision_of_what_is_left(world: World) -> None:
    world.receive(0, 1, 2)
    admission = world.admission()
    admission.settle(STUDY)
    finish(world)
    reject(world, 1, state=InstanceState.EXPIRED)
    world.receive(3)
    admission.settle(STUDY)
    assert world.work(second()).state is WorkState.QUEUED


def test_who_lets_results_go_is_remembered(world: World) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    for state in (WorkState.DELIVERING, WorkState.HELD):
        world.ledger.set_work_state(WORK, state, at=world.time.now(), reason="patient-changed" if state is WorkState.HELD else None)  # fmt: skip
    with world.ledger.transaction() as connection:
        admission.let_go(connection, world.work())
    assert world.work().state is WorkState.DELIVERING
    assert world.work().facts["released_at"] == int(START.timestamp())


def test_results_of_a_step_that_was_begun_for_another_patient_are_held_until_somebody_lets_them_go(
    world: World,
) -> None:
    world.receive(0)
    admission = world.admission()
    admission.settle(STUDY)
    world.advance(to=WorkState.READY)
    world.ledger.begin_procedure("p" * 64, [STUDY], "wrong-entry", world.time.now())
    admission.release(STUDY)
    assert (world.work().state, world.work().reason) == (WorkState.HELD, "worklist-entry-wrong")
    assert world.events.facts("work.held") == [{"work": WORK.workflow_id, "reason": "worklist-entry-wrong"}]
    with world.ledger.transaction() as connection:
        admission.let_go(connection, world.work())
    assert world.work().state is WorkState.DELIVERING
    assert world.queued[-1] == f"{WORK.workflow_id}:pacs:1"


def test_a_report_that_joins_an_old_study_lets_no_late_results_out(world: World) -> None:
    """The node was out of order for three days; then the PACS forwards the radiologist's report."""
    world.hold_after_seconds = 3600.0
    admission = world.admission()
    world.receive(0)
    admission.settle(STUDY)
    world.time.forward(3 * 86400.0)
    report = replace(row(7), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22", received_at=world.time.now())
    world.ledger.record_instances([report])
    world.advance(to=WorkState.READY)
    admission.settle(STUDY)
    assert (world.work().state, world.work().reason) == (WorkState.HELD, "result-late")
