"""One suite for every store of objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.memory import MemoryKeys, MemoryObjects
from dicomnode.storage.objects import Objects
from dicomnode.study import Purpose, World

STUDY, OTHER = "ab" * 16, "cd" * 16
PLACE = (STUDY, World.PSEUDONYM, "copy-1", Purpose.COPY)
Store = Objects | MemoryObjects


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    makers: dict[str, Callable[[], Store]] = {
        "files": lambda: Objects(tmp_path / "objects", MemoryKeys()),
        "memory": MemoryObjects,
    }
    return makers[request.param]()


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 4096])
def test_what_was_put_is_got(store: Store, data: bytes) -> None:
    store.put(*PLACE, data)
    assert store.get(*PLACE) == data
    assert store.exists(*PLACE)


def test_what_was_put_comes_in_pieces_too(store: Store) -> None:
    data = bytes(range(256)) * 32768
    store.put(*PLACE, data)
    assert b"".join(store.stream(*PLACE)) == data
    with pytest.raises(StorageError, match="storage-failed"):
        next(store.stream(*PLACE[:2], "another", Purpose.COPY))


def test_buffers_are_joined(store: Store) -> None:
    store.put(*PLACE, (part for part in (b"one ", bytearray(b"two "), memoryview(b"three"))))
    assert store.get(*PLACE) == b"one two three"


def test_the_last_put_stands(store: Store) -> None:
    store.put(*PLACE, b"first")
    store.put(*PLACE, b"second")
    assert store.get(*PLACE) == b"second"


def test_every_part_of_the_place_counts(store: Store) -> None:
    places = [
        PLACE,
        (OTHER, *PLACE[1:]),
        (STUDY, World.IDENTITY, *PLACE[2:]),
        (*PLACE[:2], "copy-2", PLACE[3]),
        (*PLACE[:3], Purpose.LABELS),
    ]
    for number, place in enumerate(places):
        assert not store.exists(*place)
        store.put(*place, bytes([number]))
    assert [store.get(*place) for place in places] == [bytes([number]) for number in range(len(places))]


def test_nothing_there(store: Store) -> None:
    store.put(*PLACE[:2], "another", Purpose.COPY, b"x")
    assert not store.exists(*PLACE)
    with pytest.raises(StorageError) as caught:
        store.get(*PLACE)
    assert caught.value.code == "storage-failed"
    store.delete(*PLACE)


def test_deleted_is_gone_alone(store: Store) -> None:
    store.put(*PLACE, b"x")
    store.put(*PLACE[:2], "another", Purpose.COPY, b"y")
    store.delete(*PLACE)
    assert not store.exists(*PLACE)
    assert store.get(*PLACE[:2], "another", Purpose.COPY) == b"y"


def test_purged_is_gone_whole(store: Store) -> None:
    store.put(*PLACE, b"x")
    store.put(OTHER, *PLACE[1:], b"y")
    store.purge(STUDY)
    store.purge(STUDY)
    assert not store.exists(*PLACE)
    assert store.get(OTHER, *PLACE[1:]) == b"y"
