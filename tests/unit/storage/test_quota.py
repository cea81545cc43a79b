from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.quota import FreeSpace, Quota


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def refused(quota: Quota, wanted: int) -> bool:
    try:
        quota.check(wanted)
    except StorageError as error:
        return (error.code, error.dimse_status, error.retryable) == ("spool-quota", 0xA700, True)
    return False


def test_what_lies_there_counts_and_what_is_added_until_it_is_looked_at_again(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one").write_bytes(bytes(600))
    quota = Quota(tmp_path, 1000, monotonic=clock)
    assert not refused(quota, 400)
    assert refused(quota, 401)
    quota.add(300)
    assert refused(quota, 101)
    assert not refused(quota, 100)
    quota.add(100)
    assert refused(quota, 0), "a full spool takes nobody in"
    clock.seconds += 1
    assert not refused(quota, 400), "nothing was written after all"


def test_it_recovers_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "one").write_bytes(bytes(1000))
    quota = Quota(tmp_path, 1000, monotonic=clock)
    assert refused(quota, 1)
    (tmp_path / "one").unlink()
    assert refused(quota, 1), "not looked at again yet"
    clock.seconds += 1
    assert not refused(quota, 1000)


@pytest.mark.parametrize("folder", ["", "missing"])
def test_no_limit_is_no_look(tmp_path: Path, folder: str) -> None:
    quota = Quota(tmp_path / folder, 0)
    quota.add(1 << 40)
    quota.check(1 << 40)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    Quota(tmp_path / "missing", 10).check(10)


class Disk:
    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return self.free


def full(space: FreeSpace, wanted: int) -> bool:
    try:
        space.check(wanted)
    except StorageError as error:
        return (error.code, error.dimse_status, error.retryable) == ("storage-full", 0xA700, True)
    return False


def test_where_much_is_free_it_is_looked_at_now_and_then() -> None:
    clock, disk = Clock(), Disk(10 << 30)
    space = FreeSpace(disk, 1 << 30, monotonic=clock)
    assert not any(full(space, 4096) for _ in range(100))
    assert disk.looks == 1
    disk.free = (1 << 30) - 1
    clock.seconds += 0.1
    assert full(space, 0)
    assert disk.looks == 2


def test_where_little_is_free_it_is_looked_at_each_time() -> None:
    disk = Disk(2 << 30)
    space = FreeSpace(disk, 1 << 30, monotonic=Clock())
    assert not full(space, 4096)
    disk.free = 1 << 30
    assert not full(space, 0)
    assert full(space, 1)
    disk.free = 2 << 30
    assert not full(space, 1), "room was made"


def test_what_is_wanted_at_once_is_looked_for() -> None:
    disk = Disk(10 << 30)
    space = FreeSpace(disk, 1 << 30, monotonic=Clock())
    assert not full(space, 0)
    assert full(space, 9 << 30 | 1)
    assert disk.looks == 2
