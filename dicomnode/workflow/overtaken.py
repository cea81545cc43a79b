"""Results that a destination took after newer ones had been made: these replace them, and no note of theirs names them.

A try may be under way while a newer revision's results are made, or a first one may go on while the newer one is not whole yet.
May live here: where such results are surely replaced, and that notes of their own go there; `retraction` makes these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from dicomnode.errors import Fact, NodeError
from dicomnode.events import Emit
from dicomnode.sections import Destination
from dicomnode.storage.ledger import Ledger
from dicomnode.study import FINAL_STATES, NOTED, OVERTAKEN, DeliveryState, WorkKey, WorkRow, WorkState
from dicomnode.workflow.delivery import LATE
from dicomnode.workflow.ports import Queue
from dicomnode.workflow.retraction import Retraction, holders

_SETTLED: Final = "settled"


class Overtaken:
    """Sees to works of which something arrived too late to be named.

    Parameters
    ----------
    queue
        Tells which tries to deliver are under way.
    retraction
        Makes and sends notes.
    destinations
        Of results.
    emit
        Where events go.
    beat
        Told before each work.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        retraction: Retraction,
        *,
        destinations: Sequence[Destination],
        emit: Emit,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._ledger = ledger
        self._queue = queue
        self._retraction = retraction
        self._destinations = tuple(one for one in destinations if one.rejection_notes)
        self._emit = emit

    def sweep(self) -> None:
        """Send notes where newer results arrived; where none did yet, it is looked at again."""
        for work in self._ledger.overtaken():
            self._beat()
            try:
                self._look(work.key)
            except NodeError as error:
                self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason=error.code)
                if not error.retryable:
                    self._ledger.add_facts(work.key, {OVERTAKEN: error.code})

    def _look(self, key: WorkKey) -> None:
        works = self._works(key)
        work = next((one for one in works if one.key == key), None)
        if work is None or self._is_under_way(work, works):
            return
        held = [one for one in self._destinations if one.name in holders([work])]
        if work.is_wrong or not held:  # it is retracted anyway, or cannot be
            self._ledger.add_facts(key, {OVERTAKEN: _SETTLED})
            return
        noted = _noted(work)
        replaced = _took(_newer(work, works))
        here = [one for one in held if one.name in replaced and one.name not in noted]
        if not here:
            return
        notes = self._retraction.notes(key, here, why=_why(work))
        noted |= {one.name for one in here}
        facts: dict[str, Fact] = {NOTED: ",".join(sorted(noted))}
        if all(one.name in noted for one in held):
            facts[OVERTAKEN] = _SETTLED
        with self._ledger.transaction() as connection:
            again = self._ledger.work(key, connection=connection)
            if again is None or (again.state, again.facts) != (work.state, work.facts):
                return  # it is looked at again
            if notes:
                self._retraction.enter(connection, key, notes, facts)
            else:
                self._ledger.add_facts(key, facts, connection=connection)
        if notes:
            self._emit("work.retracted", level="warning", work=key.workflow_id, destinations=len(notes))

    def _works(self, key: WorkKey) -> tuple[WorkRow, ...]:
        study = self._ledger.study(key.study_key)
        return () if study is None else study.works

    def _is_under_way(self, work: WorkRow, works: Collection[WorkRow]) -> bool:
        """Whether it, or a newer one, may still send results or a note."""
        if any(workflow_id == work.key.workflow_id for workflow_id, _ in self._queue.deliveries()):
            return True
        return work.state is WorkState.DELIVERING or any(one.state not in FINAL_STATES for one in _newer(work, works))


def _newer(work: WorkRow, works: Collection[WorkRow]) -> list[WorkRow]:
    """Newer works of the same model, without those whose results are wrong: they replace nothing."""
    model, revision = work.key.model, work.key.revision
    return [one for one in works if one.key.model == model and one.key.revision > revision and not one.is_wrong]


def _took(works: Collection[WorkRow]) -> set[str]:
    """Destinations that surely have results of works: a note for older ones leaves nothing bare there."""
    rows = [row for work in works for row in work.deliveries]
    return {row.destination for row in rows if row.is_result and row.state is DeliveryState.CONFIRMED}


def _noted(work: WorkRow) -> set[str]:
    """Destinations that a note went to since the last of its results arrived."""
    return {name for name in str(work.facts.get(NOTED, "")).split(",") if name}


def _why(work: WorkRow) -> str:
    """What tells the next note from those that went: each names other results."""
    notes = {row.form for row in work.deliveries if not row.is_result and f".{LATE}" in row.form}
    return f"{LATE}{len(notes) or ''}"
