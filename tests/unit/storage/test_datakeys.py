from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.study import World
from tests.unit.storage.samples import OTHER_STUDY, STUDY
from tests.unit.storage.test_keys import ring


def test_one_key_per_study_and_world(ledger: Ledger) -> None:
    held = DataKeys(ledger, ring())
    made = {held.get_or_create(study, world).key for study in (STUDY, OTHER_STUDY) for world in World for _ in range(2)}
    assert len(made) == 4
    again = DataKeys(ledger, ring())
    assert {again.get(study, world).key for study in (STUDY, OTHER_STUDY) for world in World} == made


def test_the_key_in_the_clear_has_no_repr(ledger: Ledger) -> None:
    found = DataKeys(ledger, ring()).get_or_create(STUDY, World.IDENTITY)
    assert repr(found.key) not in repr(found)


def test_committed_before_it_is_used(tmp_path: Path, ledger: Ledger) -> None:
    key = DataKeys(ledger, ring()).get_or_create(STUDY, World.IDENTITY)
    with Ledger.open_read_only(tmp_path / "ledger.sqlite3") as other:
        wrapped = other.wrapped_key(STUDY, World.IDENTITY)
    assert wrapped is not None
    assert ring().unwrap(World.IDENTITY, STUDY, wrapped) == key.key


def test_many_threads_agree(ledger: Ledger) -> None:
    found: list[bytes] = []
    holders = [DataKeys(ledger, ring()) for _ in range(4)]
    barrier = threading.Barrier(len(holders))

    def ask(holder: DataKeys) -> None:
        barrier.wait()
        found.append(holder.get_or_create(STUDY, World.IDENTITY).key)

    threads = [threading.Thread(target=ask, args=(holder,)) for holder in holders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_shredded_is_gone_for_good(tmp_path: Path, ledger: Ledger) -> None:
    held = DataKeys(ledger, ring())
    first = held.get_or_create(STUDY, World.IDENTITY)
    wrapped = ledger.wrapped_key(STUDY, World.IDENTITY)
    assert wrapped is not None
    held.shred(STUDY)
    with pytest.raises(KeyStoreError) as caught:
        held.get(STUDY, World.IDENTITY)
    assert caught.value.code == "key-missing"
    for path in tmp_path.iterdir():
        assert wrapped.wrapped not in path.read_bytes(), path.suffix
    assert held.get_or_create(STUDY, World.IDENTITY).key != first.key


def test_the_cache_is_small(ledger: Ledger) -> None:
    held = DataKeys(ledger, ring(), cached=2)
    first = held.get_or_create(STUDY, World.IDENTITY)
    for number in range(3):
        held.get_or_create(f"{number:032x}", World.IDENTITY)
    assert held.get(STUDY, World.IDENTITY) == first
    assert len(held._cache) == 2


def test_the_wrong_ring(ledger: Ledger) -> None:
    DataKeys(ledger, ring()).get_or_create(STUDY, World.IDENTITY)
    with pytest.raises(KeyStoreError) as caught:
        DataKeys(ledger, ring(1)).get_or_create(STUDY, World.IDENTITY)
    assert caught.value.code == "key-wrong"


def test_a_key_shredded_while_it_is_loaded_is_not_cached(ledger: Ledger) -> None:
    held = DataKeys(ledger, ring())

    class Shredding:
        """The ledger, in whose first answer another thread shreds."""

        def wrapped_key(self, study_key: str, world: World) -> object:
            found = ledger.wrapped_key(study_key, world)
            held.shred(study_key)
            return found

    held.get_or_create(STUDY, World.IDENTITY)
    held._cache.clear()
    held._ledger, whole = Shredding(), held._ledger  # type: ignore[assignment]
    held._ledger.shred_keys = whole.shred_keys  # type: ignore[method-assign]
    held.get(STUDY, World.IDENTITY)
    held._ledger = whole
    with pytest.raises(KeyStoreError):
        held.get(STUDY, World.IDENTITY)


@pytest.mark.parametrize(
    ("column", "value"), [("wrapped", "letters"), ("wrapping_key_id", "letters"), ("world", "neither"), ("key_id", "x")]
)
def test_a_row_of_another_kind_is_a_storage_error(tmp_path: Path, ledger: Ledger, column: str, value: str) -> None:
    """Whoever writes into the ledger can make the node refuse, and nothing else of it."""
    held = DataKeys(ledger, ring(), cached=1)
    for study in (STUDY, OTHER_STUDY):
        held.get_or_create(study, World.IDENTITY)
    spoiling = sqlite3.connect(tmp_path / "ledger.sqlite3")
    spoiling.execute(f"UPDATE node_wrapped_key SET {column} = ?", (value,))
    spoiling.commit()
    spoiling.close()
    with pytest.raises(StorageError):
        held.get(STUDY, World.IDENTITY)
    if column in ("wrapping_key_id", "world"):
        with pytest.raises(StorageError):
            ledger.count_wrapped_keys()
