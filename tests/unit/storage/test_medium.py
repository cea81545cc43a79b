from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomnode.storage import medium


def test_the_system_tells_what_a_folder_lies_on() -> None:
    assert medium.file_system(Path("/proc")) == "proc"
    assert not medium.is_volatile(Path("/proc"))


@pytest.mark.parametrize(
    ("kind", "volatile"), [("tmpfs", True), ("ramfs", True), ("ext4", False), ("xfs", False), ("nfs4", False)]
)
def test_memory_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, volatile: bool) -> None:
    device = tmp_path.stat().st_dev
    place = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 999:1 / / rw,relatime shared:1 - overlay tmpfs rw\n"
        f"36 22 {place} / /state\\040folder rw,noatime shared:2 master:1 - {kind} /dev/tmpfs rw\n"
    )
    assert medium.file_system(tmp_path, mounts) == kind
    monkeypatch.setattr(medium, "file_system", lambda folder: medium_of(folder, mounts))
    assert medium.is_volatile(tmp_path) is volatile


medium_of = medium.file_system


def test_what_the_system_does_not_tell_is_not_known(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    assert medium.file_system(tmp_path, mounts) == ""
    mounts.write_text("22 1 999:1 / / rw - tmpfs tmpfs rw\nnonsense\n")
    assert medium.file_system(tmp_path, mounts) == ""
    assert medium.file_system(tmp_path / "none") == ""
