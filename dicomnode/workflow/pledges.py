"""Storage commitment of results: each destination that should is asked to take responsibility for what it took (PS3.4 J).

Its report comes on the same association, or on one of its own; where it does not come in time, C-FIND shows what is there.
What it does not commit to is sent once more, with the same bytes and UIDs; after that it is a dead letter. No destination
waits for another one's answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Protocol

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.commitment import CommitmentReport, CommitmentRequest, Reference, Reported
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import PledgeRow
from dicomnode.study import (
    FINAL_STATES,
    CommitmentState,
    DeliveryRow,
    DeliveryState,
    Mark,
    Purpose,
    WorkKey,
    WorkState,
    World,
    mint_uid,
)
from dicomnode.workflow.circuits import wait_before
from dicomnode.workflow.delivery import end_of, is_uncommitted, outgoing
from dicomnode.workflow.ports import Clocks, Finder, Queue
from dicomnode.workflow.verdicts import holds

_LOOK_SECONDS: Final = 5.0
#: Time for a report on the association that asked; whatever comes later comes on one of its own. None for a destination whose
#: last report did.
_AT_ONCE_SECONDS: Final = 5.0
_RESENDS: Final = 1
DUE, TAKEN, ENDED = "due", "taken", "ended"
#: Works whose results somebody cancelled, or newer ones replace.
_NOT_AGAIN: Final = frozenset({WorkState.CANCELLED, WorkState.SUPERSEDED})


class Committing(Finder, Protocol):
    """A destination that can be asked to commit."""

    def request(
        self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
    ) -> CommitmentReport | None:
        """Ask; its report, if it comes at once; `others` are told of what else it reports. PeerError if it refuses."""
        ...


class Pledges:
    """Asks, hears, and draws the conclusions; a thread for each destination sees to what is due.

    Parameters
    ----------
    destinations
        Those that are asked, by name.
    derivation_key
        Key of Transaction UIDs: nobody else can report on one.
    is_down
        Whether a destination is left alone.
    settings
        Waits.
    clocks, emit
        Wall clock, and the sure one by which a request grows old; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        queue: Queue,
        *,
        destinations: Mapping[str, Committing],
        derivation_key: bytes,
        is_down: Callable[[str], bool],
        settings: DeliverySection,
        clocks: Clocks,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._queue = queue
        self._destinations = destinations
        self._key = derivation_key
        self._is_down = is_down
        self._settings = settings
        self._clocks = clocks
        self._emit = emit
        self._report_elsewhere: set[str] = set()
        self._conclusions = threading.Lock()  # of a report and of this thread: one at a time
        self._ended = threading.Event()
        others = {None: Pulse("pledges", FAR_SECONDS)}
        self._pulses = others | {name: Pulse("pledges", FAR_SECONDS, destination=name) for name in destinations}
        self.pulses = tuple(self._pulses.values())
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name="pledges", daemon=True)
            for name in (None, *destinations)
        ]

    def begin(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def end(self, timeout: float) -> None:
        """Stop them, and wait up to `timeout` seconds for all; what is open goes on at the next start."""
        self._ended.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(until - time.monotonic(), 0))

    def reported(self, report: CommitmentReport) -> bool:
        """A destination reports; False where nobody asked it.

        What it reports again (it got no answer) or too late is taken, so that it repeats it no more, and changes nothing.
        """
        for row in self._ledger.pledges():
            if report.transaction_uid in self._uids(row):
                self._report_elsewhere.add(row.destination)
                self._conclude(row, report)
                return True
        return any(report.transaction_uid in self._all_uids(row) for row in self._ledger.pledges(ended=True))

    def look(self, destination: str | None = None) -> None:
        """See to everything that is due: at one destination, or (None) at all, one after the other."""
        if destination is not None:
            self._look_at(destination)
            return
        for name in self._destinations:
            self._look_at(name)
        self._look_at_others()

    def _look_at(self, destination: str) -> None:
        """A destination that does not answer costs one time-out: its other pledges stay due."""
        if destination in self._destinations:
            for key, _ in self._ledger.uncommitted([destination]):
                self._beat(destination)
                self._begin_pledge(key, destination)
        answers = True
        for row in self._ledger.pledges():
            self._beat(destination)
            left = (row.due_at - self._clocks.now()).total_seconds()
            if self._ended.is_set() or row.destination != destination:
                continue
            if 0 < left <= self._settings.commitment_seconds:
                continue  # what is due later than that was written down before the clock was set back
            try:
                if self._is_too_old(row):
                    self._give_up(row)
                elif answers and not self._is_down(destination):
                    answers = self._advance(row)
            except NodeError as error:
                self._emit("pledge.failed", level="error", work=row.key.workflow_id, reason=error.code)
                self._later(row)

    def _beat(self, destination: str) -> None:
        self._pulses.get(destination, self._pulses[None]).beat()

    def _look_at_others(self) -> None:
        """Destinations that are not asked any more."""
        for destination in sorted({row.destination for row in self._ledger.pledges()} - set(self._destinations)):
            self._look_at(destination)

    def _is_too_old(self, row: PledgeRow) -> bool:
        return (self._clocks.sure() - row.begun_at).total_seconds() >= self._settings.give_up_seconds

    def _give_up(self, row: PledgeRow) -> None:
        """It could be asked neither way for as long as a delivery is tried: its works must end."""
        self._emit("pledge.unproven", level="warning", destination=row.destination, reason="timeout")
        self._end(row, {}, CommitmentState.UNPROVEN)

    def _begin_pledge(self, key: WorkKey, destination: str) -> None:
        now = self._clocks.now()
        with self._ledger.transaction() as connection:
            before = self._ledger.pledge(key, destination, connection=connection)
            row = PledgeRow(key=key, destination=destination, state=DUE, begun_at=now, due_at=now)
            if before is not None:
                row = replace(before, state=DUE, earlier=before.attempts, begun_at=now, due_at=now)
            self._ledger.put_pledge(row, connection=connection)
            ids = [one.result_id for one in self._open_rows(key, destination, None, connection=connection)]
            self._ledger.set_commitment(ids, destination, CommitmentState.ASKED, connection=connection)

    def _advance(self, row: PledgeRow) -> bool:
        """Ask, or see what is there; False where the destination did not answer."""
        peer = self._destinations.get(row.destination)
        if peer is None:  # it is not asked any more
            self._end(row, {}, CommitmentState.UNPROVEN)
            return True
        too_old = (self._clocks.sure() - row.begun_at).total_seconds() >= self._settings.commitment_seconds
        if row.state == TAKEN or too_old:
            return self._verify(row, peer)
        self._later(row)  # before: the report may come while the request is still on its way
        tried = replace(row, attempts=row.attempts + 1)
        references = tuple(self._references(row).values())
        request = CommitmentRequest(transaction_uid=self._uids(tried)[-1], references=references)
        try:
            seconds = 0.0 if row.destination in self._report_elsewhere else _AT_ONCE_SECONDS
            report = peer.request(request, seconds, (self,)) if references else None
        except PeerError as error:
            self._emit("pledge.waiting", level="warning", destination=row.destination, reason=error.code)
            return not error.retryable and self._verify(tried, peer)
        if report is not None:
            self._report_elsewhere.discard(row.destination)
            self._conclude(tried, report)
        else:
            self._taken(tried)
        return True

    def _taken(self, row: PledgeRow) -> None:
        """The request was taken: it has its time, unless its report came meanwhile."""
        with self._conclusions, self._ledger.transaction() as connection:
            stands = self._ledger.pledge(row.key, row.destination, connection=connection)
            if stands is not None and (stands.state, stands.earlier) == (DUE, row.earlier):
                due = row.begun_at + timedelta(seconds=self._settings.commitment_seconds)
                self._ledger.put_pledge(replace(stands, state=TAKEN, due_at=due), connection=connection)

    def _later(self, row: PledgeRow) -> None:
        wait = wait_before(row.attempts - row.earlier + 2, self._settings)
        due = self._clocks.now() + timedelta(seconds=wait)
        with self._conclusions, self._ledger.transaction() as connection:
            stands = self._ledger.pledge(row.key, row.destination, connection=connection)
            if stands is not None and (stands.state, stands.earlier) == (row.state, row.earlier):
                self._ledger.put_pledge(replace(row, attempts=row.attempts + 1, due_at=due), connection=connection)

    def _verify(self, row: PledgeRow, peer: Committing) -> bool:
        """No report came: C-FIND shows what the destination holds; False where it did not answer."""
        rows = self._open_rows(row.key, row.destination, CommitmentState.ASKED)
        try:
            held = {one.result_id: holds(peer, self._sealed(row.key, one)) for one in rows}
        except PeerError as error:
            if error.retryable:
                self._later(row)
            else:
                self._emit("pledge.unproven", level="warning", destination=row.destination, reason=error.code)
                self._end(row, {}, CommitmentState.UNPROVEN)
            return not error.retryable
        self._end(row, held, CommitmentState.FOUND)
        return True

    def _conclude(self, row: PledgeRow, report: CommitmentReport) -> None:
        """What a report says of each object; one that it does not name is as one that failed."""
        committed = set(report.committed)
        held = {result_id: one in committed for result_id, one in self._references(row).items()}
        self._end(row, held, CommitmentState.COMMITTED)

    def _end(self, row: PledgeRow, held: Mapping[str, bool], proved: CommitmentState) -> None:
        """Enter what is held and send again what is not; with nothing known of any, `proved` is of all."""
        with self._conclusions, self._ledger.transaction() as connection:
            stands = self._ledger.pledge(row.key, row.destination, connection=connection)
            if stands is None or stands.state == ENDED or stands.earlier != row.earlier:
                return
            rows = self._open_rows(row.key, row.destination, CommitmentState.ASKED, connection=connection)
            good = [one.result_id for one in rows if held.get(one.result_id, not held)]
            lost = [one for one in rows if one.result_id not in good]
            resends = stands.resends + bool(lost)
            self._ledger.set_commitment(good, row.destination, proved, connection=connection)
            self._ledger.put_pledge(replace(stands, state=ENDED, resends=resends), connection=connection)
            again = self._again(connection, row, lost, last=resends > _RESENDS)
            ended = self._end_work(connection, row.key)
        facts: dict[str, Any] = {"work": row.key.workflow_id, "destination": row.destination, "state": proved.value}
        self._emit("pledge.ended", level="error" if lost else "info", held=len(good), missing=len(lost), **facts)
        if ended is not None:
            level = "error" if ended[0] is not WorkState.DONE else "warning" if ended[1] else "info"
            self._emit("work.ended", level=level, work=row.key.workflow_id, state=ended[0].value, reason=ended[1])
        if again:
            self._queue.revive_delivery(row.key, row.destination, priority=self._ledger.priority(row.key.study_key))

    def _end_work(self, connection: Any, key: WorkKey) -> tuple[WorkState, str | None] | None:
        """The end of a work that waited for this alone: done, and by what proof, or as its other deliveries ended."""
        work = self._ledger.work(key, connection=connection)
        rows = self._ledger.deliveries(key, connection=connection)
        waits = any(one.state is DeliveryState.WAITING for one in rows) or is_uncommitted(rows, self._destinations)
        if work is None or work.state is not WorkState.DELIVERING or waits:
            return None
        state, reason = end_of(rows)
        self._ledger.set_work_state(key, state, at=self._clocks.now(), reason=reason, connection=connection)
        return state, reason

    def _again(self, connection: Any, row: PledgeRow, lost: Sequence[DeliveryRow], *, last: bool) -> bool:
        """Send objects once more; after that they are dead letters. Whether any is sent.

        Results that are wrong, or were cancelled or replaced, do not go a second time, whether their work ended as that or
        waits for this alone: that they are there is not proved.
        """
        key, now = row.key, self._clocks.now()
        work = self._ledger.work(key, connection=connection)
        if work is None or not lost:
            return False
        settled = work.is_wrong or work.state in _NOT_AGAIN or self._is_over(connection, key, row.destination)
        stay = [one.result_id for one in lost if one.is_result and settled]
        self._ledger.set_commitment(stay, row.destination, CommitmentState.UNPROVEN, connection=connection)
        left = [one for one in lost if one.result_id not in stay]
        if not left:
            return False
        state, reason = (DeliveryState.REFUSED, "not-committed") if last else (DeliveryState.WAITING, None)
        self._ledger.put_deliveries(left, state, now, reason=reason, connection=connection)
        if work.state in FINAL_STATES:
            facts = {"retried_at": int(now.timestamp())}
            self._ledger.set_work_state(key, WorkState.DELIVERING, at=now, facts=facts, connection=connection)
        waiting = any(one.state is DeliveryState.WAITING for one in self._ledger.deliveries(key, connection=connection))
        if last and not waiting:
            self._ledger.set_work_state(key, WorkState.FAILED, at=now, reason=reason, connection=connection)
        return not last

    def _is_over(self, connection: Any, key: WorkKey, destination: str) -> bool:
        """Whether somebody cancelled a study, or a destination has, or is to get, newer results of it by the same model."""
        study = self._ledger.study(key.study_key, connection=connection)
        newer = [
            (work, one)
            for work in (() if study is None else study.works)
            if work.key.model == key.model and work.key.revision > key.revision
            for one in work.deliveries
            if one.destination == destination and one.is_result
        ]
        goes = any(
            one.may_be_there or (one.state is DeliveryState.WAITING and work.state is WorkState.DELIVERING)
            for work, one in newer
        )
        return goes or (study is not None and study.stopped_by is Mark.CANCELLED)

    def _open_rows(
        self, key: WorkKey, destination: str, state: CommitmentState | None, *, connection: Any = None
    ) -> list[DeliveryRow]:
        return [
            row
            for row in self._ledger.deliveries(key, connection=connection)
            if row.destination == destination and row.state is DeliveryState.CONFIRMED and row.commitment is state
        ]

    def _references(self, row: PledgeRow) -> dict[str, Reference]:
        """Instances that a pledge is about, by the names of their results."""
        found = {}
        for one in self._open_rows(row.key, row.destination, CommitmentState.ASKED):
            sealed = self._objects.get(row.key.study_key, World.IDENTITY, one.result_id, Purpose.RESULT)
            transfer_syntax_uid, encoded = split_part10(sealed)
            header = scan_header(encoded, transfer_syntax_uid, Limits())
            found[one.result_id] = Reference(header.sop_class_uid, header.sop_instance_uid)
        return found

    def _sealed(self, key: WorkKey, row: DeliveryRow) -> Any:
        data = self._objects.get(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
        return outgoing(row.result_id, data)

    def _uids(self, row: PledgeRow) -> list[str]:
        """Transaction UIDs of a pledge's round, one for each request."""
        return self._all_uids(row)[row.earlier :]

    def _all_uids(self, row: PledgeRow) -> list[str]:
        return [
            mint_uid(self._key, "pledge", row.key.workflow_id, row.destination, str(attempt))
            for attempt in range(1, row.attempts + 1)
        ]

    def _run(self, destination: str | None) -> None:
        """See to one destination, or (None) to those that are not asked any more."""
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                with self._pulses[destination]:
                    self._look_at_others() if destination is None else self.look(destination)
            except NodeError as error:
                self._emit("pledge.failed", level="error", reason=error.code)
            except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
                self._emit("pledge.failed", level="error", kind=type(error).__name__, reason="internal")
