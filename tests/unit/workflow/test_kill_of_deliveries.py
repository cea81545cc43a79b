"""A node that is killed before or after any of its effects while it delivers: the PACS has one set of results, nothing is stuck."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import PeerError, StorageError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import OrderRow, ResultRow
from dicomnode.study import OPEN, OVERTAKEN, DeliveryState, ResultRole, WorkKey, WorkState
from dicomnode.workflow.orders import Overseer, Verb
from tests.unit.workflow.samples import STUDY, WORK, Events, Time, ring
from tests.unit.workflow.test_delivery import BOTH_CONFIRMED, RESULTS, Peer
from tests.unit.workflow.test_orders import Ward


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


class Pacs(Peer):
    """Down at first, then refusing once; calls what it has a duplicate; the same UID never carries other bytes."""

    def __init__(self, *, down: int, refusing: int) -> None:
        super().__init__()
        self.down, self.refusing = down, refusing
        self.kept: dict[str, bytes] = {}

    def _outcome(self, one: OutgoingObject) -> StoreOutcome:
        self.got.append(one)
        if self.down:
            self.down -= 1
            return StoreOutcome(result_id=one.result_id, status=None, error=PeerError("peer-unreachable"))
        if self.refusing:
            self.refusing -= 1
            return StoreOutcome(result_id=one.result_id, status=0xC000, error=None)
        assert self.kept.setdefault(one.sop_instance_uid, bytes(one.encoded)) == one.encoded
        status = 0x0111 if one.sop_instance_uid in self.holds else 0x0000
        self.holds = [*self.holds, one.sop_instance_uid]
        return StoreOutcome(result_id=one.result_id, status=status, error=None)


class Steps:
    """Kills before or after the n-th of the calls that count."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.killed = False

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.killed = True
            raise Killed

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            self.step()
            result = function(*arguments, **options)
            self.step()
            return result

        return wrapper

    def transaction(self, function: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def wrapper() -> Iterator[Any]:
            with function() as connection:
                yield connection
                self.step()  # all is written, nothing committed
            self.step()

        return wrapper


def restarted(ward: Ward) -> None:
    """The durable queue goes on with what was under way; circuits begin closed."""
    entries = ward.queue._waiting
    if ward.running is not None and ward.running not in entries:
        entries.insert(0, ward.running)
    ward.circuits._circuits.clear()
    ward.circuits.begin()
    ward.circuits._asking = False


class Killable(Ward):
    running: Any = None

    def run(self) -> None:
        """Run what is due, and remember what is under way: DBOS runs a step again that did not end."""
        run = self.queue._run

        def remembered(entry: Any) -> None:
            self.running = entry
            run(entry)
            self.running = None

        self.queue._run = remembered  # type: ignore[method-assign]
        try:
            self.queue.run_due()
        finally:
            self.queue._run = run  # type: ignore[method-assign]

    def turn(self) -> None:
        """What the node does in a while."""
        self.run()
        self.orders.sweep()
        Overseer(self.ledger, self.queue, clock=self.time.now, emit=self.events).sweep()
        if self.circuits.is_open("pacs"):
            self.circuits.ask("pacs")
        if self.work.state is WorkState.FAILED:
            self.order(Verb.RETRY)
        self.time.forward(30)


def killed_at(folder: Path, number: int) -> bool:
    """Deliver with a kill at a step; whether there was so late a one."""
    events, time = Events(), Time()
    with Ledger.open(folder / "ledger.sqlite") as ledger, pytest.MonkeyPatch.context() as patch:
        ward = Killable(ledger, Objects(folder / "objects", DataKeys(ledger, ring())), time, events)
        ward.settings = ward.settings.model_copy(update={"circuit_failures": 2, "give_up_seconds": 100_000})
        ward.prepare("pacs")
        pacs = Pacs(down=4, refusing=1)
        ward.peers["pacs"] = pacs
        steps = Steps(number)
        for place, name in (
            (pacs, "store"),
            (ledger, "record_delivery"),
            (ledger, "put_circuit"),
            (ledger, "end_order"),
            (ledger, "give_order"),
            (ward.queue, "revive_delivery"),
            (ward.queue, "hasten"),
        ):
            patch.setattr(place, name, steps.counted(getattr(place, name)))
        patch.setattr(ledger, "transaction", steps.transaction(ledger.transaction))
        for _ in range(40):
            try:
                ward.turn()
            except Killed:
                restarted(ward)
            if ward.work.state is WorkState.DONE:
                break
        assert ward.ended() == (WorkState.DONE, None)
        assert ward.states() == BOTH_CONFIRMED
        assert len(pacs.kept) == 2
        assert ledger.orders() == () or _only_retries(ledger)
        ward.turn()
        assert ward.queue.waiting == ()
        assert ledger.dead_letters(10) == ()
        assert DeliveryState.WAITING not in ward.states()
        return steps.killed


def _only_retries(ledger: Ledger) -> bool:
    """An order that was given just before the kill finds nothing to do later."""
    return all(one == OrderRow(verb="retry", study_key=STUDY, at=one.at) for one in ledger.orders())


def test_killed_at_every_step_of_a_delivery_with_an_outage_and_a_retry(tmp_path: Path) -> None:
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        folder.mkdir()
        if not killed_at(folder, number):
            break
    assert number > 40, f"{WORK.workflow_id} has fewer steps than it should"


class Storing(Peer):
    """Tells what the ledger says while it is sent to; killed there, or not reached at all."""

    def __init__(self, ward: Ward, *, killing: bool) -> None:
        super().__init__()
        self.ward, self.killing = ward, killing
        self.meanwhile: list[bool] = []

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        self.meanwhile += [one.may_be_there for one in self.ward.rows()]
        if self.killing:
            raise Killed
        self.answers = [PeerError("peer-unreachable") for _ in objects]
        return super().store(objects)


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Killable:
    made = Killable(ledger, objects, time, events)
    made.prepare("pacs")
    return made


def storing(ward: Ward, *, killing: bool) -> Storing:
    ward.peers["pacs"] = peer = Storing(ward, killing=killing)
    return peer


def test_what_was_being_sent_when_the_node_was_killed_may_be_there(ward: Killable) -> None:
    """Whatever became of the next try: the destination may have stored it and nobody wrote it down."""
    peer = storing(ward, killing=True)
    with pytest.raises(Killed):
        ward.run()
    assert sorted(ward.ledger.end_tries()) == sorted(RESULTS)
    peer.killing = False
    restarted(ward)
    ward.run()
    assert [one.may_be_there for one in ward.rows()] == [True] * 2
    assert peer.meanwhile == [False] * 2 + [True] * 2, "while a try lasts nothing is known of it"


def test_a_destination_that_is_not_reached_has_nothing(ward: Killable) -> None:
    storing(ward, killing=False)
    ward.run()
    assert [one.attempts for one in ward.rows()] == [1, 1]
    assert ward.ledger.end_tries() == ()
    assert not any(one.may_be_there for one in ward.rows())


def test_what_could_not_be_written_down_may_be_there(ward: Killable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger refused when an answer came; the next try reaches nobody. Newer results were made: no note of theirs names it."""

    def refuses(*_: Any, **__: Any) -> None:
        raise StorageError("storage-full")

    with monkeypatch.context() as full:
        full.setattr(ward.ledger, "record_delivery", refuses)
        ward.run()
    assert not any(one.may_be_there for one in ward.rows())
    newer = WorkKey(study_key=STUDY, revision=2, model=WORK.model)
    ward.ledger.open_revision(STUDY, "other", ward.time.now())
    ward.ledger.create_work(newer, "other", ward.time.now())
    made = ResultRow(result_id="c3" * 16, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
    ward.ledger.record_results(newer, [made], [], ward.time.now())
    storing(ward, killing=False)
    ward.later(3600)
    assert [one.may_be_there for one in ward.rows()] == [True] * 2
    assert ward.work.facts[OVERTAKEN] == OPEN
