"""What hides in one compressed frame: comments, segments and boxes that no picture needs, bytes behind its end.

Pure, in place, and of the same length. What is not understood is refused: nothing tells it from text.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from dicomnode.deidentification.markers import FRAMES, READ, Segments, Tables, is_written, withheld

_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
_TEMPORARY: Final = 0x01
#: A marker in entropy-coded data: no stuffed zero (or bit, in JPEG-LS), no restart, no fill.
_MARKER: Final = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
#: Application segments that say how to read colours: JFIF, Adobe, SPIFF, HP; and how many of their bytes do so.
_COLOURS: Final = MappingProxyType(
    {(0xE0, b"JFIF"): 14, (0xEE, b"Adobe"): 12, (0xE8, b"SPIFF"): 16, (0xE8, b"mrfx"): 5}
)
_START_OF_TILE: Final = 0x90
_START_OF_DATA: Final = 0x93
_CODESTREAM: Final = b"\xff\x4f\xff\x51"
_SIGNATURE: Final = b"\0\0\0\x0cjP  "
#: Boxes of a JP2 header that say no more than the header of the DICOM object does; a palette or other order of channels does.
_PLAIN_BOXES: Final = frozenset({b"ihdr", b"bpcc", b"colr", b"res "})
_RLE_HEADER: Final = 64
_RLE_SEGMENTS: Final = 15


def scrub_jpeg(data: bytearray) -> None:
    """Zero the comments and application segments of a JPEG or JPEG-LS stream, between scans too, and what follows EOI.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where the stream has no end, or is none.
    """
    if data[:2] != b"\xff\xd8":
        raise withheld()
    position, tables = 2, Tables()
    while position + 2 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF:
            raise withheld()
        if marker == _END_OF_IMAGE:
            _zero(data, position + 2, len(data))
            tables.blank(data)
            return
        if marker in (0xFF, _TEMPORARY):
            position += 1 if marker == 0xFF else 2
            continue
        stop = _segment(data, position)
        if marker == _START_OF_SCAN:
            tables.scan(data, position + 4, stop)
            found = _MARKER.search(data, stop)
            if found is None or is_written(data[stop : found.start()]):
                raise withheld()
            stop = found.start()
        elif marker in READ:
            tables.take(data, marker, position + 4, stop)
        else:
            _zero(data, position + 4 + _colours(marker, data[position + 4 : position + 16]), stop)
        position = stop
    raise withheld()


def _colours(marker: int, payload: bytearray) -> int:
    return next((size for (of, name), size in _COLOURS.items() if of == marker and payload.startswith(name)), 0)


def _segment(data: bytearray, position: int) -> int:
    """End of the marker segment that begins here."""
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    stop = position + 2 + length
    if length < 2 or stop > len(data):
        raise withheld()
    return stop


def scrub_jpeg_2000(data: bytearray) -> None:
    """Zero the comments of a JPEG 2000 codestream and what follows its end; of a JP2 file the codestream alone is left.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where the stream has no end, or is none.
    """
    if data.startswith(_SIGNATURE):
        stream = _boxed(data)
        data[:] = stream + bytes(len(data) - len(stream))
    if not data.startswith(_CODESTREAM):
        raise withheld()
    segments, parts = Segments(data), []
    position = _header(data, 2, _START_OF_TILE, segments)
    while data[position : position + 2] == b"\xff\x90":
        if _segment(data, position) != position + 12:
            raise withheld()
        length = int.from_bytes(data[position + 6 : position + 10], "big")
        body = _header(data, position + 12, _START_OF_DATA, segments) + 2
        stop = position + length if length else data.find(b"\xff\xd9", body)
        if not body <= stop <= len(data):
            raise withheld()
        parts.append((int.from_bytes(data[position + 4 : position + 6], "big"), stop - position))
        position = stop
    if data[position : position + 2] != b"\xff\xd9":
        raise withheld()
    segments.end(parts)
    _zero(data, position + 2, len(data))


def _header(data: bytearray, position: int, last: int, segments: Segments) -> int:
    """Zero what no decoder needs of a header, main or of a tile-part; returns where the marker after it stands."""
    segments.begin()
    while data[position : position + 1] == b"\xff":
        marker = data[position + 1] if position + 1 < len(data) else 0
        if marker == last:
            return position
        stop = _segment(data, position)
        segments.take(marker, position, stop)
        position = stop
    raise withheld()


def _boxed(data: bytearray) -> bytes:
    """Codestream of a JP2 file (ISO/IEC 15444-1 I), whose boxes must not change what it shows."""
    streams = []
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"jp2c":
            streams.append(bytes(data[start:end]))
        elif kind == b"jp2h" and any(inner not in _PLAIN_BOXES for inner, _, _ in _boxes(data, start, end)):
            raise withheld()
    if len(streams) != 1:
        raise withheld()
    return streams[0]


def _boxes(data: bytearray, position: int, end: int) -> list[tuple[bytes, int, int]]:
    """Type, start and end of the content of each box."""
    found = []
    while position + 8 <= end and any(data[position:end]):
        length, kind = int.from_bytes(data[position : position + 4], "big"), bytes(data[position + 4 : position + 8])
        start = position + 8
        if length == 1:
            start, length = position + 16, int.from_bytes(data[position + 8 : position + 16], "big")
        stop = position + length if length else end
        if not start <= stop <= end:
            break
        found.append((kind, start, stop))
        position = stop
    return found


def scrub_rle(data: bytearray, segments: int, segment_bytes: int) -> None:
    """Zero what an RLE frame (PS3.5 G) holds beside its segments: the rest of its header, bytes behind each.

    Parameters
    ----------
    segments, segment_bytes
        How many there must be, and how long each is when it is decoded.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a segment is shorter or longer than that.
    """
    offsets = [int.from_bytes(data[at : at + 4], "little") for at in range(0, _RLE_HEADER, 4)]
    count = offsets[0]
    starts = offsets[1 : count + 1]
    if count != segments or not 0 < count <= _RLE_SEGMENTS or starts[0] < _RLE_HEADER or segment_bytes < 1:
        raise withheld()
    _zero(data, 4 * count + 4, starts[0])
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        if not start <= stop <= len(data):
            raise withheld()
        _zero(data, _end_of_segment(data, start, stop, segment_bytes), stop)


def _end_of_segment(data: bytearray, position: int, stop: int, wanted: int) -> int:
    """Where the runs of a segment end that give as many bytes as wanted (PackBits, PS3.5 G.3.2)."""
    while wanted > 0 and position < stop:
        control = data[position]
        if control < 128:
            position += control + 2
            wanted -= control + 1
        else:
            position += 1 if control == 128 else 2
            wanted -= 0 if control == 128 else 257 - control
    if wanted or position > stop:
        raise withheld()
    return position


def highest_bytes_of_rle(frame: bytes, size: int) -> frozenset[int]:
    """Values of the most significant byte of each sample of `size` bytes in a scrubbed RLE frame (PS3.5 G.2)."""
    count = int.from_bytes(frame[:4], "little")
    starts = [int.from_bytes(frame[at : at + 4], "little") for at in range(4, 4 * count + 4, 4)]
    ends = [*starts[1:], len(frame)]
    found: set[int] = set()
    for start, stop in zip(starts[::size], ends[::size], strict=True):
        position = start
        while position < stop:
            control = frame[position]
            run = 0 if control == 128 else 1 if control > 128 else control + 1  # PackBits
            found.update(frame[position + 1 : position + 1 + run])
            position += 1 + run
    return frozenset(found)


def precision_of(frame: bytes) -> int:
    """Bits of a sample of a scrubbed JPEG, JPEG-LS or JPEG 2000 stream; 0 where none is said, so that nothing decodes it."""
    if frame.startswith(_CODESTREAM):
        count = int.from_bytes(frame[40:42], "big")  # of components (ISO/IEC 15444-1 A.5.1)
        return max(((depth & 0x7F) + 1 for depth in frame[42 : 42 + 3 * count : 3]), default=0)
    position, precision = 2, 0
    while (marker := frame[position + 1]) not in (_START_OF_SCAN, _END_OF_IMAGE):
        if marker in FRAMES:
            precision = max(precision, frame[position + 4])
        if marker in (0xFF, _TEMPORARY):
            position += 1 if marker == 0xFF else 2
        else:
            position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return precision


def _zero(data: bytearray, start: int, end: int) -> None:
    if end > start:
        data[start:end] = bytes(end - start)
