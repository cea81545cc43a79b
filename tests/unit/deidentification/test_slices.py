"""Which files are cut up on the quick way: ordinary slices, and nothing else."""

from __future__ import annotations

import struct

import pytest

from dicomnode.deidentification.slices import Element, is_original, split
from dicomnode.encoded import encode_part10
from tests.unit.workflow.samples import EXPLICIT, IMPLICIT, tiny_series

IMAGE = next(iter(tiny_series()))
IMAGE.Rows = IMAGE.Columns = 32
IMAGE.PixelData = bytes(2 * 32 * 32)
PLAIN = encode_part10(IMAGE, transfer_syntax_uid=EXPLICIT)
PIXELS = PLAIN.index(b"\xe0\x7f\x10\x00OW")


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def endless(inner: bytes, tag: tuple[int, int] = (0x0040, 0x0275), close: bool = True) -> bytes:
    body = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(inner)) + inner
    return struct.pack("<HH2sHL", *tag, b"SQ", 0, 0xFFFFFFFF) + body + (b"\xfe\xff\xdd\xe0\0\0\0\0" if close else b"")


def inserted(extra: bytes) -> bytes:
    return PLAIN[:PIXELS] + extra + PLAIN[PIXELS:]


def test_an_ordinary_slice_is_cut_into_all_its_elements() -> None:
    elements = split(PLAIN)
    assert elements is not None
    assert [one.tag for one in elements] == [int(tag) for tag in sorted(IMAGE.keys())]
    whole = b"".join(bytes(one.whole) for one in elements)
    assert PLAIN.endswith(whole)
    assert whole.startswith(b"\x08\x00")


@pytest.mark.parametrize(
    ("said", "original"),
    [
        (b"ORIGINAL\\PRIMARY\\AXIAL", True),
        (b"ORIGINAL\\PRIMARY\\MIP4\\LOCALIZER\0", False),
        (b"DERIVED\\PRIMARY", False),
    ],
)
def test_a_localizer_is_no_ordinary_slice_however_it_is_padded(said: bytes, original: bool) -> None:
    data = element(0x0008, 0x0008, b"CS", said)
    assert is_original([Element(0x00080008, b"CS", 8, len(data), data)]) is original


def test_a_sequence_of_undefined_length_is_taken_whole() -> None:
    elements = split(inserted(endless(element(0x0040, 0x0007, b"LO", b"ab"))))
    assert elements is not None
    (sequence,) = [one for one in elements if one.tag == 0x00400275]
    assert bytes(sequence.whole).endswith(b"\xfe\xff\xdd\xe0\0\0\0\0")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:1000],
        PLAIN[:128] + b"NOPE" + PLAIN[132:],
        encode_part10(IMAGE, transfer_syntax_uid=IMPLICIT),
        inserted(endless(endless(b"", (0x0040, 0x0008)))),
        inserted(endless(b"", close=False)),
        inserted(struct.pack("<HH2sHL", 0x0040, 0x0275, b"UN", 0, 0xFFFFFFFF)),
        inserted(element(0x0008, 0x0005, b"CS", b"AB")),
        inserted(element(0x0040, 0x0275, b"1?", b"AB")),
        PLAIN[:-2],
        PLAIN + b"\0\0",
        PLAIN.replace(b"MONOCHROME2 ", b"RGB         "),
    ],
)
def test_whatever_is_unusual_is_left_to_the_full_way(data: bytes) -> None:
    assert split(data) is None
