"""A stage that is written while the next bytes come into another one: long records wait for the network or the disk, not for both.

One write at a time, in order; whoever uses a `Behind` hears of a write that failed before anything that follows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from mmap import mmap
from typing import Protocol


class Stages(Protocol):
    """Where buffers come from."""

    def borrow(self) -> mmap:
        """One more."""

    def bring_back(self, buffer: mmap) -> None:
        """It is not needed any more."""


class Behind:
    """Second stage of a record, and the write that is under way; one user, to be closed.

    Parameters
    ----------
    stages
        Where the second stage comes from, once it is needed.
    executor
        Threads that write.
    """

    def __init__(self, stages: Stages, executor: Executor) -> None:
        self._stages = stages
        self._executor = executor
        self._buffer: mmap | None = None
        self._stage: memoryview | None = None
        self._running: Future[None] | None = None

    def other(self) -> memoryview:
        """The stage that is not in use, when what was begun with it is written.

        Raises
        ------
        OSError
            As the write that was under way.
        """
        self.settle()
        if self._stage is None:
            self._buffer = self._stages.borrow()
            self._stage = memoryview(self._buffer)
        return self._stage

    def begin(self, full: memoryview, write: Callable[[], None]) -> None:
        """Write out of a stage, which is the other one from now on."""
        self._stage = full
        self._running = self._executor.submit(write)

    def settle(self) -> None:
        """Wait for the write that is under way.

        Raises
        ------
        OSError
            As that write.
        """
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Wait, whatever comes of it, and give the second stage back; the one that the user began with is his."""
        if self._running is not None:
            with contextlib.suppress(OSError):
                self.settle()
        self._stage = None
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._stages.bring_back(buffer)
