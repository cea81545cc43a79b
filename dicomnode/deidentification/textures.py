"""Codes that machines read, told by their texture: whichever kind, angle, greys and side, blurred or mirrored. Pure.

A code has two values, about as much of the one as of the other; they change every few pixels, and their edges go two ways
at a right angle, or one way if it has bars. Letters leave most of a picture as it is, anatomy and noise have edges of all ways.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dicomnode.deidentification.reader import Box, Picture

_WINDOW: Final = 21  # pixels
_CORE: Final = (9, 9)  # pixels in which all of it is so
_VARIANCE: Final = 200.0  # of grey values of eight bits
_SIGMAS: Final = 1e-3
#: Kurtosis (1 of two values as frequent as one another), changes, and the share of edges at right angles: of a code, and around it.
_CERTAIN: Final = (1.6, 0.3, 0.45)
_AROUND: Final = (2.0, 0.2, 0.3)
_ONE_WAY: Final = 0.9  # of all steepness: edges go one way alone
_FEWEST_EDGES: Final = 14  # of a code of bars; the shortest ones have 17

_Plane = NDArray[np.float32]


class _Texture(NamedTuple):
    variance: _Plane
    kurtosis: _Plane
    changes: _Plane
    right_angled: _Plane

    def has(self, limits: tuple[float, float, float]) -> NDArray[np.bool_]:
        kurtosis, changes, right_angled = limits
        varied = (self.variance > _VARIANCE) & (self.kurtosis < kurtosis)
        return varied & (self.changes > changes) & (self.right_angled > right_angled)


def textured(picture: Picture) -> list[Box]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of what looks like a code in a picture of shape (rows, columns, 3)."""
    if min(picture.shape[:2]) < _WINDOW:
        return []
    grey = picture.mean(axis=2, dtype=np.float32)
    texture = _texture(grey)
    certain = ndimage.binary_opening(texture.has(_CERTAIN), np.ones(_CORE, bool))
    if not certain.any():
        return []
    labels, _ = cast("tuple[NDArray[np.int32], int]", ndimage.label(texture.has(_AROUND) | certain))
    places = ndimage.find_objects(labels)
    boxes = [_box(*places[number - 1]) for number in np.unique(labels[certain]).tolist()]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes if _may_be_code(grey[y0 : y1 + 1, x0 : x1 + 1])]


def _may_be_code(part: _Plane) -> bool:
    """Not a few stripes along a side of the picture, as an ultrasound's echoes of its own probe are."""
    steepness = [float((np.diff(part, axis=axis) ** 2).sum()) for axis in (0, 1)]
    for axis, steep in enumerate(steepness):
        if steep > _ONE_WAY * sum(steepness):
            profile = part.mean(axis=1 - axis)
            above = profile > ndimage.uniform_filter1d(profile, _WINDOW, mode="nearest")
            return int(np.count_nonzero(above[1:] != above[:-1])) >= _FEWEST_EDGES
    return True


def _box(rows: slice, columns: slice) -> Box:
    half = _WINDOW // 2
    return max(columns.start - half, 0), max(rows.start - half, 0), columns.stop + half - 1, rows.stop + half - 1


def _texture(grey: _Plane) -> _Texture:
    values = grey - grey.mean()
    first, second, third, fourth = (_mean(values**power) for power in (1, 2, 3, 4))
    variance = np.maximum(second - first**2, _SIGMAS)
    kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
    across, down = (ndimage.correlate1d(grey, [-0.5, 0, 0.5], axis=axis) for axis in (1, 0))
    steep = across**2 + down**2
    strength = np.maximum(_mean(steep), _SIGMAS)
    # an edge's angle times four, weighted with its steepness: the same for all that are at right angles
    even = (across**2 - down**2) ** 2 - (2 * across * down) ** 2
    odd = 2 * (across**2 - down**2) * (2 * across * down)
    share = np.maximum(steep, _SIGMAS)
    right_angled = np.hypot(_mean(even / share), _mean(odd / share)) / strength
    return _Texture(variance, kurtosis, strength / variance, right_angled)


def _mean(plane: _Plane) -> Any:
    return ndimage.uniform_filter(plane, _WINDOW, mode="nearest")
