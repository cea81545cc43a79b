"""What another configuration would have done with a study: its decision, beside what became of the study. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from dicomnode.study import Mark, StudyRow, WorkRow, WorkState
from dicomnode.workflow.explaining import StudyExplained
from dicomnode.workflow.unchanged import results_of

#: What became of a study at a model; else the code of why the model had nothing to work on.
WORKED_ON, NOT_ROUTED, UNDER_WAY = "worked-on", "not-routed", "under-way"
#: Nothing is made of the study: its images are older than the site lets be worked on by themselves.
TOO_OLD: Final = str(Mark.OLD)
#: What no configuration foresees: how many others came at the time, and what somebody ordered.
_CHANCE: Final = frozenset({UNDER_WAY, str(Mark.FLOOD), str(Mark.CANCELLED)})
_WORKED_ON: Final = frozenset({WorkState.READY, WorkState.HELD, WorkState.DELIVERING, WorkState.DONE})
_ENDED: Final = frozenset({WorkState.REFUSED, WorkState.FAILED})

#: Codes that headers alone decide.
_FORESEEN: Final = frozenset(
    {
        "no-suitable-series",
        "ai-output",
        "own-output",
        "too-many-hops",
        "patient-mismatch",
        "geometry-attribute-missing",
        "geometry-too-few-slices",
        "geometry-gap",
        "geometry-irregular-spacing",
        "geometry-duplicate-position",
        "geometry-gantry-tilt",
        "geometry-mixed-orientation",
        "geometry-mixed-size",
        "geometry-mixed-frame-of-reference",
        "geometry-spacing-too-wide",
        "geometry-extent-too-short",
        "geometry-multi-frame",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of a study at one model, and who gets its results."""

    outcome: str
    destinations: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """One study at one model: then, and by the other configuration."""

    study_key: str
    model: str
    then: Fate
    now: Fate

    @property
    def differs(self) -> bool:
        """Whether it would be another; what only pixels can tell (nothing found, faults) no configuration foresees."""
        if self.then.outcome in _CHANCE:
            return False
        if self.then.outcome not in (WORKED_ON, NOT_ROUTED, TOO_OLD) and self.now.outcome == WORKED_ON:
            return self.then.outcome in _FORESEEN
        return self.then != self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What rules order for a study as a whole: to which exports it goes, and how urgent it is."""

    exports: frozenset[str]
    priority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedOrders:
    """Orders for one study: then, and by the other configuration."""

    study_key: str
    then: Orders
    now: Orders

    @property
    def differs(self) -> bool:
        """Whether anything else would be ordered."""
        return self.then != self.now


def replay_orders(row: StudyRow, found: StudyExplained | None, then: Orders, *, sent_as: str) -> ReplayedOrders:
    """What rules order for a study, beside what they ordered.

    Parameters
    ----------
    found
        What the other configuration says of it; None where nothing of it counts.
    sent_as
        How urgent its senders are, where no rule says it.
    """
    route = None if found is None else found.route
    exports = frozenset[str]() if route is None or _is_old(row, found) else frozenset(route.exports)
    now = Orders(exports=exports, priority=(route and route.priority) or sent_as)
    by_chance = row.revision == 0 or str(row.stopped_by) in _CHANCE
    return ReplayedOrders(study_key=row.study_key, then=then, now=then if by_chance else now)


def _is_old(row: StudyRow, found: StudyExplained | None) -> bool:
    """Whether the other configuration would hold a study for its age; nobody released it."""
    released = row.mark is not None and row.mark.mark is Mark.RELEASED
    return found is not None and found.route.old_days is not None and not released


def replay(row: StudyRow, found: StudyExplained | None, destinations: Collection[str]) -> tuple[Replay, ...]:
    """Every model that has to do with a study, then or now.

    Parameters
    ----------
    found
        What the other configuration says of it; None where nothing of it can be worked on.
    destinations
        Those of the other configuration.
    """
    then = {work.key.model: _fate_of(results_of(row, work)) for work in row.works if work.key.revision == row.revision}
    now: dict[str, Fate] = {}
    shares, outcomes = ({}, {}) if found is None else (found.route.shares, found.outcomes)
    old = _is_old(row, found)
    for model, share in shares.items():
        code = TOO_OLD if old else outcomes[model]
        to = destinations if share.destinations is None else set(share.destinations) & set(destinations)
        now[model] = Fate(outcome=code) if code else Fate(outcome=WORKED_ON, destinations=frozenset(to))
    nothing = Fate(outcome=NOT_ROUTED)
    before = nothing if row.stopped_by is None else Fate(outcome=str(row.stopped_by))
    return tuple(
        Replay(study_key=row.study_key, model=model, then=then.get(model, before), now=now.get(model, nothing))
        for model in sorted({*then, *now})
    )


def _fate_of(work: WorkRow) -> Fate:
    if work.state in _WORKED_ON and "outcome" not in work.facts:
        return Fate(outcome=WORKED_ON, destinations=frozenset(one.destination for one in work.deliveries))
    if work.state in _WORKED_ON:
        return Fate(outcome=str(work.facts["outcome"]))
    if work.state in _ENDED and not work.deliveries:
        return Fate(outcome=work.reason or work.state.value)
    if work.state is WorkState.FAILED:
        return Fate(outcome=WORKED_ON, destinations=frozenset(one.destination for one in work.deliveries))
    return Fate(outcome=UNDER_WAY)
