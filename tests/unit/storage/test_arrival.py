"""A disk that fails while an instance comes: told by its code, and the segment is never written again."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.arrival import Arrival
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from tests.unit.storage.samples import STUDY, encoded, intake, metadata

LONG = encoded(1, 200_000)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool", intake("append"), MemoryKeys()) as made:
        made.append(STUDY, metadata(encoded(0, 100), 0), encoded(0, 100))
        yield made


def fail(_descriptor: int, _data: object, _offset: int) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def by_windows(arrival: Arrival) -> None:
    rest = memoryview(LONG)
    while rest:
        window = arrival.window()
        count = min(len(window), len(rest))
        window[:count] = rest[:count]
        arrival.advance(count)
        rest = rest[count:]


def begun(arrival: Arrival) -> None:
    """More came before its study was known than the stage holds."""
    arrival.put(LONG)
    arrival.begin(STUDY)


@pytest.mark.parametrize(
    "act",
    [
        lambda arrival: (arrival.begin(STUDY), by_windows(arrival)),
        lambda arrival: (arrival.begin(STUDY), arrival.put(LONG)),
        begun,
        lambda arrival: (arrival.begin(STUDY), arrival.put(b"x" * 10), arrival.finish(metadata(b"x" * 10, 1))),
    ],
)
def test_a_disk_that_fails_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, act: Callable[[Arrival], object]
) -> None:
    (first,) = [address for _, address, _ in spool.recover()]
    with contextlib.closing(spool.arrival()) as arrival:
        monkeypatch.setattr(os, "pwrite", fail)
        with pytest.raises(StorageError) as caught:
            act(arrival)
        monkeypatch.undo()
    assert caught.value.code == "storage-failed"
    after = spool.append(STUDY, metadata(LONG, 2), LONG)
    assert after.segment_id != first.segment_id
    assert {address for _, address, _ in spool.recover(on_damage=lambda _: None)} == {first, after}
    assert spool.read(STUDY, after)[1] == LONG


def test_a_window_that_cannot_be_had(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(spool.arrival()) as arrival:
        arrival.begin(STUDY)
        monkeypatch.setattr(arrival._incoming, "window", lambda: fail(0, 0, 0))
        with pytest.raises(StorageError):
            arrival.window()
        arrival.close()
        arrival.close()
