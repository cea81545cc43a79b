"""Results that a destination took after newer ones had been made: these replace them, and no note of theirs names them.

A try may be under way while a newer revision's results are made, or a first one may go on while the newer one is not whole yet.
May live here: when it is sure that such results are replaced, and the wish for a note of their own (made by `retraction`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from dicomnode.errors import Fact, NodeError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import FINAL_STATES, OVERTAKEN, RETRACTION, WISHED, DeliveryState, WorkRow, WorkState

#: What became of it.
REPLACED: Final = "replaced"
_SETTLED: Final = "settled"


def replaced_at(work: WorkRow, works: Collection[WorkRow]) -> frozenset[str]:
    """Destinations that took results of a work and of a newer one of the same model."""
    newer = [one for one in works if one.key.model == work.key.model and one.key.revision > work.key.revision]
    return _holders([work]) & _holders(newer)


class Overtaken:
    """Sees to works of which something arrived too late to be named.

    Parameters
    ----------
    takers
        Destinations that take rejection notes.
    emit
        Where events go.
    """

    def __init__(self, ledger: Ledger, *, takers: Collection[str], emit: Emit) -> None:
        self._ledger = ledger
        self._takers = frozenset(takers)
        self._emit = emit

    def sweep(self) -> None:
        """Wish for notes where newer results arrived; where none did yet, it is looked at again."""
        for work in self._ledger.overtaken():
            try:
                self._look(work)
            except NodeError as error:
                self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason=error.code)

    def _look(self, work: WorkRow) -> None:
        with self._ledger.transaction() as connection:
            study = self._ledger.study(work.key.study_key, connection=connection)
            works = () if study is None else study.works
            again = next((one for one in works if one.key == work.key), None)
            if again is None or again.state is WorkState.DELIVERING:
                return
            settled: dict[str, Fact] = {OVERTAKEN: _SETTLED}
            if again.is_wrong or not self._takers & _holders([again]):  # it is retracted anyway, or cannot be
                self._ledger.add_facts(work.key, settled, connection=connection)
            elif self._takers & replaced_at(again, works) and not _are_under_way(again, works):
                facts: dict[str, Fact] = {OVERTAKEN: REPLACED, RETRACTION: WISHED}
                self._ledger.add_facts(work.key, facts, connection=connection)


def _holders(works: Collection[WorkRow]) -> frozenset[str]:
    return frozenset(
        row.destination
        for work in works
        for row in work.deliveries
        if row.is_result and row.state is DeliveryState.CONFIRMED
    )


def _are_under_way(work: WorkRow, works: Collection[WorkRow]) -> bool:
    """Whether a newer work may still send results, or a note."""
    newer = [one for one in works if one.key.model == work.key.model and one.key.revision > work.key.revision]
    return any(one.state not in FINAL_STATES for one in newer)
