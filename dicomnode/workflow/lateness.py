"""Results that wait for too long though their destination is not left alone, and works that stand still: a queue that does not move, a work that fails again and again, a stage that nobody runs.

Pure: no clock, no ledger. Where a circuit is open, that is told already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from dicomnode.config import DeliverySection
from dicomnode.sections import CompletionSection, Destination
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import (
    STAGE_AT,
    WORK_STAGES,
    CircuitState,
    DeliveryRow,
    DeliveryState,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.delivery import BEGUN_ANEW
from dicomnode.workflow.paces import seconds_open

#: For which a stage that storage fails is tried again, at most.
AGAIN_SECONDS: Final = 1800.0
#: For which a work waits for its turn again, at most, where it may wait for any time; and for which results do behind others.
TURN_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Objects of a work that one destination is still to get, since when, and why they were not taken, if they were tried; or a work that goes no further, for no destination."""

    key: WorkKey
    state: WorkState = WorkState.DELIVERING
    destination: str | None = None
    since: datetime
    objects: int = 0
    reason: str | None = None


def longest_wait(settings: DeliverySection) -> float:
    """Seconds for which results wait at most where all is well: until so many tries failed, a circuit is open, which tells it."""
    return min(settings.circuit_failures * settings.longest_retry_seconds, settings.give_up_seconds)


def waits_since(work: WorkRow) -> datetime:
    """Since when a work's results may go out: since they were finished and let go, or ordered to be sent again."""
    busy = sum(seconds for name, seconds in work.stages.items() if name in (*WORK_STAGES, "wait"))
    anew = max(float(work.facts.get(fact, 0)) for fact in BEGUN_ANEW)
    return max(work.created_at + timedelta(seconds=busy), datetime.fromtimestamp(anew, UTC))


def late(
    works: Collection[WorkRow],
    destinations: Mapping[str, Destination],
    *,
    circuits: Mapping[str, CircuitRow],
    taken: Mapping[str, datetime],
    stat: Collection[str],
    settings: DeliverySection,
    now: datetime,
) -> Iterator[Late]:
    """What waits for too long, work by work.

    Parameters
    ----------
    destinations
        Those that are configured, by name; a try ends what waits for others.
    taken
        When each destination took something last: what was not tried yet waits in a queue that goes on, or, after a day, may
        stand in none.
    stat
        Studies (by key) that wait for no hours; of what others wait only what lies within the hours of the destination counts.
    now
        Aware time; its zone is that of the destinations' hours.
    """
    longest = longest_wait(settings)
    for work in works:
        if work.state is not WorkState.DELIVERING:
            continue
        for name in dict.fromkeys(row.destination for row in work.deliveries):
            rows = [one for one in work.deliveries if one.destination == name and one.state is DeliveryState.WAITING]
            circuit, known = circuits.get(name), destinations.get(name)
            if not rows or (circuit is not None and circuit.state is CircuitState.OPEN):
                continue
            since = waits_since(work)
            begun = [since, *([circuit.since] if circuit else [])]
            tried = any(row.attempts for row in rows)
            if not tried and name in taken:
                begun.append(min(taken[name], max(begun) + timedelta(seconds=TURN_SECONDS)))
            hours = () if known is None or work.key.study_key in stat else known.hours
            if seconds_open(hours, max(begun), now) > longest:
                why = _reason(rows)
                yield Late(key=work.key, state=work.state, destination=name, since=since, objects=len(rows), reason=why)


def longest_stage(settings: CompletionSection, queued_seconds: float) -> float:
    """Seconds for which a work is in a stage at most since that was begun or tried again: one that runs ends by then.

    One that a start of the node took up, or that was queued again, keeps its state while it waits for its turn once more.
    """
    return settings.deadline_seconds + AGAIN_SECONDS + (queued_seconds or TURN_SECONDS)


def stands_since(work: WorkRow) -> datetime:
    """Since when a work is in its stage, or waits for its turn."""
    begun = work.facts.get(STAGE_AT)
    return work.created_at if begun is None else datetime.fromtimestamp(float(begun), UTC)


def standing(
    works: Collection[WorkRow], *, queued_seconds: float, stage_seconds: float, now: datetime
) -> Iterator[Late]:
    """Works that wait for their turn, or are in a stage, for too long.

    Parameters
    ----------
    works
        In states before their results are ready. Those of a study that is not settled wait in none of these.
    queued_seconds
        For which a work may wait for its turn; 0: for any time.
    """
    for work in works:
        longest = queued_seconds if work.state is WorkState.QUEUED else stage_seconds
        since = stands_since(work)
        if longest and (now - since).total_seconds() > longest:
            yield Late(key=work.key, state=work.state, since=since)


def _reason(rows: Collection[DeliveryRow]) -> str | None:
    return next((row.reason for row in rows if row.reason), None)
