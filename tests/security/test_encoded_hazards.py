"""Data Sets made to exhaust a parser: each is refused with one code, fast. One attack, one test."""

from __future__ import annotations

import resource
import struct
import time
import zlib
from functools import cache

import pytest

from dicomnode.encoded import Limits, check_budget, read_dataset, scan_header
from dicomnode.errors import StudyError

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNDEFINED = b"\xff\xff\xff\xff"
SEQUENCE = b"\x08\x00\x40\x11SQ\0\0"
ITEM = b"\xfe\xff\x00\xe0"
LIMITS = Limits()
#: Times the cost of a Data Set of as many elements as may be: the three ways take two or three, what the attacks are made for hundreds.
GENEROUS = 10
ELEMENT = b"\x09\x00\x10\x00LO\0\0"


@cache
def cost_of_what_may_be() -> float:
    """CPU seconds of looking at a Data Set of as many elements as may be: the measure of all others, whatever machine this is."""
    encoded = ELEMENT * LIMITS.maximum_items
    began = time.thread_time()
    check_budget(encoded, EXPLICIT, LIMITS)
    return time.thread_time() - began


def refused(encoded: bytes, transfer_syntax_uid: str, limits: Limits = LIMITS) -> set[str]:
    """Codes of the three ways in, within bounded CPU time."""
    codes = set()
    started = time.thread_time()
    for call in (check_budget, read_dataset, scan_header):
        with pytest.raises(StudyError) as caught:
            call(encoded, transfer_syntax_uid, limits)
        codes.add(caught.value.code)
    assert time.thread_time() - started < GENEROUS * cost_of_what_may_be()
    return codes


def test_two_million_empty_items() -> None:
    """pydicom: 194 s of CPU and 1.7 GB for 15 MB."""
    items = (ITEM + b"\0\0\0\0") * 2_000_000
    encoded = SEQUENCE + struct.pack("<L", len(items)) + items
    assert refused(encoded, EXPLICIT) == {"object-too-complex"}


def test_two_million_empty_items_behind_a_private_tag_without_a_vr() -> None:
    items = (ITEM + b"\0\0\0\0") * 2_000_000
    encoded = b"\x09\x00\x10\x00" + struct.pack("<L", len(items)) + items
    assert refused(encoded, IMPLICIT) == {"object-too-complex"}


def test_two_million_empty_elements() -> None:
    encoded = ELEMENT * 2_000_000
    assert refused(encoded, EXPLICIT) == {"object-too-complex"}


def test_items_hidden_behind_a_length_that_lies_in_a_sequence() -> None:
    """What breaks the walk is refused, not handed to a parser that is more patient."""
    items = ITEM + b"\xf0\xff\xff\x0f" + (ITEM + b"\0\0\0\0") * 500_000
    encoded = SEQUENCE + struct.pack("<L", len(items)) + items
    with pytest.raises(StudyError) as caught:
        read_dataset(encoded, EXPLICIT, LIMITS)
    assert caught.value.code == "object-malformed"


def test_a_deflate_bomb() -> None:
    """497 KB that inflate to 500 MB: not one byte beyond the limit is made."""
    packer = zlib.compressobj(9, wbits=-15)
    block = b"\0" * (1024 * 1024)
    bomb = b"".join(packer.compress(block) for _ in range(500)) + packer.flush()
    assert len(bomb) < 520_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limits = Limits(maximum_inflated_bytes=8 * 1024 * 1024)
    for call in (check_budget, read_dataset):
        with pytest.raises(StudyError) as caught:
            call(bomb, DEFLATED, limits)
        assert caught.value.code == "object-too-complex"
    with pytest.raises(StudyError):
        scan_header(bomb, DEFLATED, limits)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


@pytest.mark.parametrize("depth", [33, 171, 20_000])
def test_deep_nesting_of_undefined_lengths(depth: int) -> None:
    """pydicom: RecursionError beyond 170."""
    encoded = (SEQUENCE + UNDEFINED + ITEM + UNDEFINED) * depth
    assert refused(encoded, EXPLICIT) == {"object-too-complex"}


def test_deep_nesting_of_defined_lengths() -> None:
    encoded = b""
    for _ in range(200):
        item = ITEM + struct.pack("<L", len(encoded)) + encoded
        encoded = SEQUENCE + struct.pack("<L", len(item)) + item
    assert refused(encoded, EXPLICIT) - {"object-without-uids"} == {"object-too-complex"}


def test_nesting_as_deep_as_allowed_is_read() -> None:
    encoded = b""
    for _ in range(LIMITS.maximum_nesting):
        item = ITEM + struct.pack("<L", len(encoded)) + encoded
        encoded = SEQUENCE + struct.pack("<L", len(item)) + item
    dataset = read_dataset(encoded, EXPLICIT, LIMITS)
    assert sum(1 for _ in dataset.iterall()) == LIMITS.maximum_nesting


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff" + b"\0" * 64,
        b"\x08\x00\x40\x11SQ\0\0\xf0\xff\xff\xff" + b"\0" * 64,
        b"\x09\x00\x10\x10UN\0\0\xf0\xff\xff\xff" + b"\0" * 64,
        b"\x08\x00\x18\x00UT\0\0\xfe\xff\xff\xff" + b"1.2",
    ],
)
def test_a_length_of_four_gigabytes(encoded: bytes) -> None:
    """pydicom takes what is there, and says nothing."""
    assert refused(encoded, EXPLICIT) <= {"object-malformed", "object-without-uids"}
    with pytest.raises(StudyError) as caught:
        read_dataset(encoded, EXPLICIT, LIMITS)
    assert caught.value.code == "object-malformed"
