from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from dicomnode.config import DeliverySection
from dicomnode.encoded import encode_part10
from dicomnode.errors import NodeError, PeerError, PeerRefusal
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import ResultRow
from dicomnode.study import DeliveryRow, DeliveryState, Purpose, ResultRole, WorkRow, WorkState, World
from dicomnode.workflow.delivery import Delivery, outgoing, verdict, wait_before
from dicomnode.workflow.memory_queue import MemoryQueue
from tests.unit.workflow.samples import EXPLICIT, STUDY, WORK, Events, Time, row, tiny_series

RESULTS = ("a1" * 16, "b2" * 16)
SETTINGS = DeliverySection(first_retry_seconds=5, longest_retry_seconds=60, give_up_seconds=1000)


@dataclass
class Peer:
    """A destination that answers as it is told; 0x0000 when it is told nothing more."""

    answers: list[int | NodeError | Exception] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    got: list[OutgoingObject] = field(default_factory=list)
    queries: list[Mapping[str, str]] = field(default_factory=list)

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        return tuple(self._outcome(one) for one in objects)

    def _outcome(self, one: OutgoingObject) -> StoreOutcome:
        self.got.append(one)
        answer = self.answers.pop(0) if self.answers else 0x0000
        if isinstance(answer, PeerError):
            return StoreOutcome(result_id=one.result_id, status=None, error=answer)
        if isinstance(answer, Exception):
            raise answer
        return StoreOutcome(result_id=one.result_id, status=answer, error=None)

    def find(self, level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        self.queries.append(query)
        return [{"SOPInstanceUID": uid} for uid in self.holds]


class Bench:
    """A work whose two results are under way to some destinations."""

    def __init__(self, ledger: Ledger, objects: Objects, time: Time, events: Events) -> None:
        self.ledger, self.objects, self.time, self.events = ledger, objects, time, events
        self.peers: dict[str, Peer] = {}
        self.reported: list[tuple[str, BaseException]] = []

    def prepare(self, *destinations: str) -> None:
        """A delivery to each destination, queued."""
        self.peers = {name: Peer() for name in destinations}
        self.ledger.record_instances([row(0)])
        self.ledger.open_revision(STUDY, "digest", self.time.now())
        self.ledger.create_work(WORK, "digest", self.time.now())
        rows = []
        for result_id, role, image in zip(
            RESULTS, (ResultRole.SEGMENTATION, ResultRole.REPORT), tiny_series(), strict=False
        ):
            data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
            self.objects.put(STUDY, World.IDENTITY, result_id, Purpose.RESULT, data)
            rows.append(
                ResultRow(result_id=result_id, role=role, sop_class_uid="1.2", digest=result_id, length=len(data))
            )
        self.ledger.record_results(WORK, rows, destinations, self.time.now())
        for state in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY):
            self.ledger.set_work_state(WORK, state, at=self.time.now())
        self.delivery = Delivery(
            self.ledger,
            self.objects,
            destinations=self.peers,
            settings=SETTINGS,
            report=lambda where, error: self.reported.append((where, error)),
            clock=self.time.now,
            emit=self.events,
        )
        self.queue = MemoryQueue(
            run_stage=lambda stage, key: True,
            run_delivery=lambda key, destination, number: self.delivery.attempt(self.queue, key, destination, number),
            monotonic=self.time.monotonic,
        )
        self.ledger.set_work_state(WORK, WorkState.DELIVERING, at=self.time.now())
        with self.ledger.transaction() as connection:
            for destination in destinations:
                self.queue.enqueue_delivery(connection, WORK, destination, 1, 0.0)

    @property
    def work(self) -> WorkRow:
        found = self.ledger.work(WORK)
        assert found is not None
        return found

    def rows(self, destination: str = "pacs") -> list[DeliveryRow]:
        return [one for one in self.ledger.deliveries(WORK) if one.destination == destination]

    def states(self, destination: str = "pacs") -> list[DeliveryState]:
        return [one.state for one in self.rows(destination)]

    def later(self, seconds: float) -> int:
        self.time.forward(seconds)
        return self.queue.run_due()


@pytest.fixture
def bench(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Bench:
    return Bench(ledger, objects, time, events)


BOTH_CONFIRMED = [DeliveryState.CONFIRMED] * 2


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0x0107])
def test_success_and_warnings_end_the_work(bench: Bench, status: int) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [status, status]
    bench.queue.run_due()
    assert bench.states() == BOTH_CONFIRMED
    assert [(one.status, one.attempts, one.reason) for one in bench.rows()] == [(status, 1, None)] * 2
    assert (bench.work.state, bench.work.reason) == (WorkState.DONE, None)
    assert bench.work.stages["deliver"] == 0.0
    assert bench.events.names == ["delivery.begun", "delivery.confirmed", "delivery.confirmed", "work.ended"]


def test_what_waits_is_sent_again_with_the_same_bytes_and_nothing_else_is(bench: Bench) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [0x0000, 0xA700]
    bench.queue.run_due()
    assert bench.states() == [DeliveryState.CONFIRMED, DeliveryState.WAITING]
    assert bench.rows()[1].reason == "peer-out-of-resources"
    assert bench.work.state is WorkState.DELIVERING
    assert bench.later(4.9) == 0
    assert bench.later(0.2) == 1
    assert bench.states() == BOTH_CONFIRMED
    first, second, third = bench.peers["pacs"].got
    assert first.result_id != second.result_id
    assert third == second
    assert bench.work.state is WorkState.DONE


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_a_permanent_refusal_fails_the_work_with_its_reason(bench: Bench, status: int) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [status]
    bench.queue.run_due()
    assert bench.states() == [DeliveryState.REFUSED, DeliveryState.CONFIRMED]
    assert bench.rows()[0].status == status
    assert (bench.work.state, bench.work.reason) == (WorkState.FAILED, "peer-refused-object")
    assert bench.queue.waiting == ()
    assert bench.events.facts("delivery.refused")[0]["status"] == f"x{status:04X}"


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (PeerError("peer-unreachable"), True),
        (PeerError("peer-aborted"), True),
        (PeerRefusal("peer-rejected"), True),
        (PeerRefusal("tls-failed"), True),
        (PeerRefusal("peer-context-refused"), False),
    ],
)
def test_an_answer_that_never_came_waits_unless_nobody_can_mend_it(bench: Bench, error: PeerError, waits: bool) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [error, error]
    bench.queue.run_due()
    assert {one.reason for one in bench.rows()} == {error.code}
    assert {one.status for one in bench.rows()} == {None}
    assert bench.work.state is (WorkState.DELIVERING if waits else WorkState.FAILED)
    assert len(bench.queue.waiting) == waits


def test_an_outcome_without_status_or_error_waits() -> None:
    assert verdict(StoreOutcome(result_id="r", status=None, error=None)) == (DeliveryState.WAITING, "peer-aborted")


def test_a_duplicate_is_delivered_when_the_peer_shows_it(bench: Bench) -> None:
    bench.prepare("pacs")
    peer = bench.peers["pacs"]
    uids = [str(image.SOPInstanceUID) for image in tiny_series()]
    peer.answers, peer.holds = [0x0111, 0x0111], ["1.2.3", uids[0]]
    bench.queue.run_due()
    assert bench.states() == [DeliveryState.CONFIRMED, DeliveryState.REFUSED]
    assert [one.status for one in bench.rows()] == [0x0111, 0x0111]
    assert [query["SOPInstanceUID"] for query in peer.queries] == uids[:2]
    assert bench.work.state is WorkState.FAILED


def test_an_exception_that_nobody_foresaw_is_reported_and_tried_again(bench: Bench) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [ValueError("Mueller^Juergen")]
    bench.queue.run_due()
    ((where, error),) = bench.reported
    assert (where, type(error)) == ("deliver", ValueError)
    assert "Mueller" not in repr(bench.events.seen)
    assert bench.states() == [DeliveryState.WAITING] * 2
    assert bench.later(5) == 1
    assert bench.work.state is WorkState.DONE


def test_a_sealed_object_that_is_lost_waits_for_its_restoration(bench: Bench, objects: Objects) -> None:
    bench.prepare("pacs")
    data = objects.get(STUDY, World.IDENTITY, RESULTS[1], Purpose.RESULT)
    objects.delete(STUDY, World.IDENTITY, RESULTS[1], Purpose.RESULT)
    bench.queue.run_due()
    assert bench.events.facts("delivery.failed") == [{"work": WORK.workflow_id, "reason": "storage-failed"}]
    assert bench.peers["pacs"].got == []
    objects.put(STUDY, World.IDENTITY, RESULTS[1], Purpose.RESULT, data)
    bench.later(5)
    assert bench.work.state is WorkState.DONE


def test_a_sealed_object_that_was_changed_is_given_up_and_the_others_go_out(bench: Bench, objects: Objects) -> None:
    bench.prepare("pacs")
    path = objects._path(STUDY, objects._keys.get(STUDY, World.IDENTITY), World.IDENTITY, RESULTS[0], Purpose.RESULT)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    bench.queue.run_due()
    assert [one.result_id for one in bench.peers["pacs"].got] == [RESULTS[1]]
    assert bench.work.state is WorkState.FAILED
    assert bench.work.reason == "sealed-damaged"


def test_one_destination_down_holds_up_no_other(bench: Bench) -> None:
    bench.prepare("pacs", "archive")
    bench.peers["pacs"].answers = [PeerError("peer-unreachable")] * 4
    bench.queue.run_due()
    assert bench.states("archive") == BOTH_CONFIRMED
    assert bench.work.state is WorkState.DELIVERING
    bench.later(5)
    assert bench.work.state is WorkState.DELIVERING
    bench.later(10)
    assert bench.states("pacs") == BOTH_CONFIRMED
    assert bench.work.state is WorkState.DONE
    assert len(bench.peers["archive"].got) == 2


def test_waits_double_until_a_delivery_is_given_up(bench: Bench) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [PeerError("peer-unreachable")] * 1000
    began = bench.time.monotonic()
    tries = [0.0]
    bench.queue.run_due()
    while bench.queue.waiting:
        bench.later(bench.queue.waiting[0].due - bench.time.monotonic())
        tries.append(bench.time.monotonic() - began)
    waits = [later - earlier for earlier, later in pairwise(tries)]
    assert waits[:5] == [5, 10, 20, 40, 60]
    assert set(waits[5:]) == {60}
    assert 1000 <= tries[-1] < 1060
    assert (bench.work.state, bench.work.reason) == (WorkState.FAILED, "timeout")
    assert bench.rows()[0].attempts == len(tries)


def test_two_destinations_that_are_given_up_end_the_work_once(bench: Bench) -> None:
    bench.prepare("pacs", "archive")
    bench.peers["pacs"].answers = [PeerError("peer-unreachable")] * 2
    bench.peers["archive"].answers = [PeerError("peer-unreachable")] * 2
    bench.time.forward(1000)
    assert bench.queue.run_due() == 2
    assert (bench.work.state, bench.work.reason) == (WorkState.FAILED, "timeout")
    assert bench.events.names.count("work.ended") == 1
    assert bench.queue.waiting == ()


def test_a_destination_that_the_configuration_no_longer_names_is_refused(bench: Bench) -> None:
    bench.prepare("pacs", "archive")
    del bench.peers["pacs"]
    bench.queue.run_due()
    assert {(one.state, one.reason) for one in bench.rows()} == {(DeliveryState.REFUSED, "config-invalid")}
    assert bench.states("archive") == BOTH_CONFIRMED
    assert (bench.work.state, bench.work.reason) == (WorkState.FAILED, "config-invalid")


def test_a_try_after_the_end_sends_nothing(bench: Bench) -> None:
    bench.prepare("pacs")
    bench.queue.run_due()
    bench.delivery.attempt(bench.queue, WORK, "pacs", 7)
    assert len(bench.peers["pacs"].got) == 2
    assert bench.queue.waiting == ()
    assert bench.events.names.count("work.ended") == 1


def test_a_work_that_was_shredded_meanwhile_ends_quietly(bench: Bench, ledger: Ledger) -> None:
    bench.prepare("pacs")
    ledger.purge_study(STUDY)
    bench.queue.run_due()
    assert bench.queue.waiting == ()
    assert bench.peers["pacs"].got == []


def test_what_is_sent_is_the_data_set_inside_the_sealed_file() -> None:
    image = tiny_series()[0]
    data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
    sent = outgoing("r", data)
    assert data.endswith(bytes(sent.encoded))
    assert (sent.sop_class_uid, sent.sop_instance_uid) == (str(image.SOPClassUID), str(image.SOPInstanceUID))
    assert sent.transfer_syntax_uid == EXPLICIT


def test_the_first_wait_is_the_configured_one() -> None:
    assert [wait_before(number, SETTINGS) for number in (2, 3, 4, 6, 10_000)] == [5, 10, 20, 60, 60]
