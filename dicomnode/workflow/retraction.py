"""Results that somebody found wrong are retracted: each destination that takes rejection notes gets one (IHE IOCM).

The wish stands in the ledger, written by a command beside the running node; a chore of the node takes it up. May live
here: which works are wished back, their notes, and that these are sent. Nothing is deleted, here or at a destination.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydicom import Dataset

from dicomnode.errors import Fact, NodeError
from dicomnode.events import Emit
from dicomnode.sections import Destination
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.study import (
    RETRACTION,
    STANDING,
    WISHED,
    DeliveryRow,
    DeliveryState,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.delivery import RETRACTION_ATTEMPT
from dicomnode.workflow.encoding import Encoding
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.ports import Clock, Queue
from dicomnode.workflow.predecessors import UNSURE, Predecessors

#: The code under which everything ends that was still to go of results that were found wrong.
CODE: Final = "results-retracted"
SENT: Final = "sent"
#: Why a note is made that retracts results; it ends the form of that note.
WRONG: Final = "wrong"
_NOTHING: Final = "nothing-delivered"
_DEAD: Final = frozenset({DeliveryState.REFUSED, DeliveryState.CANCELLED})
#: Of notes that are to go: also those that one replaced that the destination did not keep.
_AGAIN: Final = _DEAD | {DeliveryState.DOWNGRADED}
_STOPPED: Final = frozenset({WorkState.DELIVERING, WorkState.HELD})


def wish(ledger: Ledger, study_key: str, model: str | None, at: Clock) -> tuple[WorkKey, ...]:
    """Enter that the results of a study, of every revision that some destination may hold, are wrong; of one model, or of all.

    Nothing more of them goes anywhere from then on, whether they are on their way, held, or ended. A wish that came to
    nothing, for instance before a destination took rejection notes, can be entered again; so can one whose note was refused,
    given up or cancelled.

    Returns
    -------
    tuple
        The works concerned; none where nothing of the study can be retracted.
    """
    wished: list[WorkKey] = []
    with ledger.transaction() as connection:
        study = ledger.study(study_key, connection=connection)
        for work in () if study is None else study.works:
            if model in (None, work.key.model) and _is_open(work) and work.may_be_delivered:
                ledger.add_facts(work.key, {RETRACTION: WISHED}, connection=connection)
                _stop(connection, ledger, work, at())
                wished.append(work.key)
    return tuple(wished)


def standing(work: WorkRow, destinations: Sequence[Destination]) -> tuple[str, ...]:
    """Names of those that may have results of a work and take no note: people must reject them there by hand."""
    takers = {one.name for one in destinations if one.rejection_notes}
    return tuple(sorted(holders([work]) - takers))


def note_standing(work: WorkRow, names: Collection[str]) -> tuple[dict[str, Fact], list[str]]:
    """What is to stand with a work of destinations that keep its results, and those that nobody was told of yet.

    Whoever enters it tells afterwards: killed in between, nobody is told, but it stands with the work for all to see.
    """
    known = {name for name in str(work.facts.get(STANDING, "")).split(",") if name}
    fresh = sorted(set(names) - known)
    return ({STANDING: ",".join(sorted({*known, *names}))} if fresh else {}), fresh


def holders(works: Iterable[WorkRow]) -> frozenset[str]:
    """Destinations that have, or may have, results of works; rejection notes are none."""
    return frozenset(row.destination for work in works for row in work.deliveries if row.is_result and row.may_be_there)


def _is_open(work: WorkRow) -> bool:
    """Whether a wish for a work changes anything: not while one is carried out, nor where its notes are on their way or arrived."""
    fact = work.facts.get(RETRACTION)
    if fact != SENT:
        return fact != WISHED
    notes = sorted(filter(_retracts, work.deliveries), key=lambda one: one.updated_at)
    return any(one.state in _DEAD for one in {(row.destination, UNSURE in row.form): row for row in notes}.values())


def _retracts(row: DeliveryRow) -> bool:
    """Whether it is a note by which the results of its own work are retracted."""
    return not row.is_result and row.form.rpartition(".")[2].startswith(WRONG)


def _noting(work: WorkRow) -> frozenset[str]:
    """Destinations that a note is on its way to by which the results of a work are retracted."""
    return frozenset(
        row.destination for row in work.deliveries if _retracts(row) and row.state is DeliveryState.WAITING
    )


def hasten_tries(queue: Queue, key: WorkKey, besides: Collection[str] = ()) -> bool:
    """Whether tries to deliver a work are queued or under way, which may add to what a destination has; they end sooner.

    Not those to `besides`, which nothing but a note is sent to.
    """
    found = {name for workflow_id, name in queue.deliveries() if workflow_id == key.workflow_id}
    tries = sorted(found.difference(besides))
    for name in tries:
        queue.revive_delivery(key, name)
    return bool(tries)


def _stop(connection: Any, ledger: Ledger, work: WorkRow, now: datetime) -> None:
    """Cancel what waits, and what could be tried again.

    With it goes a note of ours that waits for what an earlier revision left: that is wished back as well, by a note of its own.
    One that retracts this work goes on.
    """
    rows = [
        row
        for row in work.deliveries
        if (row.state is DeliveryState.WAITING and not _retracts(row))
        or (row.state is DeliveryState.REFUSED and row.is_result)
    ]
    ledger.put_deliveries(rows, DeliveryState.CANCELLED, now, reason=CODE, connection=connection)
    if work.state in _STOPPED and not _noting(work):
        ledger.set_work_state(work.key, WorkState.CANCELLED, at=now, reason=CODE, connection=connection)


class Retraction:
    """Takes up wishes.

    Parameters
    ----------
    rooms
        Storage and one analyst per model.
    queue
        Where deliveries are queued.
    destinations
        Of results.
    encoding
        Seals notes.
    beat
        Told before each work.
    """

    def __init__(
        self,
        rooms: Rooms,
        queue: Queue,
        *,
        destinations: Sequence[Destination],
        encoding: Encoding,
        clock: Clock,
        emit: Emit,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._rooms = rooms
        self._queue = queue
        self._destinations = tuple(destinations)
        self._encoding = encoding
        self._predecessors = Predecessors(rooms)
        self._clock = clock
        self._emit = emit

    def sweep(self) -> None:
        """Retract what is wished; a work that cannot be retracted says why, and the others go on."""
        for work in self._rooms.ledger.wished_back():
            self._beat()
            try:
                self._retract(work.key)
            except NodeError as error:
                self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason=error.code)
                if not error.retryable:
                    self._rooms.ledger.add_facts(work.key, {RETRACTION: error.code})

    def _retract(self, key: WorkKey) -> None:
        ledger = self._rooms.ledger
        with ledger.transaction() as connection:
            work = ledger.work(key, connection=connection)
            if work is None or work.facts.get(RETRACTION) != WISHED:
                return
            _stop(
                connection, ledger, work, self._clock()
            )  # also what was on its way when an older version took the wish
        noting = _noting(work)
        if hasten_tries(self._queue, key, noting):
            return  # what it adds must be named
        notes = self.notes(key, [one for one in self._destinations if one.name not in noting])
        self._name_standing(work)
        if notes:
            self._send(key, notes)
        elif noting or self._is_covered(work):
            ledger.add_facts(key, {RETRACTION: SENT})
        else:
            ledger.add_facts(key, {RETRACTION: _NOTHING})
            self._emit("retraction.empty", level="warning", work=key.workflow_id)

    def _name_standing(self, work: WorkRow) -> None:
        """Tell of each destination that keeps the results, unless `Withdrawal` or `Leftovers` did."""
        facts, fresh = note_standing(work, standing(work, self._destinations))
        if fresh:
            self._rooms.ledger.add_facts(work.key, facts)
        for name in fresh:
            self._emit("result.standing", level="warning", work=work.key.workflow_id, destination=name, reason=CODE)

    def _send(self, key: WorkKey, notes: Mapping[str, Sequence[ResultRow]]) -> None:
        with self._rooms.ledger.transaction() as connection:
            self.enter(connection, key, notes, {RETRACTION: SENT})
        for destination in notes:  # where a note was tried before, the queue knows the first try already
            self._queue.revive_delivery(key, destination, priority=0)
        self._emit("work.retracted", level="warning", work=key.workflow_id, destinations=len(notes))

    def enter(
        self, connection: Any, key: WorkKey, notes: Mapping[str, Sequence[ResultRow]], facts: Mapping[str, Fact]
    ) -> None:
        """Enter notes of a work, and queue that they go; one that was refused or cancelled is made again."""
        now, ledger = self._clock(), self._rooms.ledger
        said: dict[str, Fact] = {**facts, "retracted_at": int(now.timestamp())}
        ledger.record_results(key, list(itertools.chain(*notes.values())), [], now, connection=connection)
        ledger.set_work_state(key, WorkState.DELIVERING, at=now, facts=said, connection=connection)
        for destination, made in notes.items():
            names = [note.result_id for note in made]
            ledger.add_deliveries(destination, names, now, connection=connection)
            rows = ledger.deliveries(key, connection=connection)
            dead = [row for row in rows if row.result_id in names and row.state in _AGAIN]
            ledger.put_deliveries(dead, DeliveryState.WAITING, now, connection=connection)
            self._queue.enqueue_delivery(connection, key, destination, RETRACTION_ATTEMPT, 0.0, priority=0)

    def _is_covered(self, work: WorkRow) -> bool:
        """Whether other notes of ours, which destinations have, name all that can be named of a work."""
        takers = [one.name for one in self._destinations if one.rejection_notes]
        held = holders([work])
        return any(name in held and not self._predecessors.gone(work.key, name) for name in takers)

    def notes(
        self, key: WorkKey, destinations: Sequence[Destination], why: str = WRONG
    ) -> dict[str, tuple[ResultRow, ...]]:
        """A note for each destination that takes them and has something of this work that no note names; sealed.

        What it may have, and never confirmed, stands in another one.

        Parameters
        ----------
        why
            As of `Analyst.encode_rejection`.
        """
        analyst = self._rooms.analysts.get(key.model)
        if analyst is None:
            raise NodeError("model-not-found")
        notes: dict[str, tuple[ResultRow, ...]] = {}
        for one in destinations:
            if one.rejection_notes and (gone := self._predecessors.gone(key, one.name)):
                facts: dict[str, Fact] = {"work": key.workflow_id, "destination": one.name, "objects": gone}
                self._emit("retraction.partial", level="error", **facts)
            held = {
                name: self._predecessors.delivered(key, one.name, own=True, sure=sure) if one.rejection_notes else ()
                for name, sure in ((why, True), (f"{why}-{UNSURE}", False))
            }
            made = [self._note(analyst, key, found, one.name, name) for name, found in held.items() if found]
            notes |= {one.name: tuple(made)} if made else {}
        return notes

    def _note(self, analyst: Analyst, key: WorkKey, held: Sequence[Dataset], destination: str, why: str) -> ResultRow:
        """The note that was made before where it names the same; else one under a name of its own."""
        identity = self._encoding.whose(key)
        made = {row.form: row.digest for row in self._rooms.ledger.results(key) if row.role is ResultRole.REJECTION}
        for number in itertools.count():
            again = f"{why}{number or ''}"
            note = analyst.encode_rejection(held, identity, destination=destination, work=key.workflow_id, why=again)
            if made.get(note.form, note.digest) == note.digest:
                break
        return self._encoding.keep(key, note)
