"""What a loss of power may not take: each byte and name is flushed before the call that made it returns, in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomnode.storage import files, keys
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import Purpose, World
from tests.unit.storage.samples import OTHER_STUDY, STUDY, encoded, intake, metadata
from tests.unit.storage.watched import WatchedDisk

PLACE = (STUDY, World.IDENTITY, "result", Purpose.RESULT)
MODES = pytest.mark.parametrize("mode", ["direct", "append"])


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WatchedDisk:
    """Everything below the test's folder is watched."""
    return WatchedDisk(monkeypatch, tmp_path)


def append(spool: Spool, number: int, study_key: str = STUDY, size: int = 3000) -> None:
    data = encoded(number, size)
    spool.append(study_key, metadata(data, number), data)


@MODES
def test_a_record_and_all_that_leads_to_it_is_safe_when_append_returns(
    disk: WatchedDisk, tmp_path: Path, mode: str
) -> None:
    with Spool(tmp_path / "state" / "spool", intake(mode), MemoryKeys()) as spool:
        assert spool.write_mode.name == mode
        for number, size in enumerate((3000, 1, 100_000, 40_000)):  # the third grows the file and goes in pieces
            before = disk.writes
            append(spool, number, size=size)
            assert disk.writes > before
            assert disk.unsafe == [], number
        append(spool, 9, OTHER_STUDY)
        assert disk.unsafe == []
    assert disk.faults == []


@MODES
def test_a_closed_segment_is_safe_under_its_last_name(disk: WatchedDisk, tmp_path: Path, mode: str) -> None:
    with Spool(tmp_path / "spool", intake(mode), MemoryKeys()) as spool:
        append(spool, 0)
        spool.close_study(STUDY)
        assert [path.suffix for path in (tmp_path / "spool").rglob("*") if path.is_file()] == [".closed"]
        assert disk.unsafe == []
    assert disk.faults == []


@MODES
def test_folders_that_another_made_and_did_not_flush_are_safe_when_append_returns(
    disk: WatchedDisk, tmp_path: Path, mode: str
) -> None:
    with Spool(tmp_path / "spool", intake(mode), MemoryKeys()) as spool:
        files.study_folder(tmp_path / "spool", STUDY).mkdir(parents=True)
        assert len(disk.unsafe) == 2
        append(spool, 0)
        assert disk.unsafe == []


def test_a_new_study_costs_three_flushes_beside_those_of_its_records(
    disk: WatchedDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path / "spool", intake("direct"), MemoryKeys()) as spool:
        append(spool, 0)
        flushes: list[int] = []
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda descriptor: (flushes.append(descriptor), fsync(descriptor)))
        append(spool, 1, STUDY[:2] + OTHER_STUDY[2:])
        assert len(flushes) == 3  # the study's folder and its file's name, and the header with the first extent
        assert disk.unsafe == []
        append(spool, 2, OTHER_STUDY)
        assert len(flushes) == 3 + 5  # it leads through a folder that is new too
        assert disk.unsafe == []
    assert disk.faults == []


def test_an_object_is_flushed_before_it_takes_its_place_and_its_name_after(disk: WatchedDisk, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "state" / "objects", MemoryKeys())
    assert disk.unsafe == []
    for data in (b"first", b"second" * 100_000):
        before = disk.writes
        objects.put(*PLACE, data)
        assert disk.writes > before
        assert disk.unsafe == []
    assert disk.faults == []


def test_folders_that_another_made_and_did_not_flush_are_safe_when_put_returns(
    disk: WatchedDisk, tmp_path: Path
) -> None:
    objects = Objects(tmp_path / "objects", MemoryKeys())
    files.study_folder(tmp_path / "objects", STUDY).mkdir(parents=True)
    assert len(disk.unsafe) == 2
    objects.put(*PLACE, b"x")
    assert disk.unsafe == []


def test_keys_are_safe_before_anything_is_sealed_with_them(disk: WatchedDisk, tmp_path: Path) -> None:
    keys.open_keys(tmp_path / "state" / "keys", create=True)
    assert disk.writes == len(keys.KEY_NAMES)
    assert disk.unsafe == []
    assert disk.faults == []


def test_every_folder_of_a_new_path_is_safe(disk: WatchedDisk, tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert disk.unsafe == []


def test_the_watch_sees_what_is_not_flushed(disk: WatchedDisk, tmp_path: Path) -> None:
    """The proof of the proof: a file written as nobody should."""
    path = tmp_path / "file"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"x")
    assert disk.unsafe == ["bytes of file", "name of file"]
    os.posix_fallocate(descriptor, 0, 4096)
    os.pwrite(descriptor, b"x", 0)
    path.rename(tmp_path / "other")
    os.close(descriptor)
    assert disk.unsafe == ["bytes of other", "name of other"]
    assert disk.faults == ["bytes before the size of ", "rename before the bytes of other"]
