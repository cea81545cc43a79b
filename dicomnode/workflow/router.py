"""Reads of a study what the rules of routing ask for, and has them decide; no rules: nothing is read.

May live here: which instances stand for their series. What the rules make of them stands in `routing`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import tzinfo
from typing import Final

from pydicom import Dataset

from dicomnode.errors import NodeError
from dicomnode.routing_rules import RoutingRule
from dicomnode.study import InstanceRow, InstanceState, RecordMetadata
from dicomnode.workflow.routing import Route, SeriesFacts, StudyFacts, age_of, every, route
from dicomnode.workflow.selection import without_pixels

#: How many instances of a series are tried before it counts as unreadable.
_TRIES: Final = 3
#: What was taken when it came: neither the same again nor of another patient.
_TAKEN: Final = frozenset(
    {InstanceState.CURRENT, InstanceState.REPLACED, InstanceState.REJECTED, InstanceState.EXPIRED}
)
Read = Callable[[InstanceRow], tuple[RecordMetadata, Dataset]]


class Router:
    """Implements what admission asks for.

    Parameters
    ----------
    rules, models
        Rules of the configuration; names of the enabled models.
    read
        Opens an instance; a NodeError says that it cannot be opened or read.
    zone
        In which times of day are meant; None: this machine's.
    maximum_age_days
        Age beyond which a study is not worked on by itself; 0: none.
    is_watched
        Whether the age of a study is to be known, by its key.
    came
        What came of a study, what was replaced or rejected since included: a corrected header is no other sender and no
        other hour.
    lost
        What came of a study and is lost: of another hour it is not for that.
    is_own
        Whether a dicomnode made what has this header.
    """

    def __init__(
        self,
        rules: Sequence[RoutingRule],
        models: Sequence[str],
        *,
        read: Read,
        zone: tzinfo | None = None,
        maximum_age_days: float = 0,
        is_watched: Callable[[str], bool] = lambda _: False,
        came: Callable[[str], Sequence[InstanceRow]] = lambda _: (),
        lost: Callable[[str], Sequence[InstanceRow]] = lambda _: (),
        is_own: Callable[[Dataset], bool] = lambda _: False,
    ) -> None:
        self._maximum_age_days = maximum_age_days
        self._is_watched = is_watched
        self.rules = tuple(rules)
        self.models = tuple(models)
        #: Whether anything depends on what no model looks at: what rules say of whole studies.
        self.looks_beside = any(rule.export is not None or rule.priority is not None for rule in self.rules)
        self._read = read
        self._zone = zone
        self._came = came
        self._lost = lost
        self._is_own = is_own

    def route(self, study_key: str, rows: Sequence[InstanceRow], beside: Sequence[InstanceRow] = ()) -> Route:
        """Where a study of these instances goes, of which there are some in all.

        Parameters
        ----------
        rows
            What models look at.
        beside
            What else there is of it, for rules alone.

        Raises
        ------
        StorageError
            Where disk or ledger refuse for now.
        """
        if not self.rules and not self._maximum_age_days and not self._is_watched(study_key):
            return every(self.models)
        return self.decide(self.facts(study_key, rows, beside if self.looks_beside else ()))

    def decide(self, facts: StudyFacts) -> Route:
        """Where a study goes, of which this is known."""
        decided = route(facts, self.rules, self.models, zone=self._zone)
        age, most = age_of(facts, zone=self._zone), self._maximum_age_days
        return replace(decided, age_days=age, old_days=age if most and age is not None and age > most else None)

    def facts(self, study_key: str, rows: Sequence[InstanceRow], beside: Sequence[InstanceRow] = ()) -> StudyFacts:
        """What the rules may ask of a study; the same for the same instances, in whatever order they came.

        A series of which models look at some is judged by these.
        """
        inputs = {row.series_key for row in rows}
        others = [row for row in beside if row.series_key not in inputs]
        groups: dict[str, list[InstanceRow]] = defaultdict(list)
        for row in sorted((*rows, *others), key=lambda one: one.instance_key):
            groups[row.series_key].append(row)
        came = [row for row in self._came(study_key) if row.state in _TAKEN]
        before: dict[str, list[InstanceRow]] = defaultdict(list)
        for row in came:
            before[row.series_key].append(row)
        judged = (self._series(key, members, before[key]) for key, members in sorted(groups.items()))
        series = tuple(one if one.series_key in inputs else self._beside(one) for one in judged)
        began_at = min(row.received_at for row in (*rows, *others, *came, *self._lost(study_key)))
        return StudyFacts(study_key=study_key, began_at=began_at, series=series)

    def _series(self, series_key: str, rows: Sequence[InstanceRow], before: Sequence[InstanceRow]) -> SeriesFacts:
        """By the first of its instances that can be read: who sent it by the first that came, since others may be fetched."""
        found = self._first(rows)
        if found is None:
            return SeriesFacts(series_key=series_key, calling_ae_title="", called_ae_title="", address="", header=None)
        readable = rows[rows.index(found[0]) :]  # the others were tried
        gone = [row for row in before if row.state is not InstanceState.CURRENT]
        came = sorted((*readable, *gone), key=lambda one: (one.received_at, one.instance_key))
        _, sent, _ = found if came[0] is found[0] else self._first(came) or found
        return SeriesFacts(
            series_key=series_key,
            calling_ae_title=sent.calling_ae_title,
            called_ae_title=sent.called_ae_title,
            address=sent.peer_address,
            header=without_pixels(found[2]),
        )

    def _beside(self, series: SeriesFacts) -> SeriesFacts:
        """One that no model looks at."""
        is_own = series.header is not None and self._is_own(series.header)
        return replace(series, is_input=False, is_own=is_own)

    def _first(self, rows: Sequence[InstanceRow]) -> tuple[InstanceRow, RecordMetadata, Dataset] | None:
        """The first that can be read; None where none of some can be."""
        for row in rows[:_TRIES]:
            try:
                return row, *self._read(row)
            except NodeError as error:
                if error.may_pass:
                    raise
        return None
