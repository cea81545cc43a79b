"""Pulses of the node's threads, and the judge of them: who is at work without taking a step hangs. Pure: clocks are told.

A thread says when it begins something, when it took a step, and when it rests; it counts, and asks no clock. Who waits for
work rests, for however long. One judge looks at all from time to time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final

#: Seconds between two looks of the judge.
LOOK_SECONDS: Final = 5.0
#: Of the time between two looks, no more counts: where the whole process was stopped, nobody could take a step.
_MOST_SECONDS: Final = 2 * LOOK_SECONDS
#: Limits of what reaches no further than this machine and its ledger: seconds for one step, and until the node is given up.
NEAR_SECONDS: Final = 300.0
NEAR_HARD_SECONDS: Final = 1800.0
#: Limit of what waits for other systems, each wait within time-outs of its own.
FAR_SECONDS: Final = 1800.0


class Pulse:
    """Of one thread; used by that thread alone, but for the judge, who reads it.

    As a context it is at work within. An exception that leaves it leaves it at work: the thread dies of it, or begins anew.

    Parameters
    ----------
    name
        Of the thread, as it is told.
    seconds
        For how long one step may last.
    hard_seconds
        For how long a step may last before the node is given up for it; None: whatever this thread does, the node works
        without it, or a new start would not help.
    about
        Names of the configuration, or keys: whose thread it is.
    """

    __slots__ = ("about", "hard_seconds", "is_at_work", "name", "seconds", "steps")

    def __init__(self, name: str, seconds: float, hard_seconds: float | None = None, **about: str) -> None:
        self.name = name
        self.seconds = seconds
        self.hard_seconds = hard_seconds
        self.about = about
        self.steps = 0
        self.is_at_work = False

    def beat(self) -> None:
        """It took a step."""
        self.steps += 1

    def work(self) -> None:
        """It begins something."""
        self.steps += 1
        self.is_at_work = True

    def rest(self) -> None:
        """It waits for something to do."""
        self.is_at_work = False

    def __enter__(self) -> None:
        self.work()

    def __exit__(self, kind: type[BaseException] | None, _error: object, _traceback: TracebackType | None) -> None:
        if kind is None:
            self.rest()


class Tries:
    """Pulses of what several threads do at a time, each for as long as it lasts.

    Parameters
    ----------
    name, seconds
        As of `Pulse`.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self._name = name
        self._seconds = seconds
        self._lock = threading.Lock()
        self._under_way: set[Pulse] = set()

    @contextmanager
    def one(self, **about: str) -> Iterator[Pulse]:
        """One of them, from its begin to its end, however it ends."""
        pulse = Pulse(self._name, self._seconds, None, **about)
        pulse.work()
        with self._lock:
            self._under_way.add(pulse)
        try:
            yield pulse
        finally:
            with self._lock:
                self._under_way.discard(pulse)

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of those that are under way."""
        with self._lock:
            return tuple(self._under_way)


@dataclass(slots=True)
class _Seen:
    steps: int
    since: float
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one look shows.

    Attributes
    ----------
    stalled, again
        Who hangs since this look, and who took a step that did, each with the seconds for which it hangs, or did.
    hanging
        All who hang, with the seconds.
    hung
        For whom the node is to be given up: told once.
    """

    stalled: tuple[tuple[Pulse, float], ...]
    again: tuple[tuple[Pulse, float], ...]
    hanging: tuple[tuple[Pulse, float], ...]
    hung: Pulse | None


class Judge:
    """Looks at pulses; told the time of a clock that nobody sets, it counts what the process itself has lived through.

    Parameters
    ----------
    now
        Monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._at = now
        self._lived = 0.0
        self._seen: dict[Pulse, _Seen] = {}
        self._given_up = False

    def look(self, pulses: Iterable[Pulse], now: float) -> Verdict:
        """Judge all pulses that there are now."""
        self._lived += min(now - self._at, _MOST_SECONDS)
        self._at = now
        before, self._seen = self._seen, {}
        stalled, hanging, hung = [], [], None
        for pulse in pulses:
            if not pulse.is_at_work:
                continue
            steps, seen = pulse.steps, before.get(pulse)
            if seen is None or seen.steps != steps:
                seen = _Seen(steps, self._lived)
            else:
                del before[pulse]
            self._seen[pulse] = seen
            seconds = self._lived - seen.since
            if seconds < pulse.seconds:
                continue
            hanging.append((pulse, seconds))
            if not seen.told:
                stalled.append((pulse, seconds))
                seen.told = True
            if pulse.hard_seconds is not None and seconds >= pulse.hard_seconds and not self._given_up:
                hung, self._given_up = pulse, True
        again = tuple((pulse, self._lived - seen.since) for pulse, seen in before.items() if seen.told)
        return Verdict(stalled=tuple(stalled), again=again, hanging=tuple(hanging), hung=hung)
