"""What is sealed of an analysis between its stages, as bytes: label maps and maps of probabilities.

May live here: packing and its inverse. What is packed when stands in `stages` and `encoding`.
"""

from __future__ import annotations

import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.census import box_of, extent

Labels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.uint16]
#: Where the first of three sizes stands otherwise.
_CUT: Final = -1


def pack_voxels(voxels: npt.NDArray[Any]) -> bytes:
    """Shape and deflated voxels of an array (slices, rows, columns)."""
    shape = np.asarray(voxels.shape, "<i4").tobytes()
    return shape + zlib.compress(np.ascontiguousarray(voxels).data, 1)


def pack_labels(labels: Labels) -> bytes:
    """The same of a label map, without what lies around all labels: a mark, its shape, where the rest begins and ends."""
    place = _place(labels)
    part = np.ascontiguousarray(labels[place])
    ends = [end for one in place for end in (one.start, one.stop)]
    return np.asarray([_CUT, *labels.shape, *ends], "<i4").tobytes() + zlib.compress(part.data, 1)


def _place(labels: Labels) -> tuple[slice, ...]:
    """From the first to the last slice, row and column that hold a label."""
    boxes = [box_of(plane) for plane in labels]
    slices = extent(np.array([rows.stop > rows.start for rows, _ in boxes]))
    inside = [box for box in boxes if box[0].stop > box[0].start] or [(slice(0, 0), slice(0, 0))]
    rows, columns = (
        slice(min(one.start for one in some), max(one.stop for one in some)) for some in zip(*inside, strict=True)
    )
    return slices, rows, columns


def unpack_labels(data: bytes) -> Labels:
    """Inverse of `pack_labels`, and of `pack_voxels` of a label map: an earlier release sealed it so."""
    if int(np.frombuffer(data, "<i4", 1)[0]) != _CUT:
        return np.frombuffer(zlib.decompress(data[12:]), np.uint8).reshape(_shape(data))
    _, *numbers = (int(number) for number in np.frombuffer(data, "<i4", 10))
    shape, ends = numbers[:3], numbers[3:]
    place = tuple(slice(*ends[at : at + 2]) for at in (0, 2, 4))
    labels = np.zeros(shape, np.uint8)
    part = np.frombuffer(zlib.decompress(data[40:]), np.uint8)
    labels[place] = part.reshape([one.stop - one.start for one in place])
    return labels


def unpack_probabilities(data: bytes) -> Probabilities:
    """Inverse of `pack_voxels` of stored probabilities."""
    return np.frombuffer(zlib.decompress(data[12:]), np.uint16).reshape(_shape(data))


def _shape(data: bytes) -> tuple[int, ...]:
    return tuple(int(size) for size in np.frombuffer(data[:12], "<i4"))
