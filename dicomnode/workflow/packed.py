"""What is sealed of an analysis between its stages, as bytes: label maps and maps of probabilities.

May live here: packing and its inverse. What is packed when stands in `stages` and `encoding`.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.uint16]


def pack_voxels(voxels: npt.NDArray[Any]) -> bytes:
    """Shape and deflated voxels of an array (slices, rows, columns)."""
    shape = np.asarray(voxels.shape, "<i4").tobytes()
    return shape + zlib.compress(np.ascontiguousarray(voxels).data, 1)


def unpack_labels(data: bytes) -> Labels:
    """Inverse of `pack_voxels` of a label map."""
    return np.frombuffer(zlib.decompress(data[12:]), np.uint8).reshape(_shape(data))


def unpack_probabilities(data: bytes) -> Probabilities:
    """Inverse of `pack_voxels` of stored probabilities."""
    return np.frombuffer(zlib.decompress(data[12:]), np.uint16).reshape(_shape(data))


def _shape(data: bytes) -> tuple[int, ...]:
    return tuple(int(size) for size in np.frombuffer(data[:12], "<i4"))
