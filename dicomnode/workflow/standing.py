"""Whether a study is worked on at all: not where it is old and many old ones come, nor where somebody cancelled it.

Decides by what the ledger knows, in the transaction of whoever opens a revision, and marks the study there: a kill leaves
both or neither. May live here: which studies are stopped, and what is told of it. Nothing is emitted or queued here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from dicomnode.routing_rules import FloodGuardSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import STOPPING, Mark, MarkRow
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.routing import Route

_HELD: Final = (Mark.OLD, Mark.FLOOD)
_COUNTED: Final = (Mark.AGED, *_HELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What is to become of a new revision.

    Attributes
    ----------
    stopped_by
        Why nothing is made of it; None: it is worked on.
    was_stopped
        Whether nothing was made of the study until now.
    level
        Level at which that it is stopped is told; None: it was told before.
    studies
        Old studies that came of late, this one included.
    """

    stopped_by: Mark | None = None
    was_stopped: bool = False
    level: str | None = None
    studies: int = 0


class Standing:
    """Rules on revisions.

    Parameters
    ----------
    settings
        What is old, and how many old studies in which time are a flood.
    clock
        Wall clock in UTC.
    """

    def __init__(self, ledger: Ledger, settings: FloodGuardSection, *, clock: Clock) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock

    def is_watched(self, study_key: str) -> bool:
        """Whether dates of a study are to be read. Where few studies come there is no flood, and nothing is read for it."""
        most = self._settings.burst_studies
        if most and self._ledger.count_arrived(self._since()) > most / 2:
            return True
        return self._ledger.mark(study_key) is not None

    def judge(
        self, connection: Any, study_key: str, route: Route, *, revision: int, begun: bool, ordered: bool
    ) -> Ruling:
        """Rule on a new revision, and mark its study where that is needed.

        Parameters
        ----------
        route
            Where it goes, and how old it is.
        begun
            Whether anything of the study was worked on before.
        ordered
            Whether somebody orders it.
        """
        found = self._ledger.mark(study_key, connection=connection)
        was_stopped = found is not None and found.mark in STOPPING
        if ordered:
            if found is not None or route.old_days is not None:
                self._mark(connection, study_key, Mark.RELEASED, revision)
            return Ruling(was_stopped=was_stopped)
        if found is not None and found.mark is Mark.CANCELLED:
            return Ruling(stopped_by=found.mark, level="warning" if revision == found.revision + 1 else None)
        if begun or (found is not None and not was_stopped):
            return Ruling()
        return self._by_age(connection, study_key, route, found, revision)

    def _by_age(self, connection: Any, study_key: str, route: Route, found: MarkRow | None, revision: int) -> Ruling:
        others = self._ledger.count_marked(_COUNTED, self._since(), connection=connection)
        mark = self._mark_of(route, found, others)
        if mark is None:
            if found is not None:  # something new came to it
                self._mark(connection, study_key, Mark.RELEASED, revision)
            return Ruling(was_stopped=found is not None)
        if found is not None and found.mark is mark:
            return Ruling(stopped_by=mark)
        held = self._ledger.count_marked(_HELD, self._since(), connection=connection)
        self._mark(connection, study_key, mark, revision)
        if mark not in STOPPING:
            return Ruling()
        return Ruling(stopped_by=mark, level="info" if held else "warning", studies=others + 1)

    def _mark_of(self, route: Route, found: MarkRow | None, others: int) -> Mark | None:
        """Mark of a study of this age, of which nothing was made yet; `others`: old ones that came of late."""
        settings = self._settings
        if route.old_days is not None:
            return Mark.OLD
        if route.age_days is None or not settings.burst_studies:  # what is held stays so
            return None if found is None else found.mark
        if route.age_days < settings.burst_age_days:
            return None
        if found is not None and found.mark is Mark.FLOOD:
            return Mark.FLOOD
        return Mark.FLOOD if others >= settings.burst_studies else Mark.AGED

    def _mark(self, connection: Any, study_key: str, mark: Mark, revision: int) -> None:
        self._ledger.put_mark(study_key, mark, revision, self._clock(), connection=connection)

    def _since(self) -> datetime:
        return self._clock() - timedelta(seconds=self._settings.burst_seconds)
