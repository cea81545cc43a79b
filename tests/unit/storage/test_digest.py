"""Digests of content: equal for equal bytes under one key, however they came, and different otherwise."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicomnode.storage.digest import ContentDigests

DIGESTS = ContentDigests(bytes(range(32)))


def test_a_vector_that_stays() -> None:
    assert DIGESTS.of(b"data set") == "a2adbc36b2ee6825809989704051354827866fb85d68af991bceed3da6764c8b"


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=5))
def test_how_it_is_cut_does_not_matter(data: bytes, cuts: list[int]) -> None:
    digest, rest = DIGESTS.begin(), data
    for cut in cuts:
        digest.update(memoryview(rest)[:cut])
        rest = rest[cut:]
    digest.update(rest)
    assert digest.hexdigest() == DIGESTS.of(data)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_at_once_is_as_in_a_stream(data: bytes, cut: int) -> None:
    digest = DIGESTS.begin()
    if cut:
        digest.update(data[:cut])
    digest.update(data[cut:], last=True)
    assert digest.hexdigest() == DIGESTS.of(data)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_other_bytes_have_another_digest(one: bytes, other: bytes) -> None:
    assert (DIGESTS.of(one) == DIGESTS.of(other)) == (one == other)


def test_trailing_zeros_count() -> None:
    """GHASH pads with zeros: the length tells them apart."""
    assert len({DIGESTS.of(bytes(count)) for count in range(40)}) == 40


def test_another_key_has_other_digests() -> None:
    assert ContentDigests(bytes(32)).of(b"data set") != DIGESTS.of(b"data set")
