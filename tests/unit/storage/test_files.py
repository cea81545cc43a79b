from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.errors import ConfigError, StorageError
from dicomnode.storage import files
from dicomnode.storage.lock import StateLock


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "storage-full"),
        (errno.EDQUOT, "storage-full"),
        (errno.EIO, "storage-failed"),
        (None, "storage-failed"),
    ],
)
def test_what_the_system_says_becomes_a_code_without_its_text(number: int | None, code: str) -> None:
    error = OSError(number, "DOE^JANE") if number else OSError("DOE^JANE")
    with pytest.raises(StorageError) as caught, files.disk_errors():
        raise error
    assert caught.value.code == code
    assert "DOE" not in str(caught.value)


def test_a_failed_replacement_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "object"
    files.replace_file(path, [b"old"])

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        files.replace_file(path, broken())
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["object"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_replacement_is_flushed_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (seen.append("folder" if Path(f"/proc/self/fd/{fd}").is_dir() else "file"), fsync(fd))
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (seen.append("rename"), replace(self, target))[1])
    files.replace_file(tmp_path / "object", [b"x"])
    assert seen == ["file", "rename", "folder"]


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
    files.write_new(tmp_path / "object", [b"0123456789"])
    assert (tmp_path / "object").read_bytes() == b"0123456789"
    with pytest.raises(FileExistsError):
        files.write_new(tmp_path / "object", [])


@pytest.mark.parametrize("key", ["", "../../etc", "AB" * 16, "ab" * 33, "2.25.1"])
def test_only_a_blind_key_becomes_a_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="study key"):
        files.study_folder(tmp_path, key)


def test_the_second_node_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with StateLock(tmp_path / "state") as first:
        with pytest.raises(ConfigError) as caught:
            StateLock(tmp_path / "state")
        assert caught.value.code == "node-running"
        assert (tmp_path / "state" / "node.lock").read_text() == f"{os.getpid()}\n"
        first.release()
        StateLock(tmp_path / "state").release()


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        StateLock(tmp_path / "file")
    assert caught.value.code == "storage-failed"
