"""A disk that remembers the order of everything, and what a loss of power at any moment may leave of it.

`RecordedDisk` stands between the storage and the system's calls and writes a log: blocks of 4 KiB, sizes, names, flushes.
`Outage` is a prefix of that log: what was flushed in it is there; of the rest any subset of blocks and sizes may be, and of
each folder's names any prefix. POSIX allows no less, and a disk with a cache does no more.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

BLOCK = 4096
_ZEROS = bytes(BLOCK)


@dataclass(frozen=True)
class Block:
    """Bytes of one block of a file, or a part of one."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Size:
    """A file has another size: by growing, or cut."""

    file: int
    size: int
    cut: bool


@dataclass(frozen=True)
class Name:
    """A folder has another entry: a new file or folder, one that was renamed, or one less."""

    kind: Literal["new", "moved", "gone"]
    folder: Path
    path: Path
    file: int = -1
    source: Path | None = None


@dataclass(frozen=True)
class Flush:
    """Everything of a file, or of a folder's names, is on the disk."""

    file: int = -1
    folder: Path | None = None


@dataclass(frozen=True)
class Told:
    """Somebody was told that this is safe."""

    what: Any


Entry = Block | Size | Name | Flush | Told


class RecordedDisk:
    """Records the calls of `os` below a folder from now on.

    Attributes
    ----------
    log
        Everything that happened, in order.
    """

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.log: list[Entry] = []
        self._root = root
        self._lock = threading.RLock()
        self._files: dict[Path, int] = {}
        self._folders: dict[int, Path] = {}
        self._open: dict[int, int] = {}
        self._synchronous: set[int] = set()
        self._content: dict[int, bytearray] = {}
        self._real: dict[str, Callable[..., Any]] = {}
        for name in ("open", "close", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate"):
            self._stand_in(patch, name)
        for name in ("mkdir", "link", "rename", "unlink", "rmdir"):
            self._stand_in(patch, name)

    def told(self, what: Any) -> None:
        """Somebody is told now."""
        with self._lock:
            self.log.append(Told(what))

    def _stand_in(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self._real[name] = getattr(os, name)
        patch.setattr(os, name, getattr(self, f"_{name}_"))

    def _open_(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        place = Path(path)
        with self._lock:
            new = bool(flags & os.O_CREAT) and not place.exists()
            descriptor: int = self._real["open"](path, flags & ~os.O_DIRECT, *arguments, **options)
            if self._root not in place.parents and place != self._root:
                return descriptor
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                self._open[descriptor] = len(self._content)
                self._content[self._open[descriptor]] = bytearray()
                return descriptor
            if place.is_dir():
                self._folders[descriptor] = place
                return descriptor
            if new:
                self._files[place] = len(self._content)
                self._content[self._files[place]] = bytearray()
                self.log.append(Name("new", place.parent, place, self._files[place]))
            if place in self._files:
                self._open[descriptor] = self._files[place]
                if flags & os.O_DSYNC:
                    self._synchronous.add(descriptor)
            return descriptor

    def _close_(self, descriptor: int) -> None:
        with self._lock:
            self._open.pop(descriptor, None)
            self._folders.pop(descriptor, None)
            self._synchronous.discard(descriptor)
            self._real["close"](descriptor)

    def _pwrite_(self, descriptor: int, data: Any, offset: int) -> int:
        with self._lock:
            done: int = self._real["pwrite"](descriptor, data, offset)
            file = self._open.get(descriptor)
            if file is not None:
                self._blocks(file, bytes(data)[:done], offset)
                if descriptor in self._synchronous:
                    self.log.append(Flush(file))
            return done

    def _blocks(self, file: int, data: bytes, offset: int) -> None:
        """The write in its blocks; zeros where zeros are leave nothing to lose."""
        content = self._content[file]
        if len(content) < offset + len(data):
            content.extend(bytes(offset + len(data) - len(content)))
        for start in range(0, len(data), BLOCK):
            piece = data[start : start + BLOCK]
            place = offset + start
            if piece == _ZEROS[: len(piece)] == content[place : place + len(piece)]:
                continue
            content[place : place + len(piece)] = piece
            self.log.append(Block(file, place, piece))

    def _posix_fallocate_(self, descriptor: int, offset: int, size: int) -> None:
        with self._lock:
            self._real["posix_fallocate"](descriptor, offset, size)
            file = self._open.get(descriptor)
            if file is not None:
                self.log.append(Size(file, offset + size, cut=False))

    def _ftruncate_(self, descriptor: int, size: int) -> None:
        with self._lock:
            self._real["ftruncate"](descriptor, size)
            file = self._open.get(descriptor)
            if file is not None:
                del self._content[file][size:]
                self.log.append(Size(file, size, cut=True))

    def _fsync_(self, descriptor: int) -> None:
        self._flush("fsync", descriptor)

    def _fdatasync_(self, descriptor: int) -> None:
        self._flush("fdatasync", descriptor)

    def _flush(self, call: str, descriptor: int) -> None:
        with self._lock:
            self._real[call](descriptor)
            if descriptor in self._folders:
                self.log.append(Flush(folder=self._folders[descriptor]))
            elif descriptor in self._open:
                self.log.append(Flush(self._open[descriptor]))

    def _mkdir_(self, path: Any, *arguments: Any, **options: Any) -> None:
        with self._lock:
            self._real["mkdir"](path, *arguments, **options)
            if self._root in Path(path).parents:
                self.log.append(Name("new", Path(path).parent, Path(path)))

    def _link_(self, source: Any, target: Any, *, src_dir_fd: int, **options: Any) -> None:
        """Of a file that has no name yet."""
        with self._lock:
            self._real["link"](source, target, src_dir_fd=src_dir_fd, **options)
            if src_dir_fd in self._open:
                self._files[Path(target)] = self._open[src_dir_fd]
                self.log.append(Name("new", Path(target).parent, Path(target), self._open[src_dir_fd]))

    def _rename_(self, source: Any, target: Any) -> None:
        with self._lock:
            self._real["rename"](source, target)
            file = self._files.pop(Path(source), None)
            if file is not None:
                self._files[Path(target)] = file
                self.log.append(Name("moved", Path(target).parent, Path(target), file, Path(source)))

    def _unlink_(self, path: Any, **options: Any) -> None:
        with self._lock:
            self._real["unlink"](path, **options)
            file = self._files.pop(Path(path), None)
            if file is not None:
                self.log.append(Name("gone", Path(path).parent, Path(path), file))

    def _rmdir_(self, path: Any, **options: Any) -> None:
        raise NotImplementedError("no test of a loss of power takes folders away")


class Outage:
    """What a loss of power after so many entries of a log may leave."""

    def __init__(self, log: list[Entry], end: int) -> None:
        self._log = log[:end]
        self.told = [entry.what for entry in self._log if isinstance(entry, Told)]
        flushed_files, flushed_folders = _last_flushes(self._log)
        self._contents: list[tuple[Block | Size, bool]] = []
        self._names: list[tuple[Name, bool]] = []
        for index, entry in enumerate(self._log):
            if isinstance(entry, Block | Size):
                self._contents.append((entry, index < flushed_files.get(entry.file, 0)))
            elif isinstance(entry, Name):
                self._names.append((entry, index < flushed_folders.get(entry.folder, 0)))
        self.open_contents = sum(not safe for _, safe in self._contents)
        self._pending_names: dict[Path, int] = {}
        for entry, safe in self._names:
            self._pending_names[entry.folder] = self._pending_names.get(entry.folder, 0) + (not safe)

    def choices(
        self, chance: random.Random, exhaustive: int, samples: int
    ) -> Iterator[tuple[set[int], dict[Path, int]]]:
        """Which of the contents that are not safe survive, and how many of each folder's names.

        All subsets where there are few; else none, all, each alone, all but one each, and random ones.
        """
        count = self.open_contents
        if count <= exhaustive:
            chosen = [{bit for bit in range(count) if number >> bit & 1} for number in range(1 << count)]
        else:
            every = set(range(count))
            ends = [*range(min(count, 8)), *range(max(count - 8, 0), count)]
            chosen = [set(), every, *({one} for one in ends), *(every - {one} for one in ends)]
            chosen += [{bit for bit in every if chance.random() < share} for share in _shares(chance, samples)]
        for kept in chosen:
            yield kept, {folder: chance.randint(0, pending) for folder, pending in self._pending_names.items()}
        yield set(), dict(self._pending_names)

    def write(self, kept: set[int], names: dict[Path, int], old: Path, new: Path) -> None:
        """Put what is left of the folder `old` into the folder `new`, which is empty."""
        contents = self._survivors(kept)
        left = dict(names)
        folders, files = set[Path](), dict[Path, int]()
        for entry, safe in self._names:
            if not safe:
                if not left[entry.folder]:
                    continue
                left[entry.folder] -= 1
            if entry.kind == "new" and entry.file < 0:
                folders.add(entry.path)
            elif entry.kind == "gone":
                files.pop(entry.path, None)
            else:
                if entry.source is not None:
                    files.pop(entry.source, None)
                files[entry.path] = entry.file
        for folder in sorted(folders):
            if folder.parent == old or folder.parent in folders:
                (new / folder.relative_to(old)).mkdir(parents=True, exist_ok=True)
        for path, file in files.items():
            target = new / path.relative_to(old)
            if target.parent.is_dir():
                target.write_bytes(contents.get(file, b""))

    def _survivors(self, kept: set[int]) -> dict[int, bytearray]:
        contents: dict[int, bytearray] = {}
        number = -1
        for entry, safe in self._contents:
            if not safe:
                number += 1
                if number not in kept:
                    continue
            content = contents.setdefault(entry.file, bytearray())
            if isinstance(entry, Size):
                if entry.cut:
                    del content[entry.size :]
                content.extend(bytes(max(0, entry.size - len(content))))
                continue
            end = entry.offset + len(entry.data)
            content.extend(bytes(max(0, end - len(content))))
            content[entry.offset : end] = entry.data
        return contents


def _last_flushes(log: list[Entry]) -> tuple[dict[int, int], dict[Path, int]]:
    files: dict[int, int] = {}
    folders: dict[Path, int] = {}
    for index, entry in enumerate(log):
        if isinstance(entry, Flush):
            if entry.folder is not None:
                folders[entry.folder] = index
            else:
                files[entry.file] = index
    return files, folders


def _shares(chance: random.Random, samples: int) -> Iterator[float]:
    for _ in range(samples):
        yield chance.choice((0.1, 0.5, 0.5, 0.9))
