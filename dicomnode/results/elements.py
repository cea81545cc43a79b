"""Encoded elements (PS3.5 7.1.2, 7.5.1; Explicit VR Little Endian): making one, finding one, and putting several where they belong.

May live here: bytes and lengths. What an element means is nobody's business here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from dicomnode.errors import StudyError

#: Value Representations with a length of four bytes (PS3.5 7.1.2) that a result has.
LONG: Final = frozenset({b"SQ", b"OB", b"OW", b"UN", b"UT", b"UC", b"UR"})
_ITEM: Final = struct.pack("<HH", 0xFFFE, 0xE000)
_ITEM_HEAD: Final = struct.Struct("<4sI")
_LENGTH: Final = struct.Struct("<I")
_SHORT: Final = struct.Struct("<HH2sH")
_WIDE: Final = struct.Struct("<HH2sHI")


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    """An element with its value, padded to an even length (PS3.5 6.2, 7.1.2).

    Raises
    ------
    StudyError
        ``object-malformed`` if the value is longer than its VR lets it be.
    """
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    if vr in LONG:
        return _WIDE.pack(tag >> 16, tag & 0xFFFF, vr, 0, len(value)) + value
    if len(value) > 0xFFFE:
        raise StudyError("object-malformed")
    return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def one_item(*parts: bytes) -> bytes:
    """An item of a sequence, with the length that its elements have."""
    body = b"".join(parts)
    return _ITEM + _LENGTH.pack(len(body)) + body


def head_of(data: bytes, at: int) -> tuple[int, bytes, int, int]:
    """Tag and VR of an element, and where its value begins and ends.

    Raises
    ------
    ValueError
        Where there is none, or it ends beyond the end.
    """
    try:
        group, number, vr, length = _SHORT.unpack_from(data, at)
        start = at + _SHORT.size
        if vr in LONG:
            (length,) = _LENGTH.unpack_from(data, start)
            start += _LENGTH.size
    except struct.error:
        raise ValueError("no element") from None
    if start + length > len(data):
        raise ValueError("beyond the end")
    return group << 16 | number, vr, start, start + length


def items_of(value: bytes) -> Iterator[bytes]:
    """Items of a sequence's value, without their tags and lengths.

    Raises
    ------
    ValueError
        Where it holds something else.
    """
    at = 0
    while at < len(value):
        tag, length = _ITEM_HEAD.unpack_from(value, at) if at + _ITEM_HEAD.size <= len(value) else (b"", 0)
        at += _ITEM_HEAD.size
        if tag != _ITEM or at + length > len(value):
            raise ValueError("no item")
        yield value[at : at + length]
        at += length


def spliced(encoded: bytes, elements: Mapping[int, bytes]) -> bytes:
    """An encoded Data Set with further elements where their tags belong."""
    pieces, at, begun = [], 0, 0
    waiting = sorted(elements.items())
    while waiting and at < len(encoded):
        group, number, vr, short = struct.unpack_from("<HH2sH", encoded, at)
        if group << 16 | number > waiting[0][0]:
            pieces += [encoded[begun:at], waiting.pop(0)[1]]
            begun = at
        elif vr in LONG:
            at += 12 + struct.unpack_from("<I", encoded, at + 8)[0]
        else:
            at += 8 + short
    return b"".join([*pieces, encoded[begun:], *(element for _, element in waiting)])
