"""Space that is made ready while nothing comes, and what becomes of it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage import prepared, writer
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.prepared import Prepared
from dicomnode.storage.spool import Spool
from tests.descriptors import descriptors
from tests.unit.storage.samples import OTHER_STUDY, STUDY, disk_folder, encoded, intake, metadata

MEBI = 1 << 20


@pytest.fixture
def disk() -> Iterator[Path]:
    with disk_folder() as folder:
        yield folder


def made(disk: Path, *, count: int = 2, spare: Callable[[int], bool] = lambda _: True) -> Prepared:
    return Prepared(disk, most_bytes=count * MEBI, longest_bytes=MEBI, spare=spare)


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_files_are_made_once_one_is_asked_for_and_leave_nothing_behind(disk: Path) -> None:
    before = descriptors()
    stock = made(disk)
    time.sleep(0.1)
    assert not stock
    assert stock.take() is None
    wait_until(lambda: len(stock._ready) == 2)
    assert list(disk.iterdir()) == []
    stock.end()
    assert not stock
    assert descriptors() <= before


def test_a_file_is_full_of_zeros_and_gets_its_name_from_the_taker(disk: Path) -> None:
    with contextlib.closing(_Closing(made(disk))) as closing:
        stock = closing.stock
        stock.take()
        wait_until(lambda: len(stock._ready) == 2)
        file = stock.take()
        assert file is not None
        file.name(disk / "named")
        os.close(file.descriptor)
        status = (disk / "named").stat()
        assert (status.st_size, status.st_mode & 0o777) == (MEBI, 0o600)
        assert status.st_blocks * 512 >= MEBI
        assert (disk / "named").read_bytes() == bytes(MEBI)
        wait_until(lambda: len(stock._ready) == 2)  # another takes its place
        other = stock.take()
        assert other is not None
        with pytest.raises(FileExistsError):
            writer.DirectWriter(disk / "named", writer.WriteMode("direct", 4096), MEBI, None, other)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(other.descriptor)


class _Closing:
    def __init__(self, stock: Prepared) -> None:
        self.stock = stock

    def close(self) -> None:
        self.stock.end()


def test_nothing_is_made_while_objects_come(disk: Path) -> None:
    stock = made(disk, count=1)
    stock.take()
    for _ in range(50):
        stock.disturb()
        time.sleep(0.02)
        assert not stock
    wait_until(lambda: stock)
    stock.end()


def test_what_has_begun_stops_when_an_object_comes(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        pieces.append(offset)
        stock.disturb()
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(prepared, "QUIET_SECONDS", 0.5)
    stock = Prepared(disk, most_bytes=3 * MEBI, longest_bytes=3 * MEBI, spare=lambda _: True)
    began = time.monotonic()
    stock.take()
    wait_until(lambda: stock)
    assert pieces == [0, MEBI, 2 * MEBI]
    assert time.monotonic() - began > 2 * 0.5  # between each of them it was waited
    stock.end()


def test_an_end_does_not_wait_for_quiet_and_lets_go_of_what_is_half_full(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    stock = Prepared(disk, most_bytes=2 * MEBI, longest_bytes=2 * MEBI, spare=lambda _: True)
    monkeypatch.setattr(prepared, "QUIET_SECONDS", 0.0)
    real = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        monkeypatch.setattr(prepared, "QUIET_SECONDS", 3600.0)
        stock.disturb()
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    stock.take()
    wait_until(lambda: stock._filled)
    began = time.monotonic()
    stock.end()
    assert time.monotonic() - began < 5
    assert descriptors() <= before
    assert stock.take() is None  # and nothing is begun again
    assert stock._thread is not None
    assert not stock._thread.is_alive()


def test_a_disk_without_space_to_spare_keeps_it(disk: Path) -> None:
    spare = [False]
    asked: list[int] = []
    stock = made(disk, spare=lambda count: asked.append(count) or spare[0])  # type: ignore[func-returns-value]
    stock.take()
    wait_until(lambda: asked)
    assert not stock
    spare[0] = True
    stock.take()
    wait_until(lambda: len(stock._ready) == 2)
    assert stock.drop()
    assert not stock
    assert not stock.drop()
    stock.end()


def test_a_disk_that_fails_costs_nobody_anything(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[int] = []

    def fail(descriptor: int, data: memoryview, offset: int) -> int:
        failed.append(descriptor)
        raise OSError(errno.ENOSPC, "full")

    stock = made(disk)
    with monkeypatch.context() as failing:
        failing.setattr(os, "pwrite", fail)
        before = descriptors()
        stock.take()
        wait_until(lambda: failed)
        wait_until(lambda: descriptors() <= before)
    stock.take()
    wait_until(lambda: stock)  # the next time it goes well
    stock.end()


def test_where_files_cannot_be_named_later_none_are_made(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared.can_name(disk)
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EXDEV, "no")))
    assert not prepared.can_name(disk)
    assert list(disk.iterdir()) == []
    stock = made(disk)
    stock.take()
    assert stock._thread is not None
    stock._thread.join(20)
    assert stock.take() is None
    stock.end()


def append(spool: Spool, number: int, study_key: str = STUDY, size: int = 3000) -> str:
    data = encoded(number, size)
    return spool.append(study_key, metadata(data, number), data).segment_id


def path_of(disk: Path, segment_id: str) -> Path:
    (found,) = disk.rglob(f"{segment_id}.*")
    return found


def test_a_segment_is_made_of_what_is_ready_and_records_go_over_zeros(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(disk / "spool", intake("direct", prepared_bytes=MEBI), MemoryKeys()) as spool:
        append(spool, 0)  # nothing is ready: it grows by itself
        wait_until(lambda: spool._prepared)
        written: list[tuple[int, bool]] = []
        real = os.pwrite

        def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
            written.append((len(data), bytes(data).count(0) == len(data)))
            return real(descriptor, data, offset)

        with monkeypatch.context() as watching:
            watching.setattr(os, "pwrite", pwrite)
            segment_id = append(spool, 1, OTHER_STUDY)
            append(spool, 2, OTHER_STUDY)
        assert written == [(4096, False)] * 3  # header and records, and not one zero
        path = path_of(disk, segment_id)
        assert path.stat().st_size == MEBI
        assert {metadata.sop_instance_uid for _, _, metadata in spool.recover()} == {"2.25.1", "2.25.2", "2.25.3"}
        spool.close_study(OTHER_STUDY)
        assert path_of(disk, segment_id).stat().st_size < MEBI  # what it did not need is the disk's again
        assert [found.sop_instance_uid for _, _, found in spool.recover(studies=[OTHER_STUDY])] == ["2.25.2", "2.25.3"]


def test_a_segment_that_has_used_up_its_file_is_closed_where_another_is_ready(disk: Path) -> None:
    with Spool(
        disk / "spool", intake("direct", prepared_bytes=2 * MEBI, segment_bytes=64 * MEBI), MemoryKeys()
    ) as spool:
        spool._prepared._size, spool._prepared._count = MEBI, 1
        append(spool, 0, OTHER_STUDY)
        wait_until(lambda: spool._prepared)
        segments = [append(spool, 1)]
        segments += [append(spool, number, size=100_000) for number in range(2, 14)]
        assert len(set(segments)) == 1  # none was ready while they came: it grew, and went on
        wait_until(lambda: spool._prepared)
        assert append(spool, 14, size=100_000) == segments[0]  # after this one it is closed
        assert path_of(disk, segments[0]).suffix == ".closed"
        assert append(spool, 15) != segments[0]
        assert len(list(spool.recover(studies=[STUDY]))) == 15


def test_a_disk_that_gets_full_takes_back_what_was_made_ready(disk: Path) -> None:
    free = [1 << 40]
    settings = intake("direct", prepared_bytes=MEBI, minimum_free_bytes=1 << 20)
    with Spool(disk / "spool", settings, MemoryKeys(), free_bytes=lambda: free[0]) as spool:
        append(spool, 0)
        wait_until(lambda: spool._prepared)
        free[0] = 0
        time.sleep(0.11)  # what was free is believed for so long
        with pytest.raises(StorageError):
            spool.check_space()
        assert not spool._prepared
        spool._prepared.drop = lambda: free.__setitem__(0, 1 << 40) or True  # type: ignore[method-assign,func-returns-value]
        spool.check_space()  # that was enough
        free[0] = 0
        del spool._prepared.drop


@pytest.mark.parametrize("changes", [{"maximum_spool_bytes": 1 << 30}, {"write_mode": "append"}, {"prepared_bytes": 0}])
def test_where_it_would_not_help_or_count_for_a_quota_nothing_is_made(disk: Path, changes: dict[str, object]) -> None:
    settings = intake("direct").model_copy(update={"prepared_bytes": MEBI, **changes})
    with Spool(disk / "spool", settings, MemoryKeys()) as spool:
        append(spool, 0)
        assert spool._prepared._thread is None
