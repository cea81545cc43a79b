"""What hides in encapsulated pixel data beside the picture: comments and application segments, bytes after its end.

Pure, and in place: lengths and offsets stay, so that offset tables stay true (PS3.5 A.4).
"""

from __future__ import annotations

from typing import Final

_JPEG_2000: Final = frozenset({f"1.2.840.10008.1.2.4.{last}" for last in ("90", "91", "92", "93", "201", "202", "203")})
_ITEM: Final = b"\xfe\xff\x00\xe0"
#: Markers without a length: SOI, EOI, TEM, RST0-7; and SOS, after which no segment is looked for.
_BARE: Final = frozenset({0xD8, 0xD9, 0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN: Final = 0xDA
_START_OF_TILE: Final = 0x90
#: APP0 (JFIF), APP8 (SPIFF, colour transforms of JPEG-LS), APP14 (Adobe's colour transform) say how to read colours.
_COLOUR_SEGMENTS: Final = frozenset({0xE0, 0xE8, 0xEE})
_COLOUR_BYTES: Final = 16


def scrub(value: bytes, transfer_syntax_uid: str) -> bytes:
    """Encapsulated pixel data whose frames carry no text beside the picture.

    Parameters
    ----------
    value
        Value of Pixel Data: items from the Basic Offset Table on, little endian.
    transfer_syntax_uid
        Which kind of stream the fragments hold.

    Returns
    -------
    bytes
        The same object where nothing was found.
    """
    jpeg = transfer_syntax_uid.startswith("1.2.840.10008.1.2.4.") and transfer_syntax_uid not in _JPEG_2000
    if not jpeg and transfer_syntax_uid not in _JPEG_2000:
        return value
    new = bytearray(value)
    for start, end in fragments(value):
        if jpeg:
            _scrub_jpeg(new, start, end)
        else:
            _scrub_jpeg_2000(new, start, end)
    return value if new == value else bytes(new)


def fragments(value: bytes) -> list[tuple[int, int]]:
    """Start and end of each fragment, without the Basic Offset Table."""
    found = []
    position = 0
    while value[position : position + 4] == _ITEM:
        length = int.from_bytes(value[position + 4 : position + 8], "little")
        start = position + 8
        end = min(start + length, len(value))
        found.append((start, end))
        position = start + length
    return found[1:]


def _scrub_jpeg(data: bytearray, start: int, end: int) -> None:
    """Zero the comments (FFFE) and application segments of a JPEG or JPEG-LS stream up to its first scan."""
    position = start + 2
    if data[start : start + 2] != b"\xff\xd8":
        return
    while position + 4 <= end and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _BARE:
            position += 2
            continue
        if marker == _START_OF_SCAN:
            break
        stop = min(position + 2 + int.from_bytes(data[position + 2 : position + 4], "big"), end)
        if marker == 0xFE or 0xE0 <= marker <= 0xEF:
            first = position + 4 + (_COLOUR_BYTES if marker in _COLOUR_SEGMENTS else 0)
            _zero(data, first, stop)
        position = max(stop, position + 2)
    last = data.rfind(b"\xff\xd9", start, end)
    if last >= 0:
        _zero(data, last + 2, end)


def _scrub_jpeg_2000(data: bytearray, start: int, end: int) -> None:
    """Zero the comments (FF64) of the main header of a JPEG 2000 codestream, and what follows its end."""
    if data[start : start + 2] != b"\xff\x4f":
        return
    position = start + 2
    while position + 4 <= end and data[position] == 0xFF and data[position + 1] != _START_OF_TILE:
        stop = min(position + 2 + int.from_bytes(data[position + 2 : position + 4], "big"), end)
        if data[position + 1] == 0x64:
            _zero(data, position + 6, stop)
        position = max(stop, position + 2)
    last = data.rfind(b"\xff\xd9", start, end)
    if last >= 0:
        _zero(data, last + 2, end)


def _zero(data: bytearray, start: int, end: int) -> None:
    if end > start:
        data[start:end] = bytes(end - start)
