from __future__ import annotations

import time

import pytest

from dicomnode.patterns import MOST_CHARACTERS, bounded_pattern, found

ORDINARY = [
    "thorax|chest",
    "^(CT )?(thorax|chest).*(routine|std)$",
    ".*a.*b.*c",
    r"[a-z]{2,5}\d+",
    "x{100000000}",
    "(CT )+",
]
HOSTILE = [
    "(a+)+$",
    "(a|a)*$",
    "(a|a)" * 22 + "b",
    "a?" * 22 + "b",
    "(ab?)+",
    "((((a*)*)*)*)*b",
    "(a*){0,3}b",
    "a*a*a*a*b",
    ".*" * 40,
    "(a{1,8}){1,8}b",
]


@pytest.mark.parametrize("pattern", ORDINARY)
def test_what_people_write_is_taken_as_it_is(pattern: str) -> None:
    assert bounded_pattern(pattern) == pattern


@pytest.mark.parametrize("pattern", HOSTILE)
def test_what_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        bounded_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "*", "(?P<x", "(" * 3000])
def test_what_is_none_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        bounded_pattern(pattern)


@pytest.mark.parametrize("pattern", ["(?=x)y", r"(a)\1", "(?<!a)b", "(?>a*)b"])
def test_looking_around_and_back_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="around or back"):
        bounded_pattern(pattern)


@pytest.mark.parametrize("pattern", ["[a-z]*[a-z]*[a-z]*q", "(a|a)" * 16 + "b", "a?" * 14 + "b", "a{1,7}" * 4 + "b"])
def test_the_dearest_of_those_that_are_taken_is_done_within_seconds_of_processor_time(pattern: str) -> None:
    bounded_pattern(pattern)
    begun = time.process_time()
    assert not found(pattern, "a" * 4096)
    assert time.process_time() - begun < 10  # a doubling of what is allowed doubles nothing: it takes for ever


def test_case_is_nothing_and_what_stands_far_behind_is_not_looked_at() -> None:
    assert found("THORAX", "routine thorax 5mm")
    assert not found("b", "a" * MOST_CHARACTERS + "b")
