"""A disk that is watched: which written bytes and which new names a loss of power would still take.

`WatchedDisk` stands between the storage and the system's calls. It knows the rules of POSIX alone: bytes are safe when
they were written through a descriptor with O_DSYNC or flushed since, a name when its folder was flushed since.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class WatchedDisk:
    """Watches the calls of `os` from now on.

    Attributes
    ----------
    faults
        What was done in the wrong order, whatever was flushed later.
    """

    def __init__(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        self.faults: list[str] = []
        self.writes = 0
        self._root = root
        self._paths: dict[int, Path] = {}
        self._synchronous: set[int] = set()
        self._bytes: set[Path] = set()  # files with bytes that are not safe
        self._sizes: set[Path] = set()  # files that grew since they were flushed: no harm until more is written there
        self._safe: dict[Path, int] = {}  # their sizes when they were flushed
        self._names: set[Path] = set()  # names that are not safe
        self._real: dict[str, Callable[..., Any]] = {}
        for name in ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate"):
            self._stand_in(patch, name)
        for name in ("mkdir", "link", "rename", "replace", "unlink", "rmdir"):
            self._stand_in(patch, name)

    @property
    def unsafe(self) -> list[str]:
        """What a loss of power would take now."""
        found = [("bytes", path) for path in self._bytes] + [("name", path) for path in self._names]
        return sorted(f"{what} of {path.relative_to(self._root)}" for what, path in found)

    def _stand_in(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self._real[name] = getattr(os, name)
        patch.setattr(os, name, getattr(self, f"_{name}"))

    def _open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        place = Path(path)
        new = bool(flags & os.O_CREAT) and not place.exists()
        # O_DIRECT is the page cache's business, not durability's; without it the test runs on any file system.
        descriptor: int = self._real["open"](path, flags & ~os.O_DIRECT, *arguments, **options)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            place = place / f".without a name: {descriptor}"
        self._paths[descriptor] = place
        self._synchronous.discard(descriptor)
        if flags & os.O_DSYNC:
            self._synchronous.add(descriptor)
        if new:
            self._names.add(place)
        return descriptor

    def _write(self, descriptor: int, data: Any) -> int:
        self._wrote(descriptor)
        done: int = self._real["write"](descriptor, data)
        return done

    def _pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        content = bytes(data)
        if content.count(0) != len(content):  # zeros are what a hole reads as: nothing is lost with them
            self._wrote(descriptor, offset + len(content))
        done: int = self._real["pwrite"](descriptor, data, offset)
        return done

    def _wrote(self, descriptor: int, end: int | None = None) -> None:
        path = self._paths.get(descriptor)
        if path is None:  # no file of ours: a socket, the test's own output
            return
        self.writes += 1
        if path in self._sizes and (end is None or end > self._safe.get(path, 0)):
            self.faults.append(f"bytes before the size of {path.suffix}")
        if descriptor not in self._synchronous:
            self._bytes.add(path)

    def _posix_fallocate(self, descriptor: int, offset: int, size: int) -> None:
        self._real["posix_fallocate"](descriptor, offset, size)
        self._sizes.add(self._paths[descriptor])

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._real["ftruncate"](descriptor, size)
        self._bytes.add(self._paths[descriptor])

    def _fsync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        self._real["fsync"](descriptor)
        self._flushed(self._paths[descriptor], size)

    def _fdatasync(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        self._real["fdatasync"](descriptor)
        self._flushed(self._paths[descriptor], size)

    def _flushed(self, path: Path, size: int) -> None:
        self._safe[path] = size
        self._bytes.discard(path)
        self._sizes.discard(path)
        self._names = {name for name in self._names if name.parent != path}

    def _mkdir(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._real["mkdir"](path, *arguments, **options)
        self._names.add(Path(path))

    def _link(self, source: Any, target: Any, *, src_dir_fd: int, **options: Any) -> None:
        """Of a file that has no name yet."""
        self._real["link"](source, target, src_dir_fd=src_dir_fd, **options)
        unnamed, self._paths[src_dir_fd] = self._paths[src_dir_fd], Path(target)
        for paths in (self._bytes, self._sizes):
            if unnamed in paths:
                paths.remove(unnamed)
                paths.add(Path(target))
        self._safe[Path(target)] = self._safe.pop(unnamed, 0)
        self._names.add(Path(target))

    def _rename(self, source: Any, target: Any) -> None:
        self._moved("rename", Path(source), Path(target))

    def _replace(self, source: Any, target: Any) -> None:
        self._moved("replace", Path(source), Path(target))

    def _moved(self, call: str, source: Path, target: Path) -> None:
        if any(path == source or source in path.parents for path in self._bytes | self._sizes):
            self.faults.append(f"{call} before the bytes of {target.suffix or target.name}")
        if any(source in path.parents for path in self._names):
            self.faults.append(f"{call} before the names in {target.name}")
        self._real[call](source, target)
        for paths in (self._bytes, self._sizes, self._names):
            moved = {path for path in paths if path == source or source in path.parents}
            paths.difference_update(moved)
            paths.update(target / path.relative_to(source) for path in moved)
        self._names.add(target)

    def _unlink(self, path: Any, **options: Any) -> None:
        self._real["unlink"](path, **options)
        for paths in (self._bytes, self._sizes, self._names):
            paths.discard(Path(path))

    def _rmdir(self, path: Any, **options: Any) -> None:
        self._real["rmdir"](path, **options)
        self._names.discard(Path(path))
