"""Orders of people, carried out once whatever crashes, and works on their way that nobody takes further."""

from __future__ import annotations

from typing import Any

import pytest

from dicomnode.errors import ConfigError, PeerError, StorageError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import OrderRow, ResultRow
from dicomnode.study import REJECTED, RETRACTION, DeliveryState, Mark, ResultRole, WorkKey, WorkRow, WorkState
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.orders import EXPORT, Orders, Overseer, Verb, is_of_any_use
from dicomnode.workflow.ports import Revival
from dicomnode.workflow.unchanged import ORDERED
from tests.unit.workflow.samples import MODEL, STUDY, WORK, Events, Time, row
from tests.unit.workflow.test_delivery import BOTH_CONFIRMED, RESULTS, Bench

WAITING, REFUSED, CANCELLED = DeliveryState.WAITING, DeliveryState.REFUSED, DeliveryState.CANCELLED


class Ward(Bench):
    """A bench with somebody who gives orders."""

    def __init__(self, ledger: Ledger, objects: Objects, time: Time, events: Events) -> None:
        super().__init__(ledger, objects, time, events)
        self.hurried: list[str] = []
        self.beats: list[int] = []
        self.asked: list[tuple[str, object]] = []

    def reprocess(self, connection: Any, study_key: str) -> int | None:
        self.asked.append(("reprocess", study_key))
        return 2

    def let_go(self, connection: Any, work: WorkRow) -> None:
        self.asked.append(("release", work.key))

    def order(self, verb: Verb, *, model: str = "", destination: str = "", study: str = STUDY) -> None:
        row = OrderRow(verb=verb, study_key=study, model=model, destination=destination, at=self.time.now())
        self.ledger.give_order(row)
        self.ledger.give_order(row)

    @property
    def orders(self) -> Orders:
        return Orders(
            self.ledger,
            self.queue,
            admission=self,
            hurry=self.hurried.append,
            clock=self.time.now,
            emit=self.events,
            committing=self.committing,
            beat=lambda: self.beats.append(len(self.asked)),
        )

    def carry_out(self, verb: Verb, **about: str) -> None:
        self.order(verb, **about)
        self.orders.sweep()
        assert self.ledger.orders() == ()


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Ward:
    return Ward(ledger, objects, time, events)


def test_each_order_is_a_step(ward: Ward) -> None:
    ward.prepare("pacs")
    for model in ("", MODEL, "no-such"):
        ward.order(Verb.REPROCESS, model=model)
    ward.orders.sweep()
    assert len(ward.beats) == 3
    assert ward.beats[:2] == [0, 1]


def test_a_dead_letter_is_delivered_after_its_cause_was_mended(ward: Ward) -> None:
    ward.prepare("pacs", "archive")
    ward.peers["pacs"].answers = [0xA900]
    ward.queue.run_due()
    assert ward.ended() == (WorkState.FAILED, "peer-refused-object")
    ((key, dead),) = ward.ledger.dead_letters(10)
    assert (key, dead.result_id, dead.destination, dead.status) == (WORK, RESULTS[0], "pacs", 0xA900)
    ward.carry_out(Verb.RETRY)
    assert ward.states() == [WAITING, DeliveryState.CONFIRMED]
    assert (ward.rows()[0].attempts, ward.rows()[0].reason) == (0, None)
    assert ward.hurried == ["pacs"], "the archive has everything"
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)
    first, _, again = ward.peers["pacs"].got
    assert again == first
    assert len(ward.peers["archive"].got) == 2
    assert ward.events.facts("order.done") == [{"study": STUDY, "kind": "retry", "works": 1}]
    assert ward.ledger.dead_letters(10) == ()


def test_what_was_given_up_for_its_age_is_tried_for_as_long_again(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [PeerError("peer-unreachable")] * 4
    ward.queue.run_due()
    ward.later(1000)
    assert ward.ended() == (WorkState.FAILED, "timeout")
    assert {(one.state, one.reason) for one in ward.rows()} == {(REFUSED, "timeout")}, (
        "dead letters, not for ever waiting"
    )
    ward.carry_out(Verb.RETRY, destination="pacs", model=MODEL)
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)


def test_what_waits_is_tried_at_once(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [PeerError("peer-unreachable")] * 2
    ward.queue.run_due()
    assert ward.queue.run_due() == 0
    ward.carry_out(Verb.RETRY)
    assert ward.queue.run_due() == 1
    assert ward.states() == BOTH_CONFIRMED


def test_a_retry_of_what_is_done_or_unknown_changes_nothing(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.queue.run_due()
    for about in ({}, {"study": "ee" * 16}, {"model": "other"}, {"destination": "other"}):
        ward.carry_out(Verb.RETRY, **about)
    assert ward.ended() == (WorkState.DONE, None)
    assert ward.queue.waiting == ()


@pytest.mark.parametrize(("state", "tried"), [(WorkState.REFUSED, True), (WorkState.FAILED, True), (None, False)])
def test_a_revision_that_made_nothing_leaves_the_dead_letters_of_the_one_before(
    ward: Ward, state: WorkState | None, *, tried: bool
) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [0xC001] * 2
    ward.queue.run_due()
    assert ward.states() == [REFUSED] * 2
    newer = type(WORK)(study_key=STUDY, revision=2, model=MODEL)
    ward.ledger.open_revision(STUDY, "another", ward.time.now())
    ward.ledger.create_work(newer, "another", ward.time.now())
    if state is not None:
        ward.ledger.set_work_state(newer, state, at=ward.time.now(), reason="geometry-gap")
    ward.carry_out(Verb.RETRY)
    assert ward.states() == [WAITING if tried else REFUSED] * 2


def test_an_older_revision_is_not_delivered_behind_a_newer_one(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [0xA900, 0xA900]
    ward.queue.run_due()
    ward.ledger.open_revision(STUDY, "other", ward.time.now())
    newer = type(WORK)(study_key=STUDY, revision=2, model=MODEL)
    ward.ledger.create_work(newer, "other", ward.time.now())
    ward.carry_out(Verb.RETRY)
    assert ward.ended() == (WorkState.FAILED, "peer-refused-object")


def test_what_is_over_a_destinations_budget_stays_so(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [0xA900]
    ward.queue.run_due()
    ward.ledger.put_deliveries(ward.rows()[:1], REFUSED, ward.time.now(), reason="result-over-budget")
    ward.carry_out(Verb.RETRY)
    assert ward.states() == [REFUSED, DeliveryState.CONFIRMED]
    ward.carry_out(Verb.CANCEL)
    ward.carry_out(Verb.RETRY)
    assert ward.states() == [CANCELLED, DeliveryState.CONFIRMED], "settled, it stays so as well"


def test_cancelled_nothing_more_is_sent_and_a_retry_takes_it_up_again(ward: Ward) -> None:
    ward.prepare("pacs", "archive")
    ward.peers["pacs"].answers = [PeerError("peer-unreachable")] * 2
    ward.queue.run_due()
    ward.carry_out(Verb.CANCEL)
    assert ward.states() == [CANCELLED] * 2
    assert ward.states("archive") == BOTH_CONFIRMED, "what a destination has, it keeps"
    assert ward.ended() == (WorkState.CANCELLED, "cancelled")
    ward.later(1000)
    assert len(ward.peers["pacs"].got) == 2
    assert Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep() == 0
    ward.carry_out(Verb.RETRY)
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)


def test_one_destination_is_cancelled_and_the_other_goes_on(ward: Ward) -> None:
    ward.prepare("pacs", "archive")
    for peer in ward.peers.values():
        peer.answers = [PeerError("peer-unreachable")] * 2
    ward.queue.run_due()
    ward.carry_out(Verb.CANCEL, destination="pacs")
    assert ward.work.state is WorkState.DELIVERING
    ward.later(5)
    assert ward.states("archive") == BOTH_CONFIRMED
    assert ward.ended() == (WorkState.CANCELLED, "cancelled")


@pytest.mark.parametrize(
    ("answer", "state"), [(0x0000, DeliveryState.CONFIRMED), (0xA700, CANCELLED), (0xA900, CANCELLED)]
)
def test_cancelled_while_it_is_sent_the_peer_has_it_or_it_stays_cancelled(
    ward: Ward, answer: int, state: DeliveryState
) -> None:
    ward.prepare("pacs")
    peer = ward.peers["pacs"]
    store = peer.store

    def cancelled_meanwhile(objects: Any) -> Any:
        ward.carry_out(Verb.CANCEL)
        return store(objects)

    peer.store = cancelled_meanwhile  # type: ignore[method-assign]
    peer.answers = [answer] * 2
    ward.queue.run_due()
    assert ward.states() == [state] * 2
    assert ward.ended() == (WorkState.CANCELLED, "cancelled")
    assert ward.queue.waiting == ()


@pytest.mark.parametrize("reason", ["instances-rejected", "cancelled"])
def test_what_ended_while_it_was_tried_keeps_its_reason_and_what_was_wrong_is_never_sent(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    ward.prepare("pacs")
    peer = ward.peers["pacs"]
    peer.answers = [PeerError("peer-aborted")] * 2
    real = peer._outcome

    def outcome(one: OutgoingObject) -> StoreOutcome:
        ward.ledger.put_deliveries(ward.rows(), CANCELLED, ward.time.now(), reason=reason)
        ward.ledger.set_work_state(WORK, WorkState.CANCELLED, at=ward.time.now(), reason=reason)
        return real(one)

    with monkeypatch.context() as patch:
        patch.setattr(peer, "_outcome", outcome)
        ward.queue.run_due()
    assert {(one.state, one.reason) for one in ward.rows()} == {(CANCELLED, reason)}
    peer.got.clear()
    ward.carry_out(Verb.RETRY)
    ward.queue.run_due()
    assert len(peer.got) == (2 if reason == "cancelled" else 0)


@pytest.mark.parametrize("fact", [REJECTED, RETRACTION])
def test_a_retry_of_wrong_results_sends_notes_of_ours_alone(ward: Ward, fact: str) -> None:
    """As an older version left it: the reason of the rows is lost, and what is wrong stands with the work."""
    ward.prepare("pacs")
    ward.ledger.put_deliveries(ward.rows(), REFUSED, ward.time.now(), reason="peer-aborted")
    ward.ledger.set_work_state(WORK, WorkState.FAILED, at=ward.time.now(), reason="timeout")
    ward.ledger.add_facts(WORK, {fact: "sent"})
    ward.carry_out(Verb.RETRY)
    assert ward.ended() == (WorkState.FAILED, "timeout")
    note = ResultRow(
        result_id="c3" * 16, role=ResultRole.REJECTION, form="x", sop_class_uid="1.2", digest="d", length=1
    )
    ward.ledger.record_results(WORK, [note], ["pacs"], ward.time.now())
    ward.ledger.put_deliveries(
        [one for one in ward.rows() if one.role is ResultRole.REJECTION], REFUSED, ward.time.now()
    )
    ward.carry_out(Verb.RETRY)
    assert [one.role for one in ward.rows() if one.state is WAITING] == [ResultRole.REJECTION]
    assert ward.work.state is WorkState.DELIVERING


def test_one_destination_is_cancelled_while_the_other_is_still_to_commit(ward: Ward) -> None:
    ward.committing = frozenset({"archive"})
    ward.prepare("pacs", "archive")
    ward.peers["pacs"].answers = [PeerError("peer-aborted")] * 2
    ward.queue.run_due()
    ward.carry_out(Verb.CANCEL, destination="pacs")
    assert ward.work.state is WorkState.DELIVERING, "what the archive does not commit is sent once more"
    ward.carry_out(Verb.CANCEL)
    assert ward.work.state is WorkState.DELIVERING, "nothing of it waits"


def test_cancelling_dead_letters_settles_them(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [0xA900, 0xA900]
    ward.queue.run_due()
    ward.carry_out(Verb.CANCEL)
    assert ward.ledger.dead_letters(10) == ()
    assert ward.ended() == (WorkState.FAILED, "peer-refused-object")


@pytest.mark.parametrize("state", [WorkState.QUEUED, WorkState.INFERRING, WorkState.READY, WorkState.HELD])
def test_a_work_is_cancelled_wherever_it_stands(ward: Ward, state: WorkState) -> None:
    ward.prepare("pacs")
    work = type(WORK)(study_key=STUDY, revision=1, model="other")
    ward.ledger.create_work(work, "digest", ward.time.now())
    for step in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY, WorkState.HELD):
        if state is not WorkState.QUEUED:
            ward.ledger.set_work_state(work, step, at=ward.time.now())
        if step is state or state is WorkState.QUEUED:
            break
    ward.carry_out(Verb.CANCEL, model="other")
    found = ward.ledger.work(work)
    assert found is not None
    assert (found.state, found.reason) == (WorkState.CANCELLED, "cancelled")
    assert ward.work.state is WorkState.DELIVERING


def test_a_cancelled_destination_stops_no_work_that_is_not_there_yet(ward: Ward) -> None:
    ward.prepare("pacs")
    work = type(WORK)(study_key=STUDY, revision=1, model="other")
    ward.ledger.create_work(work, "digest", ward.time.now())
    ward.carry_out(Verb.CANCEL, model="other", destination="pacs")
    found = ward.ledger.work(work)
    assert found is not None
    assert found.state is WorkState.QUEUED


def test_release_and_reprocess_are_asked_for_once(ward: Ward) -> None:
    ward.prepare("pacs")
    work = type(WORK)(study_key=STUDY, revision=1, model="other")
    ward.ledger.create_work(work, "digest", ward.time.now())
    for step in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY, WorkState.HELD):
        ward.ledger.set_work_state(work, step, at=ward.time.now())
    ward.carry_out(Verb.RELEASE)
    ward.carry_out(Verb.REPROCESS)
    ward.carry_out(Verb.REPROCESS, study="ee" * 16)
    ward.orders.sweep()
    assert ward.asked == [("release", work), ("reprocess", STUDY)]


def test_works_that_somebody_ordered_make_results_whatever_is_there(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.prepare("pacs")
    ordered = WorkKey(study_key=STUDY, revision=2, model=MODEL)

    def opened(connection: Any, study_key: str) -> int:
        ward.ledger.open_revision(study_key, "other", ward.time.now(), connection=connection)
        ward.ledger.create_work(ordered, "other", ward.time.now(), connection=connection)
        return 2

    monkeypatch.setattr(ward, "reprocess", opened)
    ward.carry_out(Verb.REPROCESS)
    study = ward.ledger.study(STUDY)
    assert study is not None
    assert {work.key: ORDERED in work.facts for work in study.works} == {WORK: False, ordered: True}


def test_a_crash_in_the_middle_of_an_order_leaves_the_order(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.prepare("pacs")
    ward.peers["pacs"].answers = [0xA900, 0xA900]
    ward.queue.run_due()
    ward.order(Verb.RETRY)

    def killed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ward.ledger, "end_order", killed)
        with pytest.raises(KeyboardInterrupt):
            ward.orders.sweep()
    assert ward.states() == [REFUSED] * 2
    assert len(ward.ledger.orders()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(ward.queue, "revive_delivery", killed)
        with pytest.raises(KeyboardInterrupt):
            ward.orders.sweep()
    assert ward.states() == [WAITING] * 2
    assert ward.queue.waiting == ()
    assert ward.ledger.orders() == ()
    assert Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep() == 1
    assert ward.events.facts("delivery.revived") == [{"work": WORK.workflow_id, "destination": "pacs"}]
    assert Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep() == 0
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)


@pytest.mark.parametrize(("error", "left"), [(StorageError("ledger-failed"), 1), (ConfigError("config-invalid"), 0)])
def test_an_order_that_fails_is_told_and_hinders_no_other(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, error: Exception, left: int
) -> None:
    ward.prepare("pacs")
    ward.time.forward(-1)
    ward.order(Verb.REPROCESS)
    ward.time.forward(1)
    ward.order(Verb.CANCEL)

    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(ward, "reprocess", fail)
    ward.orders.sweep()
    assert ward.ended() == (WorkState.CANCELLED, "cancelled")
    assert len(ward.ledger.orders()) == left
    assert len(ward.events.facts("order.failed")) == 1


def test_a_work_whose_last_answer_was_never_looked_at_is_ended(ward: Ward) -> None:
    """All is confirmed, and nobody drew the conclusion."""
    ward.prepare("pacs")
    ward.queue.forget(STUDY)
    for result_id in RESULTS:
        ward.ledger.record_delivery(
            result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=ward.time.now()
        )
    assert Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep() == 1
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)
    assert ward.peers["pacs"].got == []
    assert [row.role for row in ward.rows()] == [ResultRole.SEGMENTATION, ResultRole.REPORT]


def test_orders_to_export_are_left_to_those_who_export(ward: Ward) -> None:
    ward.ledger.give_order(OrderRow(verb="export", study_key=STUDY, destination="trial", at=ward.time.now()))
    ward.queue = MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=ward.time.monotonic)
    ward.orders.sweep()
    assert [one.verb for one in ward.ledger.orders()] == ["export"]
    assert ward.events.seen == []


def half_done(ward: Ward) -> MemoryQueue:
    """A work in its first stage, and an empty queue."""
    ward.ledger.record_instances([row(0)])
    ward.ledger.open_revision(STUDY, "digest", ward.time.now())
    ward.ledger.create_work(WORK, "digest", ward.time.now())
    ward.ledger.set_work_state(WORK, WorkState.PREPARING, at=ward.time.now())
    return MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=ward.time.monotonic)


def test_a_work_that_nobody_takes_further_is_gone_on_with(ward: Ward) -> None:
    overseer = Overseer(ward.ledger, half_done(ward), clock=ward.time.now, emit=ward.events)
    assert overseer.sweep() == 1
    assert ward.events.facts("work.revived") == [{"work": WORK.workflow_id}]
    assert overseer.sweep() == 0, "it is queued"
    assert ward.work.state is WorkState.PREPARING


def test_a_work_that_ends_the_node_ends_itself_with_a_code(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = half_done(ward)
    monkeypatch.setattr(queue, "revive_work", lambda *_, **__: Revival.GIVEN_UP)
    overseer = Overseer(ward.ledger, queue, clock=ward.time.now, emit=ward.events)
    assert overseer.sweep() == overseer.sweep() == 0
    assert ward.ended() == (WorkState.FAILED, "restarted-too-often")
    (failed,) = ward.events.facts("work.failed")
    assert failed["reason"] == "restarted-too-often"


@pytest.mark.parametrize(
    ("about", "left"),
    [
        ({}, []),
        ({"destination": "trial"}, ["other"]),
        ({"destination": "pacs"}, ["trial", "other"]),
        ({"model": MODEL}, ["trial", "other"]),
    ],
)
def test_exports_that_were_not_carried_out_are_cancelled_too(
    ward: Ward, about: dict[str, str], left: list[str]
) -> None:
    ward.prepare("pacs")
    exports = [
        OrderRow(verb=EXPORT, study_key=STUDY, destination=name, at=ward.time.now()) for name in ("trial", "other")
    ]
    foreign = OrderRow(verb=EXPORT, study_key="cd" * 16, destination="trial", at=ward.time.now())
    for one in (*exports, foreign):
        ward.ledger.give_order(one)
    ward.order(Verb.CANCEL, **about)
    ward.orders.sweep()
    kept = [one.destination for one in ward.ledger.orders() if one.study_key == STUDY]
    assert sorted(kept) == sorted(left)
    assert foreign in ward.ledger.orders()
    told = [one["destination"] for one in ward.events.facts("export.cancelled")]
    assert sorted([*told, *kept]) == ["other", "trial"]


def mark_of(ward: Ward) -> Mark | None:
    found = ward.ledger.mark(STUDY)
    return None if found is None else found.mark


def test_a_study_that_still_arrives_is_cancelled_before_anything_is_made_of_it(ward: Ward) -> None:
    ward.ledger.record_instances([row(0)])
    ward.queue = MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=ward.time.monotonic)
    ward.carry_out(Verb.CANCEL)
    found = ward.ledger.mark(STUDY)
    assert found is not None
    assert (found.mark, found.revision) == (Mark.CANCELLED, 0)
    ward.carry_out(Verb.RELEASE)
    assert mark_of(ward) is Mark.RELEASED
    assert ward.asked == [("reprocess", STUDY)]


@pytest.mark.parametrize("verb", [Verb.RELEASE, Verb.REPROCESS])
def test_a_cancelled_study_stays_so_until_it_is_ordered(ward: Ward, verb: Verb) -> None:
    ward.prepare("pacs")
    ward.carry_out(Verb.CANCEL)
    assert (mark_of(ward), ward.ended()) == (Mark.CANCELLED, (WorkState.CANCELLED, "cancelled"))
    ward.carry_out(Verb.RETRY)
    assert mark_of(ward) is Mark.CANCELLED, "what was made goes out; nothing new is made"
    ward.ledger.open_revision(STUDY, "late images", ward.time.now())
    ward.carry_out(verb)
    assert mark_of(ward) is Mark.RELEASED
    assert ward.asked == [("reprocess", STUDY)]


def test_what_is_held_of_a_cancelled_study_is_let_go_and_not_made_anew(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.carry_out(Verb.CANCEL)
    ward.carry_out(Verb.RETRY)
    ward.ledger.set_work_state(WORK, WorkState.HELD, at=ward.time.now(), reason="patient-changed")
    ward.carry_out(Verb.RELEASE)
    assert ward.asked == [("release", WORK)]
    assert mark_of(ward) is Mark.CANCELLED, "what still comes of it is not worked on"


def test_a_release_of_one_model_has_no_study_worked_on_by_all(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.carry_out(Verb.CANCEL)
    study = ward.ledger.study(STUDY)
    assert study is not None
    for model, useful in ((MODEL, False), ("", True)):
        order = OrderRow(verb=Verb.RELEASE, study_key=STUDY, model=model, at=ward.time.now())
        assert is_of_any_use(study, order, ()) is useful
    ward.carry_out(Verb.RELEASE, model=MODEL)
    assert ward.asked == []
    assert mark_of(ward) is Mark.CANCELLED


@pytest.mark.parametrize("about", [{"model": MODEL}, {"destination": "pacs"}])
def test_cancelling_a_part_marks_no_study(ward: Ward, about: dict[str, str]) -> None:
    ward.prepare("pacs")
    ward.carry_out(Verb.CANCEL, **about)
    assert mark_of(ward) is None


def test_a_crash_while_a_study_is_cancelled_leaves_both_or_neither(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.prepare("pacs")
    ward.order(Verb.CANCEL)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for point in ("put_mark", "end_order"):
        with monkeypatch.context() as patch:
            patch.setattr(ward.ledger, point, killed)
            with pytest.raises(KeyboardInterrupt):
                ward.orders.sweep()
        assert (mark_of(ward), ward.work.state) == (None, WorkState.DELIVERING)
    ward.orders.sweep()
    assert (mark_of(ward), ward.work.state) == (Mark.CANCELLED, WorkState.CANCELLED)
    assert ward.ledger.orders() == ()


def test_what_is_cancelled_already_is_of_no_use_to_cancel(ward: Ward) -> None:
    ward.prepare("pacs")
    order = OrderRow(verb=Verb.CANCEL, study_key=STUDY, at=ward.time.now())
    again = OrderRow(verb=Verb.REPROCESS, study_key=STUDY, at=ward.time.now())
    for useful in (True, False):
        study = ward.ledger.study(STUDY)
        assert study is not None
        assert is_of_any_use(study, order, ()) is useful
        assert is_of_any_use(study, again, ())
        ward.carry_out(Verb.CANCEL)


@pytest.mark.parametrize(("first", "last"), [(Verb.CANCEL, Verb.RETRY), (Verb.RETRY, Verb.CANCEL)])
def test_what_was_ordered_last_stands_also_where_it_was_ordered_before(ward: Ward, first: Verb, last: Verb) -> None:
    ward.prepare("pacs")
    for verb in (last, first, last):
        ward.order(verb)
        ward.time.forward(1)
    ward.orders.sweep()
    assert ward.ledger.orders() == ()
    assert ward.states() == [WAITING if last is Verb.RETRY else CANCELLED] * len(RESULTS)


def test_an_order_that_is_given_anew_before_it_is_carried_out_is_carried_out_once(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.prepare("pacs")
    ward.order(Verb.REPROCESS)
    orders = ward.ledger.orders

    def then_again(**about: Any) -> tuple[OrderRow, ...]:
        found = orders(**about)
        monkeypatch.undo()
        ward.time.forward(1)
        ward.order(Verb.REPROCESS)
        return found

    monkeypatch.setattr(ward.ledger, "orders", then_again)
    ward.orders.sweep()
    assert ward.ledger.orders() == ()
    assert ward.asked == [("reprocess", STUDY)]


def test_what_was_taken_away_before_it_was_carried_out_is_not(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.prepare("pacs")
    ward.order(Verb.REPROCESS)
    given = ward.ledger.orders()

    def then_gone(**about: Any) -> tuple[OrderRow, ...]:
        monkeypatch.undo()
        ward.ledger.end_order(given[0])
        return given

    monkeypatch.setattr(ward.ledger, "orders", then_gone)
    ward.orders.sweep()
    assert (ward.asked, ward.events.facts("order.done")) == ([], [])


@pytest.mark.parametrize("verb", list(Verb))
def test_an_order_of_a_study_that_was_shredded_ends_and_is_told(ward: Ward, verb: Verb) -> None:
    ward.prepare("pacs")
    ward.order(verb, study="cd" * 16)
    ward.orders.sweep()
    assert ward.ledger.orders() == ()
    told = {"study": "cd" * 16, "kind": verb.value, "reason": "study-not-found"}
    assert ward.events.facts("order.failed") == [told]
    assert ward.events.facts("order.done") == []
