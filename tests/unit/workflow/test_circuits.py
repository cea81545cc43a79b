"""A destination that is down: it is left alone and asked, the others get theirs, and it gets all in the end, STAT first."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from dicomnode.encoded import encode_part10
from dicomnode.errors import NodeError, PeerError, PeerRefusal, StorageError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import BacklogRow, ResultRow
from dicomnode.study import CircuitState, DeliveryState, Purpose, ResultRole, WorkKey, WorkState, World
from dicomnode.workflow.circuits import Circuits, fault_of
from tests.unit.workflow.samples import EXPLICIT, MODEL, Events, Time, row, tiny_series
from tests.unit.workflow.test_delivery import BOTH_CONFIRMED, SETTINGS, Bench, Peer, digest_of

DAY = 86_400.0
DOWN = PeerError("peer-unreachable")


class Ward(Bench):
    """Works of several studies."""

    def open(self, *destinations: str) -> None:
        self.settings = SETTINGS.model_copy(
            update={"circuit_failures": 3, "longest_retry_seconds": 600, "give_up_seconds": 7 * DAY}
        )
        self.prepare(*destinations)

    def admit(self, number: int, priority: str) -> WorkKey:
        """One more study with one result, on its way to every destination."""
        study = f"{number:02x}" * 16
        key = WorkKey(study_key=study, revision=1, model=MODEL)
        self.ledger.record_instances([row(0, study_key=study)])
        self.ledger.rank_study(study, "ct", priority)
        self.ledger.open_revision(study, "digest", self.time.now())
        self.ledger.create_work(key, "digest", self.time.now())
        data = encode_part10(tiny_series()[number % 10], transfer_syntax_uid=EXPLICIT)
        name = f"{number:04x}" * 8
        self.objects.put(study, World.IDENTITY, name, Purpose.RESULT, data)
        result = ResultRow(
            result_id=name, role=ResultRole.REPORT, sop_class_uid="1.2", digest=digest_of(data), length=len(data)
        )
        self.ledger.record_results(key, [result], list(self.peers), self.time.now())
        for state in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY):
            self.ledger.set_work_state(key, state, at=self.time.now())
        self.ledger.set_work_state(key, WorkState.DELIVERING, at=self.time.now())
        with self.ledger.transaction() as connection:
            for destination in self.peers:
                self.queue.enqueue_delivery(
                    connection, key, destination, 1, 0.0, priority=self.ledger.priority(study, connection=connection)
                )
        return key

    def circuit(self, destination: str = "pacs") -> tuple[CircuitState, int, str | None]:
        found = self.ledger.circuits()[destination]
        return found.state, found.openings, found.reason

    def sent(self, destination: str = "pacs") -> list[str]:
        return [one.result_id[:4] for one in self.peers[destination].got]


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Ward:
    return Ward(ledger, objects, time, events)


def test_down_for_a_day_it_delays_nobody_and_gets_everything_stat_first(ward: Ward) -> None:
    ward.open("pacs", "archive")
    ward.peers["pacs"].answers = [DOWN] * 1000
    ward.queue.run_due()
    for number, priority in ((1, "research"), (2, "routine"), (3, "stat"), (4, "routine")):
        ward.admit(number, priority)
        ward.queue.run_due()
        assert ward.sent("archive")[-1] == f"{number:04x}", "whatever the other destination does"
    assert ward.circuit() == (CircuitState.OPEN, 1, "peer-unreachable")
    tried = len(ward.peers["pacs"].got)
    assert tried == 4, "two objects of the first work, one of each of the next two"
    waits: list[float | None] = []
    for _ in range(int(DAY / 600)):
        ward.peers["pacs"].echoes = [DOWN]
        waits.append(ward.circuits.ask("pacs"))
        ward.later(600)
    assert waits[:7] == [10, 20, 40, 80, 160, 320, 600]
    assert set(waits[6:]) == {600}
    assert len(ward.peers["pacs"].got) == tried, "not an object was sent meanwhile"
    assert all(work.state is WorkState.DELIVERING for work in ward.ledger.works())
    ward.peers["pacs"].answers = []
    ward.peers["pacs"].got.clear()
    assert ward.circuits.ask("pacs") is None
    assert ward.circuit() == (CircuitState.HALF_OPEN, 145, "peer-unreachable")
    ward.queue.run_due()
    assert ward.sent() == ["0003", "a1a1", "b2b2", "0002", "0004", "0001"]
    assert ward.circuit() == (CircuitState.CLOSED, 0, None)
    assert {work.state for work in ward.ledger.works()} == {WorkState.DONE}
    assert len(ward.peers["archive"].got) == 6
    assert ward.queue.waiting == ()


def test_what_is_told(ward: Ward) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [DOWN] * 6
    ward.queue.run_due()
    ward.later(5)
    assert ward.events.facts("circuit.opened") == []
    ward.later(10)
    (opened,) = ward.events.facts("circuit.opened")
    assert opened == {"destination": "pacs", "reason": "peer-unreachable", "openings": 1, "seconds": 5.0}
    (waiting,) = ward.ledger.backlog()
    assert waiting == BacklogRow(
        destination="pacs",
        state=DeliveryState.WAITING,
        objects=2,
        works=1,
        oldest=waiting.oldest,
        changed=waiting.changed,
    )
    assert ward.circuits.ask("pacs") is None
    assert ward.events.facts("circuit.half-opened") == [{"destination": "pacs", "deliveries": 1}]
    ward.queue.run_due()
    assert ward.events.facts("circuit.closed") == [{"destination": "pacs", "deliveries": 0}]
    assert ward.states() == BOTH_CONFIRMED


def test_nothing_waits_of_what_a_newer_revision_superseded(ward: Ward) -> None:
    ward.open("pacs", "archive")
    (work,) = ward.ledger.works()
    assert {one.destination for one in ward.ledger.backlog()} == {"archive", "pacs"}
    ward.ledger.set_work_state(work.key, WorkState.SUPERSEDED, at=ward.time.now())
    assert {row.state for row in ward.ledger.deliveries(work.key)} == {DeliveryState.WAITING}
    assert ward.ledger.backlog() == ()


@pytest.mark.parametrize("error", [PeerRefusal("peer-rejected"), PeerRefusal("tls-failed")])
def test_what_only_people_can_mend_opens_it_at_once_for_as_long_as_ever(ward: Ward, error: PeerError) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [error] * 2
    ward.queue.run_due()
    assert ward.circuit() == (CircuitState.OPEN, 1, error.code)
    assert ward.events.facts("circuit.opened")[0]["seconds"] == 600


def test_half_open_it_opens_again_after_as_many_failures_and_for_longer(ward: Ward) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [DOWN] * 12
    ward.queue.run_due()
    ward.later(5)
    ward.later(10)
    assert ward.circuits.ask("pacs") is None
    ward.queue.run_due()
    ward.later(20)
    assert ward.circuit() == (CircuitState.HALF_OPEN, 1, "peer-unreachable")
    ward.later(40)
    ward.later(80)
    assert ward.circuit()[:2] == (CircuitState.OPEN, 2)
    assert [one["seconds"] for one in ward.events.facts("circuit.opened")] == [5, 10]


def test_one_object_that_a_destination_chokes_on_holds_up_no_other(ward: Ward) -> None:
    """It is the most urgent, and is tried first again and again; the others are taken all the same."""
    ward.open("pacs")
    ward.queue.run_due()
    poison = ward.admit(1, "stat")
    peer = ward.peers["pacs"]
    take = peer._outcome

    def choke(one: OutgoingObject) -> StoreOutcome:
        if one.result_id.startswith("0001"):
            return StoreOutcome(result_id=one.result_id, status=None, error=PeerError("peer-aborted"))
        return take(one)

    peer._outcome = choke  # type: ignore[method-assign]
    for number in range(2, 10):
        ward.admit(number, "routine")
        ward.later(30)
        if ward.circuits.is_open("pacs"):
            ward.circuits.ask("pacs")
            ward.queue.run_due()
    assert {work.key for work in ward.ledger.works((WorkState.DELIVERING,))} == {poison}


def test_a_destination_that_will_not_be_asked_is_there(ward: Ward) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected")] * 2
    ward.queue.run_due()
    ward.peers["pacs"].echoes = [PeerRefusal("peer-context-refused")]
    assert ward.circuits.ask("pacs") is None
    ward.queue.run_due()
    assert ward.states() == BOTH_CONFIRMED


def test_a_try_that_parks_while_the_destination_comes_back_goes_with_the_others(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.open("pacs")
    asked = iter([True, False])
    monkeypatch.setattr(ward.circuits, "is_open", lambda _: next(asked, False))
    ward.queue.run_due()
    assert ward.states() == BOTH_CONFIRMED


def test_a_work_that_waits_for_too_long_ends_also_while_nothing_is_tried(ward: Ward) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected")] * 2
    ward.queue.run_due()
    ward.later(7 * DAY)
    assert ward.ended() == (WorkState.FAILED, "timeout")


def test_waits_differ_by_a_quarter_at_most(ward: Ward) -> None:
    ward.open("pacs")
    ward.circuits._jitter = iter([0.0, 0.5, 1.0]).__next__
    assert [ward.circuits.lengthen(100) for _ in range(3)] == [100, 87.5, 75]


def test_a_start_begins_with_closed_circuits_and_tries_all(ward: Ward) -> None:
    ward.open("pacs")
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected")] * 2
    ward.queue.run_due()
    assert ward.circuit()[0] is CircuitState.OPEN
    ward.circuits = ward.delivery._circuits = circuits(ward)
    ward.circuits.begin()
    assert ward.circuit()[0] is CircuitState.CLOSED
    ward.queue.run_due()
    assert ward.states() == BOTH_CONFIRMED


def test_a_ledger_that_cannot_be_written_hinders_no_circuit(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.open("pacs")

    def fail(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    monkeypatch.setattr(ward.ledger, "put_circuit", fail)
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected")] * 2
    ward.queue.run_due()
    assert ward.circuits.is_open("pacs")


def circuits(ward: Ward, *, first: float = 0.01) -> Circuits:
    return Circuits(
        ward.ledger,
        destinations=ward.peers,
        hasten=lambda name: ward.queue.hasten(0.0, name),
        settings=ward.settings.model_copy(update={"first_retry_seconds": first, "longest_retry_seconds": first}),
        jitter=lambda: 0.0,
        clock=ward.time.now,
        emit=ward.events,
    )


@pytest.mark.parametrize("fault", [StorageError("ledger-failed"), ValueError("Mueller^Juergen")])
def test_a_thread_asks_until_the_destination_is_there_and_bears_every_fault(ward: Ward, fault: Exception) -> None:
    ward.open("pacs")
    there = threading.Event()
    hastened: list[str] = []

    def hasten(name: str) -> int:
        hastened.append(name)
        if len(hastened) == 2:
            raise fault
        if len(hastened) == 3:
            there.set()
        return 0

    made = circuits(ward)
    made._hasten = hasten
    ward.peers["pacs"].echoes = [DOWN, DOWN]
    made.begin()
    made.heard("pacs", [StoreOutcome(result_id="r", status=None, error=PeerRefusal("peer-rejected"))])
    made.heard("pacs", [StoreOutcome(result_id="r", status=None, error=PeerRefusal("peer-rejected"))])
    assert there.wait(30)
    made.end(10)
    assert ward.peers["pacs"].echoes == []
    assert ward.events.names.count("circuit.failed") == 1
    assert "Mueller" not in repr(ward.events.seen)
    assert not made.is_open("pacs")


def refused() -> list[StoreOutcome]:
    return [StoreOutcome(result_id="r", status=None, error=PeerRefusal("peer-rejected"))]


def test_one_that_opened_before_the_start_was_through_is_asked_as_well(ward: Ward) -> None:
    """The queue is launched first: a PACS that boots beside the node may refuse before circuits begin."""
    ward.open("pacs")
    made, hastened = circuits(ward), threading.Event()
    made._hasten = lambda _: int(hastened.set() or 0)
    made.heard("pacs", refused())
    assert made._circuits["pacs"].thread is None
    made.begin()
    assert ward.circuit()[0] is not CircuitState.CLOSED, "it is shown as it is"
    assert hastened.wait(30)
    made.end(10)
    assert not made.is_open("pacs")


def test_without_room_for_a_thread_it_is_asked_later(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.open("pacs")
    made, hastened = circuits(ward), threading.Event()
    made.begin()
    made._hasten = lambda _: int(hastened.set() or 0)

    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_room)
        made.heard("pacs", refused())
        assert made.is_open("pacs")
        made.end(0)
        made._ended.clear()
    assert made.is_open("pacs")
    assert hastened.wait(30)
    made.end(10)
    assert not made.is_open("pacs")


def test_an_end_waits_for_no_wait(ward: Ward) -> None:
    ward.open("pacs")
    made = circuits(ward, first=3600)
    made.begin()
    made.heard("pacs", [StoreOutcome(result_id="r", status=None, error=PeerRefusal("peer-rejected"))])
    thread = made._circuits["pacs"].thread
    assert thread is not None
    made.end(10)
    assert not thread.is_alive()


def test_whoever_says_that_it_is_mended_has_it_asked_at_once(ward: Ward) -> None:
    ward.open("pacs")
    there = threading.Event()
    made = circuits(ward, first=3600)
    made.begin()
    made.heard("pacs", [StoreOutcome(result_id="r", status=None, error=PeerRefusal("peer-rejected"))])

    def hasten(_name: str) -> int:
        there.set()
        return 0

    made._hasten = hasten
    made.hurry("archive")
    assert made.is_open("pacs")
    made.hurry("pacs")
    assert there.wait(30)
    made.end(10)
    assert not made.is_open("pacs")


def test_whose_fault_it_is() -> None:
    down = StoreOutcome(result_id="r", status=None, error=DOWN)
    refused = StoreOutcome(result_id="r", status=0xA900, error=PeerRefusal("peer-refused-object"))
    full = StoreOutcome(result_id="r", status=0xA700, error=PeerError("peer-out-of-resources"))
    taken = replace(down, status=0, error=None)
    found: list[NodeError | None] = [fault_of(one) for one in ([down, full], [down, taken], [refused], [taken], [])]
    assert found == [DOWN, None, None, None, None]


def test_a_start_says_nothing_of_the_circuits_of_another_kind(ward: Ward) -> None:
    """Destinations' circuits and sources' stand in one table, and each kind begins when it does."""
    ward.open("pacs")
    sources = Circuits(
        ward.ledger,
        destinations={"source.archive": Peer()},
        hasten=lambda _: 0,
        settings=ward.settings,
        jitter=lambda: 0.0,
        clock=ward.time.now,
        emit=ward.events,
        kind="source",
    )
    fault = [StoreOutcome(result_id="", status=None, error=PeerRefusal("tls-failed"))]
    ward.circuits.heard("pacs", fault)
    sources.heard("source.archive", fault)
    ward.ledger.put_circuit(replace(ward.ledger.circuits()["source.archive"], destination="source.gone"))
    ward.ledger.put_circuit(replace(ward.ledger.circuits()["pacs"], destination="gone"))
    ward.circuits.begin()
    shown = {name: row.state for name, row in ward.ledger.circuits().items()}
    is_open, is_closed = CircuitState.OPEN, CircuitState.CLOSED
    assert shown == {"pacs": is_open, "gone": is_closed, "source.archive": is_open, "source.gone": is_open}
    sources.begin()
    shown = {name: row.state for name, row in ward.ledger.circuits().items()}
    assert shown == {"pacs": is_open, "gone": is_closed, "source.archive": is_open, "source.gone": is_closed}
    sources.end(1)
    ward.circuits.end(1)
