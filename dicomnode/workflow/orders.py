"""Orders of people: to deliver again, to cancel, to work anew, to let go what is held.

A command beside the node writes an order into the ledger; a chore of the node carries it out, in one transaction in which
the order goes as well: given twice or cut off by a crash it is carried out once. May live here: what each order is about,
and what it changes. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from typing import Any, Final, Protocol

from dicomnode.errors import ConfigError, Fact, NodeError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.study import FINAL_STATES, DeliveryRow, DeliveryState, Mark, StudyRow, WorkKey, WorkRow, WorkState
from dicomnode.workflow.delivery import end_of, is_uncommitted
from dicomnode.workflow.generations import record_retry
from dicomnode.workflow.ports import Clock, Queue, Revival
from dicomnode.workflow.unchanged import ORDERED

#: The verb of orders that are about originals, not about works: `service.exporting` carries them out.
EXPORT: Final = "export"
#: What a destination is not to get however often it is tried.
_NEVER: Final = frozenset({"result-over-budget", "instances-rejected"})
_TOO_OFTEN: Final = "restarted-too-often"
_STAGES: Final = (WorkState.QUEUED, WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING)
_DEAD: Final = frozenset({DeliveryState.REFUSED, DeliveryState.CANCELLED})
_OPEN: Final = frozenset({DeliveryState.WAITING, DeliveryState.REFUSED})
_RETRIED: Final = frozenset({WorkState.DELIVERING, WorkState.FAILED, WorkState.CANCELLED, WorkState.DONE})


class Verb(StrEnum):
    """What can be ordered."""

    RETRY = "retry"
    CANCEL = "cancel"
    REPROCESS = "reprocess"
    RELEASE = "release"


class Commanded(Protocol):
    """Whoever opens revisions and lets results go; both take part in the caller's transaction."""

    def reprocess(self, connection: Any, study_key: str) -> int | None:
        """Open a revision of the same input and queue its works; its number, None where nothing is there to work on."""
        ...

    def let_go(self, connection: Any, work: WorkRow) -> None:
        """Queue the delivery of a work that is held."""
        ...


def frees(study: StudyRow, order: OrderRow) -> bool:
    """Whether an order has a study worked on of which nothing is made: it is too old, cancelled, or no rule takes it.

    A release lets go first what is held (results that were made before, and retried), and is never one of a single model: a
    revision is one for all.
    """
    stopped = study.stopped_by is not None
    match Verb(order.verb):
        case Verb.RELEASE:
            nothing_made = stopped or (study.revision > 0 and not study.works)
            return nothing_made and not order.model and not concerned(study, order)
        case Verb.REPROCESS:
            return stopped
        case _:
            return False


def stops(study: StudyRow, order: OrderRow) -> bool:
    """Whether from an order on nothing more is made of a study, whatever comes of it: one to cancel all of it."""
    whole = order.verb == Verb.CANCEL and not order.model and not order.destination
    return whole and study.stopped_by is not Mark.CANCELLED


def is_of_any_use(study: StudyRow, order: OrderRow, orders: Iterable[OrderRow]) -> bool:
    """Whether an order changes anything; `orders`: those that are not carried out yet."""
    return (
        bool(concerned(study, order) or exports_to_cancel(order, orders)) or frees(study, order) or stops(study, order)
    )


def concerned(study: StudyRow, order: OrderRow) -> tuple[WorkRow, ...]:
    """Works of a study that an order is about; none: there is nothing to do."""
    chosen = [work for work in study.works if order.model in ("", work.key.model)]
    match Verb(order.verb):
        case Verb.RETRY:
            standing = sorted(filter(_stands, chosen), key=lambda one: one.key.revision)
            newest = {work.key.model: work.key.revision for work in standing}
            chosen = [
                work for work in standing if work.state in _RETRIED and work.key.revision == newest[work.key.model]
            ]
            return tuple(work for work in chosen if to_retry(work, order.destination))
        case Verb.CANCEL:
            return tuple(work for work in chosen if _to_cancel(work, order.destination))
        case Verb.REPROCESS:
            return tuple(work for work in chosen if work.key.revision == study.revision)
        case Verb.RELEASE:
            return tuple(work for work in chosen if work.state is WorkState.HELD)


def _stands(work: WorkRow) -> bool:
    """Whether older results must not come behind those of a work: it has some, or may have; one that made nothing has none."""
    return work.state is not WorkState.SUPERSEDED and (bool(work.deliveries) or work.state not in FINAL_STATES)


def exports_to_cancel(order: OrderRow, orders: Iterable[OrderRow]) -> tuple[OrderRow, ...]:
    """Exports that were ordered of a study, not carried out yet, and that an order to cancel ends: all, or to one place."""
    if order.verb != Verb.CANCEL or order.model:
        return ()
    return tuple(
        one
        for one in orders
        if one.verb == EXPORT and one.study_key == order.study_key and order.destination in ("", one.destination)
    )


def to_retry(work: WorkRow, destination: str) -> list[DeliveryRow]:
    """Deliveries of a work that are made again or hastened; where its results are wrong, notes of ours that retract them alone."""
    return [
        row
        for row in work.deliveries
        if destination in ("", row.destination)
        and (row.state in _DEAD or row.state is DeliveryState.WAITING)
        and row.reason not in _NEVER
        and not (work.is_wrong and row.is_result)
    ]


def _to_end(work: WorkRow, destination: str) -> list[DeliveryRow]:
    """Deliveries that an order to cancel ends. A note that waits to retract results that are wrong goes all the same."""
    return [
        row
        for row in work.deliveries
        if destination in ("", row.destination)
        and row.state in _OPEN
        and (row.is_result or not work.is_wrong or row.state is not DeliveryState.WAITING)
    ]


def _to_cancel(work: WorkRow, destination: str) -> bool:
    rows = _to_end(work, destination)
    begun = work.state in FINAL_STATES or work.state is WorkState.DELIVERING
    return bool(rows) if begun or destination else True


class Orders:
    """Carries out orders.

    Parameters
    ----------
    queue
        Where deliveries are queued.
    admission
        Opens revisions and lets results go.
    hurry
        Has a destination asked at once whether it is there.
    committing
        Destinations that are asked to commit.
    beat
        Told before each order.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        admission: Commanded,
        hurry: Callable[[str], None],
        clock: Clock,
        emit: Emit,
        committing: Collection[str] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._committing = frozenset(committing)
        self._ledger = ledger
        self._queue = queue
        self._admission = admission
        self._hurry = hurry
        self._clock = clock
        self._emit = emit

    def sweep(self) -> None:
        """Carry out what is ordered; an order that cannot be carried out is told, and hinders no other."""
        for order in self._ledger.orders():
            self._beat()
            if order.verb == EXPORT:
                continue
            facts: dict[str, Fact] = {"study": order.study_key, "kind": order.verb}
            try:
                done = self._carry_out(order)
            except NodeError as error:
                self._emit("order.failed", level="error", reason=error.code, **facts)
                if not error.retryable:
                    self._ledger.end_order(order)
                continue
            if done is None:
                continue
            self._emit("order.done", level="warning", works=len(done), **facts)
            if order.verb in (Verb.RETRY, Verb.RELEASE):  # of what was held on its way, tries were made before
                self._set_out(done, order.destination)

    def _carry_out(self, order: OrderRow) -> tuple[WorkKey, ...] | None:
        """Works that it was about; None where it is not there any more. What was given anew before is carried out with it."""
        with self._ledger.transaction() as connection:
            orders = self._ledger.orders(connection=connection)
            given = [one for one in orders if one.is_as(order)]
            if not given:
                return None
            study = self._ledger.study(order.study_key, connection=connection)
            if study is None:  # it was shredded since
                raise ConfigError("study-not-found", studies=0)
            works = concerned(study, order)
            freed = frees(study, order)
            if freed or (works and order.verb == Verb.REPROCESS):
                self._reprocess(connection, order.study_key)
            else:
                for work in works:
                    self._act(connection, work, order)
            self._mark(connection, study, order)
            ended = exports_to_cancel(order, orders)
            for one in (*ended, *given):
                self._ledger.end_order(one, connection=connection)
        for one in ended:
            self._emit("export.cancelled", level="warning", study=one.study_key, destination=one.destination)
        return tuple(work.key for work in works)

    def _reprocess(self, connection: Any, study_key: str) -> None:
        """Have a study worked on anew: its works make results although there may be the same already."""
        revision = self._admission.reprocess(connection, study_key)
        study = self._ledger.study(study_key, connection=connection)
        for work in () if study is None else study.works:
            if work.key.revision == revision:
                self._ledger.add_facts(work.key, {ORDERED: 1}, connection=connection)

    def _act(self, connection: Any, work: WorkRow, order: OrderRow) -> None:
        act = {Verb.RETRY: self._retry, Verb.CANCEL: self._cancel, Verb.RELEASE: self._release}
        act[Verb(order.verb)](connection, work, order.destination)

    def _mark(self, connection: Any, study: StudyRow, order: OrderRow) -> None:
        """What stands beside the study from now on: also where nothing of it has come yet that a model looks at."""
        mark = Mark.CANCELLED if stops(study, order) else Mark.RELEASED if frees(study, order) else None
        if mark is not None and (mark is Mark.CANCELLED or study.stopped_by is not None):
            now = self._clock()
            self._ledger.put_mark(study.study_key, mark, study.revision, now, connection=connection)

    def _retry(self, connection: Any, work: WorkRow, destination: str) -> None:
        now = self._clock()
        rows = to_retry(work, destination)
        self._ledger.put_deliveries(rows, DeliveryState.WAITING, now, connection=connection)
        facts: dict[str, Fact] = {"retried_at": int(now.timestamp())}
        record_retry(connection, self._ledger, work, now)
        self._ledger.set_work_state(work.key, WorkState.DELIVERING, at=now, facts=facts, connection=connection)

    def _cancel(self, connection: Any, work: WorkRow, destination: str) -> None:
        now, ledger, key = self._clock(), self._ledger, work.key
        for row in _to_end(work, destination):  # settled, it is still what a destination is never to get
            why = row.reason if row.reason in _NEVER else "cancelled"
            ledger.put_deliveries([row], DeliveryState.CANCELLED, now, reason=why, connection=connection)
        left = ledger.deliveries(key, connection=connection)
        if work.state is WorkState.DELIVERING:
            asked = bool(destination) and is_uncommitted(left, self._committing)  # then `pledges` ends the work
            if not asked and not any(row.state is DeliveryState.WAITING for row in left):
                state, reason = end_of(left)
                ledger.set_work_state(key, state, at=now, reason=reason, connection=connection)
        elif work.state not in FINAL_STATES and not destination:
            ledger.set_work_state(key, WorkState.CANCELLED, at=now, reason="cancelled", connection=connection)

    def _release(self, connection: Any, work: WorkRow, _destination: str) -> None:
        self._admission.let_go(connection, work)

    def _set_out(self, keys: tuple[WorkKey, ...], destination: str) -> None:
        """Have what is to be tried again tried now; where a crash comes before, `Overseer` does it."""
        for key in keys:
            rows = self._ledger.deliveries(key)
            for name in dict.fromkeys(row.destination for row in rows if row.state is DeliveryState.WAITING):
                if destination in ("", name):
                    self._hurry(name)
                    self._queue.revive_delivery(key, name, priority=self._ledger.priority(key.study_key))


class Overseer:
    """Finds works on their way that nobody takes any further, and sets them going again: with an alert, since it is a fault."""

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        clock: Clock,
        emit: Emit,
        committing: Collection[str] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._committing = frozenset(committing)
        self._ledger = ledger
        self._queue = queue
        self._clock = clock
        self._emit = emit

    def sweep(self) -> int:
        """Queue what waits and has nobody to take it further, works and tries to deliver; how many."""
        return self._works() + self._deliveries()

    def _works(self) -> int:
        """Works whose stages are not done; one that too many starts of the node took up ends with that."""
        revived = 0
        for work in self._ledger.works(_STAGES):
            self._beat()
            key, again = work.key, self._ledger.work(work.key)
            if again is None or again.state not in _STAGES:
                continue
            found = self._queue.revive_work(key, priority=self._ledger.priority(key.study_key))
            if found is Revival.QUEUED:
                revived += 1
                self._emit("work.revived", level="warning", work=key.workflow_id)
            elif found is Revival.GIVEN_UP:
                self._ledger.set_work_state(key, WorkState.FAILED, at=self._clock(), reason=_TOO_OFTEN)
                self._emit("work.failed", level="error", work=key.workflow_id, model=key.model, reason=_TOO_OFTEN)
        return revived

    def _deliveries(self) -> int:
        works = self._ledger.works((WorkState.DELIVERING,))  # before the queue: what ends meanwhile is only looked at
        queued = self._queue.deliveries()
        revived = 0
        for work in works:
            self._beat()
            waiting = {row.destination for row in work.deliveries if row.state is DeliveryState.WAITING}
            if not waiting and is_uncommitted(work.deliveries, self._committing):
                continue  # `pledges` sees to it
            for name in sorted(waiting or {row.destination for row in work.deliveries}):
                again = self._ledger.work(work.key)
                if (work.key.workflow_id, name) in queued or again is None or again.state is not WorkState.DELIVERING:
                    continue
                priority = self._ledger.priority(work.key.study_key)
                if self._queue.revive_delivery(work.key, name, priority=priority):
                    revived += 1
                    self._emit("delivery.revived", level="warning", work=work.key.workflow_id, destination=name)
        return revived
