"""Inks: whether somebody wrote into a slice in one value, whichever it is: bright, dim, or dark on tissue. Pure, fast, reads no text.

A machine that writes in one value leaves narrow strokes of exactly that value, side by side; tissue has noise, and what is
cut off at a value stands in no line. Every fifth row tells, with the next one, where some value may be an ink. Only there all
rows are asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.crowds import has_small_letters
from dicomnode.deidentification.strokes import WIDEST, Runs, runs_of, stand_in_line

_STEP: Final = 5  # rows, of which one is asked first, and the next: two are in any letter of six
_USUAL: Final = 3.0  # times what neighbours usually differ by: the least edge
_LEAST_EDGE: Final = 0.02  # of the range of most pixels
_FEW: Final = 64  # pixels, of which one may be far off
_LOWEST: Final = 5  # rows or columns of a letter
_SAMPLE: Final = 8192  # pixels that tell what is usual
_SPARSE: Final = 127  # pixels, of which one tells the mean and the range
_WORD: Final = 1 << 15
#: Strokes of one value within so many of these rows, or within so many columns where text is turned; and how many.
_CLOSE: Final = (2, 24)
_FEWEST: Final = (3, 4)
#: More of dark ones and of the highest value, where metal and bone are cut off; yet more of the lowest: bronchi are narrow.
_DARK: Final = 5
_AIR: Final = (6, 8)
_MOST: Final = 32  # places that are asked about: each costs a look at all around, and no tissue has so many
_AROUND: Final = 36  # rows on both sides of a place; what fills all of one side is no line
_COARSE: Final = 64  # so many more for each value of an edge: of few greys some are alike by chance

_Places = NDArray[np.intp]


class _Ink(NamedTuple):
    """A value; whether its strokes are brighter than what is beside them; whether they are close in columns; and between which rows or columns."""

    value: int
    bright: bool
    turned: bool
    first: int
    last: int


def has_ink(image: NDArray[Any], highest: int | None = None) -> bool:
    """Whether a slice of 16 bits, shape (rows, columns), holds a line of letters that are all of one value, or may hold many; or of small smooth ones.

    Those of dark letters have something brighter than the mean around. The highest value may be known.
    """
    if min(image.shape) < _LOWEST:
        return False
    high = int(image.max()) if highest is None else highest
    flat, below = image[:-1:_STEP].reshape(-1), image[1::_STEP].reshape(-1)
    levels = flat.view(np.int16) if _fits(flat, high) else flat.astype(np.int32)
    steps = levels[1:] - levels[:-1]
    sizes = np.abs(steps)
    some = sizes[len(sizes) // 3 :][:_SAMPLE]
    greys = flat[::_SPARSE].copy()
    greys.sort()
    most = int(greys[-1 - len(greys) // _FEW]) - int(greys[len(greys) // _FEW])
    edge = min(math.ceil(max(_USUAL * int(some.sum()) / len(some), _LEAST_EDGE * most, 2)), _WORD - 1)
    if has_small_letters(image, steps, sizes, step=_STEP, edge=edge, most=most):
        return True
    places = ((sizes > edge) & _go_on(flat, below)).nonzero()[0]
    if len(places) <= _FEWEST[0]:
        return False
    mean = float(greys.mean())
    starts, bright = _strokes(flat, steps, places, mean)
    kinds = flat[starts] * np.int64(2) + bright
    inks = list(islice(_inks(kinds, starts, image.shape[1], _COARSE // edge, (int(greys[0]), high)), _MOST + 1))
    return len(inks) > _MOST or any(
        _is_written(image, ink, ink.value - edge if ink.bright else max(ink.value + edge, mean)) for ink in inks
    )


def _fits(flat: NDArray[Any], high: int) -> bool:
    """Whether differences of values fit 16 bits."""
    return (high < _WORD and flat.dtype.kind == "u") or high - int(flat.min()) < _WORD


def _go_on(flat: NDArray[Any], below: NDArray[Any]) -> NDArray[np.bool_]:
    """Beside which pixels, or the next ones, a stroke may go on: one has its value in the row below, at most a column away."""
    alike: NDArray[np.bool_] = flat == below
    alike[1:] |= flat[1:] == below[:-1]
    alike[:-1] |= flat[:-1] == below[1:]
    return alike[1:] | alike[:-1]


def _strokes(
    flat: NDArray[Any], steps: NDArray[Any], places: _Places, mean: float
) -> tuple[_Places, NDArray[np.bool_]]:
    """Where narrow strokes of one value each start, and whether they are brighter than what is beside them."""
    before, last = places[:-1], places[1:]
    good = ((last - before <= WIDEST) & (flat[before + 1] == flat[last])).nonzero()[0]
    if len(good) < min(_FEWEST):
        return good[:0], np.zeros(0, np.bool_)
    before, last = before[good], last[good]
    bright = steps[before] > 0
    around = np.minimum(flat[before - 1], flat.take(last + 2, mode="clip")) > mean
    good = np.flatnonzero((bright != (steps[last] > 0)) & (bright | around))
    return before[good] + 1, bright[good]


def _inks(kinds: NDArray[np.int64], starts: _Places, columns: int, more: int, cut: tuple[int, int]) -> Iterator[_Ink]:
    """Values of which enough strokes stand close together, so many more than usual; of dark ones and where values are ``cut`` off, low and high, yet more.

    A kind is twice a value, and one more for bright ones.
    """
    if len(starts) < min(_FEWEST):
        return
    apart = int(starts[-1]) + _AROUND + 1
    for turned, places in enumerate(np.divmod(starts, columns)):
        keys = np.sort(kinds * apart + places)
        least = _FEWEST[turned] + more
        found: list[list[int]] = []
        for first in np.flatnonzero(keys[least - 1 :] - keys[: 1 - least] <= _CLOSE[turned]).tolist():
            last = first + least - 1 + _extra(int(keys[first] // apart), *cut, turned)
            if last < len(keys) and keys[last] - keys[first] <= _CLOSE[turned]:
                if found and keys[first] - found[-1][1] <= (_AROUND if turned else _AROUND // _STEP):
                    found[-1][1] = keys[last]
                else:
                    found.append([keys[first], keys[last]])
        for begin, end in found:
            yield _Ink(
                int(begin // apart) >> 1, bool(begin // apart % 2), bool(turned), int(begin % apart), int(end % apart)
            )


def _extra(kind: int, low: int, high: int, turned: int) -> int:
    """How many more strokes of a kind than usual make an ink."""
    if kind % 2:
        return _DARK if kind >> 1 == high else 0
    return _AIR[turned] if kind >> 1 == low else _DARK


def _is_written(image: NDArray[Any], ink: _Ink, beyond: float) -> bool:
    """Whether strokes of a value stand in a line where it was found; what is as high as that place, as a ruler is, is asked as a whole."""
    step = 1 if ink.turned else _STEP
    lines = image.T if ink.turned else image
    runs = _sharp(lines[max(ink.first * step - _AROUND, 0) : ink.last * step + _AROUND], ink, beyond)
    if not len(runs.rows) or not stand_in_line(runs):
        return False
    return stand_in_line(runs, _AROUND - 1) or stand_in_line(_sharp(lines, ink, beyond))


def _sharp(lines: NDArray[Any], ink: _Ink, beyond: float) -> Runs:
    """Narrow strokes of a value, where within two pixels of both sides of each is what lies beyond."""
    shown = np.ascontiguousarray(lines)
    runs = runs_of(shown == ink.value)
    runs = runs.those((runs.starts > 1) & (runs.ends < shown.shape[1] - 1) & (runs.ends - runs.starts <= WIDEST))
    way = -1 if ink.bright else 1
    sides = ((runs.starts - 1, runs.starts - 2), (runs.ends, runs.ends + 1))
    beside = [np.maximum(*(way * shown[runs.rows, column].astype(np.int64) for column in side)) for side in sides]
    return runs.those(np.minimum(*beside) > way * beyond)
