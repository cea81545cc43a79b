"""Inks: whether somebody wrote into a slice in one value, whichever it is: bright, dim, or dark on tissue. Pure, fast, reads no text.

A machine that writes in one value leaves narrow strokes of exactly that value, side by side; tissue has noise, and what is
cut off at a value stands in no line. Every sixth row tells whether some value may be an ink. Only then all rows are asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.strokes import WIDEST, runs_of, stand_in_line

_STEP: Final = 6  # rows, of which one is asked first
_USUAL: Final = 3.0  # times what neighbours usually differ by: the least edge
_LEAST_EDGE: Final = 0.02  # of the range of most pixels
_FEW: Final = 64  # pixels, of which one may be far off
_SAMPLE: Final = 8192  # pixels that tell what is usual
_SPARSE: Final = 31  # pixels, of which one tells the mean and the range
_WORD: Final = 1 << 15
#: Strokes of one value within so many of these rows, or within so many columns where text is turned; and how many.
_CLOSE: Final = (2, 24)
_FEWEST: Final = (4, 6)
_DARK: Final = 5  # more of dark ones, since air is cut off at a value, too, and bronchi are narrow
_COARSE: Final = 64  # so many more for each value of an edge: of few greys some are alike by chance

_Places = NDArray[np.intp]


class _Ink(NamedTuple):
    """A value; whether its strokes are brighter than what is beside them; and whether they are close in columns."""

    value: int
    bright: bool
    turned: bool


class _Strokes(NamedTuple):
    """Narrow strokes of one value each, in some rows: where they start and have ended, and whether they are brighter than what is beside them."""

    flat: NDArray[Any]
    columns: int
    starts: _Places
    ends: _Places
    bright: NDArray[np.bool_]

    def inks(self, more: int) -> Iterator[_Ink]:
        """Values of which enough stand close together, so many more than usual."""
        apart = len(self.flat) + _CLOSE[1]
        kinds = (self.flat[self.starts] * np.int64(2) + self.bright) * apart
        for turned, places in enumerate(np.divmod(self.starts, self.columns)):
            last = _FEWEST[turned] + more - 1
            keys = np.sort(kinds + places)
            close = keys[last:] - keys[: max(len(keys) - last, 0)] <= _CLOSE[turned]
            if close.any():
                kinds_found = np.unique(keys[last:][close] // apart).tolist()
                yield from (_Ink(kind >> 1, bool(kind & 1), bool(turned)) for kind in kinds_found)

    def within(self, mean: float, value: int) -> _Strokes:
        """Dark ones of a value that have something brighter than the mean on both sides."""
        mine = np.flatnonzero((self.flat[self.starts] == value) & ~self.bright)
        starts, ends = self.starts[mine], self.ends[mine]
        around = (self.flat[starts - 2] > mean) & (self.flat.take(ends + 1, mode="clip") > mean)
        return _Strokes(self.flat, self.columns, starts[around], ends[around], self.bright[mine[around]])


def has_ink(image: NDArray[Any]) -> bool:
    """Whether a slice of 16 bits, shape (rows, columns), holds a line of letters that are all of one value.

    Those of dark letters have something brighter than the mean around.
    """
    seen = np.ascontiguousarray(image[::_STEP])
    low, high = int(seen.min()), int(seen.max())
    if low == high:
        return False
    flat = seen.reshape(-1)
    levels = flat.view(np.int16) if high - low < _WORD else flat.astype(np.int32)
    steps = levels[1:] - levels[:-1]
    sizes = np.abs(steps)
    some = sizes[len(sizes) // 3 :][:_SAMPLE]
    greys = np.sort(flat[::_SPARSE])
    most = int(greys[-1 - len(greys) // _FEW]) - int(greys[len(greys) // _FEW])
    edge = min(math.ceil(max(_USUAL * int(some.sum()) / len(some), _LEAST_EDGE * most, 2)), _WORD - 1)
    strokes = _strokes(flat, steps, np.flatnonzero(sizes > edge), seen.shape[1])
    return any(_is_ink(image, strokes, ink, edge) for ink in strokes.inks(_COARSE // edge))


def _strokes(flat: NDArray[Any], steps: NDArray[Any], places: _Places, columns: int) -> _Strokes:
    up = steps[places] > 0
    narrow = np.flatnonzero((places[1:] - places[:-1] <= WIDEST) & (up[1:] != up[:-1]))
    starts, ends = places[narrow] + 1, places[narrow + 1] + 1
    even = np.flatnonzero(flat[starts] == flat[ends - 1])
    return _Strokes(flat, columns, starts[even], ends[even], up[narrow[even]])


def _is_ink(image: NDArray[Any], strokes: _Strokes, ink: _Ink, edge: int) -> bool:
    if ink.bright:
        return _is_written(image, ink, ink.value - edge)
    mean = float(strokes.flat[::_SPARSE].mean())
    if ink not in strokes.within(mean, ink.value).inks(_COARSE // edge + _DARK):
        return False
    return _is_written(image, ink, max(ink.value + edge, mean))


def _is_written(image: NDArray[Any], ink: _Ink, beyond: float) -> bool:
    """Whether narrow strokes of a value stand in a line, and within two pixels of both sides of each is what lies beyond."""
    shown = np.ascontiguousarray(image.T) if ink.turned else image
    runs = runs_of(shown == ink.value)
    runs = runs.those((runs.starts > 1) & (runs.ends < shown.shape[1] - 1) & (runs.ends - runs.starts <= WIDEST))
    way = -1 if ink.bright else 1
    sides = ((runs.starts - 1, runs.starts - 2), (runs.ends, runs.ends + 1))
    beside = [np.maximum(*(way * shown[runs.rows, column].astype(np.int64) for column in side)) for side in sides]
    sharp = np.minimum(*beside) > way * beyond
    return bool(sharp.any()) and stand_in_line(runs.those(sharp))
