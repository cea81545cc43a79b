"""Results that somebody found wrong are retracted: each destination that takes rejection notes gets one (IHE IOCM).

The wish stands in the ledger, written by a command beside the running node; a chore of the node takes it up. May live
here: which works are wished back, their notes, and that these are sent. Nothing is deleted, here or at a destination.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicomnode.errors import Fact, NodeError
from dicomnode.events import Emit
from dicomnode.sections import Destination
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.study import (
    RETRACTION,
    WISHED,
    DeliveryState,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.delivery import RETRACTION_ATTEMPT
from dicomnode.workflow.encoding import Encoding
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.ports import Clock, Queue
from dicomnode.workflow.predecessors import Predecessors

_RETRACTABLE: Final = frozenset({WorkState.DONE, WorkState.FAILED})
SENT: Final = "sent"
_NOTHING: Final = "nothing-delivered"


def wish(ledger: Ledger, study_key: str, model: str | None, at: Clock) -> tuple[WorkKey, ...]:
    """Enter that the results of a study, of every revision that some destination holds, are wrong; of one model, or of all.

    A wish that came to nothing, for instance before a destination took rejection notes, can be entered again.

    Returns
    -------
    tuple
        The works concerned; none where nothing of the study can be retracted.
    """
    study = ledger.study(study_key)
    wished: list[WorkKey] = []
    with ledger.transaction() as connection:
        for work in () if study is None else study.works:
            open_to_it = work.state in _RETRACTABLE and work.facts.get(RETRACTION) not in (WISHED, SENT)
            if model in (None, work.key.model) and open_to_it and _is_held(work):
                facts = {RETRACTION: WISHED}
                ledger.set_work_state(work.key, work.state, at=at(), facts=facts, connection=connection)
                wished.append(work.key)
    return tuple(wished)


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
    ) -> None:
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
            try:
                self._retract(work)
            except NodeError as error:
                self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason=error.code)
                if not error.retryable:
                    self._say(work, error.code)

    def _retract(self, work: WorkRow) -> None:
        notes = self._notes(work.key)
        if not notes:
            self._say(work, _NOTHING)
            self._emit("retraction.empty", level="warning", work=work.key.workflow_id)
            return
        now, ledger = self._clock(), self._rooms.ledger
        facts: dict[str, Fact] = {RETRACTION: SENT, "retracted_at": int(now.timestamp())}
        with ledger.transaction() as connection:
            ledger.record_results(work.key, list(notes.values()), [], now, connection=connection)
            ledger.set_work_state(work.key, WorkState.DELIVERING, at=now, facts=facts, connection=connection)
            for destination, note in notes.items():
                ledger.add_deliveries(destination, [note.result_id], now, connection=connection)
                self._queue.enqueue_delivery(connection, work.key, destination, RETRACTION_ATTEMPT, 0.0, priority=0)
        self._emit("work.retracted", level="warning", work=work.key.workflow_id, destinations=len(notes))

    def _notes(self, key: WorkKey) -> dict[str, ResultRow]:
        """A note for each destination that takes them and confirmed something of this work."""
        analyst = self._rooms.analysts.get(key.model)
        if analyst is None:
            raise NodeError("model-not-found")
        notes = {}
        for one in self._destinations:
            held = self._predecessors.delivered(key, one.name, own=True) if one.rejection_notes else ()
            if held:
                identity = self._encoding.whose(key)
                note = analyst.encode_rejection(held, identity, destination=one.name, work=key.workflow_id, wrong=True)
                notes[one.name] = self._encoding.keep(key, note)
        return notes

    def _say(self, work: WorkRow, what: str) -> None:
        self._rooms.ledger.set_work_state(work.key, work.state, at=self._clock(), facts={RETRACTION: what})


def _is_held(work: WorkRow) -> bool:
    """Whether any destination confirmed a result of a work."""
    return any(one.state is DeliveryState.CONFIRMED and one.role is not ResultRole.REJECTION for one in work.deliveries)
