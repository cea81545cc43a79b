"""A bell for the durable queue: what was queued is looked for at once, and a queue at rest is looked at less often.

May live here: how the library's threads are woken. It looks for work at intervals and knows no other way; a version whose
threads are built otherwise goes on like that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from dbos import _dbos

from dicomnode.pulses import NEAR_HARD_SECONDS, NEAR_SECONDS, Pulse

_STARTER: Final = "queue_thread"
#: What the library calls the thread of a queue begins so.
_WORKER: Final = "queue-worker-"
#: For how long after the bell a queue is looked at as often as ever: what ended gives the next one room a little later.
_AWAKE_SECONDS: Final = 2.0
#: How many times longer the waits between looks are after that; each look costs milliseconds.
_AT_REST: Final = 5.0


class Doorbell:
    """One bell for each queue."""

    def __init__(self) -> None:
        self._bells: dict[str, threading.Event] = {}
        self._awake: dict[str, float] = {}
        self._pulses: dict[str, Pulse] = {}
        self._stops: list[threading.Event] = []
        #: Of the queues' threads: each rests while it waits for its bell.
        self.pulses: list[Pulse] = []

    def ring(self, queue: str) -> None:
        """Something was queued, and is committed; or something ended, and gives room to what waits."""
        thread = f"{_WORKER}{queue}"
        self._awake[thread] = time.monotonic() + _AWAKE_SECONDS
        self._bell(thread).set()

    def end(self) -> None:
        """The library is about to end its threads: those that wait for their bell need not wait for their next look."""
        for stop in self._stops:
            stop.set()
        for bell in list(self._bells.values()):
            bell.set()

    def wait(self, thread: str, timeout: float) -> None:
        """Wait for the bell of a queue's thread, or until the next look is due."""
        bell = self._bell(thread)
        self.pulse(thread).rest()
        if bell.wait(self.patience(thread, timeout)):
            bell.clear()

    def patience(self, thread: str, timeout: float) -> float:
        """Seconds until the next look at a queue whose thread would wait for `timeout`."""
        return timeout if time.monotonic() < self._awake.get(thread, 0.0) else timeout * _AT_REST

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Threads that the library starts within hear the bell."""
        start = getattr(_dbos, _STARTER, None)
        if start is None:
            yield
            return

        def heard(stop: threading.Event, *rest: Any) -> None:
            self._stops.append(stop)
            start(_Stop(stop, self), *rest)

        setattr(_dbos, _STARTER, heard)
        try:
            yield
        finally:
            setattr(_dbos, _STARTER, start)

    def pulse(self, thread: str) -> Pulse:
        """Of a queue's thread."""
        if (found := self._pulses.get(thread)) is None:
            found = self._pulses[thread] = Pulse(thread, NEAR_SECONDS, NEAR_HARD_SECONDS)
            self.pulses.append(found)
        return found

    def _bell(self, thread: str) -> threading.Event:
        return self._bells.setdefault(thread, threading.Event())


class _Stop(threading.Event):
    """Stands in the place of the event that ends the library's threads: those of queues wait for their bell, too."""

    def __init__(self, stop: threading.Event, doorbell: Doorbell) -> None:
        super().__init__()
        self._stop = stop
        self._doorbell = doorbell

    def is_set(self) -> bool:
        """Whether the threads are to end; each asks before it looks at its queue."""
        name = threading.current_thread().name
        if name.startswith(_WORKER):
            self._doorbell.pulse(name).work()
        return self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, or for less: for the bell of the thread's queue."""
        name = threading.current_thread().name
        if timeout is None or not name.startswith(_WORKER):
            return self._stop.wait(timeout)
        if not self._stop.is_set():
            self._doorbell.wait(name, timeout)
        return self._stop.is_set()
