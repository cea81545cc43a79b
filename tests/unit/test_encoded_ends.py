"""Where a Data Set ends that has bytes behind it."""

from __future__ import annotations

import pytest

from dicomnode.encoded import Limits, encode_dataset, read_part10
from dicomnode.encoded.walk import end_of, layout_of
from dicomnode.errors import StudyError
from tests.unit.test_encoded import (
    BIG,
    EXPLICIT,
    IMPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UIDS,
    UNDEFINED,
    code_of,
    explicit,
    implicit,
    item,
    sample,
)

LIMITS = Limits()
PIXELS = explicit(0x7FE00010, "OW", b"\1\2\3\4")
FRAGMENTS = explicit(0x7FE00010, "OB", b"", UNDEFINED) + item() + item(b"\1\2") + SEQUENCE_END
SIGNATURES = explicit(0xFFFAFFFA, "SQ", item(explicit(0x04000005, "US", b"\1\0")))
PADDING = explicit(0xFFFCFFFC, "OB", b"\0\0")


def end(data: bytes, syntax: str = EXPLICIT, limits: Limits = LIMITS) -> int:
    return end_of(data, layout_of(syntax), limits)


@pytest.mark.parametrize("more", [b"", SIGNATURES, PADDING, SIGNATURES + PADDING], ids=["", "signed", "padded", "both"])
@pytest.mark.parametrize("pixels", [PIXELS, FRAGMENTS, explicit(0x7FE00008, "OW", bytes(8))])
@pytest.mark.parametrize("behind", [b"no element", bytes(8), ITEM_END, UIDS, b"\xfd\xff\0\0OB\0\0\xff"], ids=range(5))
def test_it_ends_behind_its_pixels_and_what_rises_behind_them(pixels: bytes, more: bytes, behind: bytes) -> None:
    whole = UIDS + pixels + more
    assert end(whole + behind) == len(whole)


@pytest.mark.parametrize("pixels", [PIXELS, FRAGMENTS])
def test_pixels_that_come_once_more_are_behind_it_cut_or_not(pixels: bytes) -> None:
    whole = UIDS + pixels
    assert end(whole + PIXELS[:-1]) == end(whole + PIXELS + b"no element") == end(whole + FRAGMENTS[:-8]) == len(whole)


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG])
def test_in_other_layouts(syntax: str) -> None:
    whole = encode_dataset(sample(), syntax)
    assert end(whole + b"no element", syntax) == len(whole)


def test_with_nothing_behind_it_it_ends_where_it_ends() -> None:
    assert end(UIDS + PIXELS) == len(UIDS + PIXELS)
    assert end(UIDS) == len(UIDS)


@pytest.mark.parametrize(
    "data",
    [
        UIDS + b"no element",
        UIDS + PIXELS[:-1],
        UIDS + FRAGMENTS[:-8],
        UIDS + FRAGMENTS[:-12],
        UIDS + FRAGMENTS[:-8] + b"no element",
        UIDS + explicit(0x7FE00009, "OW", bytes(8)) + PIXELS[:-1],
    ],
    ids=["before", "native", "delimiter", "fragment", "fragments", "second"],
)
def test_what_is_broken_before_its_pixels_or_within_them_has_no_end(data: bytes) -> None:
    assert code_of(end, data) == "object-malformed"


def test_what_is_too_complex_stays_so_but_for_bytes_behind_it() -> None:
    deep = explicit(0xFFFAFFFA, "SQ", item(explicit(0x04000561, "SQ", item())))
    assert code_of(end, UIDS + PIXELS + deep, EXPLICIT, Limits(maximum_nesting=1)) == "object-too-complex"
    assert end(UIDS + PIXELS + bytes(800), EXPLICIT, Limits(maximum_items=50)) == len(UIDS + PIXELS)


@pytest.mark.parametrize("behind", [b"no element", b"\r\n" * 4])
def test_a_file_is_read_without_what_is_behind_it_where_that_is_asked(behind: bytes) -> None:
    data = UIDS + PIXELS
    assert read_part10(data + behind, LIMITS, drop_rest=True) == read_part10(data, LIMITS)
    with pytest.raises(StudyError, match="object-malformed"):
        read_part10(data + behind, LIMITS)


def test_a_private_value_behind_the_pixels_that_only_looks_like_a_sequence_is_skipped() -> None:
    whole = UIDS + PIXELS + explicit(0x7FE11001, "UN", implicit(0xFFFEE000, b"", 99))
    assert end(whole + b"no element") == len(whole)
