from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.objects import Objects
from dicomnode.study import Purpose, World
from tests.unit.storage.samples import STUDY

PLACE = (STUDY, World.IDENTITY, "2.25.123456789", Purpose.RESULT)


def only_file(folder: Path) -> Path:
    (found,) = [path for path in folder.rglob("*") if path.is_file()]
    return found


def test_names_and_bytes_say_nothing(tmp_path: Path) -> None:
    Objects(tmp_path, MemoryKeys()).put(*PLACE, b"DOE^JANE" * 100)
    path = only_file(tmp_path)
    assert "123456789" not in str(path)
    assert b"DOE" not in path.read_bytes()
    other = tmp_path / "other"
    Objects(other, MemoryKeys()).put(*PLACE, b"DOE^JANE" * 100)
    assert only_file(other).name != path.name


def test_damage_is_told(tmp_path: Path) -> None:
    store = Objects(tmp_path, MemoryKeys())
    store.put(*PLACE, bytes(1000))
    path = only_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError) as caught:
        store.get(*PLACE)
    assert caught.value.code == "sealed-damaged"


def test_without_its_key_it_is_not_there(tmp_path: Path) -> None:
    keys = MemoryKeys()
    store = Objects(tmp_path, keys)
    store.put(*PLACE, b"x")
    keys.shred(STUDY)
    assert not store.exists(*PLACE)
    with pytest.raises(KeyStoreError):
        store.get(*PLACE)


def test_a_wrong_key_is_no_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = MemoryKeys()

    def wrong(*_: object) -> None:
        raise KeyStoreError("key-wrong")

    monkeypatch.setattr(keys, "get", wrong)
    with pytest.raises(KeyStoreError):
        Objects(tmp_path, keys).exists(*PLACE)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Objects(tmp_path, MemoryKeys())
    store.put(*PLACE, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(StorageError) as caught:
            store.put(*PLACE, b"new")
    assert caught.value.code == "storage-full"
    assert store.get(*PLACE) == b"old"
    assert only_file(tmp_path)
