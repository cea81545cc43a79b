from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import update

from dicomnode.config import DeliverySection
from dicomnode.encoded import encode_part10, split_part10
from dicomnode.errors import NodeError, PeerError, PeerRefusal
from dicomnode.forms import SOP_CLASSES, Form, Variant, Wishes
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.sections import Destination
from dicomnode.storage import schema
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import ResultRow
from dicomnode.study import (
    OPEN,
    OVERTAKEN,
    RETRACTION,
    DeliveryRow,
    DeliveryState,
    Purpose,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
    World,
)
from dicomnode.workflow.circuits import Circuits, wait_before
from dicomnode.workflow.delivery import Delivery, outgoing
from dicomnode.workflow.downgrade import Capabilities, Downgrade
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.orders import to_retry
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.timekeeping import Timekeeper
from dicomnode.workflow.verdicts import replaced_notes, verdict
from tests.unit.workflow.samples import EXPLICIT, STUDY, WORK, Events, Time, row, tiny_series

RESULTS = ("a1" * 16, "b2" * 16)
SETTINGS = DeliverySection(first_retry_seconds=5, longest_retry_seconds=60, give_up_seconds=1000, circuit_failures=1000)


@dataclass
class Peer:
    """A destination that answers as it is told; 0x0000 when it is told nothing more."""

    answers: list[int | NodeError | Exception] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    got: list[OutgoingObject] = field(default_factory=list)
    queries: list[Mapping[str, str]] = field(default_factory=list)
    accepts: frozenset[str] | NodeError | None = None
    probed: list[list[str]] = field(default_factory=list)
    echoes: list[PeerError | None] = field(default_factory=list)
    cannot_be_asked: PeerError | None = None

    def echo(self) -> None:
        if self.echoes and (error := self.echoes.pop(0)) is not None:
            raise error

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

    def probe(self, sop_class_uids: Iterable[str]) -> frozenset[str]:
        self.probed.append(list(sop_class_uids))
        if isinstance(self.accepts, NodeError):
            raise self.accepts
        return frozenset(self.probed[-1]) if self.accepts is None else self.accepts

    def find(self, level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        self.queries.append(query)
        if self.cannot_be_asked is not None:
            raise self.cannot_be_asked
        return [{"SOPInstanceUID": uid} for uid in self.holds]


def digest_of(file: bytes) -> str:
    """As the ledger keeps it of a result: of the encoded Data Set."""
    return hashlib.sha256(split_part10(file)[1]).hexdigest()


class Bench:
    """A work whose two results are under way to some destinations."""

    def __init__(self, ledger: Ledger, objects: Objects, time: Time, events: Events) -> None:
        self.ledger, self.objects, self.time, self.events = ledger, objects, time, events
        self.peers: dict[str, Peer] = {}
        self.wishes = Wishes(key_objects=False)
        self.remade: list[Variant] = []
        self.reported: list[tuple[str, BaseException]] = []
        self.settings = SETTINGS
        self.targets: dict[str, Destination] = {}

    committing: frozenset[str] = frozenset()

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
                ResultRow(result_id=result_id, role=role, sop_class_uid="1.2", digest=digest_of(data), length=len(data))
            )
        self.ledger.record_results(WORK, rows, destinations, self.time.now())
        for state in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY):
            self.ledger.set_work_state(WORK, state, at=self.time.now())
        self.capabilities = Capabilities(
            self.ledger,
            destinations=self.peers,
            peers={name: f"{name}@127.0.0.1:104" for name in destinations},
            probe_seconds=3600,
            clock=self.time.now,
            emit=self.events,
        )
        downgrade = Downgrade(
            self.ledger,
            self.capabilities,
            wishes=lambda destination, model: self.wishes,
            remake=self.remake,
            clock=self.time.now,
            emit=self.events,
        )
        self.circuits = Circuits(
            self.ledger,
            destinations=self.peers,
            hasten=lambda name: self.queue.hasten(0.0, name),
            settings=self.settings,
            jitter=lambda: 0.0,
            clock=self.time.now,
            emit=self.events,
        )
        self.delivery = Delivery(
            self.ledger,
            self.objects,
            destinations=self.peers,
            circuits=self.circuits,
            paces=Paces(self.targets, clock=self.time.now, monotonic=self.time.monotonic),
            downgrade=downgrade,
            settings=self.settings,
            report=lambda where, error: self.reported.append((where, error)),
            clocks=self.time,
            emit=self.events,
            committing=self.committing,
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

    def remake(self, key: WorkKey, variants: Sequence[Variant]) -> dict[Variant, str]:
        """One more object for each form that is asked for."""
        image = tiny_series()[5]
        data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
        made = {}
        for variant in variants:
            self.remade.append(variant)
            made[variant] = f"{len(self.remade):032x}"
            self.objects.put(STUDY, World.IDENTITY, made[variant], Purpose.RESULT, data)
            row = ResultRow(
                result_id=made[variant],
                role=variant.role,
                form=variant.name,
                sop_class_uid=variant.sop_class_uid,
                digest=digest_of(data),
                length=len(data),
            )
            self.ledger.record_results(key, [row], [], self.time.now())
        return made

    @property
    def work(self) -> WorkRow:
        found = self.ledger.work(WORK)
        assert found is not None
        return found

    def ended(self) -> tuple[WorkState, str | None]:
        return self.work.state, self.work.reason

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
NOTE = "00" * 16


def add_note(bench: Bench, form: str = "", name: str = NOTE) -> None:
    """A note that takes away what the work's results replace."""
    data = encode_part10(tiny_series()[7], transfer_syntax_uid=EXPLICIT)
    bench.objects.put(STUDY, World.IDENTITY, name, Purpose.RESULT, data)
    note = ResultRow(
        result_id=name,
        role=ResultRole.REJECTION,
        sop_class_uid="1.2",
        digest=digest_of(data),
        length=len(data),
        form=form,
    )
    bench.ledger.record_results(WORK, [note], ["pacs"], bench.time.now())


def test_a_note_goes_when_what_replaces_is_there_and_not_before(bench: Bench) -> None:
    """Else the PACS hides the old results and has no new ones, for as long as it refuses them."""
    bench.prepare("pacs")
    add_note(bench)
    bench.peers["pacs"].answers = [0xA700, 0x0000]
    bench.queue.run_due()
    assert [one.result_id for one in bench.peers["pacs"].got] == list(RESULTS)
    bench.later(3600)
    assert [one.result_id for one in bench.peers["pacs"].got[2:]] == [RESULTS[0], NOTE]
    assert bench.ended() == (WorkState.DONE, None)


def test_a_note_does_not_go_where_nothing_that_replaces_was_taken(bench: Bench) -> None:
    """The old results are the only ones that the PACS has; once the new ones are sent again, the note goes behind them."""
    bench.prepare("pacs")
    add_note(bench)
    bench.peers["pacs"].answers = [0xC000, 0xC000]
    bench.queue.run_due()
    bench.later(3600)
    assert [one.result_id for one in bench.peers["pacs"].got] == list(RESULTS)
    assert bench.ended() == (WorkState.FAILED, "peer-refused-object")
    assert bench.states() == [DeliveryState.REFUSED] * 3
    assert to_retry(bench.work, "") == bench.rows()


@pytest.mark.parametrize("taken", [0, 1])
def test_a_note_goes_where_something_that_replaces_was_taken(bench: Bench, taken: int) -> None:
    bench.prepare("pacs")
    add_note(bench)
    bench.peers["pacs"].answers = [0xC000, 0xC000]
    bench.peers["pacs"].answers[taken] = 0x0000
    bench.queue.run_due()
    assert [one.result_id for one in bench.peers["pacs"].got] == [*RESULTS, NOTE]


def test_a_late_note_goes_though_nothing_of_its_own_work_was_taken(bench: Bench) -> None:
    """What replaces what it names are results of a newer work."""
    bench.prepare("pacs")
    add_note(bench, "key-objects.pacs.late1")
    bench.peers["pacs"].answers = [0xC000, 0xC000]
    bench.queue.run_due()
    assert [one.result_id for one in bench.peers["pacs"].got] == [*RESULTS, NOTE]


@pytest.mark.parametrize("answer", [0x0000, 0xC000])
def test_a_refused_note_is_no_dead_letter_once_the_one_that_was_made_anew_is_there(bench: Bench, answer: int) -> None:
    """It names all that the refused one named, without what made the destination refuse it."""
    bench.prepare("pacs")
    bench.queue.run_due()
    add_note(bench, "key-objects.pacs.wrong")
    rows = [one for one in bench.rows() if not one.is_result]
    bench.ledger.put_deliveries(rows, DeliveryState.REFUSED, bench.time.now(), reason="peer-refused-object")
    add_note(bench, "key-objects.pacs.wrong1", "11" * 16)
    bench.ledger.set_work_state(WORK, WorkState.DELIVERING, at=bench.time.now(), facts={RETRACTION: "sent"})
    bench.peers["pacs"].answers = [answer]
    with bench.ledger.transaction() as connection:
        bench.queue.enqueue_delivery(connection, WORK, "pacs", 7, 0.0)
    bench.queue.run_due()
    there = answer == 0x0000
    assert [row.result_id for _, row in bench.ledger.dead_letters(9)] == ([] if there else [NOTE, "11" * 16])
    assert bench.ended() == ((WorkState.DONE, None) if there else (WorkState.FAILED, "peer-refused-object"))
    assert [one.reason for one in bench.rows() if one.result_id == NOTE] == ["peer-refused-object"]


def test_which_notes_another_one_replaces() -> None:
    def note(form: str, state: DeliveryState, *, sent: bool = False, destination: str = "pacs2") -> DeliveryRow:
        return DeliveryRow(
            result_id=form, role=ResultRole.REJECTION, form=f"key-objects.pacs2{form}", destination=destination,
            state=state, status=None, reason=None, attempts=1, updated_at=Time().now(), sent=sent,
        )  # fmt: skip

    done, refused = DeliveryState.CONFIRMED, DeliveryState.REFUSED
    for form, older in ((".wrong2", ".wrong"), (".late1-unsure", ".late-unsure"), (".wrong-unsure1", ".wrong-unsure")):
        assert replaced_notes([note(form, done), dead := note(older, refused)]) == [dead]
    for form, other in (
        (".wrong", note(".wrong1", refused)),  # the later one names what the first did not
        (".wrong1", note(".wrong-unsure", refused)),
        (".wrong1", note(".late", refused)),
        (".late1", note(".late-unsure", refused)),
        (".late-unsure", note(".late1-unsure", refused)),
        (".wrong1", note(".wrong", refused, sent=True)),  # it may have been confirmed when the other one was made
        (".wrong1", note(".wrong", refused, destination="archive")),
        (".wrong1", note(".wrong", DeliveryState.WAITING)),
        ("", note("", refused)),
    ):
        assert replaced_notes([note(form, done), other]) == [], (form, other)


def test_what_never_went_out_is_not_there_for_all_that_is_known(bench: Bench) -> None:
    """The association broke while the first of two was sent."""
    bench.prepare("pacs")
    error = PeerError("peer-aborted")
    one, other = RESULTS
    outcomes = (
        StoreOutcome(result_id=one, status=None, error=error),
        StoreOutcome(result_id=other, status=None, error=error, went_out=False),
    )
    bench.peers["pacs"].store = lambda _: outcomes  # type: ignore[method-assign]
    bench.queue.run_due()
    assert {row.result_id: row.may_be_there for row in bench.rows()} == {one: True, other: False}


def test_a_note_that_retracts_goes_whatever_became_of_the_results(bench: Bench) -> None:
    bench.prepare("pacs")
    add_note(bench)
    bench.ledger.add_facts(WORK, {RETRACTION: "sent"})
    bench.peers["pacs"].answers = [0xC000, 0xC000]
    bench.queue.run_due()
    assert [one.result_id for one in bench.peers["pacs"].got] == [*RESULTS, NOTE]


@pytest.mark.parametrize("newer", [False, True])
def test_what_a_destination_takes_behind_newer_results_is_marked(bench: Bench, newer: bool) -> None:
    """The note of the newer ones cannot name it."""
    bench.prepare("pacs")
    if newer:
        other = replace(WORK, revision=2)
        bench.ledger.open_revision(STUDY, "other", bench.time.now())
        bench.ledger.create_work(other, "other", bench.time.now())
        made = ResultRow(result_id=NOTE, role=ResultRole.REPORT, sop_class_uid="1.2", digest="0" * 64, length=1)
        bench.ledger.record_results(other, [made], [], bench.time.now())
    bench.peers["pacs"].answers = [0xC000, 0xC000]
    bench.queue.run_due()
    assert OVERTAKEN not in bench.work.facts, "it took nothing"
    bench.ledger.put_deliveries(bench.rows(), DeliveryState.WAITING, bench.time.now())
    bench.ledger.set_work_state(WORK, WorkState.DELIVERING, at=bench.time.now())
    bench.delivery.attempt(bench.queue, WORK, "pacs", 2)
    assert bench.states() == BOTH_CONFIRMED
    assert bench.work.facts.get(OVERTAKEN) == (OPEN if newer else None)


def test_a_note_is_held_with_what_replaces(bench: Bench) -> None:
    bench.prepare("pacs")
    add_note(bench)
    bench.ledger.set_work_state(WORK, WorkState.HELD, at=bench.time.now(), reason="patient-changed")
    bench.queue.run_due()
    assert bench.peers["pacs"].got == []


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0x0107])
def test_success_and_warnings_end_the_work(bench: Bench, status: int) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [status, status]
    bench.queue.run_due()
    assert bench.states() == BOTH_CONFIRMED
    assert [(one.status, one.attempts, one.reason) for one in bench.rows()] == [(status, 1, None)] * 2
    assert (bench.work.state, bench.work.reason) == (WorkState.DONE, None)
    assert bench.work.stages["deliver"] == 0.0
    one = ["delivery.confirmed"] if status == 0x0000 else ["delivery.warned", "delivery.confirmed"]
    assert bench.events.names == ["delivery.begun", "destination.probed", *one, *one, "work.ended"]
    assert {str(facts["status"]) for facts in bench.events.facts("delivery.warned")} <= {f"x{status:04X}"}


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
    assert [query["SOPInstanceUID"] for query in peer.queries] == ["", ""], (
        "some give back whatever they are asked with"
    )
    assert bench.work.state is WorkState.FAILED


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (PeerError("timeout"), DeliveryState.WAITING, "timeout"),
        (PeerRefusal("peer-context-refused"), DeliveryState.REFUSED, "duplicate-unproven"),
    ],
)
def test_a_duplicate_that_cannot_be_looked_for_hides_no_other_outcome(
    bench: Bench, error: PeerError, state: DeliveryState, reason: str
) -> None:
    bench.prepare("pacs")
    bench.peers["pacs"].answers, bench.peers["pacs"].cannot_be_asked = [0x0111], error
    bench.queue.run_due()
    assert bench.states() == [state, DeliveryState.CONFIRMED]
    assert bench.rows()[0].reason == reason
    bench.peers["pacs"].cannot_be_asked = None


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


def test_a_clock_that_jumps_ahead_ends_no_delivery_until_that_has_stayed(bench: Bench, tmp_path: Path) -> None:
    ahead = timedelta()
    bench.prepare("pacs")
    bench.peers["pacs"].answers = [PeerError("peer-unreachable")] * 10_000
    keeper = Timekeeper(
        tmp_path / "clock.json",
        clock=lambda: bench.time.now() + ahead,
        monotonic=bench.time.monotonic,
        emit=bench.events,
    )
    bench.delivery._sure = keeper.sure
    bench.queue.run_due()
    ahead = timedelta(days=7)
    bench.later(5)
    assert bench.work.state is WorkState.DELIVERING
    assert bench.events.facts("clock.jumped") == [{"seconds": 7 * 86400}]
    ahead = timedelta()
    bench.later(10)
    ahead = timedelta(days=7)
    bench.later(20)
    assert bench.work.state is WorkState.DELIVERING
    bench.later(900)
    assert bench.work.state is WorkState.DELIVERING
    bench.later(100)
    assert bench.work.reason == "timeout", "its own age is reckoned all the same"


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


SEG, SR, SC = (SOP_CLASSES[one] for one in (Form.BINARY, Form.COMPREHENSIVE, Form.CAPTURE))


class FormBench(Bench):
    """Two results with forms: a segmentation and the report that refers to it."""

    def prepare(self, *destinations: str) -> None:
        super().prepare(*destinations)
        forms = {RESULTS[0]: ("binary", SEG), RESULTS[1]: ("comprehensive+binary", SR)}
        for (result_id, (form, uid)), image in zip(forms.items(), tiny_series(), strict=False):
            image.SOPClassUID = uid
            data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
            self.objects.put(STUDY, World.IDENTITY, result_id, Purpose.RESULT, data)
            values = {"form": form, "sop_class_uid": uid, "digest": digest_of(data)}
            with self.ledger.transaction() as connection:
                connection.execute(update(schema.results).where(schema.results.c.result_id == result_id).values(values))

    def forms(self, destination: str = "pacs") -> dict[str, str]:
        return {f"{row.role.value}:{row.form}": row.state.value for row in self.rows(destination)}


@pytest.fixture
def forms(ledger: Ledger, objects: Objects, time: Time, events: Events) -> FormBench:
    return FormBench(ledger, objects, time, events)


def test_what_is_not_supported_is_replaced_though_a_note_of_ours_waits(forms: FormBench) -> None:
    forms.prepare("pacs")
    image = tiny_series()[6]
    image.SOPClassUID = SOP_CLASSES[Form.KEY_OBJECTS]
    data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
    forms.objects.put(STUDY, World.IDENTITY, NOTE, Purpose.RESULT, data)
    row = ResultRow(
        result_id=NOTE,
        role=ResultRole.REJECTION,
        form="key-objects.pacs",
        sop_class_uid=str(image.SOPClassUID),
        digest=digest_of(data),
        length=len(data),
    )
    forms.ledger.record_results(WORK, [row], ["pacs"], forms.time.now())
    forms.peers["pacs"].answers = [0x0122]
    forms.queue.run_due()
    assert forms.reported == []
    assert forms.work.state is WorkState.DONE


def test_a_context_that_is_refused_is_replaced_before_anything_is_sent(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SR, SC})
    forms.queue.run_due()
    assert forms.forms() == {
        "segmentation:binary": "downgraded",
        "report:comprehensive+binary": "downgraded",
        "report:comprehensive": "confirmed",
        "key-image:capture": "confirmed",
    }
    assert forms.work.state is WorkState.DONE
    assert forms.work.facts == {"downgraded.pacs.segmentation": "binary"}
    (told,) = forms.events.facts("delivery.downgraded")
    assert (told["role"], told["kind"], told["destination"]) == ("segmentation", "binary", "pacs")


def test_a_status_that_says_not_supported_is_a_downgrade_too_and_is_remembered(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [0x0122]
    forms.queue.run_due()
    assert len(forms.peers["pacs"].got) == 3, "the segmentation by itself, then the report and the key image"
    assert forms.forms()["segmentation:binary"] == "downgraded"
    assert forms.forms()["report:comprehensive"] == "confirmed"
    assert forms.work.state is WorkState.DONE
    assert forms.capabilities.refused("pacs") == {SEG}


@pytest.mark.parametrize("reason", ["cancelled", "instances-rejected"])
@pytest.mark.parametrize("answers", [[], [PeerError("peer-aborted")] * 9], ids=["taken", "gone"])
def test_what_ends_while_other_forms_are_made_gets_none(
    forms: FormBench, monkeypatch: pytest.MonkeyPatch, reason: str, answers: list[int | NodeError | Exception]
) -> None:
    remake = forms.remake

    def meanwhile(key: WorkKey, variants: Sequence[Variant]) -> Mapping[Variant, str]:
        forms.ledger.put_deliveries(forms.rows(), DeliveryState.CANCELLED, forms.time.now(), reason=reason)
        forms.ledger.set_work_state(WORK, WorkState.CANCELLED, at=forms.time.now(), reason=reason)
        return remake(key, variants)

    monkeypatch.setattr(forms, "remake", meanwhile)
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [0x0122, *answers]
    forms.queue.run_due()
    assert len(forms.peers["pacs"].got) == 1
    assert {(row.form, row.state, row.reason) for row in forms.rows()} == {
        ("binary", DeliveryState.CANCELLED, reason),
        ("comprehensive+binary", DeliveryState.CANCELLED, reason),
    }
    assert forms.ended() == (WorkState.CANCELLED, reason)
    assert forms.events.facts("delivery.downgraded") == []


def test_what_is_held_while_other_forms_are_made_goes_in_these_when_it_is_released(
    forms: FormBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    remake = forms.remake

    def meanwhile(key: WorkKey, variants: Sequence[Variant]) -> Mapping[Variant, str]:
        forms.ledger.set_work_state(WORK, WorkState.HELD, at=forms.time.now(), reason="patient-changed")
        return remake(key, variants)

    monkeypatch.setattr(forms, "remake", meanwhile)
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [0x0122]
    forms.queue.run_due()
    assert len(forms.peers["pacs"].got) == 1, "held, it goes nowhere"
    assert forms.ended() == (WorkState.HELD, "patient-changed")
    assert forms.forms()["report:comprehensive"] == "waiting"
    forms.ledger.set_work_state(WORK, WorkState.DELIVERING, at=forms.time.now())
    forms.queue.revive_delivery(WORK, "pacs")
    forms.queue.run_due()
    assert forms.work.state is WorkState.DONE


def test_a_try_that_was_queued_before_its_work_was_held_sends_nothing(bench: Bench) -> None:
    bench.prepare("pacs")
    bench.ledger.set_work_state(WORK, WorkState.HELD, at=bench.time.now(), reason="patient-changed")
    bench.queue.run_due()
    assert bench.peers["pacs"].got == []
    assert bench.queue.waiting == ()


def test_what_was_given_up_while_it_was_tried_does_not_wait_again(bench: Bench) -> None:
    bench.prepare("pacs")
    refused = bench.rows()[0]
    bench.ledger.put_deliveries([refused], DeliveryState.REFUSED, bench.time.now(), reason="timeout")
    for state, status in ((DeliveryState.WAITING, None), (DeliveryState.CONFIRMED, 0)):
        bench.ledger.record_delivery(
            refused.result_id, "pacs", state=state, status=status, reason=None, at=bench.time.now()
        )
        expected = DeliveryState.REFUSED if status is None else DeliveryState.CONFIRMED
        assert bench.rows()[0].state is expected


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0124, 0x0117])
def test_no_other_refusal_is_a_downgrade(forms: FormBench, status: int) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [status]
    forms.queue.run_due()
    assert forms.forms() == {"segmentation:binary": "refused", "report:comprehensive+binary": "confirmed"}
    assert forms.ended() == (WorkState.FAILED, "peer-refused-object")
    assert forms.remade == []


def test_the_report_goes_down_its_chain_to_the_end(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SEG, SC, SOP_CLASSES[Form.PDF]})
    forms.queue.run_due()
    assert forms.forms()["report:pdf"] == "confirmed"
    assert [one.form for one in forms.remade if one.role is ResultRole.REPORT] == [Form.PDF]


def test_without_fallbacks_the_refusal_stands(forms: FormBench) -> None:
    forms.wishes = Wishes(key_objects=False, fallbacks=False)
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [PeerRefusal("peer-context-refused")]
    forms.queue.run_due()
    assert forms.forms()["segmentation:binary"] == "refused"
    assert forms.ended() == (WorkState.FAILED, "peer-context-refused")
    assert forms.remade == []


def test_a_chain_at_its_end_fails_the_work_with_the_reason(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SEG, SC})
    forms.peers["pacs"].answers = [0x0000, PeerRefusal("peer-context-refused")]
    forms.queue.run_due()
    assert forms.forms()["report:comprehensive+binary"] == "refused"
    assert forms.ended() == (WorkState.FAILED, "peer-context-refused")


def test_a_destination_is_asked_once_and_again_when_the_answer_is_old(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [0xA700, 0xA700]
    forms.queue.run_due()
    forms.later(5)
    assert len(forms.peers["pacs"].probed) == 1
    forms.peers["pacs"].answers = [0xA700, 0xA700]
    forms.capabilities.refresh("pacs", [SEG])
    assert len(forms.peers["pacs"].probed) == 1
    forms.time.forward(3600)
    forms.capabilities.refresh("pacs", [SEG])
    assert forms.peers["pacs"].probed[-1] == [SEG]
    count = len(forms.peers["pacs"].probed)
    forms.time.forward(-30 * 86400)
    forms.capabilities.refresh("pacs", [SEG])
    assert len(forms.peers["pacs"].probed) == count + 1, "an answer of the future is none: the clock was set back"


def test_a_destination_that_became_another_is_asked_anew(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.capabilities.learn("pacs", SEG, supported=False)
    other = Capabilities(
        forms.ledger,
        destinations=forms.peers,
        peers={"pacs": "NEW@10.0.0.1:104"},
        probe_seconds=3600,
        clock=forms.time.now,
        emit=forms.events,
    )
    assert forms.capabilities.refused("pacs") == {SEG}
    assert other.refused("pacs") == frozenset()


def test_a_destination_that_does_not_answer_the_question_is_sent_to_all_the_same(forms: FormBench) -> None:
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = PeerError("peer-unreachable")
    forms.queue.run_due()
    assert set(forms.forms().values()) == {"confirmed"}
    assert forms.events.facts("destination.unprobed") == [{"destination": "pacs", "reason": "peer-unreachable"}]


def test_each_destination_goes_its_own_way(forms: FormBench) -> None:
    forms.prepare("old", "new")
    forms.peers["old"].accepts = frozenset({SC, SR})
    forms.queue.run_due()
    assert forms.forms("new") == {"segmentation:binary": "confirmed", "report:comprehensive+binary": "confirmed"}
    assert forms.forms("old")["key-image:capture"] == "confirmed"
    assert forms.work.state is WorkState.DONE
    assert forms.work.facts == {"downgraded.old.segmentation": "binary"}


def test_a_result_from_another_time_is_not_sent(bench: Bench) -> None:
    """A sealed file of the same name and key, put back from a backup, opens; it is not what the ledger knows."""
    bench.prepare("pacs")
    older = encode_part10(tiny_series()[7], transfer_syntax_uid=EXPLICIT)
    bench.objects.put(STUDY, World.IDENTITY, RESULTS[0], Purpose.RESULT, older)
    bench.queue.run_due()
    states = {row.result_id: (row.state, row.reason) for row in bench.rows()}
    assert states[RESULTS[0]] == (DeliveryState.REFUSED, "sealed-damaged")
    assert states[RESULTS[1]] == (DeliveryState.CONFIRMED, None)
    assert bench.ended() == (WorkState.FAILED, "sealed-damaged")
