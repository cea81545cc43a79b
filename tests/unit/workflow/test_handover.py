"""What one stage leaves for the next comes back as it was, whatever the pieces in which it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.memory import MemoryObjects
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.handover import Handover, name

KEY = WorkKey(study_key="ab" * 16, revision=1, model="lungs")
COPIES = [b"one", b"", b"three" * 1000, b"\0" * 8]


class Store(MemoryObjects):
    """One that reads in small pieces."""

    piece = 1

    def stream(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> Iterator[bytes]:
        whole = self.get(study_key, world, object_id, purpose)
        return (whole[start : start + self.piece] for start in range(0, len(whole), self.piece))


def handover(store: Store) -> Handover:
    class Rooms:
        objects = store

    rooms: Any = Rooms()
    return Handover(rooms)


@pytest.mark.parametrize("piece", [1, 7, 8, 9, 100, 10**6])
def test_copies_come_back_one_by_one(piece: int) -> None:
    store = Store()
    store.piece = piece
    handover(store).put_copies(KEY, iter(COPIES))
    assert list(handover(store).copies(KEY)) == COPIES


@pytest.mark.parametrize("missing", [1, 8, 9, 15])
def test_copies_that_end_too_early_are_damaged(missing: int) -> None:
    store = Store()
    handover(store).put_copies(KEY, iter(COPIES))
    place = KEY.study_key, World.PSEUDONYM, name(KEY, "copies"), Purpose.COPY
    store.put(*place, store.get(*place)[:-missing])
    with pytest.raises(StorageError, match="sealed-damaged"):
        list(handover(store).copies(KEY))


def test_no_copies_are_none() -> None:
    store = Store()
    handover(store).put_copies(KEY, iter(()))
    assert list(handover(store).copies(KEY)) == []
