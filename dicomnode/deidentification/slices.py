"""Slices as bytes: the elements of a file that is as plain as nearly all files of CT, MR and PET are. Pure; decodes nothing."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
PIXEL_DATA: Final = 0x7FE00010
IMAGE_TYPE: Final = 0x00080008
SOP_INSTANCE: Final = 0x00080018
SYNTAX: Final = b"\x02\x00\x10\x00UI\x14\x00" + EXPLICIT_LITTLE.encode() + b"\0"
_ORDINARY: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.{last}".encode() for last in ("2", "4", "128"))
_LONG: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_LONGEST_HEADER: Final = 64 * 1024
_HEADER: Final = struct.Struct("<HH2sH").unpack_from
SHORT: Final = struct.Struct("<H").unpack_from
_LONGER: Final = struct.Struct("<L").unpack_from


class Element(NamedTuple):
    """An element of the top level: where its value lies, and all its bytes."""

    tag: int
    vr: bytes
    start: int
    end: int
    whole: bytes


def split(data: bytes) -> list[Element] | None:
    """Top-level elements of an ordinary file; None where anything is unusual."""
    if data[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00" or len(data) < 1024:
        return None
    start = 144 + _LONGER(data, 140)[0]
    if SYNTAX not in data[144:start] or data[start : start + 2] != b"\x08\x00":
        return None
    try:
        elements = _elements(data, start)
        return elements if elements and _is_ordinary(elements, len(data)) else None
    except (struct.error, IndexError):
        return None


def is_original(elements: list[Element]) -> bool:
    """Whether a slice is as the scanner made it: nobody and no program drew on it since (PS3.3 C.7.6.1.1.2); and no localizer."""
    said = next((element.whole[8:] for element in elements if element.tag == IMAGE_TYPE), b"")
    words = [word.strip(b" \0") for word in said.split(b"\\")]
    return words[:2] == [b"ORIGINAL", b"PRIMARY"] and b"LOCALIZER" not in words


def _elements(data: bytes, position: int) -> list[Element] | None:
    found = []
    last = 0
    while position < len(data):
        group, number, vr, length = _HEADER(data, position)
        tag = group << 16 | number
        start = position + 8
        if vr in _LONG:
            start = position + 12
            length = _LONGER(data, position + 8)[0]
        if length == 0xFFFFFFFF:
            if vr != b"SQ":
                return None
            end = _end_of_sequence(data, start)
        else:
            end = start + length
        if tag <= last or end > len(data) or (start > _LONGEST_HEADER and tag != PIXEL_DATA) or not vr.isalpha():
            return None
        last = tag
        whole = data[position:end] if tag != PIXEL_DATA else memoryview(data)[position:end]
        found.append(Element(tag, vr, start, end, whole))  # type: ignore[arg-type]
        position = end
    return found


def _end_of_sequence(data: bytes, start: int) -> int:
    """End of a sequence of undefined length, where no other stands within."""
    delimiter = b"\xfe\xff\xdd\xe0\0\0\0\0"
    place = data.find(delimiter, start, start + _LONGEST_HEADER)
    if place < 0:
        return len(data) + 1
    end = place + len(delimiter)
    inner = data.find(b"SQ\0\0\xff\xff\xff\xff", start, end)
    return end if inner < 0 else len(data) + 1


def _is_ordinary(elements: list[Element], size: int) -> bool:
    """Whether it is a plain slice: CT, MR or PET, one frame of 16 bits, its pixels whole and last."""
    values = {element.tag: element.whole[8:] for element in elements if element.tag in NEEDED}
    last = elements[-1]
    if len(values) != len(NEEDED) or last.tag != PIXEL_DATA or last.vr != b"OW" or last.end != size:
        return False
    if values[0x00080016].rstrip(b"\0") not in _ORDINARY or values[0x00280004].rstrip() != b"MONOCHROME2":
        return False
    numbers = {tag: SHORT(values[tag])[0] for tag in NEEDED if tag >> 16 == 0x28 and tag != 0x00280004}
    length = numbers[0x00280010] * numbers[0x00280011] * 2
    plain = numbers[0x00280002] == 1 and numbers[0x00280100] == 16
    high = numbers[0x00280102] == numbers[0x00280101] - 1
    frames = next((element.whole[8:].strip() for element in elements if element.tag == 0x00280008), b"1")
    return plain and high and frames == b"1" and last.end - last.start == length > 0


NEEDED: Final = frozenset(
    {0x00080016, SOP_INSTANCE, 0x0020000D, 0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100, 0x00280101,
     0x00280102, 0x00280103}
)  # fmt: skip
