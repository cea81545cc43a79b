"""What is begun before the stage that it belongs to: analyses beside the end of preparing, results beside the sealing of labels.

May live here: a thread for each, and who waits for it. What is made stands in `analysis`. All of it is memory alone:
after a kill, and wherever nothing was begun, the stage makes the same out of what was sealed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from threading import Lock, Thread
from typing import Generic, TypeVar

from dicomnode.study import WorkKey

T = TypeVar("T")


class Ahead(Generic[T]):
    """Begins something for a work, and keeps it until the work's stage is over.

    Parameters
    ----------
    places
        For how many works: what was begun for others is of no use any more.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = Lock()
        self._begun: dict[WorkKey, tuple[object, Future[T]]] = {}
        self._left: list[Future[T]] = []

    def begin(self, key: WorkKey, source: object, make: Callable[[], T]) -> None:
        """Begin it in a thread, unless it is begun.

        Parameters
        ----------
        source
            What it is made of, or the digest of that.
        make
            Makes it; what it raises, whoever asks for it gets.
        """
        self.rest()
        future: Future[T] = Future()
        with self._lock:
            if key in self._begun and self._begun[key][0] == source:
                return
            self._drop(key)
            while len(self._begun) >= self._places:
                self._drop(next(iter(self._begun)))
            self._begun[key] = source, future
        # Not one that the interpreter's end would wait for.
        try:
            Thread(target=_make, args=(future, make), name="ahead", daemon=True).start()
        except RuntimeError:  # there is no room for one: its stage makes it
            with self._lock:
                self._begun.pop(key, None)

    def of(self, key: WorkKey, source: object) -> T | None:
        """What was begun for a work, when it is there; None where nothing was, or of something else, which has ended then.

        Raises
        ------
        Exception
            What making it raised, once.
        """
        with self._lock:
            found = self._begun.get(key)
        if found is None or found[0] != source:
            self.forget(key)
            self.rest()
            return None
        try:
            return found[1].result()
        except BaseException:
            self.forget(key)  # whoever tries again does it without
            raise

    def forget(self, key: WorkKey) -> None:
        """Nobody will ask for it any more."""
        with self._lock:
            self._drop(key)

    def rest(self) -> None:
        """Wait for the end of what nobody asks for any more: no two are made where there is room for one."""
        with self._lock:
            left, self._left = self._left, []
        wait(left)

    def _drop(self, key: WorkKey) -> None:
        found = self._begun.pop(key, None)
        if found is not None and not found[1].done():
            self._left.append(found[1])


def let_go(things: deque[T]) -> Iterator[T]:
    """Each of them, once: whoever has it then has it alone."""
    while things:
        yield things.popleft()


def _make(future: Future[T], make: Callable[[], T]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:  # noqa: BLE001 - it is whoever asks for it that has to know
        future.set_exception(error)
