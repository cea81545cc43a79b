"""Lines of letters among the parts of a picture of two values, at any angle: where some stand as letters do. Pure, reads no text.

Letters are thin for their size, as thick and as strong as their neighbours, and stand on one line or hang from one, close
together; between them and close around them there is nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse

from dicomnode.deidentification.reader import Box

_AROUND: Final = np.ones((3, 3), bool)
_ANGLES: Final = np.arange(32) * np.pi / 32
_HEIGHT: Final = (5, 96)  # pixels of a letter
_WIDEST: Final = 4  # times as wide as high: letters that touch
_THIN: Final = 0.45  # of the height: how wide a stroke is at most
_FEWEST_PIXELS: Final = 5
_TURNS: Final = 1.5  # runs of pixels in each row or column of a letter that is no plain bar
_MOST_PARTS: Final = 4000  # noise has more
_MOST_ALIKE: Final = 400  # parts that may belong together
_FAR: Final = 3.0  # times their size: how far neighbours are apart at most, whatever the angle
_SIZES: Final = 2.5  # times: how their sizes differ
_STROKES: Final = 1.7  # and the widths of their strokes
_STRENGTHS: Final = 1.8  # and how far they stand out
_STANDING: Final = 0.14  # of the height: how far a letter stands off the line of the one before
_HANGING: Final = 0.4  # and of one that hangs from the same line, but has a tail
_HEIGHTS: Final = 0.6  # of the higher one
_GAP: Final = 1.4  # times the height
_LAP: Final = 0.35
_AROUND_LINE: Final = 0.4  # of the height: what must be empty around a line
_BESIDE_LINE: Final = 0.5

Numbers = NDArray[np.float64]
_Places = tuple[NDArray[np.intp], NDArray[np.intp]]


class Line(NamedTuple):
    """Parts that stand as letters do.

    Attributes
    ----------
    letters, turning
        How many, and how many of these are no plain bars.
    clean
        Share of what stands there that is theirs.
    box
        Columns and rows (x0, y0, x1, y1), inclusive.
    """

    letters: int
    turning: int
    clean: float
    box: Box


@dataclass(frozen=True, slots=True)
class _Parts:
    """Connected parts that may be letters; per part but for `rows` and `columns`, which are those of all their pixels."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    starts: NDArray[np.intp]
    pixels: NDArray[np.intp]
    stroke: Numbers
    turning: NDArray[np.bool_]
    strength: Numbers

    def those(self, which: NDArray[np.intp]) -> _Parts:
        ends = self.starts + self.pixels
        pick = np.concatenate([np.arange(self.starts[n], ends[n]) for n in which])
        starts = np.concatenate(([0], np.cumsum(self.pixels[which])[:-1]))
        return _Parts(
            rows=self.rows[pick],
            columns=self.columns[pick],
            starts=starts,
            pixels=self.pixels[which],
            stroke=self.stroke[which],
            turning=self.turning[which],
            strength=self.strength[which],
        )

    def extent(self, angle: float) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        """Where each begins and ends along a direction, and across it."""
        least, most = np.minimum.reduceat, np.maximum.reduceat
        (along, across), starts = _turned(self.rows, self.columns, angle), self.starts
        return least(along, starts), most(along, starts) + 1, least(across, starts), most(across, starts) + 1


def _turned(rows: NDArray[Any], columns: NDArray[Any], angle: float) -> tuple[Numbers, Numbers]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def lines(mask: NDArray[np.bool_], fewest: int, strength: NDArray[Any] | None = None) -> Iterator[Line]:
    """Lines of parts of a mask, shape (rows, columns), that stand as letters do.

    Parameters
    ----------
    fewest
        Letters of a line.
    strength
        Of each pixel, where letters are as strong as their neighbours: how far it stands out.
    """
    parts = _parts(mask, strength)
    if parts is None or len(parts.starts) < fewest:
        return
    everything = cast("_Places", np.nonzero(mask))
    for group, pairs in _groups(parts, fewest):
        few = parts.those(group)
        for angle in _ANGLES.tolist():
            chain = _chain(few, angle, pairs)
            if len(chain) >= fewest:
                yield _line(few, angle, chain, everything)


def _parts(mask: NDArray[np.bool_], strength: NDArray[Any] | None) -> _Parts | None:
    labels, count = cast("tuple[NDArray[np.int32], int]", ndimage.label(mask, _AROUND))
    if not 0 < count <= _MOST_PARTS:
        return None
    places = np.flatnonzero(mask)
    of_part = labels.ravel()[places]
    pixels = np.bincount(of_part, minlength=count + 1)[1:]
    boxes = np.array([(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(labels)])
    high, wide = boxes.T
    padded = np.pad(mask, 1)
    begins = mask & ~padded[1:-1, :-2], mask & ~padded[:-2, 1:-1]
    along, across = (np.bincount(labels[which], minlength=count + 1)[1:] for which in begins)
    stroke = pixels / np.maximum(np.maximum(along, across), 1)
    size = boxes.max(axis=1)
    fits = (size >= _HEIGHT[0]) & (size <= _WIDEST * _HEIGHT[1]) & (boxes.min(axis=1) <= _HEIGHT[1])
    chosen = np.flatnonzero(fits & (stroke <= _THIN * size) & (pixels >= _FEWEST_PIXELS))
    if not len(chosen):
        return None
    kept = np.isin(of_part, chosen + 1)
    places, of_part = places[kept], of_part[kept]
    order = np.argsort(of_part, kind="stable")
    places, starts = places[order], np.concatenate(([0], np.cumsum(pixels[chosen])[:-1]))
    strengths = np.ones(len(chosen))
    if strength is not None:
        strengths = np.add.reduceat(strength.ravel()[places].astype(np.float64), starts) / pixels[chosen]
    turning = ((along >= _TURNS * high) | (across >= _TURNS * wide))[chosen]
    return _Parts(*np.divmod(places, mask.shape[1]), starts, pixels[chosen], stroke[chosen], turning, strengths)


def _groups(parts: _Parts, fewest: int) -> Iterator[tuple[NDArray[np.intp], _Places]]:
    """Numbers of parts that are near one another and alike, at whatever angle; and which of them are, as pairs of their places there."""
    left, right, top, bottom = parts.extent(0)
    size = np.maximum(right - left, bottom - top)
    order = np.argsort(left)
    reach = np.searchsorted(left[order], left[order] + (_FAR + 1) * size[order], side="right")
    one = np.repeat(np.arange(len(order)), np.maximum(reach - np.arange(len(order)) - 1, 0))
    other = one + 1 + np.arange(len(one)) - np.searchsorted(one, one)
    one, other = order[one], order[other]
    far = np.hypot((left + right)[one] - (left + right)[other], (top + bottom)[one] - (top + bottom)[other]) / 2
    near = (far <= _FAR * np.maximum(size[one], size[other])) & _within(size, one, other, _SIZES)
    near &= _within(parts.stroke, one, other, _STROKES, 0.5) & _within(parts.strength, one, other, _STRENGTHS)
    ends = (one[near], other[near])
    graph = sparse.coo_array((np.ones(len(ends[0]), bool), ends), shape=(len(size), len(size)))
    _, group = sparse.csgraph.connected_components(graph, directed=False)
    counts = np.bincount(group)
    for number in np.flatnonzero((counts >= fewest) & (counts <= _MOST_ALIKE)).tolist():
        which, within = np.flatnonzero(group == number), group[ends[0]] == number
        yield which, (np.searchsorted(which, ends[0][within]), np.searchsorted(which, ends[1][within]))


def _within(values: Numbers, one: NDArray[np.intp], other: NDArray[np.intp], times: float, more: float = 0.0) -> Any:
    a, b = values[one], values[other]
    return np.maximum(a, b) <= times * np.minimum(a, b) + more


def _chain(parts: _Parts, angle: float, pairs: _Places) -> NDArray[np.intp]:
    """Numbers of the most parts that follow one another along a direction."""
    left, right, top, bottom = places = np.stack(parts.extent(angle))
    high = bottom - top
    good = (
        (high >= _HEIGHT[0]) & (high <= _HEIGHT[1]) & (right - left <= _WIDEST * high) & (parts.stroke <= _THIN * high)
    )
    swapped = left[pairs[0]] > left[pairs[1]]
    one, other = np.where(swapped, pairs[1], pairs[0]), np.where(swapped, pairs[0], pairs[1])
    following = good[one] & good[other] & _follows(places[:, one], places[:, other])
    one, other = one[following], other[following]
    order = np.argsort(left[other], kind="stable")
    best, before = [1] * len(left), [-1] * len(left)
    for earlier, later in zip(one[order].tolist(), other[order].tolist(), strict=True):
        if best[earlier] >= best[later]:
            best[later], before[later] = best[earlier] + 1, earlier
    chain = []
    at = int(np.argmax(best))
    while at >= 0:
        chain.append(at)
        at = before[at]
    return np.array(chain)


def _follows(one: Numbers, other: Numbers) -> NDArray[np.bool_]:
    """Whether one of each pair, of shape (left right top bottom; pairs), may be the letter after another one."""
    high, following = one[3] - one[2], other[3] - other[2]
    higher, lower = np.maximum(high, following), np.minimum(high, following)
    near = np.maximum(_STANDING * higher, 1.01)
    foot, head = abs(one[3] - other[3]), abs(one[2] - other[2])
    stands = (foot <= near) | ((head <= near) & (foot <= _HANGING * higher))
    gap = other[0] - one[1]
    beside = (gap <= _GAP * lower) & (gap >= -_LAP * lower) & (other[0] > one[0])
    return np.asarray(stands & beside & (lower >= _HEIGHTS * higher))


def _line(parts: _Parts, angle: float, chain: NDArray[np.intp], everything: _Places) -> Line:
    left, right, top, bottom = (one[chain] for one in parts.extent(angle))
    high = float(np.median(bottom - top))
    along, across = _turned(*everything, angle)
    inside = (along >= left.min() - _BESIDE_LINE * high) & (along <= right.max() + _BESIDE_LINE * high)
    inside &= (across >= top.min() - _AROUND_LINE * high) & (across <= bottom.max() + _AROUND_LINE * high)
    letters = parts.those(chain)
    clean = letters.pixels.sum() / max(np.count_nonzero(inside), 1)
    box = (letters.columns.min(), letters.rows.min(), letters.columns.max(), letters.rows.max())
    x0, y0, x1, y1 = (int(value) for value in box)
    return Line(len(chain), int(letters.turning.sum()), float(clean), (x0, y0, x1, y1))
