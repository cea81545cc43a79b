"""How a segment's file grows: by extents of zeros for records of one write, by what is written for longer ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.storage import writer
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from tests.unit.storage.samples import STUDY, encoded, intake, metadata

BLOCK = 4096
EXTENT = 64 * 1024


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each write from now on."""
    sizes: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        sizes.append(len(data))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return sizes


@pytest.fixture
def segment(disk: Path) -> Iterator[writer.DirectWriter]:
    held = writer.DirectWriter(disk / "segment", writer.WriteMode("direct", BLOCK), EXTENT)
    yield held
    held.close()


def block(filling: bytes, count: int = 1) -> memoryview:
    buffer = writer.aligned_buffer(count * BLOCK)
    buffer[:] = filling * (count * BLOCK)
    return memoryview(buffer)


def test_a_long_record_is_written_once(disk: Path, written: list[int]) -> None:
    """No zeros before it: the disk would have twice the work."""
    data = encoded(1, 6_000_000)
    with Spool(disk / "spool", intake("direct"), MemoryKeys()) as spool:
        first = spool.append(STUDY, metadata(b"x"), b"x")
        written.clear()
        address = spool.append(STUDY, metadata(data), data)
        assert sum(written) < 1.05 * len(data)
        spool.append(STUDY, metadata(b"y"), b"y")
        assert spool.read(STUDY, first)[1] == b"x"
        assert spool.read(STUDY, address)[1] == data


def test_short_records_behind_a_long_one_have_their_extents_again(
    disk: Path, segment: writer.DirectWriter, written: list[int]
) -> None:
    segment.write(block(b"l", 40), 0)
    segment.commit()
    assert written == [40 * BLOCK]
    segment.write(block(b"s"), 40 * BLOCK, durable=True)
    assert sum(written) == 40 * BLOCK + EXTENT + BLOCK
    assert (disk / "segment").read_bytes() == b"l" * 40 * BLOCK + b"s" * BLOCK + bytes(EXTENT - BLOCK)


def test_zeros_that_are_being_filled_in_ahead_do_not_fall_on_a_long_record(
    disk: Path, segment: writer.DirectWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    filling, go_on, done = threading.Event(), threading.Event(), threading.Event()
    real = os.posix_fallocate

    def slow(descriptor: int, offset: int, size: int) -> None:
        real(descriptor, offset, size)
        filling.set()
        assert go_on.wait(20)

    monkeypatch.setattr(os, "posix_fallocate", slow)

    def long_record() -> None:
        segment.write(block(b"l", 8), 0)
        done.set()

    ahead = threading.Thread(target=segment.extend)
    ahead.start()
    assert filling.wait(20)
    record = threading.Thread(target=long_record)
    record.start()
    assert not done.wait(0.2)  # it waits for the zeros, and comes after them
    go_on.set()
    ahead.join(20)
    record.join(20)
    assert (disk / "segment").read_bytes()[: 8 * BLOCK] == b"l" * 8 * BLOCK
