"""The lock of a state folder: one node at a time. Nothing else may live here."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from dicomnode.errors import ConfigError
from dicomnode.storage import files

_NAME = "node.lock"


class StateLock:
    """Holds the state folder for this process until `release`, or until the process ends, however it ends.

    Parameters
    ----------
    folder
        State folder; created (0700) if it is not there.

    Raises
    ------
    ConfigError
        ``node-running`` if another process holds it.
    StorageError
        ``storage-failed`` if the lock file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        with files.disk_errors():
            files.make_folder(folder)
            descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.FILE_MODE)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise ConfigError("node-running") from None
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except OSError:
                os.close(descriptor)
                raise
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let the next one in; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """The lock itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release."""
        self.release()
