"""What hides in encapsulated pixel data beside the picture: offset tables, fragments and bytes that no decoder reads.

Pure, and in place: lengths and offsets stay, so that offset tables stay true (PS3.5 A.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

from dicomnode.deidentification import streams
from dicomnode.deidentification.bits import Bits
from dicomnode.deidentification.stored import RLE
from dicomnode.errors import StudyError

_ROOT: Final = "1.2.840.10008.1.2.4."
_JPEG: Final = frozenset(f"{_ROOT}{last}" for last in (*range(50, 67), 70, 80, 81))
_JPEG_2000: Final = frozenset(f"{_ROOT}{last}" for last in (90, 91, 92, 93, 201, 202, 203))
VIDEO: Final = tuple(f"{_ROOT}{last}" for last in range(100, 109))
_ITEM: Final = b"\xfe\xff\x00\xe0"
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
#: How a frame begins, where fragments alone tell frames apart: SOI; SOC and SIZ; a JP2 signature box.
_BEGINNINGS: Final = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What an object says of its frames: how many they are, and the length of one segment of RLE (PS3.5 G)."""

    frames: int = 1
    segments: int = 1
    segment_bytes: int = 0


def scrub(value: bytes, transfer_syntax_uid: str, picture: Picture) -> bytes:
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

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a stream is not what it should be, so that nothing tells the picture from other bytes.
    """
    frame = _scrubber(transfer_syntax_uid, picture)
    if not value:
        return value
    items, end = _items(value)
    if len(items) < 2 or value[end:] not in (b"", _DELIMITER):
        raise StudyError("withheld-pixels", because="fragments")
    new = bytearray(value)
    table, parts = items[0], items[1:]
    offsets = _offsets(value, table, parts)
    for first, last in _frames(value, offsets, parts, picture.frames):
        _put(new, parts[first:last], frame)
    if table[1] > table[0] and len(offsets) != picture.frames:
        del new[table[0] : table[1]]
        new[table[0] - 4 : table[0]] = b"\0\0\0\0"
    return value if new == value else bytes(new)


def may_hide(value: bytes, transfer_syntax_uid: str, picture: Picture, bits: Bits) -> bool:
    """Whether samples of scrubbed pixel data may have bits set that their values have not (PS3.5 8.1.1).

    Streams of RLE hold whole words; others say how many bits a sample has.
    """
    if not (value and bits.has_unused):
        return False
    items, _ = _items(value)
    table, parts = items[0], items[1:]
    for first, last in _frames(value, _offsets(value, table, parts), parts, picture.frames):
        frame = b"".join(value[start:end] for start, end in parts[first:last])
        if transfer_syntax_uid == RLE:
            if not bits.fits(streams.highest_bytes_of_rle(frame, bits.allocated // 8)):
                return True
        elif not bits.holds(streams.precision_of(frame)):
            return True
    return False


def fragments(value: bytes) -> list[tuple[int, int]]:
    """Start and end of each fragment, without the Basic Offset Table."""
    return _items(value)[0][1:]


def _scrubber(transfer_syntax_uid: str, picture: Picture) -> Callable[[bytearray], None]:
    if transfer_syntax_uid in _JPEG:
        return streams.scrub_jpeg
    if transfer_syntax_uid in _JPEG_2000:
        return streams.scrub_jpeg_2000
    if transfer_syntax_uid == RLE:
        return partial(streams.scrub_rle, segments=picture.segments, segment_bytes=picture.segment_bytes)
    raise StudyError("withheld-pixels", because="syntax")


def _items(value: bytes) -> tuple[list[tuple[int, int]], int]:
    """Start and end of the value of each whole item, and where what is none begins."""
    found = []
    position = 0
    while value[position : position + 4] == _ITEM:
        start = position + 8
        end = start + int.from_bytes(value[position + 4 : start], "little")
        if end > len(value):
            break
        found.append((start, end))
        position = end
    return found, position


def _offsets(value: bytes, table: tuple[int, int], parts: list[tuple[int, int]]) -> list[int]:
    """Index of the first fragment of each frame by the Basic Offset Table; empty where it is none."""
    places = {start - 8 - table[1]: index for index, (start, _) in enumerate(parts)}
    whole = value[slice(*table)]
    if not whole or len(whole) % 4:
        return []
    found = [places.get(int.from_bytes(whole[at : at + 4], "little"), -1) for at in range(0, len(whole), 4)]
    return found if found[0] == 0 and all(a < b for a, b in pairwise(found)) else []


def _frames(value: bytes, offsets: list[int], parts: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """Fragments of each frame, from the first up to but without the last."""
    if count == 1:
        starts = [0]
    elif len(offsets) == count:
        starts = offsets
    elif len(parts) == count:
        starts = list(range(count))
    else:
        starts = [index for index, (start, _) in enumerate(parts) if value.startswith(_BEGINNINGS, start)]
    if len(starts) != count or starts[0] != 0:
        raise StudyError("withheld-pixels", because="fragments")
    return list(zip(starts, [*starts[1:], len(parts)], strict=True))


def _put(data: bytearray, parts: list[tuple[int, int]], frame: Callable[[bytearray], None]) -> None:
    """Scrub a frame, which may lie in several fragments."""
    whole = bytearray(b"".join(data[start:end] for start, end in parts))
    before = bytes(whole)
    frame(whole)
    if whole == before:
        return
    position = 0
    for start, end in parts:
        data[start:end] = whole[position : position + end - start]
        position += end - start
