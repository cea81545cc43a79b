"""Attack: somebody who can write to the disk, but has no key, moves sealed files between studies, worlds and purposes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.objects import Objects
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.handover import Handover
from tests.unit.storage.samples import OTHER_STUDY, STUDY, encoded, intake, metadata

WORK = WorkKey(study_key=STUDY, revision=1, model="lungs")


def only_file(folder: Path) -> Path:
    (found,) = [path for path in folder.rglob("*") if path.is_file()]
    return found


@pytest.mark.parametrize(
    "other",
    [
        (OTHER_STUDY, World.PSEUDONYM, "one", Purpose.RESULT),
        (STUDY, World.IDENTITY, "one", Purpose.RESULT),
        (STUDY, World.PSEUDONYM, "two", Purpose.RESULT),
        (STUDY, World.PSEUDONYM, "one", Purpose.COPY),
    ],
)
def test_an_object_put_in_anothers_place_does_not_open(tmp_path: Path, other: tuple[str, World, str, Purpose]) -> None:
    keys = MemoryKeys()
    place = (STUDY, World.PSEUDONYM, "one", Purpose.RESULT)
    Objects(tmp_path / "a", keys).put(*place, b"theirs")
    victim = Objects(tmp_path / "b", keys)
    victim.put(*other, b"ours")
    shutil.copy(only_file(tmp_path / "a"), only_file(tmp_path / "b"))
    with pytest.raises(StorageError) as caught:
        victim.get(*other)
    assert caught.value.code == "sealed-damaged"


def test_a_segment_put_under_another_study_is_not_believed(tmp_path: Path) -> None:
    keys = MemoryKeys()
    keys.get_or_create(OTHER_STUDY, World.IDENTITY)
    with Spool(tmp_path, intake("append"), keys) as spool:
        address = spool.append(STUDY, metadata(encoded(1)), encoded(1))
        spool.close_study(STUDY)
        target = tmp_path / OTHER_STUDY[:2] / OTHER_STUDY
        target.mkdir(parents=True)
        moved = target / only_file(tmp_path).name
        shutil.move(only_file(tmp_path), moved)
        forged = moved.read_bytes().replace(STUDY.encode(), OTHER_STUDY.encode())
        for content in (moved.read_bytes(), forged):
            moved.write_bytes(content)
            damages: list[Damage] = []
            assert list(spool.recover(on_damage=damages.append)) == []
            assert damages
            with pytest.raises(StorageError):
                spool.read(OTHER_STUDY, address)


@pytest.mark.parametrize(
    ("key", "series_key"),
    [(replace(WORK, study_key=OTHER_STUDY), "5e"), (WORK, "6f"), (replace(WORK, revision=2), "5e")],
)
def test_an_identity_put_in_anothers_row_is_nobodys(tmp_path: Path, key: WorkKey, series_key: str) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        rooms: Any = SimpleNamespace(keys=MemoryKeys(), ledger=ledger)
        handover = Handover(rooms)
        handover.put_identity(WORK, "5e", b"theirs")
        handover.put_identity(key, series_key, b"ours")
        theirs = ledger.vault(WORK.study_key, "5e", WORK.revision)
        assert theirs is not None
        ledger.put_vault(key.study_key, series_key, key.revision, theirs)
        assert handover.identity(WORK, "5e") == b"theirs"
        with pytest.raises((StorageError, KeyStoreError)) as caught:
            handover.identity(key, series_key)
        assert caught.value.code == "sealed-damaged"
