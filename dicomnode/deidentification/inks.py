"""Inks: whether somebody wrote into a slice in one value, whichever it is: bright, dim, or dark on tissue. Pure, fast, reads no text.

A machine that writes in one value leaves narrow strokes of exactly that value, side by side; tissue has noise, and what is
cut off at a value stands in no line. Every sixth row tells whether some value may be an ink. Only then all rows are asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.strokes import WIDEST, runs_of, stand_in_line

_STEP: Final = 6  # rows, of which one is asked first
_USUAL: Final = 3.0  # times what neighbours usually differ by: the least edge
_LEAST_EDGE: Final = 0.02  # of the range of most pixels
_FEW: Final = 64  # pixels, of which one may be far off
_SAMPLE: Final = 8192  # pixels that tell what is usual
_SPARSE: Final = 127  # pixels, of which one tells the mean and the range
_WORD: Final = 1 << 15
#: Strokes of one value within so many of these rows, or within so many columns where text is turned; and how many.
_CLOSE: Final = (2, 24)
_FEWEST: Final = (4, 6)
_DARK: Final = 5  # more of dark ones, since air is cut off at a value, too, and bronchi are narrow
_MOST: Final = 32  # values that are asked about: each costs a pass over all pixels, and no tissue has so many
_COARSE: Final = 64  # so many more for each value of an edge: of few greys some are alike by chance

_Places = NDArray[np.intp]


class _Ink(NamedTuple):
    """A value; whether its strokes are brighter than what is beside them; and whether they are close in columns."""

    value: int
    bright: bool
    turned: bool


def has_ink(image: NDArray[Any]) -> bool:
    """Whether a slice of 16 bits, shape (rows, columns), holds a line of letters that are all of one value, or may hold many.

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
    mean = float(greys.mean())
    starts, bright = _strokes(flat, steps, np.flatnonzero(sizes > edge), mean)
    inks = list(islice(_inks(flat, starts, bright, seen.shape[1], _COARSE // edge), _MOST + 1))
    return len(inks) > _MOST or any(
        _is_written(image, ink, ink.value - edge if ink.bright else max(ink.value + edge, mean)) for ink in inks
    )


def _strokes(
    flat: NDArray[Any], steps: NDArray[Any], places: _Places, mean: float
) -> tuple[_Places, NDArray[np.bool_]]:
    """Where narrow strokes of one value each start, and whether they are brighter than what is beside them."""
    up = steps[places] > 0
    narrow = np.flatnonzero((places[1:] - places[:-1] <= WIDEST) & (up[1:] != up[:-1]))
    before, last, bright = places[narrow], places[narrow + 1], up[narrow]
    around = np.minimum(flat[before - 1], flat.take(last + 2, mode="clip")) > mean
    good = np.flatnonzero((flat[before + 1] == flat[last]) & (bright | around))
    return before[good] + 1, bright[good]


def _inks(flat: NDArray[Any], starts: _Places, bright: NDArray[np.bool_], columns: int, more: int) -> Iterator[_Ink]:
    """Values of which enough strokes stand close together, so many more than usual."""
    apart = len(flat) + _CLOSE[1]
    kinds = (flat[starts] * np.int64(2) + bright) * apart
    for turned, places in enumerate(np.divmod(starts, columns)):
        keys = np.sort(kinds + places)
        for of, fewest in ((1, _FEWEST[turned]), (0, _FEWEST[turned] + _DARK)):
            last = fewest + more - 1
            close = keys[last:] - keys[: max(len(keys) - last, 0)] <= _CLOSE[turned]
            if close.any():
                found = np.unique(keys[last:][close] // apart).tolist()
                yield from (_Ink(kind >> 1, bool(of), bool(turned)) for kind in found if kind & 1 == of)


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
