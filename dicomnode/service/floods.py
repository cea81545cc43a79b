"""Floods of log lines: what an address or a fault does a thousand times is told at once, then once an interval.

`Repeats` decides, without a clock or a thread; `Calm` stands before an `Emit` and writes. Nothing is lost by it: lines
and the `repeats` of summaries add up to the events.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from dicomnode.events import Emit, Fact

#: Events that anybody who reaches the port can cause as often as he likes.
CAUSED_BY_PEERS: Final = frozenset(
    {
        "connection.refused",
        "stow.refused",
        "connection.failed",
        "peer.unknown",
        "association.rejected",
        "association.refused",
        "association.broken",
        "object.refused",
    }
)
#: Events of what is tried again every second, for as long as disk or ledger do not work.
WHILE_IT_LASTS: Final = frozenset({"index.failed", "index.fault", "completion.failed", "completion.fault"})
#: Facts that tell one kind of event from another: codes of the house and names of its configuration, never a peer's text.
_TELLING: Final = ("reason", "kind", "status", "result", "source", "diagnostic", "peer")
_TELLING_OF_FAULTS: Final = ("reason", "kind", "receiver")
_LEAST_SECONDS: Final = 0.02  # between two looks


class Line(NamedTuple):
    """What is written."""

    name: str
    level: str
    facts: Mapping[str, Fact]


_Key = tuple[str, str, Fact, tuple[Fact, ...]]


def _telling(name: str) -> tuple[str, tuple[str, ...]]:
    """The fact that says whose an event is, of which there may be any number, and those that tell kinds apart."""
    return ("study", _TELLING_OF_FAULTS) if name in WHILE_IT_LASTS else ("address", _TELLING)


@dataclass(slots=True)
class _Seen:
    since: float
    repeats: int = 0


class Repeats:
    """Which events are written, and what is said of the others.

    Parameters
    ----------
    seconds
        Interval of summaries, above 0.
    sources
        Kinds of event and addresses (of a fault: studies) that are told apart at once: what is beyond is summed up
        without its address.
    """

    def __init__(self, *, seconds: float, sources: int) -> None:
        self._seconds = seconds
        self._sources = sources
        self._seen: dict[_Key, _Seen] = {}  # in the order of `since`
        self._owed = 0

    def __len__(self) -> int:
        """Entries that are kept."""
        return len(self._seen)

    @property
    def pending(self) -> bool:
        """Whether a summary is owed."""
        return self._owed > 0

    def event(self, line: Line, now: float) -> list[Line]:
        """Lines to write because of an event: itself where it is the first, and summaries that are due."""
        lines = self.due(now)
        whose, kinds = _telling(line.name)
        telling = tuple(line.facts.get(name) for name in kinds)
        source = line.facts.get(whose)
        key: _Key = (line.name, line.level, source, telling)
        if key not in self._seen and source is not None and len(self._seen) >= self._sources:
            key = (line.name, line.level, None, telling)
        seen = self._seen.get(key)
        if seen is not None:
            self._owed += not seen.repeats
            seen.repeats += 1
            return lines
        self._seen[key] = _Seen(now)
        return [*lines, line]

    def due(self, now: float) -> list[Line]:
        """Summaries of the intervals that are over. What did not come again is forgotten: its next is a first one."""
        lines = []
        while self._seen:
            key, seen = next(iter(self._seen.items()))
            if now - seen.since < self._seconds:
                break
            del self._seen[key]
            if seen.repeats:
                self._owed -= 1
                lines.append(_summary(key, seen, now))
                self._seen[key] = _Seen(now)
        return lines

    def all(self, now: float) -> list[Line]:
        """Summaries of everything that is owed, due or not: at the end."""
        lines = [_summary(key, seen, now) for key, seen in self._seen.items() if seen.repeats]
        self._seen.clear()
        self._owed = 0
        return lines


def _summary(key: _Key, seen: _Seen, now: float) -> Line:
    name, level, source, telling = key
    whose, kinds = _telling(name)
    facts = {whose: source, **dict(zip(kinds, telling, strict=True))}
    return Line(name, level, {**facts, "repeats": seen.repeats, "seconds": round(now - seen.since, 1)})


class Calm:
    """An `Emit` that writes events of `CAUSED_BY_PEERS` and `WHILE_IT_LASTS` as `Repeats` says, every other as it comes.

    Its thread runs while a summary is owed, and only then.

    Parameters
    ----------
    emit
        Who writes.
    seconds, sources
        As of `Repeats`; 0 seconds: everything is written.
    monotonic
        Clock in seconds.
    """

    def __init__(
        self, emit: Emit, *, seconds: float, sources: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._seconds = seconds
        self._monotonic = monotonic
        self._repeats = Repeats(seconds=seconds, sources=sources) if seconds else None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        """Emit one event."""
        repeats = self._repeats
        if repeats is None or name not in CAUSED_BY_PEERS | WHILE_IT_LASTS:
            self._emit(name, level=level, **facts)
            return
        with self._lock:
            if self._ended.is_set():
                self._emit(name, level=level, **facts)
                return
            self._write(repeats.event(Line(name, level, facts), self._monotonic()))
            if repeats.pending and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._watch, args=(repeats,), name="log", daemon=True)
                with contextlib.suppress(RuntimeError):  # none can be had: the next event tries again
                    self._thread.start()

    def end(self) -> None:
        """Write what is owed; the thread ends, and whatever comes from now on is written."""
        self._ended.set()
        with self._lock:
            if self._repeats is not None:
                self._write(self._repeats.all(self._monotonic()))
            thread = self._thread
        if thread is not None:
            thread.join()

    def _watch(self, repeats: Repeats) -> None:
        while not self._ended.wait(max(self._seconds / 4, _LEAST_SECONDS)):
            with self._lock:
                self._write(repeats.due(self._monotonic()))
                if not repeats.pending:
                    self._thread = None
                    return

    def _write(self, lines: list[Line]) -> None:
        for name, level, facts in lines:
            self._emit(name, level=level, **facts)
