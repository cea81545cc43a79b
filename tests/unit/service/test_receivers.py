"""How long the keeper waits after deaths, and how many receivers there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dicomnode.config import Config
from dicomnode.errors import KeyStoreError
from dicomnode.service.gates import count_of
from dicomnode.service.receiver import Keys
from dicomnode.service.receivers import pause_after
from dicomnode.study import World


def test_the_first_deaths_cost_no_pause_and_more_of_them_ever_longer_ones() -> None:
    assert [pause_after([100.0] * count, 100.0) for count in range(1, 12)] == [0, 0, 0, 2, 4, 8, 16, 30, 30, 30, 30]


def test_what_is_long_ago_is_forgiven() -> None:
    assert pause_after([0.0, 1.0, 2.0, 3.0, 100.0], 100.0) == 0


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 2), (3, 2), (4, 2), (8, 4), (64, 4)])
def test_as_many_as_half_the_cores_and_two_at_least_unless_told_otherwise(
    tree_of: Callable[..., Config], cores: int, count: int
) -> None:
    assert count_of(tree_of(intake={"receivers": "auto"}), cores) == count
    assert count_of(tree_of(intake={"receivers": 7}), cores) == 7
    assert count_of(tree_of(intake={"receivers": 0}), cores) == 0


def test_a_key_is_asked_for_once_until_its_study_is_forgotten() -> None:
    asked: list[str] = []

    def ask(study_key: str) -> tuple[str, str]:
        asked.append(study_key)
        if study_key == "bad":
            raise KeyStoreError("key-wrong")
        return "ab" * 32, "cd" * 4

    keys = Keys(ask)
    assert keys.get_or_create("s1", World.IDENTITY).key == bytes.fromhex("ab" * 32)
    keys.get("s1", World.IDENTITY)
    assert asked == ["s1"]
    keys.forget("s1")
    keys.get("s1", World.IDENTITY)
    assert asked == ["s1", "s1"]
    with pytest.raises(KeyStoreError, match="key-wrong"):
        keys.get("bad", World.IDENTITY)
    with pytest.raises(ValueError, match="identity"):
        keys.get("s1", World.PSEUDONYM)
    for number in range(300):
        keys.get(f"n{number}", World.IDENTITY)
    asked.clear()
    keys.get("s1", World.IDENTITY)
    assert asked == ["s1"], "a bounded number of keys is kept"
