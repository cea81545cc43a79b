"""Data Matrix codes (ISO/IEC 16022) in pictures: where they stand, whatever they say. Pure.

Two edges of such a code are whole, the two others alternate module by module. A line of a picture that crosses an edge
of the second kind shows as many runs of one length; where whole edges go off from its end and along the far side, and
the fourth edge alternates too, there is a code. Any of its four corners may be the upper left one, and so for its mirror
image; dark on bright or the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.reader import Box

_FEWEST: Final = 9  # runs of an edge of ten modules, the last of which is as bright as what is beside it
_MOST: Final = 144  # modules
_LEAST_HIGH: Final = 7  # modules from the alternating edge to the whole one
_UNIT: Final = 2.0  # pixels of the smallest module
_EVEN: Final = 1.7  # times: how much runs differ, and a pixel besides
_WHOLE: Final = 0.95
_OFF: Final = 0.25  # of the turns of an edge that alternates
_SPREAD: Final = 0.15  # of the area within: how much at least is dark, and bright
_MOST_LINES: Final = 1000


class _Edge(NamedTuple):
    """Where a line of a picture alternates: its row, from where to where, and the length of a module."""

    row: int
    start: int
    end: int
    unit: float


def matrices(dark: NDArray[np.bool_]) -> list[Box]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of codes in a picture of two values, shape (rows, columns)."""
    upright = list(_codes(dark))
    turned = [(y0, x0, y1, x1) for x0, y0, x1, y1 in _codes(np.ascontiguousarray(dark.T))]
    return list(dict.fromkeys([*upright, *turned]))


def _codes(dark: NDArray[np.bool_]) -> Iterator[Box]:
    for edge in _alternating(dark):
        for left in (True, False):
            for down in (True, False):
                if box := _code(dark, edge, left=left, down=down):
                    yield box


def _alternating(dark: NDArray[np.bool_]) -> list[_Edge]:
    """Longest parts of lines in which dark and bright runs are of one length."""
    rows, columns = np.nonzero(dark[:, 1:] != dark[:, :-1])
    if len(rows) <= _FEWEST:
        return []
    runs = np.where(rows[1:] == rows[:-1], np.diff(columns), 0)
    windows = np.lib.stride_tricks.sliding_window_view(runs, _FEWEST)
    shortest, longest = windows.min(axis=1), windows.max(axis=1)
    good = np.flatnonzero((shortest > 0) & (longest <= _EVEN * shortest + 1) & (windows.sum(axis=1) >= _UNIT * _FEWEST))
    found = []
    for group in np.split(good, np.flatnonzero(np.diff(good) > 1) + 1)[:_MOST_LINES]:
        if len(group):
            first, last = int(group[0]), int(group[-1]) + _FEWEST
            for begin, stop in ((first, last), (first + 1, last), (first, last - 1), (first + 1, last - 1)):
                start, end = int(columns[begin]) + 1, int(columns[stop]) + 1  # a margin may be as narrow as a module
                found.append(_Edge(int(rows[first]), start, end, (end - start) / (stop - begin)))
    return found


def _code(dark: NDArray[np.bool_], edge: _Edge, *, left: bool, down: bool) -> Box | None:
    """A code whose alternating edge this is, with a whole edge at one end of it and another one on the far side."""
    unit, size = edge.unit, len(dark)
    half = round(unit / 2)
    foot = edge.start + half if left else edge.end - 1 - half
    colour = dark[edge.row, foot]
    column = dark[edge.row :, foot] if down else dark[edge.row :: -1, foot]
    ends = np.flatnonzero(column[: int(_MOST * unit)] != colour)
    high = int(ends[0]) if len(ends) else min(len(column), int(_MOST * unit))
    if high < _LEAST_HIGH * unit:
        return None
    far = edge.row + (high - 1 - half) * (1 if down else -1)
    wide = round(edge.end - edge.start + unit)  # with the last module, which looks like what is beside the code
    start, end = (edge.start, edge.start + wide) if left else (edge.end - wide, edge.end)
    if not (0 <= far < size and start >= 0 and end <= dark.shape[1]):
        return None
    if (dark[far, start:end] == colour).mean() < _WHOLE:
        return None
    top, bottom = sorted((edge.row, far))
    other = dark[top : bottom + 1, end - 1 - half if left else start + half]
    turns, expected = np.count_nonzero(other[1:] != other[:-1]), high / unit - 1
    within = (dark[top : bottom + 1, start:end] == colour).mean()
    if abs(turns - expected) > max(_OFF * expected, 2) or not _SPREAD < within < 1 - _SPREAD:
        return None
    margin = round(unit)
    return max(start - margin, 0), max(top - margin, 0), end - 1 + margin, bottom + margin
