"""Explicit VR written anew as Implicit VR: as pydicom writes it, byte for byte, and no value is touched."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset

from dicomnode.encoded import encode_dataset, implicit_parts, read_dataset
from dicomnode.encoded.walk import Limits
from dicomnode.errors import StudyError
from tests.unit.test_encoded import EXPLICIT, IMPLICIT, explicit, implicit, sample

ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, number) for number in (0xE000, 0xE00D, 0xE0DD))
UNDEFINED = b"\xff\xff\xff\xff"


def whole(encoded: bytes) -> bytes:
    return b"".join(implicit_parts(encoded))


def with_undefined_lengths(dataset: Dataset) -> Dataset:
    for element in dataset.iterall():
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    return dataset


@pytest.mark.parametrize("change", [lambda dataset: dataset, with_undefined_lengths])
def test_it_is_what_pydicom_writes(change: Callable[[Dataset], Dataset]) -> None:
    dataset = change(sample())
    dataset.add_new(0x00091001, "UN", b"private!")
    dataset.add_new(0x0040A160, "UT", "long text " * 9000)
    data = encode_dataset(dataset, EXPLICIT)
    assert whole(data) == encode_dataset(change(dataset), IMPLICIT)
    again = read_dataset(whole(data), IMPLICIT, Limits())
    assert again == read_dataset(data, EXPLICIT, Limits())


def test_long_values_are_not_copied() -> None:
    pixels = bytes(range(256)) * 1024
    data = (
        encode_dataset(sample(), EXPLICIT)[: -12 - 4]
        + explicit(0x7FE00010, "OW", pixels)
        + b"\xfc\xff\xfc\xffOB\0\0\2\0\0\0\0\0"
    )
    parts = implicit_parts(data)
    assert [part.obj is data for part in parts if isinstance(part, memoryview)] == [True]
    assert b"".join(parts).endswith(implicit(0x7FE00010, pixels) + b"\xfc\xff\xfc\xff\2\0\0\0\0\0")


def test_long_values_of_an_item_count_to_its_length() -> None:
    inner = explicit(0x00091001, "OB", bytes(70_000))
    data = explicit(0x00081115, "SQ", ITEM + struct.pack("<L", len(inner)) + inner)
    short = implicit(0x00091001, bytes(70_000))
    assert whole(data) == implicit(0x00081115, ITEM + struct.pack("<L", len(short)) + short)


def test_group_lengths_are_left_out() -> None:
    name = explicit(0x00100010, "PN", b"A^B ")
    assert whole(explicit(0x00100000, "UL", struct.pack("<L", len(name))) + name) == implicit(0x00100010, b"A^B ")


def test_nothing_is_nothing() -> None:
    assert implicit_parts(b"") == ()
    empty = explicit(0x00081115, "SQ", b"")
    assert whole(empty) == implicit(0x00081115, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        encode_dataset(sample(), EXPLICIT)[:-1],
        encode_dataset(sample(), IMPLICIT),
        explicit(0x7FE00010, "OB", b"", length=0xFFFFFFFF),
        explicit(0x00081115, "UN", b"", length=0xFFFFFFFF),
        explicit(0x00081115, "SQ", b"\0" * 8),
        explicit(0x00081115, "SQ", SEQUENCE_END + b"\0" * 4),
        explicit(0x00081115, "SQ", b"", length=8),
        explicit(0x00081115, "SQ", ITEM + struct.pack("<L", 9) + b"\0" * 8),
        explicit(0x00081115, "SQ", ITEM + UNDEFINED, length=0xFFFFFFFF),
        explicit(0x00081115, "SQ", ITEM + struct.pack("<L", 8) + explicit(0x00080060, "CS", b"", length=2)),
        explicit(0x00081115, "SQ", ITEM + struct.pack("<L", 8) + ITEM_END + b"\0" * 4),
        explicit(0x00080060, "C1", b"CT"),
        b"\x08\0\x60",
    ],
)
def test_what_is_not_explicit_or_can_only_be_explicit_is_refused(wrong: bytes) -> None:
    with pytest.raises(StudyError, match="object-malformed"):
        implicit_parts(wrong)


def test_a_deep_one_is_walked_without_recursion() -> None:
    deep = b""
    for _ in range(5000):
        deep = explicit(0x00081115, "SQ", ITEM + struct.pack("<L", len(deep)) + deep)
    data = whole(deep)
    assert len(data) == 5000 * 16
