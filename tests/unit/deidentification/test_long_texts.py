"""Texts that somebody made long: what looks through them takes four times as long for four times as much, not sixteen times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from dicomnode.deidentification.disguises import decoded, undisguised
from dicomnode.deidentification.fragments import fragments_of
from dicomnode.deidentification.traces import traces

SHORT, LONG = 5_000, 20_000
FRAGMENTS = fragments_of(
    frozenset(["4711333"]), frozenset(["19510304"]), frozenset([73]), frozenset("M"), frozenset(["jb", "jmb"])
)
UNITS = ["a", "1", "a ", "a,", "%4", "%41", "&#", "=4", "0x", "-", "ab-", "1.", "@", "a@", "/a", "aGk", "&amp;", "ä"]


def fragments(text: str) -> Iterator[object]:
    """Of somebody with initials."""
    return iter(FRAGMENTS.spans(text))


def seconds(look: Callable[[str], Iterator[object]], text: str) -> float:
    began = time.thread_time()
    for _found in look(text):
        pass
    return time.thread_time() - began


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("before", ["", "@ "], ids=["plain", "gate"])
@pytest.mark.parametrize("look", [traces, undisguised, decoded, fragments])
def test_the_cost_grows_with_the_length(look: Callable[[str], Iterator[object]], before: str, unit: str) -> None:
    short, long = (before + unit * (length // len(unit)) for length in (SHORT, LONG))
    tries = ((seconds(look, long), seconds(look, short)) for _ in range(3))
    assert any(of_long < 8 * of_short + 0.02 for of_long, of_short in tries)  # the first, where nothing disturbs it
