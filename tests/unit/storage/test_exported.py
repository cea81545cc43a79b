"""Files of an export: what a process that was cut off left is made durable by the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.storage import files
from dicomnode.storage.exported import write_exported


def test_a_file_that_is_there_counts_only_when_its_name_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def same(one: bytes, other: bytes) -> bool:
        return one == other

    assert write_exported(tmp_path, "1.2.9", "1.2.3", b"data", same=same) is True
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    assert write_exported(tmp_path, "1.2.9", "1.2.3", b"data", same=same) is False
    assert tmp_path / "1.2.9" in synced
