"""A sink that holds a whole object in memory and hands it on at its end: for the small archive, and for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dicomnode.network.intake import ReceivedObject

_LEAST_BYTES: Final = 64 * 1024


class Collected:
    """One object.

    Parameters
    ----------
    store
        Called with the object and its bytes when all came; what it raises is the object's fate.
    """

    def __init__(self, store: Callable[[ReceivedObject, bytes], None]) -> None:
        self._store = store
        self._data = bytearray(_LEAST_BYTES)
        self._filled = 0
        self._received: ReceivedObject | None = None

    def window(self) -> memoryview:
        """Place for the next bytes."""
        if self._filled == len(self._data):
            self._data = self._data + bytes(len(self._data))  # a new one: views of the old may be about
        return memoryview(self._data)[self._filled :]

    def advance(self, count: int) -> None:
        """So many bytes were put into the window."""
        self._filled += count

    def head(self) -> memoryview:
        """What came so far."""
        return memoryview(self._data)[: self._filled]

    def begin(self, received: ReceivedObject, /) -> None:
        """It is known what comes."""
        self._received = received

    def finish(self) -> None:
        """Hand the object on."""
        assert self._received is not None
        self._store(self._received, bytes(self.head()))

    def close(self) -> None:
        """Nothing is held."""
