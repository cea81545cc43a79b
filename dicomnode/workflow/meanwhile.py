"""What is made while the network runs, neither before nor after: then it would only take turns with what others wait for.

Two threads of Python share one lock. The steps before and behind the network take it and let go of it hundreds of times, and
would wait at each for the other thread; the network lets go of it once and computes.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar

from dicomnode.errors import StudyError

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Begins something when progress is told for the first time, and has its end waited for where the network ends.

    Parameters
    ----------
    begin
        Begins it; gives None where that cannot be.
    progress
        Told the share that is done, too.
    until
        Share at which whoever tells it waits for what was begun.
    """

    def __init__(
        self, begin: Callable[[], Future[T] | None], progress: Callable[[float], None] | None, *, until: float = 1.0
    ) -> None:
        self._begin = begin
        self._progress = progress
        self._until = until
        self._is_begun = False
        self.begun: Future[T] | None = None

    def start(self) -> None:
        """Begin it, if it is not begun."""
        if not self._is_begun:
            self._is_begun = True
            self.begun = self._begin()

    def __call__(self, share: float) -> None:
        """Progress of the network's stage."""
        self.start()
        if self._progress is not None:
            self._progress(share)
        if share >= self._until and self.begun is not None:
            with suppress(CancelledError):  # `wait` would not end with one that is cancelled at a close
                self.begun.exception()


class Beside:
    """One thread, in which one thing is made after the other."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="prepare")

    def begin(self, make: Callable[[], T]) -> Future[T] | None:
        """Begin something, when what was begun before is made; None when this is closed."""
        try:
            return self._executor.submit(make)
        except RuntimeError:
            return None

    def close(self) -> None:
        """Wait for what is being made, and make nothing more."""
        self._executor.shutdown(cancel_futures=True)


def ready(begun: Future[T | None] | None) -> T | None:
    """What was made; None where that failed: the plain way then says why, or does without."""
    if begun is None:
        return None
    try:
        return begun.result()
    except (StudyError, CancelledError):
        return None
