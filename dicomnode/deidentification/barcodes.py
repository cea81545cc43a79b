"""Barcodes and square codes in pictures that are read: where they stand, whatever they say. Pure.

Bars are edges that go on over many rows and stand close together at distances that differ, as those of a grid do not; a
square code of the QR family has its finder patterns, one of Data Matrix its edges (`matrices`). What stands aslant, is
grey or blurred, and other kinds (Aztec, PDF417) are told by their texture (`textures`).
"""

from __future__ import annotations

from itertools import permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.matrices import matrices
from dicomnode.deidentification.reader import Box, Picture
from dicomnode.deidentification.textures import textured

_STEP: Final = 70  # of 255: how far grey values are apart at an edge
_HIGH: Final = 14  # rows over which a bar goes on at least
_WIDE: Final = 200  # columns in which so many edges stand at least
_EDGES: Final = 20
_UNEVEN: Final = 0.25  # standard deviation of their distances, of the mean
_FARTHEST: Final = 40
_UNIT: Final = 2  # pixels of the smallest module of a square code
_CORE: Final = np.array([1, 3, 1])  # of a finder pattern, within its ring
_TOLERANCE: Final = 0.6
_ALIKE: Final = 0.25
_MOST: Final = 24  # patterns that are looked at
_FEWEST: Final = 11  # modules between the middles of two patterns: 14 in the smallest code
_MOST_MODULES: Final = 180
_MARGIN: Final = 5  # modules from the middle of a finder pattern to beyond its edge


def barcodes(picture: Picture, *, by_texture: bool = True) -> list[Box]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of codes in a picture of shape (rows, columns, 3); with those told by texture alone."""
    grey = picture.mean(axis=2).astype(np.int16)
    upright = _bars(grey)
    turned = [(y0, x0, y1, x1) for x0, y0, x1, y1 in _bars(np.ascontiguousarray(grey.T))]
    dark = grey < (int(grey.min()) + int(grey.max())) / 2
    return [*upright, *turned, *_squares(grey, dark), *matrices(dark), *(textured(picture) if by_texture else ())]


def _bars(grey: NDArray[np.int16]) -> list[Box]:
    rows, columns = grey.shape
    if rows < _HIGH or columns < _EDGES:
        return []
    steps = np.diff(grey, axis=1)
    rises, falls = steps > _STEP, steps < -_STEP
    for edge in (rises, falls):
        edge[:, 1:] &= ~edge[:, :-1]  # one of two pixels is one
    edges = rises | falls
    sums = np.vstack([np.zeros((1, columns - 1), np.int32), np.cumsum(edges, axis=0, dtype=np.int32)])
    lasting = sums[_HIGH:] - sums[:-_HIGH] == _HIGH
    found = []
    for row in np.flatnonzero(np.count_nonzero(lasting, axis=1) >= _EDGES)[:: _HIGH // 2].tolist():
        places = np.flatnonzero(lasting[row])
        for group in np.split(places, np.flatnonzero(np.diff(places) > _FARTHEST) + 1):
            distances = np.diff(group)
            dense = len(group) >= _EDGES and len(group) * _WIDE >= _EDGES * (group[-1] - group[0])
            if dense and distances.std() > _UNEVEN * distances.mean():
                found.append((int(group[0]), row, int(group[-1]) + 1, row + _HIGH - 1))
    return found


def _squares(grey: NDArray[np.int16], dark: NDArray[np.bool_]) -> list[Box]:
    """Squares of which three corners are finder patterns, dark ones on bright and the other way round."""
    centres: list[tuple[int, int, float]] = []
    for y in range(0, len(dark), 2):
        for x, unit in _finders(dark[y], grey[y]):
            new = all(abs(x - a) + abs(y - b) > unit for a, b, _ in centres)
            if new and any(
                _alike(unit, other) and abs(y - at) <= unit for at, other in _finders(dark[:, x], grey[:, x])
            ):
                centres.append((x, y, unit))
    found = []
    for corner, one, other in permutations(centres[:_MOST], 3):
        if _is_corner(corner, one, other):
            margin = int(_MARGIN * corner[2])
            xs = (corner[0], one[0], other[0], one[0] + other[0] - corner[0])  # the fourth corner last
            ys = (corner[1], one[1], other[1], one[1] + other[1] - corner[1])
            found.append((max(min(xs) - margin, 0), max(min(ys) - margin, 0), max(xs) + margin, max(ys) + margin))
    return found


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= _ALIKE * max(one, other)


def _is_corner(corner: tuple[int, int, float], one: tuple[int, int, float], other: tuple[int, int, float]) -> bool:
    """Whether two patterns stand as far from a third, at a right angle, and as many modules as such codes have."""
    (a, b), (c, d) = ((point[0] - corner[0], point[1] - corner[1]) for point in (one, other))
    first, second = float(np.hypot(a, b)), float(np.hypot(c, d))
    square = _alike(first, second) and abs(a * c + b * d) <= _ALIKE * first * second and a * d - b * c > 0
    modules = first / corner[2]
    return square and _alike(one[2], corner[2]) and _alike(other[2], corner[2]) and _FEWEST <= modules <= _MOST_MODULES


def _finders(line: NDArray[np.bool_], grey: NDArray[np.int16]) -> list[tuple[int, float]]:
    """Middle and module of each finder pattern that a line of pixels crosses, by its core of 1:3:1 and sharp edges."""
    edges = np.flatnonzero(line[1:] != line[:-1]) + 1
    if len(edges) < len(_CORE) + 1:
        return []
    runs = np.lib.stride_tricks.sliding_window_view(np.diff(edges), len(_CORE))
    units = runs.sum(axis=1) / _CORE.sum()
    good = (units >= _UNIT) & (np.abs(runs - _CORE * units[:, None]) <= _TOLERANCE * units[:, None]).all(axis=1)
    sharp = np.abs(grey[np.minimum(edges + 1, len(grey) - 1)] - grey[edges - 2]) > _STEP
    return [
        (int((edges[n] + edges[n + 3]) // 2), float(units[n]))
        for n in np.flatnonzero(good).tolist()
        if sharp[n : n + 4].all()
    ]
