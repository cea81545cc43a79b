"""Delivery: the sealed bytes of a result go to one destination, object by object, with a row in the ledger for each.

What is transient is tried again later with growing waits; what is permanent is not. The bytes and UIDs of a second
try are those of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.network.status import StatusKind, classify
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.study import DeliveryRow, DeliveryState, Purpose, WorkKey, WorkState, World
from dicomnode.workflow.ports import Clock, Destination, Queue


def wait_before(attempt: int, settings: DeliverySection) -> float:
    """Seconds to wait before try number `attempt` (2 is the first repetition): doubled each time, up to the longest."""
    doublings = min(attempt - 2, 32)
    return float(min(settings.first_retry_seconds * 2**doublings, settings.longest_retry_seconds))


class Delivery:
    """Sends the results of a work.

    Parameters
    ----------
    ledger, objects
        Where rows stand, and where the sealed results lie.
    destinations
        By name.
    settings
        Waits and the age at which a delivery is given up.
    report
        Told of an exception that nobody foresaw.
    clock, emit
        Wall clock in UTC; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        *,
        destinations: Mapping[str, Destination],
        settings: DeliverySection,
        report: Callable[[str, BaseException], None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._destinations = destinations
        self._settings = settings
        self._report = report
        self._clock = clock
        self._emit = emit

    def attempt(self, queue: Queue, key: WorkKey, destination: str, number: int) -> None:
        """One try: every object that waits for this destination; what is left waits for the next try.

        Raises
        ------
        NodeError
            When the ledger cannot be read or written: the caller tries again.
        """
        waiting = self._waiting(key, destination)
        peer = self._destinations.get(destination)
        if waiting and peer is not None:
            objects = [self._load(key, row) for row in waiting]
            for outcome in peer.store(objects):
                self._record(key, destination, outcome)
        elif waiting:
            for row in waiting:
                self._write(
                    row.result_id, destination, state=DeliveryState.REFUSED, status=None, reason="config-invalid"
                )
        self._go_on(queue, key, destination, number)

    def _waiting(self, key: WorkKey, destination: str) -> list[DeliveryRow]:
        rows = self._ledger.deliveries(key)
        return [row for row in rows if row.destination == destination and row.state is DeliveryState.WAITING]

    def _load(self, key: WorkKey, row: DeliveryRow) -> OutgoingObject:
        data = self._objects.get(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
        return outgoing(row.result_id, data)

    def _record(self, key: WorkKey, destination: str, outcome: StoreOutcome) -> None:
        state, reason = verdict(outcome)
        self._write(outcome.result_id, destination, state=state, status=outcome.status, reason=reason)
        facts: dict[str, Any] = {"work": key.workflow_id, "destination": destination, "result": outcome.result_id}
        if state is DeliveryState.CONFIRMED:
            self._emit("delivery.confirmed", **facts)
        else:
            level = "warning" if state is DeliveryState.WAITING else "error"
            status = "none" if outcome.status is None else f"x{outcome.status:04X}"
            self._emit(f"delivery.{state.value}", level=level, reason=reason, status=status, **facts)

    def _write(
        self, result_id: str, destination: str, *, state: DeliveryState, status: int | None, reason: str | None
    ) -> None:
        self._ledger.record_delivery(
            result_id, destination, state=state, status=status, reason=reason, at=self._clock()
        )

    def _go_on(self, queue: Queue, key: WorkKey, destination: str, number: int) -> None:
        now = self._clock()
        with self._ledger.transaction() as connection:
            rows = self._ledger.deliveries(key, connection=connection)
            work = self._ledger.work(key, connection=connection)
            if work is None or work.state is not WorkState.DELIVERING:
                return
            left = [row for row in rows if row.state is DeliveryState.WAITING]
            if any(row.destination == destination for row in left):
                if (now - work.created_at).total_seconds() < self._settings.give_up_seconds:
                    delay = wait_before(number + 1, self._settings)
                    queue.enqueue_delivery(connection, key, destination, number + 1, delay)
                    return
                self._ledger.set_work_state(key, WorkState.FAILED, at=now, reason="timeout", connection=connection)
            elif not left:
                self._finish(connection, key, rows)

    def _finish(self, connection: Any, key: WorkKey, rows: Sequence[DeliveryRow]) -> None:
        refused = [row for row in rows if row.state is DeliveryState.REFUSED]
        state = WorkState.FAILED if refused else WorkState.DONE
        reason = refused[0].reason if refused else None
        self._ledger.set_work_state(key, state, at=self._clock(), reason=reason, connection=connection)
        self._emit("work.ended", work=key.workflow_id, state=state.value, reason=reason)


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


def verdict(outcome: StoreOutcome) -> tuple[DeliveryState, str | None]:
    """What a peer's answer means for the delivery: its state, and the code of what went wrong."""
    if outcome.status is not None:
        kind = classify(outcome.status)
        if kind in (StatusKind.SUCCESS, StatusKind.WARNING):
            return DeliveryState.CONFIRMED, None
        if kind is StatusKind.TRANSIENT:
            return DeliveryState.WAITING, "peer-out-of-resources"
        return DeliveryState.REFUSED, "peer-refused-object"
    error: NodeError | None = outcome.error
    if error is None or error.retryable:
        return DeliveryState.WAITING, "peer-aborted" if error is None else error.code
    return DeliveryState.REFUSED, error.code
