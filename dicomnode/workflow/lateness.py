"""Results that wait for too long though their destination is not left alone: a queue that stands still, or a work that fails again and again.

Pure: no clock, no ledger. Where a circuit is open, that is told already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dicomnode.config import DeliverySection
from dicomnode.sections import Destination
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import WORK_STAGES, CircuitState, DeliveryRow, DeliveryState, WorkKey, WorkRow, WorkState
from dicomnode.workflow.delivery import BEGUN_ANEW
from dicomnode.workflow.paces import seconds_until, seconds_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Objects of a work that one destination is still to get, since when, and why they were not taken, if they were tried."""

    key: WorkKey
    destination: str
    since: datetime
    objects: int
    reason: str | None


def longest_wait(settings: DeliverySection) -> timedelta:
    """How long results wait at most where all is well: until so many tries failed, a circuit is open, which tells it."""
    return timedelta(seconds=min(settings.circuit_failures * settings.longest_retry_seconds, settings.give_up_seconds))


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
    settings: DeliverySection,
    now: datetime,
) -> Iterator[Late]:
    """What waits for too long, work by work.

    Parameters
    ----------
    destinations
        Those that are configured, by name; a try ends what waits for others.
    taken
        When each destination took something last: what was not tried yet waits in a queue that goes on.
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
            if not rows or _is_left_alone(known, circuit, now):
                continue
            since = waits_since(work)
            begun = [since, *([circuit.since] if circuit else []), *_hours_began(known, now)]
            tried = any(row.attempts for row in rows)
            if not tried and name in taken:
                begun.append(taken[name])
            if now - max(begun) > longest:
                yield Late(key=work.key, destination=name, since=since, objects=len(rows), reason=_reason(rows))


def _is_left_alone(destination: Destination | None, circuit: CircuitRow | None, now: datetime) -> bool:
    is_shut = destination is not None and seconds_until(destination.hours, now) > 0
    return is_shut or (circuit is not None and circuit.state is CircuitState.OPEN)


def _hours_began(destination: Destination | None, now: datetime) -> list[datetime]:
    """When the hours began in which it is now; none where it is sent to at any time."""
    if destination is None or not destination.hours:
        return []
    return [now - timedelta(seconds=seconds_within(destination.hours, now))]


def _reason(rows: Collection[DeliveryRow]) -> str | None:
    return next((row.reason for row in rows if row.reason), None)
