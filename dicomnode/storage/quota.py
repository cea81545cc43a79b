"""How many bytes the spool may hold, beside what the disk has free."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dicomnode.errors import StorageError

_LEAST_SECONDS: Final = 1.0
#: A look at a large spool takes its time: that much longer passes before the next one.
_LOOKS_APART: Final = 50


class Quota:
    """Bytes of a folder, looked at now and then, and counted in between; safe to use from many threads.

    Parameters
    ----------
    folder
        What is measured, with all below it.
    limit_bytes
        What it may hold; 0: anything.
    monotonic
        Clock in seconds.
    """

    def __init__(self, folder: Path, limit_bytes: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._monotonic = monotonic
        self._looking = threading.Lock()
        self._counting = threading.Lock()
        self._held = 0
        self._added = 0
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
        if self._held + self._added + max(wanted, 1) > self._limit:  # a full spool takes nobody in
            raise StorageError("spool-quota", held=self._held + self._added)

    def add(self, count: int) -> None:
        """So many bytes were written."""
        if self._limit:
            with self._counting:
                self._added += count

    def _look(self) -> None:
        began = self._monotonic()
        if began < self._look_again_at:  # another thread just did
            return
        before = self._added
        held = sum(_sizes(self._folder))
        ended = self._monotonic()
        with self._counting:
            self._held = held
            self._added -= before
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
