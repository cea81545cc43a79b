"""Space that is made ready while nothing comes: files full of zeros, on the disk, and without a name.

Writing over blocks that are there commits no journal, and zeros that are written while objects come take the disk from
them. A segment gives such a file its name; of a process that dies before, the system takes them away. No format here.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomnode.storage import files
from dicomnode.storage.writer import zeros

#: Since the last object; what has begun stops within one piece when the next one comes.
QUIET_SECONDS: Final = 0.2
_FILE_BYTES: Final = 64 * 1024 * 1024
_FLAGS: Final = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedFile:
    """A file without a name: open descriptor, whose owner is whoever takes it, and bytes of zeros, which are durable."""

    descriptor: int
    size: int

    def name(self, path: Path) -> None:
        """Give it a name, which must not be there; durable with its folder's.

        Raises
        ------
        OSError
            As the system says.
        """
        _link(self.descriptor, path)


class Prepared:
    """A stock of prepared files; safe to use from many threads. Its own begins with the first file that is asked for.

    Parameters
    ----------
    folder
        Of the file system that they are for.
    most_bytes
        Of all of them; 0: none are made.
    longest_bytes
        Of one of them.
    spare
        Whether the disk has so many bytes to spare.
    """

    def __init__(self, folder: Path, *, most_bytes: int, longest_bytes: int, spare: Callable[[int], bool]) -> None:
        self._folder = folder
        self._size = min(_FILE_BYTES, longest_bytes, most_bytes) // len(zeros()) * len(zeros())
        self._count = most_bytes // self._size if self._size else 0
        self._spare = spare
        self._ready: list[int] = []
        self._filling = -1
        self._filled = 0
        self._lock = threading.Lock()
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._seen_at = 0.0
        self._thread: threading.Thread | None = None

    def __bool__(self) -> bool:
        """Whether one is ready."""
        return bool(self._ready)

    def disturb(self) -> None:
        """An object comes: the disk is needed."""
        self._seen_at = time.monotonic()

    def take(self) -> PreparedFile | None:
        """One that is ready, if any is; others are made when it is quiet."""
        with self._lock:
            descriptor = self._ready.pop() if self._ready else None
            if self._count and self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._run, name="preparing", daemon=True)
                self._thread.start()
        self._wanted.set()
        return None if descriptor is None else PreparedFile(descriptor=descriptor, size=self._size)

    def drop(self) -> bool:
        """Give the disk back what is ready; whether there was anything."""
        with self._lock:
            dropped, self._ready = self._ready, []
        for descriptor in dropped:
            os.close(descriptor)
        return bool(dropped)

    def end(self) -> None:
        """Nothing is made any more, and nothing kept."""
        with self._lock:
            self._ended.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()
        self.drop()

    def _run(self) -> None:
        if not can_name(self._folder):
            return
        while self._wanted.wait() and not self._ended.is_set():
            quiet = time.monotonic() - self._seen_at
            if quiet < QUIET_SECONDS:
                self._ended.wait(QUIET_SECONDS - quiet)
                continue
            self._wanted.clear()
            with suppress(OSError):  # a full or failing disk: whoever takes none finds out for himself
                if self._fill():
                    self._wanted.set()
        self._leave()

    def _fill(self) -> bool:
        """One piece more; whether there is another to be filled."""
        if self._filling < 0:
            if len(self._ready) >= self._count or not self._spare(self._size):
                return False
            self._filling, self._filled = os.open(self._folder, _FLAGS | os.O_DIRECT, files.FILE_MODE), 0
        try:
            if not self._filled:
                os.posix_fallocate(self._filling, 0, self._size)
            self._filled += os.pwrite(self._filling, zeros(), self._filled)
            if self._filled >= self._size:
                os.fsync(self._filling)
                with self._lock:
                    self._ready.append(self._filling)
                self._filling = -1
        except OSError:
            self._leave()
            raise
        return True

    def _leave(self) -> None:
        """Let go of what is not full."""
        descriptor, self._filling = self._filling, -1
        if descriptor >= 0:
            os.close(descriptor)


def can_name(folder: Path) -> bool:
    """Whether a file without a name can be made in a folder, and named later; a trial."""
    path = folder / f".trial-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(folder, _FLAGS | os.O_DIRECT, files.FILE_MODE)
        try:
            _link(descriptor, path)
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _link(descriptor: int, path: Path) -> None:
    """As open(2) describes for O_TMPFILE."""
    # Python follows the link to the file only where it is given a folder, which an absolute path makes no use of.
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
