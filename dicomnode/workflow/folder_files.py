"""The files below a watched folder: listed, read and put away without following any link, and only as what they were.

May live here: what touches that disk. Every component below the folder is opened by the one above it (openat(2),
O_NOFOLLOW): a directory that is swapped for a link leads nowhere. What is taken, and when, is decided in `folder`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from dicomnode.errors import StudyError

TAKEN, REFUSED = "taken", "refused"
#: Names under which programs write what they rename when it is whole.
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
_DEEPEST: Final = 16
_MOST_FILES: Final = 10_000  # of one look
_NAMES: Final = 1000
_FOLDER: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_NO_WAIT: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Stamp(NamedTuple):
    """What changes when a file is written, or another takes its name."""

    inode: int
    size: int
    modified_ns: int


@dataclass(slots=True)
class Listing:
    """Regular files, by their path below the folder; and kinds of fault of what could not be looked at."""

    files: dict[Path, Stamp] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    fresh: int = 0


def list_files(root: Path, waiting: Container[Path] = ()) -> Listing:
    """Files that may be objects; links, unfinished names and what was put away are left out.

    Parameters
    ----------
    waiting
        Files that do not count towards what one look takes: they are not taken now.

    Raises
    ------
    OSError
        If the folder itself cannot be read. What lies below costs itself alone.
    """
    found = Listing()
    top = os.open(root, _FOLDER)
    try:
        _list(top, Path(), found, waiting)
    finally:
        os.close(top)
    return found


def _list(folder: int, here: Path, found: Listing, waiting: Container[Path]) -> None:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries)
    depth = len(here.parts)
    for name in names:
        if found.fresh >= _MOST_FILES:
            return
        if name.startswith(".") or (depth == 0 and name in (TAKEN, REFUSED)):
            continue
        try:
            about = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode) and depth >= _DEEPEST:
                found.faults.add("TooDeep")
            elif stat.S_ISDIR(about.st_mode):
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    _list(below, here / name, found, waiting)
                finally:
                    os.close(below)
            elif stat.S_ISREG(about.st_mode) and not name.lower().endswith(_UNFINISHED):
                found.files[here / name] = _stamp(about)
                found.fresh += here / name not in waiting
        except FileNotFoundError:  # gone meanwhile
            continue
        except OSError as error:
            found.faults.add(type(error).__name__)


class FolderFile:
    """One file, held open: nothing else can have its inode meanwhile.

    Attributes
    ----------
    stamp
        As it was when it was opened.
    """

    def __init__(self, root: Path, relative: Path, folder: int, file: int) -> None:
        self._root = root
        self._relative = relative
        self._folder = folder
        self._file = file
        about = os.fstat(file)
        self._is_regular = stat.S_ISREG(about.st_mode)
        self.stamp = _stamp(about)

    def read_whole(self, most: int) -> bytes:
        """Content of a regular file that nobody writes meanwhile.

        Raises
        ------
        StudyError
            ``object-malformed`` where it changes, or is none; ``object-too-large``.
        OSError
            Where it cannot be read.
        """
        if not self._is_regular:
            raise StudyError("object-malformed")
        if self.stamp.size > most:
            raise StudyError("object-too-large", limit_bytes=most)
        with open(self._file, "rb", buffering=0, closefd=False) as file:
            data = file.readall()
        if _stamp(os.fstat(self._file)) != self.stamp or len(data) != self.stamp.size:
            raise StudyError("object-malformed")
        return data

    def delete(self) -> None:
        """Delete it, if it is still what it was, under its name; else it is left.

        Raises
        ------
        OSError
            Where it cannot be.
        """
        if self._is_still_itself():
            os.unlink(self._relative.name, dir_fd=self._folder)

    def move(self, place: str) -> None:
        """Move it into a folder of ours, if it is still what it was, under its name; else it is left.

        Raises
        ------
        OSError
            Where it cannot be.
        """
        target = os.open(self._root, _FOLDER)
        try:
            for part in (place, *self._relative.parent.parts):
                below = _made(target, part)
                os.close(target)
                target = below
            name = _free(target, self._relative.name)
            if self._is_still_itself():
                os.rename(self._relative.name, name, src_dir_fd=self._folder, dst_dir_fd=target)
        finally:
            os.close(target)

    def _is_still_itself(self) -> bool:
        try:
            named = os.stat(self._relative.name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return _stamp(named) == _stamp(os.fstat(self._file)) == self.stamp


@contextmanager
def open_file(root: Path, relative: Path) -> Iterator[FolderFile]:
    """A file below a folder, closed at the end.

    Raises
    ------
    OSError
        Where it cannot be opened, or a part of its path is a link by now.
    """
    opened = [os.open(root, _FOLDER)]
    try:
        for part in relative.parent.parts:
            opened.append(os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=opened[-1]))
        opened.append(os.open(relative.name, _NO_WAIT, dir_fd=opened[-1]))
        yield FolderFile(root, relative, *opened[-2:])
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _stamp(about: os.stat_result) -> Stamp:
    return Stamp(about.st_ino, about.st_size, about.st_mtime_ns)


def _made(folder: int, name: str) -> int:
    """A folder below another; under a name with a number where a file, or a link, has the name."""
    for one in _numbered(name):
        with suppress(FileExistsError):
            os.mkdir(one, dir_fd=folder)
        with suppress(NotADirectoryError):
            return os.open(one, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _free(folder: int, name: str) -> str:
    """The name itself, or with a number where a file has it already, or another where that is too long."""
    for one in _numbered(name):
        try:
            os.stat(one, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return one
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            break
    return f"{os.urandom(16).hex()}.dcm"


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}.{number}" for number in range(2, _NAMES))
