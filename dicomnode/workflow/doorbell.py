"""A bell for the durable queue: what was queued is looked for at once, and not when the next look is due.

May live here: how the library's threads are woken. It looks for work at intervals and knows no other way; a version whose
threads are built otherwise goes on like that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from dbos import _dbos

_STARTER: Final = "queue_thread"
#: What the library calls the thread of a queue begins so.
_WORKER: Final = "queue-worker-"


class Doorbell:
    """One bell for each queue."""

    def __init__(self) -> None:
        self._bells: dict[str, threading.Event] = {}

    def ring(self, queue: str) -> None:
        """Something was queued, and is committed."""
        self._bell(f"{_WORKER}{queue}").set()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Threads that the library starts within hear the bell."""
        start = getattr(_dbos, _STARTER, None)
        if start is None:
            yield
            return

        def heard(stop: threading.Event, *rest: Any) -> None:
            start(_Stop(stop, self._bell), *rest)

        setattr(_dbos, _STARTER, heard)
        try:
            yield
        finally:
            setattr(_dbos, _STARTER, start)

    def _bell(self, thread: str) -> threading.Event:
        return self._bells.setdefault(thread, threading.Event())


class _Stop(threading.Event):
    """Stands in the place of the event that ends the library's threads: those of queues wait for their bell, too."""

    def __init__(self, stop: threading.Event, bell: Callable[[str], threading.Event]) -> None:
        super().__init__()
        self._stop = stop
        self._bell_of = bell

    def is_set(self) -> bool:
        """Whether the threads are to end."""
        return self._stop.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, or for less: for the bell of the thread's queue."""
        name = threading.current_thread().name
        if not name.startswith(_WORKER):
            return self._stop.wait(timeout)
        bell = self._bell_of(name)
        if not self._stop.is_set() and bell.wait(timeout):
            bell.clear()
        return self._stop.is_set()
