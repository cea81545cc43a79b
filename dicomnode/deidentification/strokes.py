"""Strokes: whether an image without any flag looks as if somebody had written on it. Pure, fast, reads no text.

Machines write in the brightest value that there is, in lines a few pixels wide. Where they do so hard, nothing is soft at
their edges; where they smooth their letters, an edge is one pixel wide, and the letters stand in lines that are longer
than high. Scanned anatomy is not like that: metal saturates in blobs, and its edges are softer.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

_BAND: Final = 32  # rows
_FEWEST: Final = 4  # pixels of the brightest value
_FEWEST_HARD: Final = 24
WIDEST: Final = 6
_FEWEST_RUNS: Final = 24
_FEWEST_ROWS: Final = 5
_EDGE: Final = 0.35  # of the range of the image: how far beside a stroke the values fall
_SHARP: Final = 0.8  # of the narrow runs
#: Of smooth letters: how far below the brightest value a stroke is full, and where it ends; the share of sharp ones.
_FULL: Final = 0.04
_ENDS: Final = (0.2, 0.35)
#: Of small smooth letters, of which hardly a pixel is as bright as the brightest: how many stand near it, and where they end.
_FEWEST_NEAR: Final = 8
_ENDS_SMALL: Final = (0.35, 0.5)
_BESIDE: Final = 0.05
_WIDEST_SMOOTH: Final = 7
_FEWEST_SMOOTH: Final = 16
_SHARP_SMOOTH: Final = 0.7
_GAP: Final = 2  # rows without strokes within a line
_LONG: Final = 2  # times as high


class Runs(NamedTuple):
    """Runs of bright pixels: their rows, where they start and where they have ended."""

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]

    def those(self, which: NDArray[np.bool_]) -> Runs:
        """Some of them."""
        return Runs(self.rows[which], self.starts[which], self.ends[which])


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
    Most images are done after the first count: their brightest value stands in a few pixels alone, and so does what comes
    near it beside them.
    """
    of_bands = (maxima_of(values) if maxima is None else maxima).tolist()
    highest = max(of_bands)
    bands = values.reshape(len(of_bands), -1)
    brightest = [band for band, most in zip(bands, of_bands, strict=True) if most == highest]
    darkest = min(values.item(0), values.item(-1), values.item(values.shape[1] - 1))  # mostly: corners show nothing
    near = highest - _FULL * (highest - darkest)
    if sum(map(np.count_nonzero, (band >= _whole(near, values) for band in brightest))) < _FEWEST_NEAR:
        return False
    span = highest - values.min().item()
    if not span:
        return False
    bright = sum(np.count_nonzero(band == highest) for band in brightest)
    hard = bright >= _FEWEST_HARD and _written_hard(values, values == highest, highest - _EDGE * span)
    return hard or _written_smooth(values, highest, span, _ENDS if bright >= _FEWEST else _ENDS_SMALL)


def _whole(least: float, values: NDArray[Any]) -> float:
    """Least value of the type of others that is no less: a comparison with another type is slow."""
    return least if values.dtype.kind == "f" else math.ceil(least)


def runs_of(mask: NDArray[np.bool_]) -> Runs:
    """Runs of a mask, shape (rows, columns)."""
    padded = np.pad(mask, ((0, 0), (1, 1)))
    edges = np.flatnonzero(padded[:, 1:].ravel() != padded[:, :-1].ravel())
    rows, columns = np.divmod(edges, padded.shape[1] - 1)
    return Runs(rows[::2], columns[::2], columns[1::2])


def _written_hard(values: NDArray[Any], mask: NDArray[np.bool_], below: float) -> bool:
    runs = runs_of(mask)
    runs = runs.those((runs.starts > 0) & (runs.ends < values.shape[1]))
    narrow = runs.ends - runs.starts <= WIDEST
    if np.count_nonzero(narrow) < _FEWEST_RUNS:
        return False
    sharp = (values[runs.rows, runs.starts - 1] < below) & (values[runs.rows, runs.ends] < below)
    good = narrow & sharp
    if np.count_nonzero(good) < _FEWEST_RUNS or sharp[narrow].mean() < _SHARP:
        return False
    return bool(np.count_nonzero(np.bincount(runs.rows[good]) > 1) >= _FEWEST_ROWS)


def _written_smooth(values: NDArray[Any], highest: float, span: float, ends: tuple[float, ...]) -> bool:
    """Whether smooth letters stand in a line, upright or turned by 90 degrees."""
    full = values >= _whole(highest - _FULL * span, values)
    if np.count_nonzero(full) < _FEWEST_SMOOTH:
        return False
    return any(_lines(*turned, highest, span, ends) for turned in ((values, full), (values.T, full.T)))


def _lines(values: NDArray[Any], full: NDArray[np.bool_], highest: float, span: float, ends: tuple[float, ...]) -> bool:
    places = np.flatnonzero(full.any(axis=1))  # elsewhere no stroke is full
    values, full = np.ascontiguousarray(values[places]), np.ascontiguousarray(full[places])
    before = np.concatenate(([0], np.cumsum(full.ravel(), dtype=np.int32)))
    width = values.shape[1]
    for end in ends:
        runs = runs_of(values >= _whole(highest - end * span, values))
        runs = runs.those(before[runs.rows * width + runs.ends] > before[runs.rows * width + runs.starts])
        left, right = np.maximum(runs.starts - 2, 0), np.minimum(runs.ends + 1, width - 1)
        below = highest - (end + _BESIDE) * span
        sharp = (values[runs.rows, left] < below) & (values[runs.rows, right] < below)
        good = sharp & (runs.ends - runs.starts <= _WIDEST_SMOOTH)
        if np.count_nonzero(good) < max(_FEWEST_SMOOTH, _SHARP_SMOOTH * len(good)):
            continue
        letters = runs.those(good)
        if stand_in_line(Runs(places[letters.rows], letters.starts, letters.ends)):
            return True
    return False


def stand_in_line(runs: Runs, highest: float = math.inf) -> bool:
    """Whether enough of the runs stand beside one another in rows that follow one another, farther than these are high.

    What is higher than ``highest`` rows is no line.
    """
    rows = np.flatnonzero(np.bincount(runs.rows) > 1)
    for line in np.split(rows, np.flatnonzero(np.diff(rows) > _GAP) + 1):
        if not _FEWEST_ROWS <= len(line) <= highest:
            continue
        those = runs.those((runs.rows >= line[0]) & (runs.rows <= line[-1]))
        high = int(line[-1] - line[0] + 1)
        if len(those.rows) >= _FEWEST_SMOOTH and int(those.ends.max() - those.starts.min()) >= _LONG * high:
            return True
    return False
