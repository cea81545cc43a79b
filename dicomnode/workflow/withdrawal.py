"""Results that were made of images that were rejected: destinations that take rejection notes get one, others are named.

May live here: when it is sure which destination has what of a work, and what is then wished. The notes themselves are made by
`retraction`, as for results that somebody found wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from typing import Any, Final

from dicomnode.errors import Fact, NodeError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import (
    RETRACTION,
    WISHED,
    WITHDRAWAL,
    DeliveryRow,
    DeliveryState,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.ports import Clock, Queue
from dicomnode.workflow.rejections import CODE
from dicomnode.workflow.retraction import SENT, hasten_tries, holders, note_standing

_DONE: Final = "done"
#: States in which what waits will go, unless a destination is down; what is held may wait for a week, and then not go.
_ON_THEIR_WAY: Final = frozenset({WorkState.READY, WorkState.DELIVERING})


class Withdrawal:
    """Sees to works that `Rejections` left open.

    Parameters
    ----------
    queue
        Tells which tries to deliver are under way.
    takers
        Destinations that take rejection notes.
    beat
        Told before each work.
    """

    def __init__(
        self,
        ledger: Ledger,
        queue: Queue,
        *,
        takers: Collection[str],
        clock: Clock,
        emit: Emit,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._beat = beat
        self._ledger = ledger
        self._queue = queue
        self._takers = frozenset(takers)
        self._clock = clock
        self._emit = emit

    def sweep(self) -> None:
        """Withdraw what no try can add to any more; the others are hastened, and looked at again."""
        for work in self._ledger.to_withdraw():
            self._beat()
            try:
                self._look(work)
            except NodeError as error:
                self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason=error.code)

    def _look(self, work: WorkRow) -> None:
        if work.facts.get(RETRACTION) in (WISHED, SENT):  # `Retraction` sees to it, or did: it stops what is on its way
            self._ledger.add_facts(work.key, {WITHDRAWAL: _DONE})
            return
        tries = hasten_tries(self._queue, work.key)
        with self._ledger.transaction() as connection:
            again = self._ledger.work(work.key, connection=connection)
            if tries or again is None or again.state is WorkState.DELIVERING:
                return
            held = holders([again])
            facts, fresh = note_standing(again, held - self._takers)
            facts |= self._wish(held & self._takers, self._later_notes(connection, again))
            self._ledger.add_facts(again.key, facts, connection=connection)
        for name in fresh:
            self._emit("result.standing", level="warning", work=again.key.workflow_id, destination=name, reason=CODE)

    def _wish(self, held: AbstractSet[str], notes: Collection[DeliveryRow]) -> dict[str, Fact]:
        """Wish for notes, unless those of newer revisions do, or will do: then nothing, and it is looked at again.

        As soon as one destination is not to get any of these, all are wished for: that another, which is down, may get two
        that name the same does no harm.
        """
        waiting, confirmed = (
            {row.destination for row in notes if row.state is state}
            for state in (DeliveryState.WAITING, DeliveryState.CONFIRMED)
        )
        if held & waiting and held <= waiting | confirmed:
            return {}
        # Also where all are confirmed: something may have arrived after the note that was to name it was made.
        return {WITHDRAWAL: _DONE, **({RETRACTION: WISHED} if held else {})}

    def _later_notes(self, connection: Any, work: WorkRow) -> list[DeliveryRow]:
        """Rejection notes of newer revisions: they name all that was there before. Not such as wait and may never go."""
        study = self._ledger.study(work.key.study_key, connection=connection)
        return [
            row
            for other in (() if study is None else study.works)
            if other.key.model == work.key.model and other.key.revision > work.key.revision
            for row in other.deliveries
            if not row.is_result and (row.state is not DeliveryState.WAITING or other.state in _ON_THEIR_WAY)
        ]
