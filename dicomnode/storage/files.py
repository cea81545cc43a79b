"""Files as the node writes them: created whole or not at all, on the disk when a function returns. No formats here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dicomnode.encoded import Buffer
from dicomnode.errors import StorageError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
#: What the system says of a folder that it cannot lock: some shares.
_NO_LOCK: Final = frozenset({errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_STUDY_KEY: Final = re.compile(r"[0-9a-f]{8,64}")
#: Written at a time.
_PIECE_BYTES: Final = 1 << 20


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Turn an `OSError` into ``storage-full`` or ``storage-failed``: the error's own text names paths."""
    try:
        yield
    except OSError as error:
        raise storage_error(error) from None


def storage_error(error: OSError) -> StorageError:
    """Error of the family for what the system said."""
    number = error.errno or 0
    if number in (28, 122):  # ENOSPC, EDQUOT
        return StorageError("storage-full", errno=number)
    return StorageError("storage-failed", errno=number)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder (0700) and what leads to it, durably; an existing one is left as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():  # else somebody else was first, and may not have flushed it yet
            raise
    sync_folder(folder.parent)


@contextlib.contextmanager
def alone_in(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder against whoever else asks for it so; where folders cannot be locked, others are not kept away.

    Raises
    ------
    OSError
        `BlockingIOError` where another process holds it and we do not wait; what else the disk says.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in _NO_LOCK:
                raise
        yield
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: Buffer) -> None:
    """Write every byte, however often the system stops short."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_PIECE_BYTES]) :]


def write_new(path: Path, buffers: Iterable[Buffer], *, mode: int = FILE_MODE) -> None:
    """Create a file that must not be there, and flush it; its name becomes durable with its folder's."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        for buffer in buffers:
            write_all(descriptor, buffer)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, buffers: Iterable[Buffer], *, mode: int = FILE_MODE) -> None:
    """Put a file in place atomically: temporary file beside it, write, fsync, rename, fsync the folder.

    A failure, also of `buffers`, leaves what was there before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        write_new(temporary, buffers, mode=mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_study(folder: Path, study_key: str) -> None:
    """Take the folder of a study away with all that is in it, durably; one that is not there is no error."""
    path = study_folder(folder, study_key)
    if path.is_dir():
        shutil.rmtree(path)
        sync_folder(path.parent)


def studies_in(folder: Path, beginning: str) -> list[str]:
    """Keys of the studies that have a folder and begin so; at least two letters.

    Raises
    ------
    StorageError
        ``storage-failed``.
    """
    place = folder / beginning[:2]
    with disk_errors():
        names = [path.name for path in place.iterdir()] if _STUDY_KEY.match(beginning) and place.is_dir() else []
    return [name for name in names if name.startswith(beginning) and _STUDY_KEY.fullmatch(name)]


def study_folder(folder: Path, study_key: str) -> Path:
    """Folder of a study's files.

    Raises
    ------
    ValueError
        If the key is not 8 to 64 lower-case hexadecimal digits, and so no name of ours.
    """
    if not _STUDY_KEY.fullmatch(study_key):
        raise ValueError("a study key has 8 to 64 hexadecimal digits")
    return folder / study_key[:2] / study_key
