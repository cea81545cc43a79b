"""The cache of built engines: native code that this node made itself, for this device, from this model, and for nothing else.

An engine is code: whoever can write one into the cache runs on the node. So the folder is the node's own (0700, no link),
nothing is read from it whose seal (HMAC-SHA-256, under a key of the node's) is not right, and the seal covers everything
that the engine depends on. What does not fit is dropped and built anew. May not live here: TensorRT.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.inference.device import DeviceFacts

_MAGIC: Final = b"dicomnode engine 1\n"
_SEAL_BYTES: Final = 32
_LARGEST: Final = 16 * 1024**3
_ENGINE, _TIMING = ".engine", ".timing"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Everything that an engine depends on: another of any of them is another engine.

    Attributes
    ----------
    model_sha256
        Of the ONNX file that the package names; its weights are all inside.
    derived_sha256
        Of the ONNX that was built: the same, or what was derived in another precision.
    recipe
        Version of the node's own way of deriving and building.
    precision
        What the engine computes in.
    library, library_version
        TensorRT or TensorRT-RTX.
    device
        Name, capability, multiprocessors, memory, MIG profile, driver.
    profile
        Shapes that it was built for.
    flags
        Of the builder.
    """

    model_sha256: str
    derived_sha256: str
    recipe: str
    precision: str
    library: str
    library_version: str
    device: DeviceFacts
    profile: tuple[tuple[int, ...], ...]
    flags: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def timing_digest(self) -> str:
        """SHA-256, in hex, of what the builder's measurements depend on: library and device."""
        parts = [self.library, self.library_version, asdict(self.device)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of the cache: its name without the ending, its bytes, when it was last used."""

    name: str
    size: int
    used: float


class EngineCache:
    """A folder of sealed engines.

    Parameters
    ----------
    folder
        Made with 0700 where it is missing.
    key
        32 bytes of the node's own, for the seals.

    Raises
    ------
    StorageError
        ``storage-failed`` when the folder cannot be made, is a link, or belongs to or is open for somebody else.
    """

    def __init__(self, folder: Path, key: bytes) -> None:
        if len(key) < _SEAL_BYTES:
            raise ValueError("the key of a cache has at least 32 bytes")
        self._key = key
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
        except OSError as error:
            raise StorageError("storage-failed", errno=error.errno or 0) from None
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise StorageError("storage-failed", cause="engine-cache-not-private")

    def engine(self, key: EngineKey) -> bytes | None:
        """A built engine; None when there is none, or what lies there is not what the node once wrote for this key."""
        return self._read(key.digest + _ENGINE)

    def keep_engine(self, key: EngineKey, engine: bytes) -> None:
        """Keep an engine that has been verified."""
        self._write(key.digest + _ENGINE, engine)

    def timing(self, key: EngineKey) -> bytes:
        """What the builder measured on this device before; empty: nothing."""
        return self._read(key.timing_digest + _TIMING) or b""

    def keep_timing(self, key: EngineKey, timing: bytes) -> None:
        """Keep the builder's measurements."""
        self._write(key.timing_digest + _TIMING, timing)

    def drop(self, key: EngineKey) -> None:
        """Take an engine out: it does not load, or does not compute what it should."""
        (self._folder / (key.digest + _ENGINE)).unlink(missing_ok=True)

    def entries(self) -> tuple[Entry, ...]:
        """Engines that are kept, the last used first."""
        found = []
        for path in self._folder.glob(f"*{_ENGINE}"):
            with contextlib.suppress(OSError):
                status = path.lstat()
                found.append(Entry(name=path.name.removesuffix(_ENGINE), size=status.st_size, used=status.st_atime))
        return tuple(sorted(found, key=lambda entry: (-entry.used, entry.name)))

    def purge(self, maximum_bytes: int) -> int:
        """Drop the engines that were not used for longest until the rest fits; gives their number."""
        total, dropped = 0, 0
        for entry in self.entries():
            total += entry.size
            if total > maximum_bytes:
                (self._folder / (entry.name + _ENGINE)).unlink(missing_ok=True)
                dropped += 1
        return dropped

    @contextlib.contextmanager
    def building(self, key: EngineKey) -> Iterator[None]:
        """The right to build an engine: whoever comes second waits, and finds it built."""
        try:
            descriptor = os.open(
                self._folder / f"{key.digest}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise StorageError("storage-failed", errno=error.errno or 0) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and the lock with it, also where the process dies

    def _seal(self, name: str, content: bytes) -> bytes:
        return hmac.digest(self._key, _MAGIC + hashlib.sha256(name.encode()).digest() + content, "sha256")

    def _read(self, name: str) -> bytes | None:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
                return None
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(_LARGEST)
            os.utime(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        head = len(_MAGIC) + _SEAL_BYTES
        content = data[head:]
        right = data.startswith(_MAGIC) and hmac.compare_digest(data[len(_MAGIC) : head], self._seal(name, content))
        return content if right else None

    def _write(self, name: str, content: bytes) -> None:
        """Replace a file in one step: whoever reads sees the old one or the new one, after a power cut, too."""
        path, temporary = self._folder / name, self._folder / f".{name}.{os.getpid()}"
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + self._seal(name, content))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StorageError("storage-failed", errno=error.errno or 0) from None
