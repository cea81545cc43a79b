"""The two ways of making bytes durable in a segment: O_DIRECT with O_DSYNC, or plain writes and fdatasync.

A trial in the spool's own folder says which. No format here, no keys.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from dicomnode.errors import StorageError
from dicomnode.storage import files

_ALIGNMENTS: Final = (4096, 16384, 65536)
_TRIAL_BLOCKS: Final = 4
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

    def write(self, block: memoryview, offset: int) -> None:
        """Write whole blocks at a multiple of the alignment."""

    def commit(self) -> None:
        """Everything written is on the disk when this returns."""

    def truncate(self, size: int) -> None:
        """Cut the file, durably."""

    def close(self) -> None:
        """Close the file; a second call does nothing."""


class _File:
    """What both writers share: extents, alignment, truncation."""

    def __init__(self, path: Path, mode: WriteMode, extent_bytes: int, extra_flags: int) -> None:
        self._alignment = mode.alignment
        self._extent = max(mode.alignment, extent_bytes // mode.alignment * mode.alignment)
        self._allocated = 0
        self._descriptor = os.open(path, _FLAGS | extra_flags, files.FILE_MODE)

    def write(self, block: memoryview, offset: int) -> None:
        if offset % self._alignment or len(block) % self._alignment:
            raise ValueError("a write that is not aligned")
        end = offset + len(block)
        while self._allocated < end:
            os.posix_fallocate(self._descriptor, self._allocated, self._extent)
            self._allocated += self._extent
            os.fsync(self._descriptor)  # the size, which a later write must not depend on
        written = os.pwrite(self._descriptor, block, offset)
        if written != len(block):  # a full or failing disk: what comes next says which
            raise OSError(errno.ENOSPC, "short write")

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)
        self._allocated = size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DirectWriter(_File):
    """O_DIRECT | O_DSYNC: a write is on the disk when it returns, and never in the page cache."""

    def __init__(self, path: Path, mode: WriteMode, extent_bytes: int) -> None:
        super().__init__(path, mode, extent_bytes, os.O_DIRECT | os.O_DSYNC)

    def commit(self) -> None:
        """Nothing is left to do."""


class AppendWriter(_File):
    """Plain writes, then fdatasync."""

    def __init__(self, path: Path, mode: WriteMode, extent_bytes: int) -> None:
        super().__init__(path, mode, extent_bytes, 0)

    def commit(self) -> None:
        """Flush the file's data."""
        os.fdatasync(self._descriptor)


def open_writer(path: Path, mode: WriteMode, extent_bytes: int) -> Writer:
    """New file, which must not be there, in the mode that the trial found."""
    if mode.name == "direct":
        return DirectWriter(path, mode, extent_bytes)
    return AppendWriter(path, mode, extent_bytes)


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
                            writer.write(block, start)
                    writer.commit()
                finally:
                    writer.close()
                return path.read_bytes() == buffer[:]
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise files.storage_error(error) from None
                return False
            finally:
                path.unlink(missing_ok=True)
