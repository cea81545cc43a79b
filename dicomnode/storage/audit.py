"""The audit trail of keys and orders: one line for each act, chained by hashes, flushed before the act is reported. No PHI.

A line is a JSON object; ``chain`` is the SHA-256 of the line before and of what this one says, so that a line that was
changed or taken out of the middle shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.storage import files

_NAME: Final = "audit.jsonl"
_START: Final = "0" * 64


def append(folder: Path, event: str, at: datetime, **facts: str | int) -> None:
    """Add a line, durably; several programs may do so at a time.

    Raises
    ------
    StorageError
        ``sealed-damaged`` where the trail was changed; ``storage-failed``, ``storage-full``.
    """
    path = folder / _NAME
    entry: dict[str, str | int] = {"at": at.isoformat(), "event": event, **facts}
    with files.disk_errors():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
            entry["chain"] = _link(verify(folder), entry)
            whole = path.read_bytes()
            os.ftruncate(descriptor, whole.rfind(b"\n") + 1)
            files.write_all(descriptor, json.dumps(entry, sort_keys=True).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        files.sync_folder(folder)


def verify(folder: Path) -> str:
    """Last link of the chain.

    Raises
    ------
    StorageError
        ``sealed-damaged`` where a line is not what was written after the one before.
    """
    return _read(folder)[0]


def last_event(folder: Path, study_key: str) -> str | None:
    """What the trail says of a study last, if anything; errors as `verify`."""
    told = [entry["event"] for entry in _read(folder)[1] if entry.get("study_key") == study_key]
    return str(told[-1]) if told else None


def _read(folder: Path) -> tuple[str, list[dict[str, str | int]]]:
    """Last link, and the lines without theirs."""
    path = folder / _NAME
    if not path.exists():
        return _START, []
    with files.disk_errors():
        lines = path.read_bytes().split(b"\n")[:-1]  # what has no end was never reported: a crash cut it
    last, entries = _START, []
    for number, line in enumerate(lines):
        try:
            entry = json.loads(line)
            chain = entry.pop("chain")
        except (ValueError, KeyError, AttributeError, TypeError):
            raise StorageError("sealed-damaged", line=number) from None
        if chain != _link(last, entry):
            raise StorageError("sealed-damaged", line=number)
        last = str(chain)
        entries.append(entry)
    return last, entries


def _link(before: str, entry: dict[str, str | int]) -> str:
    return hashlib.sha256(before.encode() + json.dumps(entry, sort_keys=True).encode()).hexdigest()
