"""Letters in masks: whether a picture of two values, as a segmentation has, looks as if somebody had written on it. Pure, reads no text.

Letters are thin for their height, most of them turn, and some of them of one height stand on one line, close together.
Organs are thick; vessels and ribs are thin, but differ in height and stand on no line.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_AROUND: Final = np.ones((3, 3), bool)
_ROWS: Final = (6, 96)  # of a letter
_WIDEST: Final = 4  # times as wide as high: letters that touch
_THIN: Final = 0.3  # of the height: how wide a stroke is at most
_LINE: Final = 0.15  # of the height: how far letters stand off their line
_ALIKE: Final = 0.25  # of the height: how far they differ in it
_GAP: Final = 1.0  # times the height: how far apart they stand at most
_FEWEST: Final = 5
_FEWEST_TURNING: Final = 3
_TURNS: Final = 1.5  # runs of pixels in each row or column of a letter that is no plain bar
_FEWEST_PIXELS: Final = 24
_MOST_PARTS: Final = 4000  # noise has more


class _Parts(NamedTuple):
    """Connected parts of a mask: where they are, and runs of pixels in their rows and columns; all of shape (parts,)."""

    top: NDArray[np.intp]
    bottom: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    along: NDArray[np.intp]
    across: NDArray[np.intp]
    pixels: NDArray[np.intp]

    def turned(self) -> _Parts:
        """The same, rows for columns."""
        return _Parts(self.left, self.right, self.top, self.bottom, self.across, self.along, self.pixels)


def has_letters(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask, shape (rows, columns), holds written letters, or a hole in it does; upright or turned by 90 degrees."""
    if np.count_nonzero(mask) < _FEWEST_PIXELS:
        return False
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return any(_in_line(parts) or _in_line(parts.turned()) for parts in map(_parts, (cut, ~cut)))


def _parts(mask: NDArray[np.bool_]) -> _Parts:
    labels, count = cast("tuple[NDArray[np.int32], int]", ndimage.label(mask, _AROUND))
    if not 0 < count <= _MOST_PARTS:
        nothing = np.zeros(0, np.intp)
        return _Parts(*[nothing] * len(_Parts._fields))
    boxes = np.array([(y.start, y.stop - 1, x.start, x.stop - 1) for y, x in ndimage.find_objects(labels)], np.intp)
    padded = np.pad(mask, 1)
    begins = mask & ~padded[1:-1, :-2], mask & ~padded[:-2, 1:-1]
    along, across, pixels = (np.bincount(labels[which], minlength=count + 1)[1:] for which in (*begins, mask))
    top, bottom, left, right = boxes.T
    return _Parts(top, bottom, left, right, along, across, pixels)


def _in_line(parts: _Parts) -> bool:
    height, width = parts.bottom - parts.top + 1, parts.right - parts.left + 1
    stroke = parts.pixels / np.maximum(np.maximum(parts.along, parts.across), 1)
    fits = (height >= _ROWS[0]) & (height <= _ROWS[1]) & (width <= _WIDEST * height) & (stroke <= _THIN * height)
    turning = (parts.along >= _TURNS * height) | (parts.across >= _TURNS * width)
    which = np.flatnonzero(fits)
    if len(which) < _FEWEST:
        return False
    which = which[np.argsort(parts.left[which])]
    table = np.stack([one[which] for one in (parts.bottom, height, parts.left, parts.right, turning)])
    return any(_begins_line(table, first) for first in range(len(which) - _FEWEST + 1))


def _begins_line(table: NDArray[Any], first: int) -> bool:
    """Whether enough letters follow a first one on its line; of shape (bottom, height, left, right, turning; letters)."""
    bottom, height = table[0, first], table[1, first]
    beside = (abs(table[0] - bottom) <= max(_LINE * height, 1)) & (abs(table[1] - height) <= max(_ALIKE * height, 1))
    row = table[:, first:][:, beside[first:]]
    gaps = row[2, 1:] - np.maximum.accumulate(row[3])[:-1]
    ends = np.flatnonzero(gaps > _GAP * height)
    line = row[:, : ends[0] + 1] if len(ends) else row
    return bool(line.shape[1] >= _FEWEST and line[4].sum() >= _FEWEST_TURNING)
