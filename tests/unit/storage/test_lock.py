from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.lock import StateLock


def test_a_full_disk_keeps_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="storage-full"):
        StateLock(tmp_path)
    monkeypatch.undo()
    StateLock(tmp_path).release()
