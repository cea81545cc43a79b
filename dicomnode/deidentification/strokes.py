"""Strokes: whether an image without any flag looks as if somebody had written on it. Pure, fast, reads no text.

Machines write in the brightest value that there is, in lines a few pixels wide with nothing soft at their edges.
Scanned anatomy is not like that: metal saturates in blobs, and its edges are soft.
"""

from __future__ import annotations

import math
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

_BAND: Final = 32  # rows
_FEWEST: Final = 24
_WIDEST: Final = 6
_FEWEST_RUNS: Final = 24
_FEWEST_ROWS: Final = 5
_EDGE: Final = 0.35  # of the range of the image: how far beside a stroke the values fall
_SHARP: Final = 0.8  # of the narrow runs


def maxima_of(image: NDArray[Any]) -> NDArray[Any]:
    """The brightest values of bands of rows of an image, shape (rows, columns)."""
    bands = image.shape[0] // math.gcd(image.shape[0], _BAND)
    return cast("NDArray[Any]", image.reshape(bands, -1).max(axis=1))


def has_strokes(values: NDArray[Any], maxima: NDArray[Any] | None = None) -> bool:
    """Whether one frame, shape (rows, columns), holds what looks like written text.

    Parameters
    ----------
    maxima
        As `maxima_of`, where they are known.

    Notes
    -----
    Most images are done after the first count: their brightest value stands in a few pixels alone.
    """
    of_bands = (maxima_of(values) if maxima is None else maxima).tolist()
    highest = max(of_bands)
    bands = values.reshape(len(of_bands), -1)
    bright = (np.count_nonzero(band == highest) for band, most in zip(bands, of_bands, strict=True) if most == highest)
    if sum(bright) < _FEWEST:
        return False
    mask = values == highest
    lowest = int(values.min())
    if highest == lowest:
        return False
    return _written(values, mask, highest - _EDGE * (highest - lowest))


def _written(values: NDArray[Any], mask: NDArray[np.bool_], below: float) -> bool:
    padded = np.pad(mask, ((0, 0), (1, 1)))
    steps = np.diff(padded.astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    inner = (starts > 0) & (ends < values.shape[1])
    rows, starts, ends = rows[inner], starts[inner], ends[inner]
    narrow = ends - starts <= _WIDEST
    if np.count_nonzero(narrow) < _FEWEST_RUNS:
        return False
    sharp = (values[rows, starts - 1] < below) & (values[rows, np.minimum(ends, values.shape[1] - 1)] < below)
    good = narrow & sharp
    if np.count_nonzero(good) < _FEWEST_RUNS or sharp[narrow].mean() < _SHARP:
        return False
    return bool(np.count_nonzero(np.bincount(rows[good]) > 1) >= _FEWEST_ROWS)
