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
#: Frames that are looked at together: a multiple of eight.
_TOGETHER: Final = 16


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
    data = np.frombuffer(pixels, np.uint8)
    frames = _frames(items, values, planes)
    needed = -(-size * len(frames) // 8)
    if len(data) != needed + needed % 2 or (needed % 2 and data[-1]):
        raise StudyError("result-geometry-differs", check="length")
    voxels = 0
    for start in range(0, len(frames), _TOGETHER):  # eight of any size are whole bytes
        some = frames[start : start + _TOGETHER]
        first = start * size // 8
        bits = data[first : first + -(-len(some) * size // 8)]
        voxels += _prove_masks(bits, labels, [index for index, _ in some], [value for _, value in some])
    if voxels != np.count_nonzero(labels):
        raise StudyError("result-geometry-differs", check="frames")


def _frames(items: memoryview, values: Mapping[int, int], planes: Sequence[PlaneItem]) -> list[tuple[int, int]]:
    """Source plane, and value in the label map, of every frame, whose item is the plane's."""
    places = np.array([plane.position for plane in planes])
    found: dict[bytes, int] = {}
    seen: dict[tuple[int, int], None] = {}
    for item in _items(items):
        number, position = _key(item)
        index = found.setdefault(position, -1)
        if index < 0:
            index = found[position] = _nearest(places, position)
        if number not in values or (index, values[number]) in seen:
            raise StudyError("result-geometry-differs", check="position")
        if not planes[index].is_item(item):
            raise StudyError("result-geometry-differs", check="item")
        seen[index, values[number]] = None
    return list(seen)


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


def _prove_masks(bits: NDArray[np.uint8], labels: NDArray[np.uint8], indices: list[int], values: list[int]) -> int:
    """Voxels of some frames, each of which has its value in its plane; what is missed is missed in the sum of all."""
    shape = (len(indices), *labels.shape[1:])
    place = (slice(0, shape[1]), slice(0, shape[2]))
    if shape[2] % 8 == 0:  # rows are whole bytes: the empty ones need no look
        bits, place = _filled(bits.reshape(*shape[:2], -1))
    area = len(range(shape[1])[place[0]]) * len(range(shape[2])[place[1]])
    voxels = np.unpackbits(bits.reshape(-1), count=len(indices) * area, bitorder="little").view(np.bool_)
    frames = voxels.reshape(len(indices), area)
    if not frames.any(axis=1).all():
        raise StudyError("result-geometry-differs", check="empty-frame")
    wanted = labels[indices, place[0], place[1]].reshape(len(indices), -1) == np.array(values, np.uint8)[:, None]
    if not np.array_equal(frames, wanted):
        raise StudyError("result-geometry-differs", check="mask")
    return int(np.count_nonzero(frames))


def _filled(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], tuple[slice, slice]]:
    """Frames of packed rows, cut to the rows and bytes in which any of them has a bit, and where that is."""
    words = frames.view(np.uint64) if frames.shape[2] % 8 == 0 and frames.flags.c_contiguous else frames
    some = np.bitwise_or.reduce(words, axis=0).view(np.uint8)
    rows, columns = (np.flatnonzero(some.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        raise StudyError("result-geometry-differs", check="empty-frame")
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    place = slice(int(top), int(bottom)), slice(int(left) * 8, int(right) * 8)
    return np.ascontiguousarray(frames[:, top:bottom, left:right]), place
