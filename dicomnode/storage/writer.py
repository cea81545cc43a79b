"""The two ways of making bytes durable in a segment: O_DIRECT with O_DSYNC, or plain writes and fdatasync.

A trial in the spool's own folder says which. No format here, no keys.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from dicomnode.errors import StorageError
from dicomnode.storage import files

_ALIGNMENTS: Final = (4096, 16384, 65536)
_TRIAL_BLOCKS: Final = 4
_ZERO_BYTES: Final = 1024 * 1024
_FIRST_EXTENT: Final = 1024 * 1024
#: Durable writes from here on extend the file themselves: a commit of the journal costs less than zeros before each.
_LONG_BYTES: Final = 128 * 1024
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class WriteMode:
    """How a folder is written durably, as the trial found.

    Attributes
    ----------
    name
        ``direct`` or ``append``.
    alignment
        Bytes; offsets and lengths of writes are multiples of it.
    """

    name: Literal["direct", "append"]
    alignment: int


class Writer(Protocol):
    """A file that grows by extents and takes aligned writes; all raise `OSError` as the system does."""

    def write(self, block: memoryview, offset: int, *, durable: bool = False) -> None:
        """Write whole blocks at a multiple of the alignment; durable: these are on the disk when this returns."""

    def commit(self) -> None:
        """Everything written is on the disk when this returns."""

    def begin(self) -> None:
        """The first extent is there; it and everything written is on the disk when this returns."""

    def extend(self) -> None:
        """One extent more; it and everything written is on the disk when this returns."""

    def truncate(self, size: int) -> None:
        """Cut the file, durably."""

    def close(self) -> None:
        """Close the file; a second call does nothing."""


class Blank(Protocol):
    """A file of zeros that has no name yet; its descriptor is the taker's."""

    @property
    def descriptor(self) -> int:
        """Open for what the writer does."""

    @property
    def size(self) -> int:
        """Bytes, which are durable."""

    def name(self, path: Path) -> None:
        """Give it a name that is not there."""


class _File:
    """What both writers share: alignment, growth by extents, truncation."""

    def __init__(
        self, path: Path, mode: WriteMode, extent_bytes: int, extra_flags: int, blank: Blank | None = None
    ) -> None:
        self._alignment = mode.alignment
        self._extent = max(mode.alignment, extent_bytes // mode.alignment * mode.alignment)
        self._allocated = 0
        self._growing = threading.Lock()
        self._blank = blank is not None
        if blank is None:
            self._descriptor = os.open(path, _FLAGS | extra_flags, files.FILE_MODE)
            return
        self._descriptor, self._allocated = blank.descriptor, blank.size
        try:
            blank.name(path)
        except OSError:
            self.close()
            raise

    def begin(self) -> None:
        """The first extent, unless the file was blank: then it is there."""
        if self._blank:
            os.fsync(self._descriptor)
        else:
            self.extend()

    def extend(self) -> None:
        """One extent more; nothing where the file is closed by now."""
        with self._growing:
            if self._descriptor >= 0:
                self._grow()

    def truncate(self, size: int) -> None:
        with self._growing:
            os.ftruncate(self._descriptor, size)
            os.fsync(self._descriptor)
            self._allocated = size

    def close(self) -> None:
        with self._growing:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _put(self, descriptor: int, block: memoryview, offset: int, *, by_extents: bool) -> None:
        if offset % self._alignment or len(block) % self._alignment:
            raise ValueError("a write that is not aligned")
        end = offset + len(block)
        if end <= self._allocated:
            _write_whole(descriptor, block, offset)
            return
        with self._growing:
            while by_extents and self._allocated < end:
                self._grow()
            _write_whole(descriptor, block, offset)
            self._allocated = max(self._allocated, end)

    def _grow(self) -> None:
        """One extent more, durably: a later write must not depend on a size or block that is not on the disk."""
        size = self._next_extent
        os.posix_fallocate(self._descriptor, self._allocated, size)
        os.fsync(self._descriptor)
        self._allocated += size

    @property
    def _next_extent(self) -> int:
        """Bytes by which the file grows next: as many as it has, so that small studies stay small, up to the extent."""
        wanted = max(self._allocated, _FIRST_EXTENT)
        return min(self._extent, -(-wanted // self._alignment) * self._alignment)


class DirectWriter(_File):
    """O_DIRECT, with O_DSYNC or a flush at the end: never in the page cache.

    Writing over blocks that are there already commits no journal, which is what makes a durable write fast: a blank
    file is full of zeros. Behind its end, and where there was none, extents are filled with them before short durable
    writes; one extent ahead is filled by whoever is asked through `ahead`. Long writes extend the file by themselves,
    and so do those that one flush follows.
    """

    def __init__(
        self,
        path: Path,
        mode: WriteMode,
        extent_bytes: int,
        ahead: Ahead | None = None,
        blank: Blank | None = None,
    ) -> None:
        self._durable = -1
        super().__init__(path, mode, extent_bytes, os.O_DIRECT, blank)
        self._ahead = ahead
        self._asked = 0
        try:
            self._durable = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECT | os.O_DSYNC)
        except OSError:
            super().close()
            raise

    def write(self, block: memoryview, offset: int, *, durable: bool = False) -> None:
        """Write whole blocks."""
        short = durable and len(block) < _LONG_BYTES
        self._put(self._durable if durable else self._descriptor, block, offset, by_extents=short)
        if not short:
            return
        left = self._allocated - offset - len(block)
        if self._ahead is not None and 2 * left < self._next_extent and self._asked < self._allocated:
            self._asked = self._allocated
            self._ahead(self)

    def commit(self) -> None:
        """Flush what was written without O_DSYNC."""
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        super().close()
        if self._durable >= 0:
            os.close(self._durable)
            self._durable = -1

    def _grow(self) -> None:
        end = self._allocated + self._next_extent
        os.posix_fallocate(self._descriptor, self._allocated, self._next_extent)
        with memoryview(zeros()) as blank:
            for start in range(self._allocated, end, len(blank)):
                with blank[: min(len(blank), end - start)] as piece:
                    _write_whole(self._descriptor, piece, start)
        os.fsync(self._descriptor)
        self._allocated = end


#: Asks somebody to call `DirectWriter.extend` soon.
Ahead = Callable[[DirectWriter], None]


class AppendWriter(_File):
    """Plain writes, then fdatasync."""

    def __init__(self, path: Path, mode: WriteMode, extent_bytes: int) -> None:
        super().__init__(path, mode, extent_bytes, 0)

    def write(self, block: memoryview, offset: int, *, durable: bool = False) -> None:
        """Write whole blocks."""
        self._put(self._descriptor, block, offset, by_extents=durable)
        if durable:
            self.commit()

    def commit(self) -> None:
        """Flush the file's data."""
        os.fdatasync(self._descriptor)


def open_writer(
    path: Path, mode: WriteMode, extent_bytes: int, ahead: Ahead | None = None, blank: Blank | None = None
) -> Writer:
    """New file, which must not be there, in the mode that the trial found; made of a blank one only in ``direct``."""
    if mode.name == "direct":
        return DirectWriter(path, mode, extent_bytes, ahead, blank)
    return AppendWriter(path, mode, extent_bytes)


class Extender:
    """Thread that fills extents before they are needed."""

    def __init__(self) -> None:
        self._wanted: queue.SimpleQueue[DirectWriter | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="extender", daemon=True)
        self._thread.start()

    def ask(self, writer: DirectWriter) -> None:
        """Fill one extent of this file soon."""
        self._wanted.put(writer)

    def end(self) -> None:
        """Fill what was asked for, and end."""
        self._wanted.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (writer := self._wanted.get()) is not None:
            with contextlib.suppress(OSError):  # whoever needs the extent tries it again, and is told
                writer.extend()


def _write_whole(descriptor: int, block: memoryview, offset: int) -> None:
    if os.pwrite(descriptor, block, offset) != len(block):  # a full or failing disk: what comes next says which
        raise OSError(errno.ENOSPC, "short write")


@functools.cache
def zeros() -> mmap.mmap:
    """A piece of zeros to be written; nobody puts anything else into it."""
    return aligned_buffer(_ZERO_BYTES)


def try_modes(folder: Path, wanted: Literal["auto", "direct", "append"]) -> WriteMode:
    """Write and read back in a folder, in the wanted mode or in the best that works.

    Raises
    ------
    StorageError
        ``storage-full``, or ``storage-not-durable`` if no allowed mode works.
    """
    modes = [WriteMode("direct", alignment) for alignment in _ALIGNMENTS] if wanted != "append" else []
    if wanted != "direct":
        modes.append(WriteMode("append", _ALIGNMENTS[0]))
    for mode in modes:
        if _works(folder, mode):
            return mode
    raise StorageError("storage-not-durable", modes=len(modes))


def aligned_buffer(size: int) -> mmap.mmap:
    """Anonymous memory that begins at a page: good for O_DIRECT, whose largest alignment in use is the page or below.

    Alignments above the page size concern offsets and lengths alone.
    """
    return mmap.mmap(-1, size)


def _works(folder: Path, mode: WriteMode) -> bool:
    path = folder / f".trial-{secrets.token_hex(8)}"
    size = mode.alignment * _TRIAL_BLOCKS
    with contextlib.closing(aligned_buffer(size)) as buffer:
        buffer[:] = secrets.token_bytes(size)
        with memoryview(buffer) as view:
            try:
                writer = open_writer(path, mode, size)
                try:
                    for start in range(0, size, size // 2):
                        with view[start : start + size // 2] as block:
                            writer.write(block, start, durable=start > 0)
                    writer.commit()
                finally:
                    writer.close()
                return path.read_bytes()[:size] == buffer[:]
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise files.storage_error(error) from None
                return False
            finally:
                path.unlink(missing_ok=True)
