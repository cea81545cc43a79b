"""The audit trail of keys and orders: one line for each act, chained by hashes, flushed before the act is reported. No PHI.

A line is a JSON object; ``chain`` is the SHA-256 of the line before and of what this one says, so that a line that was
changed or taken out of the middle shows.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.storage import files

_NAME: Final = "audit.jsonl"
_START: Final = "0" * 64
_BLOCK_BYTES: Final = 4096


def append(folder: Path, event: str, at: datetime, **facts: str | int) -> None:
    """Add a line, durably; several programs may do so at a time.

    It reads the line before alone, and goes on behind one that was damaged: an act that is not told would be worse, and
    what follows from a trail that stands still. `verify` finds the damage ever after.

    Raises
    ------
    StorageError
        ``storage-failed``, ``storage-full``.
    """
    entry: dict[str, str | int] = {"at": at.isoformat(), "event": event, **facts}
    with files.disk_errors():
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, files.FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
            line, end = _last_line(descriptor)
            entry["chain"] = _link(_chain_of(line), entry)
            os.ftruncate(descriptor, end)
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
    last = _START
    for number, line in enumerate(_lines(folder)):
        try:
            entry = json.loads(line)
            chain = entry.pop("chain")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise StorageError("sealed-damaged", line=number) from None
        if chain != _link(last, entry):
            raise StorageError("sealed-damaged", line=number)
        last = str(chain)
    return last


def last_event(folder: Path, study_key: str) -> str | None:
    """What the trail says of a study last, if anything, as far as it can be read."""
    told = None
    for line in _lines(folder):
        if study_key.encode() not in line:
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and entry.get("study_key") == study_key:
            told = str(entry.get("event"))
    return told


def events(folder: Path, event: str) -> Iterator[dict[str, str | int]]:
    """What the trail says of each event of a kind, the oldest first, as far as it can be read."""
    for line in _lines(folder):
        if event.encode() not in line:
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and entry.get("event") == event:
            yield entry


def _lines(folder: Path) -> Iterator[bytes]:
    """Whole lines; what has no end was never reported: a crash cut it."""
    with files.disk_errors(), contextlib.suppress(FileNotFoundError), (folder / _NAME).open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


def _last_line(descriptor: int) -> tuple[bytes, int]:
    """The last whole line, and where it ends; what stands behind it was never reported: a crash cut it."""
    start = os.fstat(descriptor).st_size
    tail = b""
    while start and tail.count(b"\n") < 2:
        length = min(start, _BLOCK_BYTES)
        start -= length
        tail = os.pread(descriptor, length, start) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    return whole[:-1].rpartition(b"\n")[2], start + len(whole)


def _chain_of(line: bytes) -> str:
    """What the next line is chained to."""
    try:
        chain = json.loads(line)["chain"]
    except (ValueError, KeyError, TypeError, RecursionError):
        chain = None
    if isinstance(chain, str):
        return chain
    return hashlib.sha256(line).hexdigest() if line else _START


def _link(before: str, entry: dict[str, str | int]) -> str:
    return hashlib.sha256(before.encode() + json.dumps(entry, sort_keys=True).encode()).hexdigest()
