"""Truth before sending, of a segmentation that was completed from prepared parts: its frames are read again, as bytes.

May live here: proofs on encoded frames; each returns nothing or raises one coded reason. The header is proved by `checks`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import StudyError

_POSITION: Final = struct.pack("<HH2s", 0x0020, 0x0032, b"DS")
_NUMBER: Final = struct.pack("<HH2sH", 0x0062, 0x000B, b"US", 2)
_ITEM: Final = struct.Struct("<HHI")
_TOLERANCE: Final = 1e-4


class PlaneItem(Protocol):
    """A source plane, with the item that its frames have."""

    @property
    def position(self) -> tuple[float, ...]:
        """Image Position (Patient) of the source, mm."""
        ...

    def is_item(self, item: bytes) -> bool:
        """Whether bytes are its item but for Segment Number and Dimension Index Values."""
        ...


def prove_frames(
    items: memoryview,
    pixels: memoryview,
    labels: NDArray[np.uint8],
    values: Mapping[int, int],
    planes: Sequence[PlaneItem],
) -> None:
    """The frames, put where their positions say, are the label map, voxel by voxel.

    Parameters
    ----------
    items
        Encoded items of Per-Frame Functional Groups Sequence.
    pixels
        Value of Pixel Data.
    values
        Segment Number → value in the label map.
    planes
        Of the sources, in their order.

    Raises
    ------
    StudyError
        ``result-geometry-differs``.
    """
    size = labels[0].size
    places = np.array([plane.position for plane in planes])
    data = np.frombuffer(pixels, np.uint8)
    voxels, count, seen = 0, 0, set()
    found: dict[bytes, int] = {}
    for item in _items(items):
        number, position = _key(item)
        index = found.setdefault(position, -1)
        if index < 0:
            index = found[position] = _nearest(places, position)
        if number not in values or (number, index) in seen:
            raise StudyError("result-geometry-differs", check="position")
        if not planes[index].is_item(item):
            raise StudyError("result-geometry-differs", check="item")
        seen.add((number, index))
        first = count * size
        bits = data[first // 8 : -(-(first + size) // 8)]
        voxels += _prove_mask(bits, first % 8, labels[index], values[number])
        count += 1
    needed = -(-size * count // 8)
    if len(data) != needed + needed % 2 or (needed % 2 and data[-1]):
        raise StudyError("result-geometry-differs", check="length")
    if voxels != np.count_nonzero(labels):
        raise StudyError("result-geometry-differs", check="frames")


def _items(items: memoryview) -> Iterator[bytes]:
    at = 0
    while at < len(items):
        _, _, length = _ITEM.unpack_from(items, at)
        at += _ITEM.size
        yield bytes(items[at : at + length])
        at += length


def _nearest(places: NDArray[np.float64], position: bytes) -> int:
    distances = np.abs(places - np.array([float(value) for value in position.split(b"\\")])).max(axis=1)
    index = int(distances.argmin())
    if distances[index] > _TOLERANCE:
        raise StudyError("result-geometry-differs", check="position")
    return index


def _key(item: bytes) -> tuple[int, bytes]:
    """Referenced Segment Number and Image Position (Patient) of an item."""
    number_at, position_at = item.find(_NUMBER), item.find(_POSITION)
    if number_at < 0 or position_at < 0:
        raise StudyError("result-geometry-differs", check="item")
    (number,) = struct.unpack_from("<H", item, number_at + len(_NUMBER))
    (digits,) = struct.unpack_from("<H", item, position_at + len(_POSITION))
    start = position_at + len(_POSITION) + 2
    return number, item[start : start + digits]


def _prove_mask(bits: NDArray[np.uint8], offset: int, plane: NDArray[np.uint8], value: int) -> int:
    """Voxels of a frame, each of which has the value in the plane; others that have it are missed in the sum of all."""
    if offset == 0 and plane.shape[1] % 8 == 0:  # rows are whole bytes: the empty ones need no look
        bits, plane = _filled(bits, plane)
    frame = np.unpackbits(bits, bitorder="little")[offset : offset + plane.size].view(np.bool_)
    if (frame.reshape(plane.shape) != (plane == value)).any():
        raise StudyError("result-geometry-differs", check="mask")
    return int(np.count_nonzero(frame))


def _filled(bits: NDArray[np.uint8], plane: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frame and plane, cut to the rows and words that hold the frame's bits: of 64 columns, or of 8."""
    words = bits.view(np.uint64) if plane.shape[1] % 64 == 0 else bits
    filled = np.flatnonzero(words != 0)
    if not filled.size:
        raise StudyError("result-geometry-differs", check="empty-frame")
    width = len(words) // plane.shape[0]
    top, bottom = int(filled[0]) // width, int(filled[-1]) // width + 1
    words = words.reshape(-1, width)[top:bottom]
    columns = np.flatnonzero(np.bitwise_or.reduce(words, axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    cut = np.ascontiguousarray(words[:, left:right]).view(np.uint8).ravel()
    size = plane.shape[1] // width
    return cut, plane[top:bottom, left * size : right * size]
