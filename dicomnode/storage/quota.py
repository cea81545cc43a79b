"""How many bytes more the spool may take: what the disk has free, and what the configuration lets it hold."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from dicomnode.errors import StorageError

_LEAST_SECONDS: Final = 1.0
#: What was free so long ago is believed only where it is so much more than the least: no disk takes more meanwhile.
_FREE_SECONDS: Final = 0.1
_PLENTY_BYTES: Final = 1024 * 1024 * 1024
#: A look at a large spool takes its time: that much longer passes before the next one.
_LOOKS_APART: Final = 50


class Tally(Protocol):
    """Counts bytes; only ever upwards."""

    def add_bytes(self, count: int) -> None:
        """So many were written."""

    def bytes_added(self) -> int:
        """All of them."""


class _Count:
    """A tally of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._added = 0

    def add_bytes(self, count: int) -> None:
        with self._lock:
            self._added += count

    def bytes_added(self) -> int:
        return self._added


class FreeSpace:
    """Free bytes of the disk, looked at now and then, always where few are left; safe to use from many threads.

    Parameters
    ----------
    free_bytes
        Gives them, as the disk says.
    least_bytes
        What must stay free.
    monotonic
        Clock in seconds.
    """

    def __init__(
        self, free_bytes: Callable[[], int], least_bytes: int, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._free_bytes = free_bytes
        self._least = least_bytes
        self._monotonic = monotonic
        self._free = 0
        self._look_again_at = float("-inf")

    def check(self, wanted: int) -> None:
        """Raise ``storage-full`` where so many bytes more are too many.

        Raises
        ------
        OSError
            As the disk says.
        """
        now = self._monotonic()
        if now >= self._look_again_at or self._free - wanted < self._least + _PLENTY_BYTES:
            self._free = self._free_bytes()
            self._look_again_at = now + _FREE_SECONDS
        free = self._free
        if free - wanted < self._least:
            raise StorageError("storage-full", free=free)

    def spare(self, wanted: int) -> bool:
        """Whether so many bytes can be taken that nobody needs yet.

        Raises
        ------
        OSError
            As the disk says.
        """
        return self._free_bytes() - wanted >= self._least + _PLENTY_BYTES


class Quota:
    """Bytes of a folder, looked at now and then, and counted in between; safe to use from many threads.

    Parameters
    ----------
    folder
        What is measured, with all below it.
    limit_bytes
        What it may hold; 0: anything.
    tally
        Counts what is written, perhaps by other processes too; none: by this one.
    monotonic
        Clock in seconds.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int,
        *,
        tally: Tally | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._tally = tally or _Count()
        self._held = 0  # but for what was added since the tally was begun
        self._look_again_at = float("-inf")

    def check(self, wanted: int) -> None:
        """Raise ``spool-quota`` where so many bytes more, one at least, are too many."""
        if not self._limit:
            return
        if self._monotonic() >= self._look_again_at and self._looking.acquire(blocking=self._look_again_at < 0):
            try:
                self._look()
            finally:
                self._looking.release()
        held = self._held + self._tally.bytes_added()
        if held + max(wanted, 1) > self._limit:  # a full spool takes nobody in
            raise StorageError("spool-quota", held=held)

    def add(self, count: int) -> None:
        """So many bytes were written."""
        if self._limit:
            self._tally.add_bytes(count)

    def _look(self) -> None:
        began = self._monotonic()
        if began < self._look_again_at:  # another thread just did
            return
        before = self._tally.bytes_added()
        self._held = sum(_sizes(self._folder)) - before
        ended = self._monotonic()
        self._look_again_at = ended + max(_LEAST_SECONDS, (ended - began) * _LOOKS_APART)


def _sizes(folder: Path) -> Iterator[int]:
    """Sizes of the files below a folder; what goes away meanwhile does not count."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
