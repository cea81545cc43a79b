"""Works that a late image gives nothing new: their model would take just what it took before, and has its results where they belong.

A localizer or another series that comes late opens a revision (decision 4); what a model makes of it is told by the series
that it chooses. May live here: whether results of an earlier work are those of a later one, and that the later one is then done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dicomnode.events import Emit
from dicomnode.forms import Variant
from dicomnode.storage.ledger import Ledger
from dicomnode.study import DeliveryState, StudyRow, WorkKey, WorkRow, WorkState
from dicomnode.workflow.ports import Clock

#: Fact of a work that has results: everything that can change them, but for what they replace (a digest).
BASIS: Final = "basis"
#: Fact of a work that somebody ordered: it makes results whatever is there.
ORDERED: Final = "ordered"
#: Fact of a work that made nothing: the revision whose results are those of its input, too.
SAME_AS: Final = "same_as"
#: In one of these a work is as it should be while all its results are confirmed: it may still ask for commitment.
_STANDING: Final = frozenset({WorkState.DELIVERING, WorkState.DONE})

#: What each destination is to get.
Wanted = Mapping[str, Sequence[Variant]]


class Unchanged:
    """Ends works that would make what is there.

    Parameters
    ----------
    ledger
        Where works and deliveries stand.
    clock, emit
        What time it is; where events go.
    """

    def __init__(self, ledger: Ledger, *, clock: Clock, emit: Emit) -> None:
        self._ledger = ledger
        self._clock = clock
        self._emit = emit

    def ends(self, key: WorkKey, basis: str, wanted: Wanted, keep: Callable[[], object]) -> bool:
        """Whether a work is done, since all destinations have its results of an earlier revision; it says so then.

        Parameters
        ----------
        basis
            `BASIS` of what it would make.
        wanted
            Which forms of that would go where.
        keep
            Called before it is done: keeps what it was to be made of, which tells what concerns it later.
        """
        if self._standing(key, basis, wanted) is None:
            return False
        keep()
        with self._ledger.transaction() as connection:
            found = self._standing(key, basis, wanted, connection)
            if found is None:
                return False
            facts = {SAME_AS: found.key.revision}
            self._ledger.set_work_state(key, WorkState.DONE, at=self._clock(), facts=facts, connection=connection)
        self._emit("work.unchanged", work=key.workflow_id, revision=found.key.revision)
        return True

    def _standing(self, key: WorkKey, basis: str, wanted: Wanted, connection: Any = None) -> WorkRow | None:
        study = self._ledger.study(key.study_key, connection=connection)
        return None if study is None else standing(study, key, basis, wanted)


def standing(study: StudyRow, key: WorkKey, basis: str, wanted: Wanted) -> WorkRow | None:
    """The work whose results are those of another one, and are where they belong; None where it has to make them.

    It is the newest one of the model that was to deliver anything: what is older was replaced. Nothing of it was found wrong, each of its
    results is confirmed, and each destination has just the forms that it would get. Nothing was ordered since: an order holds until
    results were made, by whatever work.
    """
    works = [work for work in study.works if work.key.model == key.model and work.key.revision <= key.revision]
    made = [work for work in works if work.key != key and work.deliveries]
    newest = max(made, key=lambda work: work.key.revision, default=None)
    if newest is None or newest.is_wrong or newest.state not in _STANDING or newest.facts.get(BASIS) != basis:
        return None
    if any(ORDERED in work.facts for work in works if work.key.revision > newest.key.revision):
        return None
    rows = [row for row in newest.deliveries if row.is_result and row.state is not DeliveryState.DOWNGRADED]
    there = {(row.destination, row.role, row.form) for row in rows}
    due = {(name, one.role, one.name) for name, variants in wanted.items() for one in variants}
    is_there = all(row.state is DeliveryState.CONFIRMED for row in rows)
    return newest if there and there == due and is_there else None


def results_of(study: StudyRow, work: WorkRow) -> WorkRow:
    """The work that made the results of a work: itself, or the one whose results are its own, too."""
    revision = work.facts.get(SAME_AS)
    made = (one for one in study.works if one.key.model == work.key.model and one.key.revision == revision)
    return next(made, work)
