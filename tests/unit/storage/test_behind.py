"""A stage is written while another is filled: in order, one at a time, and never under somebody's hands."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.behind import Behind
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import aligned_buffer
from tests.unit.storage.samples import STUDY, encoded, intake, metadata

LONG = 40 * 4096  # of chunks of 4096: several stages


class Stages:
    """Counts what is out."""

    def __init__(self) -> None:
        self.out = 0

    def borrow(self) -> mmap.mmap:
        self.out += 1
        return aligned_buffer(4096)

    def bring_back(self, buffer: mmap.mmap) -> None:
        self.out -= 1


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def test_the_other_stage_is_free_when_its_write_has_ended(executor: ThreadPoolExecutor) -> None:
    stages, gate, done = Stages(), threading.Event(), threading.Event()
    behind = Behind(stages, executor)
    mine = memoryview(bytearray(4096))
    second = behind.other()

    def write() -> None:
        gate.wait(10)
        done.set()

    behind.begin(mine, write)
    threading.Timer(0.05, gate.set).start()
    assert behind.other() is mine
    assert done.is_set(), "it waited"
    behind.begin(second, lambda: None)
    assert behind.other() is second
    behind.close()
    behind.close()
    assert stages.out == 0


def test_a_write_that_fails_is_told_once_and_before_anything_else(executor: ThreadPoolExecutor) -> None:
    stages = Stages()
    behind = Behind(stages, executor)
    stage = behind.other()

    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    behind.begin(stage, fail)
    with pytest.raises(OSError, match="full"):
        behind.settle()
    behind.settle()
    behind.begin(stage, fail)
    behind.close()
    assert stages.out == 0


def test_what_the_disk_refuses_behind_fails_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third write of a long record fails: it is refused, nothing of it is believed, and the next one is taken."""
    real, left = os.pwrite, [0]

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if threading.current_thread().name.startswith("writer"):
            left[0] += 1
            if left[0] == 3:
                raise OSError(errno.ENOSPC, "full")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with Spool(tmp_path, intake("append"), MemoryKeys()) as spool:
        data = encoded(1, LONG)
        with pytest.raises(StorageError, match="storage-full"):
            spool.append(STUDY, metadata(data, 1), data)
        again = encoded(2, LONG)
        address = spool.append(STUDY, metadata(again, 2), again)
        assert spool.read(STUDY, address)[1] == again
        assert [found.sop_instance_uid for _, _, found in spool.recover()] == [metadata(again, 2).sop_instance_uid]


def test_a_record_that_is_given_up_waits_for_its_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its segment and its stages go to others: a write that is still under way would fall on them."""
    real = os.pwrite
    running: list[int] = []
    most: list[int] = []

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if not threading.current_thread().name.startswith("writer"):
            return real(descriptor, data, offset)
        running.append(1)
        threading.Event().wait(0.1)
        try:
            return real(descriptor, data, offset)
        finally:
            running.pop()
            most.append(1)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with Spool(tmp_path, intake("append"), MemoryKeys()) as spool:
        arrival = spool.arrival()
        arrival.begin(STUDY)
        arrival.put(bytes(20_000))
        arrival.close()
        assert most, "it was long enough"
        assert not running
        data = encoded(2, LONG)
        address = spool.append(STUDY, metadata(data, 2), data)
        assert spool.read(STUDY, address)[1] == data
