"""A queue in memory: keeps the contract of `pipeline.DurableQueue` without a database of its own, a thread or a wait.

Ships for tests. What it holds ends with the process; whoever holds the queue says when the time has come.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dicomnode.storage.database import when_committed
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow.ports import STAT, DeliveryRunner, Monotonic, Revival, StageRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One queued workflow.

    Attributes
    ----------
    name
        Identifier: what was queued once under it is never queued again.
    destination
        Where a delivery goes; None for a work.
    attempt
        Number of the try to deliver, from 1; 0 for a work.
    due
        Monotonic seconds before which it does not run.
    priority
        0 goes first.
    """

    name: str
    key: WorkKey
    destination: str | None
    attempt: int
    due: float
    priority: int = 1


class MemoryQueue:
    """Implements `ports.Queue` in memory; not for several threads.

    Parameters
    ----------
    run_stage, run_delivery
        As those of `pipeline.DurableQueue`.
    monotonic
        Clock in seconds.
    """

    def __init__(self, *, run_stage: StageRunner, run_delivery: DeliveryRunner, monotonic: Monotonic) -> None:
        self._run_stage = run_stage
        self._run_delivery = run_delivery
        self._monotonic = monotonic
        self._known: set[str] = set()
        self._waiting: list[Entry] = []

    @property
    def waiting(self) -> tuple[Entry, ...]:
        """What is queued and has not run, in the order in which it was queued."""
        return tuple(self._waiting)

    def enqueue_work(self, connection: Any, key: WorkKey, *, priority: int = 1) -> None:
        """Queue a work, once the caller's transaction is committed."""
        self._enqueue(connection, _work(key, priority))

    def revive_work(self, key: WorkKey, *, priority: int = 1) -> Revival:
        """Queue a work that is not done, unless it is queued."""
        if any(entry.destination is None and entry.key == key for entry in self._waiting):
            return Revival.UNDER_WAY
        self._waiting.append(_work(key, priority))
        return Revival.QUEUED

    def forget(self, study_key: str) -> None:
        """Delete all that is kept of a study."""
        self._waiting = [entry for entry in self._waiting if entry.key.study_key != study_key]
        self._known = {name for name in self._known if not name.startswith(study_key)}

    def enqueue_delivery(
        self, connection: Any, key: WorkKey, destination: str, attempt: int, delay: float, *, priority: int = 1
    ) -> None:
        """Queue one try to deliver, once the caller's transaction is committed, not before `delay` seconds."""
        name = f"{key.workflow_id}:{destination}:{attempt}"
        due = self._monotonic() + delay if delay > 0 else 0.0
        entry = Entry(name=name, key=key, destination=destination, attempt=attempt, due=due, priority=priority)
        self._enqueue(connection, entry)

    def revive_delivery(self, key: WorkKey, destination: str, *, priority: int = 1) -> bool:
        """Queue one more try to deliver, unless one is queued; whether it did. One that waits runs at once."""
        mine = [entry for entry in self._waiting if (entry.key, entry.destination) == (key, destination)]
        self._waiting = [replace(entry, due=0.0) if entry in mine else entry for entry in self._waiting]
        if mine:
            return False
        prefix = f"{key.workflow_id}:{destination}:"
        tried = [int(name.removeprefix(prefix)) for name in self._known if name.startswith(prefix)]
        name = f"{prefix}{max(tried, default=0) + 1}"
        attempt = max(tried, default=0) + 1
        self._known.add(name)
        self._waiting.append(
            Entry(name=name, key=key, destination=destination, attempt=attempt, due=0.0, priority=priority)
        )
        return True

    def bring_forward(self, connection: Any, study_key: str, *, priority: int) -> None:
        """Let what is queued of a study be as urgent as this, at least, once the caller's transaction is committed."""

        def forward(entry: Entry) -> Entry:
            if entry.key.study_key != study_key or entry.priority <= priority:
                return entry
            return replace(entry, priority=priority, due=0.0 if priority == STAT else entry.due)

        def bring() -> None:
            self._waiting = [forward(entry) for entry in self._waiting]

        when_committed(connection, bring)

    def deliveries(self) -> frozenset[tuple[str, str]]:
        """Works and destinations of all tries that are queued."""
        return frozenset(
            (entry.key.workflow_id, entry.destination) for entry in self._waiting if entry.destination is not None
        )

    def hasten(self, longest: float, destination: str | None = None) -> int:
        """Let tries that wait for more than `longest` seconds from now run at once; how many there were."""
        latest = self._monotonic() + longest
        late = [entry for entry in self._waiting if entry.due > latest and destination in (None, entry.destination)]
        self._waiting = [replace(entry, due=0.0) if entry in late else entry for entry in self._waiting]
        return len(late)

    def run_due(self) -> int:
        """Run everything that is due, and what that queues in turn, one after the other; returns how many ran."""
        ran = 0
        while (entry := self._next()) is not None:
            self._waiting.remove(entry)
            self._run(entry)
            ran += 1
        return ran

    def _enqueue(self, connection: Any, entry: Entry) -> None:
        def queue() -> None:
            if entry.name not in self._known:
                self._known.add(entry.name)
                self._waiting.append(entry)

        when_committed(connection, queue)

    def _next(self) -> Entry | None:
        now = self._monotonic()
        return min((entry for entry in self._waiting if entry.due <= now), key=lambda one: one.priority, default=None)

    def _run(self, entry: Entry) -> None:
        if entry.destination is None:
            all(self._run_stage(name, entry.key) for name in WORK_STAGES)
        else:
            self._run_delivery(entry.key, entry.destination, entry.attempt)


def _work(key: WorkKey, priority: int) -> Entry:
    return Entry(name=key.workflow_id, key=key, destination=None, attempt=0, due=0.0, priority=priority)
