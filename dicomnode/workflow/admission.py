"""Closing an input set: one transaction that opens a revision, creates the works and queues them; and letting results go.

Everything here is idempotent: a node that was killed anywhere in it does the same again after its start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from dicomnode.config import DeliverySection
from dicomnode.errors import Fact, StorageError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import RevisionRow
from dicomnode.study import (
    FINAL_STATES,
    DeliveryRow,
    DeliveryState,
    InstanceRow,
    StudyRow,
    WorkKey,
    WorkRow,
    WorkState,
    input_digest,
)
from dicomnode.workflow.absent import shares_of_lost
from dicomnode.workflow.damage import lost
from dicomnode.workflow.evidence import WRONG_ENTRY
from dicomnode.workflow.generations import record_wait
from dicomnode.workflow.inputs import beside, has_only_expired, inputs, is_to_be_tried_again
from dicomnode.workflow.inquiry import facts_of_release
from dicomnode.workflow.latecomers import look_beside, order_late
from dicomnode.workflow.openings import Opened, RoutingPort, tell, tell_exports
from dicomnode.workflow.ports import Clocks, Queue
from dicomnode.workflow.routing import CLASSES, Route, Share, destinations_of

#: Between the moment at which a wait is reckoned and the one at which it is looked at.
_SLACK_SECONDS = 1.0
_GONE = "config-invalid"
_LATE = "result-late"
_UNTOUCHABLE = FINAL_STATES | {WorkState.DELIVERING}
_STAGES = frozenset({WorkState.QUEUED, WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING})


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where an input goes, and how many records of its study were looked at; no route where it has a revision already."""

    digest: str
    route: Route | None
    records: int


class Admission:
    """Opens revisions of a study's input and lets finished work be delivered.

    Parameters
    ----------
    ledger
        Where states stand.
    queue
        Durable queue.
    routing
        Says which models get a study of these instances, and who gets their results; orders its exports.
    sop_classes
        SOP Classes that any of them looks at.
    destinations
        Names of where results go.
    overdue
        Works whose stage has been running for longer than it may.
    flush
        Waits until the index has caught up with the spool; False when it has not.
    close_segments
        Closes the spool's segments of a study that is settled.
    arriving
        Whether instances of a study came, or an association that carried it is open, since it was last settled.
    settings
        Longest wait before a try to deliver, and the age from which on results are held.
    clocks, emit
        What time it is; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        routing: RoutingPort,
        sop_classes: Collection[str],
        destinations: Sequence[str],
        overdue: Callable[[], Sequence[WorkKey]],
        flush: Callable[[str], bool],
        close_segments: Callable[[str], None],
        arriving: Callable[[str], bool],
        settings: DeliverySection,
        clocks: Clocks,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._routing = routing
        self._sop_classes = frozenset(sop_classes)
        self._destinations = tuple(destinations)
        self._overdue = overdue
        self._flush = flush
        self._close_segments = close_segments
        self._arriving = arriving
        self._longest_retry_seconds = settings.longest_retry_seconds
        self._hold_after_seconds = settings.hold_after_seconds
        self._clock = clocks.now
        self._late = clocks.late
        self._emit = emit

    def start(self, study_key: str) -> None:
        """Open a revision for what has come and queue its work; nothing happens if there is one already.

        Raises
        ------
        StorageError
            ``index-behind``, as `settle`: to be called again, or the work would begin when the study settles only.
        """
        plan = self._plan(study_key, self._judged(study_key))
        with self._ledger.transaction() as connection:
            opened = self._open(connection, study_key, plan)
        tell(self._emit, study_key, opened)

    def settle(self, study_key: str, lacking: str = "") -> None:
        """The study is whole, or lacks what is said: as `start`; its results may go out as soon as they are ready.

        Raises
        ------
        StorageError
            ``index-behind`` when the index has not caught up: what it lacks would never be worked on.
        """
        judged = self._judged(study_key)
        now, plan = self._clock(), self._plan(study_key, judged)
        route = None if plan is None else plan.route
        late = look_beside(self._ledger, self._routing, study_key, self._sop_classes, route=route, judged=judged)
        with self._ledger.transaction() as connection:
            if late is not None:
                self._ledger.set_priority(study_key, late.route.priority, connection=connection)
            opened = self._open(connection, study_key, plan)
            ordered = opened is not None and opened.exports  # of all of it
            exports = {} if ordered else order_late(connection, self._ledger, self._routing, study_key, late)
            latest = self._ledger.latest_revision(study_key, connection=connection)
            if latest is None:
                return
            revision = latest.revision
            self._ledger.settle(study_key, revision, now, records=judged, lacking=lacking, connection=connection)
        anew = latest.settled_at is None
        tell(self._emit, study_key, opened)
        tell_exports(self._emit, study_key, exports)
        if anew:
            self._close_segments(study_key)
            self._emit("study.settled", study=study_key, revision=latest.revision)
        self._release(study_key)

    def _judged(self, study_key: str) -> int:
        """How many records the index has and were judged: with one more the study is open, should the node be killed now."""
        if self._flush(study_key):
            records = self._ledger.records(study_key)
            if self._flush(study_key):
                return records
        raise StorageError("index-behind")

    def release(self, study_key: str) -> None:
        """Queue the delivery of every finished work of the latest revision, if that is settled and nothing more comes.

        A study that was settled may go on: what is arriving now settles it anew, and is asked again then.
        """
        if not self._arriving(study_key):
            self._release(study_key)

    def _release(self, study_key: str) -> None:
        released: list[tuple[WorkKey, int]] = []
        held: list[tuple[WorkKey, dict[str, Fact]]] = []
        with self._ledger.transaction() as connection:
            latest = self._ledger.latest_revision(study_key, connection=connection)
            study = self._ledger.study(study_key, connection=connection)
            if latest is None or latest.settled_at is None or study is None:
                return
            for work in study.works:
                if work.state is not WorkState.READY or work.key.revision != latest.revision:
                    continue
                if said := self._reason_to_hold(connection, study):
                    self._hold(connection, work, str(said["reason"]))
                    held.append((work.key, said))
                else:
                    released.append((work.key, self._deliver(connection, work)))
        for key, count in released:
            self._emit("work.released", work=key.workflow_id, destinations=count)
        for key, said in held:
            self._emit("work.held", level="warning", work=key.workflow_id, **said)

    def _reason_to_hold(self, connection: Any, study: StudyRow) -> dict[str, Fact]:
        """Why finished results do not go before somebody lets them; nothing where they may."""
        if self._ledger.is_of_wrong_entry(study.study_key, connection=connection):
            return {"reason": WRONG_ENTRY}
        if not self._hold_after_seconds:
            return {}
        rows = inputs(self._ledger, study.study_key, self._sop_classes, connection)  # a report makes no images young
        last = max((row.received_at for row in rows), default=study.last_received_at)
        age = (self._late() - last).total_seconds()
        return {"reason": _LATE, "seconds": round(age)} if age > self._hold_after_seconds else {}

    def reprocess(self, connection: Any, study_key: str) -> int | None:
        """Open a revision of the same input and queue its works; it is as whole as the one before it.

        Its results name those before as their predecessors; none is made where no instance is there that a model looks at.
        """
        latest = self._ledger.latest_revision(study_key, connection=connection)
        plan = self._plan(study_key, self._ledger.records(study_key), anew=True)
        opened = self._open(connection, study_key, plan, ordered=True)
        if opened is None:
            return None
        if latest is not None and latest.settled_at is not None:
            now, records = self._clock(), latest.records  # what came since is looked at when it settles
            self._ledger.settle(study_key, opened.revision, now, records=records, connection=connection)
        return opened.revision

    def let_go(self, connection: Any, work: WorkRow) -> None:
        """Queue the delivery of a work that is held; its destinations are asked only where it was not held for its patient."""
        now = self._clock()
        facts = facts_of_release(work, now)
        self._ledger.set_work_state(work.key, WorkState.DELIVERING, at=now, facts=facts, connection=connection)
        self._deliver(connection, work)

    def reconcile(self, beat: Callable[[], None] = lambda: None) -> None:
        """Release what is ready (a crash may have come between its end and its release); end what is past its time.

        And let tries to deliver go on that wait for a time of day far ahead: the clock was set back.
        """
        for work in self._ledger.works((WorkState.READY,)):
            beat()
            self.release(work.key.study_key)
        for key in self._overdue():
            late = self._ledger.work(key)
            if late is not None and late.state in _STAGES:
                self._ledger.set_work_state(key, WorkState.FAILED, at=self._clock(), reason="timeout")
                self._emit("work.failed", level="error", work=key.workflow_id, reason="timeout")
        if hastened := self._queue.hasten(self._longest_retry_seconds + _SLACK_SECONDS):
            self._emit("delivery.hastened", level="warning", deliveries=hastened)

    def _hold(self, connection: Any, work: WorkRow, reason: str) -> None:
        """Keep results until somebody lets them go."""
        now = self._clock()
        record_wait(connection, self._ledger, work, now)
        self._ledger.set_work_state(work.key, WorkState.HELD, at=now, reason=reason, connection=connection)

    def _deliver(self, connection: Any, work: WorkRow) -> int:
        """Queue a delivery to each of a work's destinations; how many there are.

        What was made for a destination that the configuration no longer names is a dead letter, and what of an older
        revision still waits for one of these destinations does not go there any more: this is what it would hide.
        """
        now, key = self._clock(), work.key
        record_wait(connection, self._ledger, work, now)
        self._ledger.set_work_state(key, WorkState.DELIVERING, at=now, connection=connection)
        wanted = destinations_of(work.facts)
        chosen = [name for name in self._destinations if wanted is None or name in wanted]
        gone = [one for one in self._waiting(connection, key) if one.destination not in self._destinations]
        self._ledger.put_deliveries(gone, DeliveryState.REFUSED, now, reason=_GONE, connection=connection)
        if gone:
            self._emit("delivery.refused", level="error", work=key.workflow_id, reason=_GONE, objects=len(gone))
        self._replace(connection, key, chosen, now)
        priority = self._ledger.priority(key.study_key, connection=connection)
        for destination in chosen:
            self._queue.enqueue_delivery(connection, key, destination, 1, 0.0, priority=priority)
        if not chosen:
            state, reason = (WorkState.FAILED, _GONE) if gone else (WorkState.DONE, None)
            self._ledger.set_work_state(key, state, at=now, reason=reason, connection=connection)
        return len(chosen)

    def _replace(self, connection: Any, key: WorkKey, destinations: Sequence[str], now: datetime) -> None:
        """Cancel what of earlier revisions waits for these destinations; a work of which nothing waits any more ends.

        A note that retracts one of these waits on: that of the newer results need not ever go.
        """
        study = self._ledger.study(key.study_key, connection=connection)
        for work in () if study is None else study.works:
            older = work.key.model == key.model and work.key.revision < key.revision
            if not older or work.state is not WorkState.DELIVERING:
                continue
            waiting = self._waiting(connection, work.key)
            replaced = [
                one for one in waiting if one.destination in destinations and (one.is_result or not work.is_wrong)
            ]
            self._ledger.put_deliveries(replaced, DeliveryState.CANCELLED, now, connection=connection)
            if replaced and len(replaced) == len(waiting):
                self._end(connection, work, now)

    def _end(self, connection: Any, work: WorkRow, now: datetime) -> None:
        """End a work that is overtaken: superseded, or cancelled where a destination may have something to be retracted."""
        state, reason = (WorkState.CANCELLED, "cancelled") if work.may_be_delivered else (WorkState.SUPERSEDED, None)
        self._ledger.set_work_state(work.key, state, at=now, reason=reason, connection=connection)

    def _waiting(self, connection: Any, key: WorkKey) -> list[DeliveryRow]:
        rows = self._ledger.deliveries(key, connection=connection)
        return [row for row in rows if row.state is DeliveryState.WAITING]

    def _plan(self, study_key: str, records: int, *, anew: bool = False) -> _Plan | None:
        """Where the input goes, read without holding the ledger; None where there is none.

        The records were counted before: of what comes meanwhile nothing is missed.
        """
        rows = inputs(self._ledger, study_key, self._sop_classes)
        if not rows:
            return None
        digest = input_digest([(row.instance_key, row.digest) for row in rows])
        latest = self._ledger.latest_revision(study_key)
        known = latest is not None and latest.input_digest == digest
        if not (latest is None or known or anew) and has_only_expired(self._ledger, latest, rows, self._sop_classes):
            return None
        if known and not anew and not is_to_be_tried_again(self._ledger, study_key, self._sop_classes):
            return _Plan(digest, None, records)
        route = self._routing.route(study_key, rows, beside(self._ledger, study_key, rows))
        return _Plan(digest, self._with_lost(study_key, rows, latest, route), records)

    def _with_lost(
        self, study_key: str, rows: Sequence[InstanceRow], latest: RevisionRow | None, route: Route
    ) -> Route:
        """Where the input goes, those who only had what is lost included: their works fail and say why."""
        study = self._ledger.study(study_key)
        gone = {row.series_key for row in lost(self._ledger, study_key)} - {row.series_key for row in rows}
        if not gone or study is None or latest is None:
            return route
        before = [work for work in study.works if work.key.revision == latest.revision]
        return replace(route, shares=shares_of_lost(route.shares, before, gone))

    def _open(self, connection: Any, study_key: str, plan: _Plan | None, *, ordered: bool = False) -> Opened | None:
        """Open a revision and queue its works, None where the input has one; what is queued is as urgent as the study is now."""
        opened = self._enter(connection, study_key, plan, ordered=ordered)
        urgency = self._ledger.priority(study_key, connection=connection)
        self._queue.bring_forward(connection, study_key, priority=urgency)
        return opened

    def _enter(self, connection: Any, study_key: str, plan: _Plan | None, *, ordered: bool) -> Opened | None:
        rows = () if plan is None else inputs(self._ledger, study_key, self._sop_classes, connection)
        if not rows or plan is None:
            return None
        digest = input_digest([(row.instance_key, row.digest) for row in rows])
        now = self._clock()
        before = self._ledger.latest_revision(study_key, connection=connection)
        anew = ordered or is_to_be_tried_again(self._ledger, study_key, self._sop_classes, connection)
        is_other, looked_at = True, plan.records
        if before is not None and before.input_digest == digest:
            is_other, looked_at = False, before.records
        revision, new = self._ledger.open_revision(
            study_key, digest, now, anew=anew, records=looked_at, connection=connection
        )
        if not new:
            return None
        if digest != plan.digest or plan.route is None:  # more came meanwhile: it is looked at again
            raise StorageError("index-behind")
        study = self._ledger.study(study_key, connection=connection)
        earlier = () if study is None else study.works
        for work in earlier:
            self._supersede(connection, work)
        self._ledger.set_priority(study_key, plan.route.priority, connection=connection)
        ruling = self._routing.judge(
            connection, study_key, plan.route, revision=revision, begun=bool(earlier), ordered=ordered
        )
        exports: Mapping[str, Sequence[str]] = {}
        if ruling.stopped_by is None:
            # Worked on anew, it is exported no second time; one that was stopped was not exported yet.
            if is_other or (ruling.was_stopped and not earlier):
                exports = plan.route.exports
                for export, rules in exports.items():
                    self._routing.order_export(connection, study_key, export, rules)
            self._create_works(connection, study_key, revision, digest=digest, shares=plan.route.shares, rows=rows)
        return Opened(revision, plan.route, ruling, exports)

    def _create_works(
        self,
        connection: Any,
        study_key: str,
        revision: int,
        *,
        digest: str,
        shares: Mapping[str, Share],
        rows: Sequence[InstanceRow],
    ) -> None:
        """Enter and queue a work for each model that gets anything of a new revision."""
        now, urgency = self._clock(), self._ledger.priority(study_key, connection=connection)
        received = max(row.received_at for row in rows) - min(row.received_at for row in rows)
        classes = {CLASSES: ",".join(sorted(self._sop_classes))}
        for model, share in shares.items():
            key = WorkKey(study_key=study_key, revision=revision, model=model)
            self._ledger.create_work(key, digest, now, facts={**share.facts(), **classes}, connection=connection)
            self._ledger.record_stage(key, "receive", received.total_seconds(), connection=connection)
            self._queue.enqueue_work(connection, key, priority=urgency)

    def _supersede(self, connection: Any, work: WorkRow) -> None:
        if work.state not in _UNTOUCHABLE:
            now, waiting = self._clock(), self._waiting(connection, work.key)
            self._ledger.put_deliveries(waiting, DeliveryState.CANCELLED, now, connection=connection)
            self._end(connection, work, now)
