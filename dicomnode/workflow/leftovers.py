"""Earlier results at destinations that the configuration no longer names: newer ones replace them, and no note goes there.

A destination that was renamed is another one to the node, though it may be the same system. May live here: which destinations
those are, that it is noted of the earlier work, and told once. Who is configured and takes no notes is `retraction`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Final

from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import STANDING, WorkKey
from dicomnode.workflow.predecessors import Predecessors

CODE: Final = "destination-not-found"


class Leftovers:
    """Sees to results that newer ones replace, at destinations that are gone.

    Parameters
    ----------
    predecessors
        Tells who has what of earlier revisions.
    configured
        Destinations that there are.
    """

    def __init__(self, ledger: Ledger, predecessors: Predecessors, *, configured: Collection[str], emit: Emit) -> None:
        self._ledger = ledger
        self._predecessors = predecessors
        self._configured = frozenset(configured)
        self._emit = emit

    def of(self, key: WorkKey) -> dict[WorkKey, frozenset[str]]:
        """Earlier works whose results stand at such destinations, and at which: no note that these have names all of them.

        Raises
        ------
        StorageError
            Where a result or a note cannot be read for now.
        """
        held: defaultdict[WorkKey, set[str]] = defaultdict(set)
        for earlier, _, destination in self._predecessors.arrived(key):
            if destination not in self._configured:
                held[earlier].add(destination)
        found = {
            earlier: frozenset(one for one in names if self._stands(earlier, one)) for earlier, names in held.items()
        }
        return {earlier: names for earlier, names in found.items() if names}

    def enter(self, connection: Any, found: Mapping[WorkKey, frozenset[str]]) -> list[tuple[WorkKey, str]]:
        """Note of each work where its results stand; returns what was not noted before, and is to be told."""
        fresh: list[tuple[WorkKey, str]] = []
        for key, names in sorted(found.items(), key=lambda one: one[0].workflow_id):
            work = self._ledger.work(key, connection=connection)
            known = set() if work is None else {one for one in str(work.facts.get(STANDING, "")).split(",") if one}
            if new := sorted(names - known):
                self._ledger.add_facts(key, {STANDING: ",".join(sorted(known | names))}, connection=connection)
                fresh += [(key, name) for name in new]
        return fresh

    def tell(self, fresh: Collection[tuple[WorkKey, str]]) -> None:
        """Tell people what `enter` returned: they reject it there by hand."""
        for key, name in fresh:
            self._emit("result.standing", level="warning", work=key.workflow_id, destination=name, reason=CODE)

    def _stands(self, key: WorkKey, destination: str) -> bool:
        if any(self._predecessors.delivered(key, destination, own=True, sure=sure) for sure in (True, False)):
            return True
        return bool(self._predecessors.gone(key, destination))
