"""Delivery: the sealed bytes of a result go to one destination, object by object, with a row in the ledger for each.

What is transient is tried again later with growing waits; what is permanent is not. The bytes and UIDs of a second
try are those of the first. Where a destination is down, what waits for it is not tried: `circuits` says when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import NodeError, PeerError, StorageError
from dicomnode.events import Emit
from dicomnode.forms import Variant
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.network.status import StatusKind, classify, is_not_supported
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.study import (
    NOTED,
    OPEN,
    OVERTAKEN,
    RELEASED,
    CommitmentState,
    DeliveryRow,
    DeliveryState,
    Purpose,
    ResultRole,
    WorkKey,
    WorkState,
    World,
)
from dicomnode.workflow.circuits import FAULTS, Circuits, wait_before
from dicomnode.workflow.downgrade import Downgrade
from dicomnode.workflow.inquiry import Inquiry
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.ports import Clocks, Destination, Queue
from dicomnode.workflow.verdicts import DUPLICATE, replaced_notes, verdict, verdict_of_duplicate

#: Numbers of tries to deliver a retraction begin here: those of the results are below.
RETRACTION_ATTEMPT: Final = 1_000_000
#: Why a note is made of results that came behind newer ones; with a number, it ends the form of that note.
LATE: Final = "late"
#: Facts of a work that say since when its deliveries are under way, where that is not since it was made.
BEGUN_ANEW: Final = ("retracted_at", "retried_at", RELEASED)
#: Why results were cancelled that nobody is ever to get.
_WRONG: Final = frozenset({"instances-rejected", "results-retracted"})


def _prove_known(file: bytes, digest: str | None) -> None:
    """``sealed-damaged`` unless the Data Set of a result is the one that the ledger knows."""
    if hashlib.sha256(split_part10(file)[1]).hexdigest() != digest:
        raise StorageError("sealed-damaged")


class Delivery:
    """Sends the results of a work.

    Parameters
    ----------
    ledger, objects
        Where rows stand, and where the sealed results lie.
    destinations
        By name.
    circuits, paces
        Which destinations are down, and when and how fast each may be sent to.
    downgrade
        What is sent where a destination does not take something.
    settings
        Waits and the age at which a delivery is given up.
    report
        Told of an exception that nobody foresaw.
    clocks, emit
        What time it is, by the wall clock and, for how old a delivery grew, for certain; where events go.
    inquiry
        Asks before results go; None: nobody is asked.
    committing
        Destinations that are asked to commit: a work is not done before they have answered (`pledges`).
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        *,
        destinations: Mapping[str, Destination],
        circuits: Circuits,
        paces: Paces,
        downgrade: Downgrade,
        settings: DeliverySection,
        report: Callable[[str, BaseException], None],
        clocks: Clocks,
        emit: Emit,
        inquiry: Inquiry | None = None,
        committing: Collection[str] = (),
    ) -> None:
        self._inquiry = inquiry
        self._committing = frozenset(committing)
        self._ledger = ledger
        self._objects = objects
        self._destinations = destinations
        self._circuits = circuits
        self._paces = paces
        self._downgrade = downgrade
        self._settings = settings
        self._report = report
        self._clock = clocks.now
        self._sure = clocks.sure
        self._emit = emit

    def attempt(self, queue: Queue, key: WorkKey, destination: str, number: int) -> None:
        """One try: every object that waits for this destination; what is left waits for the next try.

        Raises
        ------
        NodeError
            When the ledger cannot be read or written: the caller tries again.
        """
        if self._circuits.is_open(destination):
            self._go_on(queue, key, destination, number, self._settings.longest_retry_seconds)
            if not self._circuits.is_open(destination):  # it came back meanwhile, and this one is to go with the others
                queue.hasten(0.0, destination)
            return
        if pause := self._paces.wait(destination, self._ledger.priority(key.study_key)):
            self._go_on(queue, key, destination, number, min(pause, self._settings.longest_retry_seconds))
            return
        self._emit("delivery.begun", work=key.workflow_id, destination=destination, attempt=number)
        wait = None
        try:
            self._send(key, destination)
        except NodeError as error:
            self._emit("delivery.failed", level="error", work=key.workflow_id, reason=error.code)
            wait = wait_before(number % RETRACTION_ATTEMPT + 1, self._settings)
        except Exception as error:  # noqa: BLE001 - the border: it is tried again, and told without its text
            self._report("deliver", error)
            wait = wait_before(number % RETRACTION_ATTEMPT + 1, self._settings)
        self._go_on(queue, key, destination, number, wait)

    def _send(self, key: WorkKey, destination: str) -> None:
        began = self._clock()
        waiting = self._waiting(key, destination)
        peer = self._destinations.get(destination)
        if peer is None:  # the configuration no longer names it
            for row in waiting:
                self._give_up(key, row, "config-invalid")
        elif waiting and self._may_go(key, destination, waiting):
            self._downgrade.begin(key, destination)
            self._exchange(key, destination, peer)
            self._ledger.record_stage(key, "deliver", max((self._clock() - began).total_seconds(), 0.0))

    def _may_go(self, key: WorkKey, destination: str, waiting: Sequence[DeliveryRow]) -> bool:
        """Whether patient and study are still what they were; what retracts results goes in any case.

        Raises
        ------
        NodeError
            Where that is not known yet: it is tried again.
        """
        if self._inquiry is None or all(row.role is ResultRole.REJECTION for row in waiting):
            return True
        try:
            reason = self._inquiry.reason_to_hold(key, destination)
        except PeerError as error:
            if not self._inquiry.is_itself(destination):
                raise
            outcomes = [StoreOutcome(result_id=row.result_id, status=None, error=error) for row in waiting]
            for outcome in outcomes:
                self._record(key, destination, outcome, DeliveryState.WAITING, error.code, asked=True)
            if error.code in FAULTS:  # else it is there, and nothing is known of how it takes objects
                self._circuits.heard(destination, outcomes)
            return False
        if reason is not None:
            self._inquiry.put(key, destination, reason)
        return reason is None

    def _exchange(self, key: WorkKey, destination: str, peer: Destination) -> None:
        """Send what waits, role by role; what is not supported is sent anew in the next form of its chain."""
        tried: set[str] = set()
        while batch := self._next_batch(key, destination, tried):
            tried |= {row.result_id for row in batch}
            objects = {one.result_id: one for one in self._load_all(key, destination, batch)}
            self._begin(key, destination, list(objects))
            outcomes = peer.store(list(objects.values()))
            self._end(destination, outcomes)
            for outcome in outcomes:
                sent = objects[outcome.result_id]
                if is_not_supported(outcome.status, outcome.error) and self._downgrade.not_supported(
                    key, destination, sent.sop_class_uid
                ):
                    continue
                state, reason = verdict_of_duplicate(peer, sent) if outcome.status == DUPLICATE else verdict(outcome)
                self._record(key, destination, outcome, state, reason)
                if state is DeliveryState.CONFIRMED:
                    self._downgrade.prove(destination, sent.sop_class_uid)
            self._circuits.heard(destination, outcomes)
            self._paces.sent(destination, list(objects.values()))
            if self._circuits.is_open(destination):
                return

    def _begin(self, key: WorkKey, destination: str, result_ids: Sequence[str]) -> None:
        """Enter what is about to go, in one commit: what a try that is killed was sending may be there."""
        with self._ledger.transaction() as connection:
            left = self._ledger.begin_try(result_ids, destination, connection=connection)
            if left and self._ledger.is_overtaken(result_ids[0], connection=connection):
                self._ledger.add_facts(key, {OVERTAKEN: OPEN, NOTED: ""}, connection=connection)

    def _end(self, destination: str, outcomes: Sequence[StoreOutcome]) -> None:
        """Enter of what the destination surely has not, before anything else is done that may fail, that it is not under way."""
        if back := [one.result_id for one in outcomes if not one.went_out or is_not_supported(one.status, one.error)]:
            self._ledger.end_try(back, destination)

    def _next_batch(self, key: WorkKey, destination: str, tried: set[str]) -> list[DeliveryRow]:
        """What is sent next: the segmentation by itself where nobody knows yet whether it is taken, else all; notes last."""
        open_rows = self._waiting(key, destination)
        waiting = [row for row in open_rows if row.result_id not in tried]
        if any(row.is_result for row in open_rows):  # a note takes away what these replace: not before they are there
            waiting = [row for row in waiting if row.is_result]
        elif waiting and (reason := self._is_in_vain(key, destination)):
            for row in [row for row in waiting if not _is_late(row)]:
                self._give_up(key, row, reason)
            waiting = [row for row in waiting if _is_late(row)]  # what replaces these are results of a newer work
        first = [row for row in waiting if row.role is ResultRole.SEGMENTATION and row.form]
        classes = [Variant.of(row.role, row.form).sop_class_uid for row in first]
        return first if first and not self._downgrade.is_proven(destination, classes) else waiting

    def _is_in_vain(self, key: WorkKey, destination: str) -> str | None:
        """Why a note must not go: the destination took nothing of what was to replace what it names. None: it may."""
        work = self._ledger.work(key)
        if work is None or work.is_wrong or work.state is not WorkState.DELIVERING:
            return None
        results = [row for row in work.deliveries if row.destination == destination and row.is_result]
        if any(row.state is DeliveryState.CONFIRMED for row in results):
            return None
        return next((row.reason for row in results if row.state is DeliveryState.REFUSED), None)

    def _waiting(self, key: WorkKey, destination: str) -> list[DeliveryRow]:
        """What is to go: nothing of a work that was held, cancelled or replaced meanwhile, but for what retracts results."""
        work = self._ledger.work(key)
        is_open = work is not None and work.state is WorkState.DELIVERING
        is_held = work is not None and work.state is WorkState.HELD  # what replaces is held: so is its note
        return [
            row
            for row in (() if work is None else work.deliveries)
            if row.destination == destination
            and row.state is DeliveryState.WAITING
            and (is_open or (row.role is ResultRole.REJECTION and not is_held))
        ]

    def _load_all(self, key: WorkKey, destination: str, rows: list[DeliveryRow]) -> Iterator[OutgoingObject]:
        """What was sealed; an object that can never be opened again is given up by its own code.

        One that opens and is not what the ledger knows was put back from another time: it is damaged as well.
        """
        digests = {result.result_id: result.digest for result in self._ledger.results(key)}
        for row in rows:
            try:
                data = self._objects.get(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
                _prove_known(data, digests.get(row.result_id))
            except StorageError as error:
                if error.retryable and error.code != "sealed-damaged":  # one that is lost may be restored
                    raise
                self._give_up(key, row, error.code)
            else:
                yield outgoing(row.result_id, data)

    def _record(
        self,
        key: WorkKey,
        destination: str,
        outcome: StoreOutcome,
        state: DeliveryState,
        reason: str | None,
        *,
        asked: bool = False,
    ) -> None:
        with self._ledger.transaction() as connection:
            may_be_there = self._ledger.record_delivery(
                outcome.result_id,
                destination,
                state=state,
                status=outcome.status,
                reason=reason,
                at=self._clock(),
                asked=asked or not outcome.went_out,
                ends_try=not asked,
                connection=connection,
            )
            if may_be_there and self._ledger.is_overtaken(outcome.result_id, connection=connection):
                self._ledger.add_facts(key, {OVERTAKEN: OPEN, NOTED: ""}, connection=connection)
        facts: dict[str, Any] = {"work": key.workflow_id, "destination": destination, "result": outcome.result_id}
        status = "none" if outcome.status is None else f"x{outcome.status:04X}"
        if outcome.status is not None and classify(outcome.status) is StatusKind.WARNING:
            self._emit("delivery.warned", level="warning", status=status, **facts)
        if state is DeliveryState.CONFIRMED:
            self._emit("delivery.confirmed", **facts)
        else:
            level = "warning" if state is DeliveryState.WAITING else "error"
            self._emit(f"delivery.{state.value}", level=level, reason=reason, status=status, **facts)

    def _give_up(self, key: WorkKey, row: DeliveryRow, reason: str) -> None:
        """A dead letter, without an answer of the destination."""
        self._ledger.record_delivery(
            row.result_id, row.destination, state=DeliveryState.REFUSED, status=None, reason=reason, at=self._clock()
        )
        self._emit("delivery.refused", level="error", work=key.workflow_id, reason=reason)

    def _go_on(self, queue: Queue, key: WorkKey, destination: str, number: int, wait: float | None) -> None:
        if self._inquiry is not None and self._circuits.is_open(destination):
            self._inquiry.was_away(destination)
        with self._ledger.transaction() as connection:
            decided = self._decide(connection, key, destination)
            if isinstance(decided, int):
                seconds = wait_before(decided + 1, self._settings) if wait is None else wait
                queue.enqueue_delivery(
                    connection,
                    key,
                    destination,
                    number + 1,
                    self._circuits.lengthen(seconds),
                    priority=self._ledger.priority(key.study_key, connection=connection),
                )
        if isinstance(decided, tuple):
            state, reason = decided
            level = "info" if state is WorkState.DONE else "error"
            self._emit("work.ended", level=level, work=key.workflow_id, state=state.value, reason=reason)

    def _decide(self, connection: Any, key: WorkKey, destination: str) -> tuple[WorkState, str | None] | int | None:
        """What follows a try: another one after so many, or the end of the work with its reason; None: neither."""
        now = self._clock()
        rows = self._ledger.deliveries(key, connection=connection)
        work = self._ledger.work(key, connection=connection)
        if work is None or work.state is not WorkState.DELIVERING:
            return None
        for row in replaced_notes(rows):
            self._ledger.put_deliveries([row], DeliveryState.DOWNGRADED, now, reason=row.reason, connection=connection)
        open_rows = [row for row in rows if row.state is DeliveryState.WAITING]
        waiting = {row.destination for row in open_rows}
        since = max(work.created_at.timestamp(), *(float(work.facts.get(fact, 0)) for fact in BEGUN_ANEW))
        too_old = self._sure().timestamp() - since >= self._settings.give_up_seconds
        if destination in waiting and not too_old:
            return max(row.attempts for row in open_rows if row.destination == destination)
        if waiting - {destination} and not too_old:
            return None  # another destination still tries; it ends the work
        self._ledger.put_deliveries(open_rows, DeliveryState.REFUSED, now, reason="timeout", connection=connection)
        left = self._ledger.deliveries(key, connection=connection)
        if is_uncommitted(left, self._committing):
            return None  # `pledges` ends the work
        state, reason = end_of(left)
        self._ledger.set_work_state(key, state, at=now, reason=reason, connection=connection)
        return state, reason


def end_of(rows: Sequence[DeliveryRow]) -> tuple[WorkState, str | None]:
    """How a work ends, by its deliveries, none of which waits, nor for a commitment; the gravest counts."""
    refused = [row.reason for row in rows if row.state is DeliveryState.REFUSED]
    if refused:
        return WorkState.FAILED, "timeout" if "timeout" in refused else refused[0]
    cancelled = [row.reason for row in rows if row.state is DeliveryState.CANCELLED]
    if cancelled:
        return WorkState.CANCELLED, next((one for one in cancelled if one in _WRONG), "cancelled")
    said = {row.commitment for row in rows}
    if CommitmentState.UNPROVEN in said:
        return WorkState.DONE, "commitment-unproven"
    return WorkState.DONE, "commitment-unreported" if CommitmentState.FOUND in said else None


def is_uncommitted(rows: Sequence[DeliveryRow], committing: Collection[str]) -> bool:
    """Whether a destination is still to say that it takes responsibility for something that it took."""
    open_states = (None, CommitmentState.ASKED)
    return any(
        row.state is DeliveryState.CONFIRMED and row.destination in committing and row.commitment in open_states
        for row in rows
    )


def _is_late(row: DeliveryRow) -> bool:
    return row.form.rpartition(".")[2].startswith(LATE)


def outgoing(result_id: str, part10: bytes) -> OutgoingObject:
    """What is sent, out of the Part 10 bytes that were sealed."""
    transfer_syntax_uid, encoded = split_part10(part10)
    header = scan_header(encoded, transfer_syntax_uid, Limits())
    return OutgoingObject(
        result_id=result_id,
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        encoded=bytes(encoded),
    )
