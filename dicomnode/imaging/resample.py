"""Grids of other spacing over the same place: linear interpolation of volumes, and of scores back into labels.

May live here: separable interpolation in numpy with a stated grid convention. May not: DICOM, networks.

The convention, everywhere: voxel i of a grid of spacing s lies at i·s from the centre of voxel 0, and voxel 0 of every
grid lies at the same place. A grid never reaches beyond the last voxel of its source. The arithmetic is a fixed sequence
of float32 operations, so that equal inputs give equal bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

_FUZZ: Final = 1e-6  # an exact multiple is not lost to a rounding error
_MIXED: Final = -1
_THREADS: Final = 2  # each holds a slice of every label's scores, or the slices that one is summed from
_BOX_FROM: Final = 1.5  # reduction from which `antialias` takes means instead of two neighbours


class Taps(NamedTuple):
    """Along one axis, for each new voxel, the first source index that it is summed from and the weights from there on."""

    starts: npt.NDArray[np.intp]
    weights: Float32


def resampled_shape(shape: Shape, spacing: Vector, new_spacing: Vector) -> Shape:
    """Shape of the resampled grid: ``floor((n - 1) * spacing / new_spacing) + 1`` along each axis."""
    if min(shape) < 1 or min(spacing) <= 0 or min(new_spacing) <= 0:
        raise ValueError("a grid has at least one voxel and spacings greater than 0")
    sizes = [
        math.floor((n - 1) * old / new + _FUZZ) + 1 for n, old, new in zip(shape, spacing, new_spacing, strict=True)
    ]
    return sizes[0], sizes[1], sizes[2]


def resample(array: Array, spacing: Vector, new_spacing: Vector, *, antialias: bool = False) -> Float32:
    """Linear interpolation onto a grid of other spacing.

    Parameters
    ----------
    array
        (z, y, x), any number type.
    spacing, new_spacing
        Of its axes, in the same unit.
    antialias
        Along axes that shrink by more than 1.5, take the mean over the new voxel's extent instead of two neighbours.

    Returns
    -------
    ndarray
        float32, of `resampled_shape`.
    """
    taps, nesting = resampling_taps(_shape(array), spacing, new_spacing, antialias=antialias)
    changed = [axis for axis in nesting if spacing[axis] != new_spacing[axis]]
    at = changed.index(0) if 0 in changed else len(changed)
    before, after = ([(axis, taps[axis]) for axis in axes] for axes in (changed[:at], changed[at + 1 :]))
    starts, weights = taps[0] if 0 in changed else Taps(np.arange(len(array)), np.ones((len(array), 1), np.float32))
    result = np.empty(resampled_shape(_shape(array), spacing, new_spacing), np.float32)

    def fill(indices: range) -> None:
        planes: dict[int, Float32] = {}
        for index in indices:
            start, factors = starts[index], weights[index]
            for number in [number for number in planes if number < start]:
                del planes[number]
            for number in range(start, start + len(factors)):
                if number not in planes and (number == start or factors[number - start]):
                    planes[number] = _within(array[number], before)
            total = planes[start] * factors[0]
            for k in range(1, len(factors)):
                if factors[k]:
                    total += planes[start + k] * factors[k]
            result[index] = _within(total, after)

    _in_parts(fill, len(result))
    return result


def _in_parts(fill: Callable[[range], None], count: int) -> None:
    """Fill slices, those of a part one after the other: what neighbours share is then made once."""
    step = -(-count // _THREADS)
    parts = [range(at, min(at + step, count)) for at in range(0, count, step)]
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="resample") as executor:
        for _ in executor.map(fill, parts):
            pass


def resampling_taps(
    shape: Shape, spacing: Vector, new_spacing: Vector, *, antialias: bool = False
) -> tuple[tuple[Taps, Taps, Taps], Shape]:
    """What `resample` sums: the taps of each axis, and the axes in the order in which they are taken."""
    sizes = resampled_shape(shape, spacing, new_spacing)
    z, y, x = (
        (_box_taps if antialias and new / old > _BOX_FROM else _linear_taps)(size, n, new / old)
        for size, n, old, new in zip(sizes, shape, spacing, new_spacing, strict=True)
    )
    first, second, third = sorted(range(3), key=lambda axis: sizes[axis] / shape[axis])  # what shrinks most comes first
    return (z, y, x), (first, second, third)


def finer_taps(coarse: Shape, spacing: Vector, shape: Shape, new_spacing: Vector) -> tuple[Taps, Taps, Taps]:
    """What `labels_on` and `shares_on` sum along z, then y, then x."""
    z, y, x = (
        _linear_taps(size, source, new / old)
        for size, source, old, new in zip(shape, coarse, spacing, new_spacing, strict=True)
    )
    return z, y, x


def labels_on(scores: Float32, spacing: Vector, shape: Shape, new_spacing: Vector) -> Labels:
    """Label with the highest score at each voxel of a finer grid, the scores interpolated linearly.

    The finer grid may reach beyond the last coarse voxel, where the outermost score stands. Ties go to the lower label.
    Works slice by slice, those between the same two coarse ones together, and interpolates only where the coarse neighbours
    differ: never a whole float volume.

    Parameters
    ----------
    scores
        (labels, z, y, x): logits or probabilities; label 0 is background.
    spacing
        Of the scores' grid.
    shape, new_spacing
        Of the finer grid, for instance the source's.

    Returns
    -------
    ndarray
        uint8, of `shape`.
    """
    if scores.ndim != 4 or not 1 <= scores.shape[0] <= 256 or min(scores.shape) < 1:
        raise ValueError("scores are (labels, z, y, x) with 1 to 256 labels")
    _, z, y, x = scores.shape
    taps = finer_taps((z, y, x), spacing, shape, new_spacing)
    cells = _cells(_argmax(scores))
    labels = np.empty(shape, np.uint8)

    def fill(start: int) -> None:
        cell = cells[start].take(taps[1].starts, axis=0).take(taps[2].starts, axis=1)
        edges = _edges(cell, taps[1], taps[2])
        for index in np.flatnonzero(taps[0].starts == start):
            np.copyto(labels[index], cell, casting="unsafe")
            if edges is not None:
                pair = taps[0].weights[index]
                stripes = _stripes(scores[:, start : start + len(pair), :, edges.columns], pair, edges.rows)
                labels[index].reshape(-1)[edges.places] = _argmax(_points(stripes, edges))

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="labels") as executor:
        for _ in executor.map(
            fill, np.unique(taps[0].starts)
        ):  # numpy lets go of Python's lock: none waits for another
            pass
    return labels


class _Edges(NamedTuple):
    """Places of a fine slice between coarse voxels that differ, and what their scores are summed from.

    Attributes
    ----------
    places
        As indices of its rows laid end to end.
    rows, columns
        Of the stripes that these places need, and which coarse columns those have.
    firsts, weights
        Within the stripes, laid end to end, of each place.
    """

    places: npt.NDArray[np.intp]
    rows: Taps
    columns: slice
    firsts: npt.NDArray[np.intp]
    weights: Float32


def _edges(cell: npt.NDArray[np.int16], rows: Taps, columns: Taps) -> _Edges | None:
    """Those of a slice of cells (rows, columns) on the fine grid; None where there are none."""
    places = np.flatnonzero(cell == _MIXED)
    if not len(places):
        return None
    row, column = np.divmod(places, cell.shape[1])
    top, bottom = int(row[0]), int(row[-1]) + 1
    starts = columns.starts[column]
    left, right = int(starts.min()), int(starts.max()) + columns.weights.shape[1]
    firsts = (row - top) * (right - left) + (starts - left)
    cut = Taps(rows.starts[top:bottom], rows.weights[top:bottom])
    return _Edges(places, cut, slice(left, right), firsts, columns.weights[column])


def _cells(labels: Labels) -> npt.NDArray[np.int16]:
    """Label of all corners of each cell between neighbouring voxels; `_MIXED` where they differ.

    Where they do not, every point between has it too: what leads at each corner leads in every mean of them.
    """
    sizes = [max(size - 1, 1) for size in labels.shape]
    first = labels[tuple(slice(0, size) for size in sizes)]
    cells = first.astype(np.int16)
    for corner in itertools.product(*((0, 1) if size > 1 else (0,) for size in labels.shape)):
        other = labels[tuple(slice(low, low + size) for low, size in zip(corner, sizes, strict=True))]
        cells[other != first] = _MIXED
    return cells


def _stripes(scores: Float32, pair: Float32, rows: Taps) -> Float32:
    """Scores (labels, rows, coarse columns) on the fine rows of one fine slice."""
    plane: Array = scores[:, 0] * pair[0]
    for k in range(1, len(pair)):
        if pair[k]:
            plane += scores[:, k] * pair[k]
    sums = plane.take(rows.starts, axis=1) * rows.weights[:, :1]
    for k in range(1, rows.weights.shape[1]):
        sums += plane.take(rows.starts + k, axis=1) * rows.weights[:, k : k + 1]
    return sums


def _points(stripes: Float32, edges: _Edges) -> Float32:
    """Scores (labels, places) at the places of a fine slice."""
    flat = stripes.reshape(len(stripes), -1)
    sums: Float32 = flat.take(edges.firsts, axis=1) * edges.weights[:, 0]
    for k in range(1, edges.weights.shape[1]):
        sums += flat.take(edges.firsts + k, axis=1) * edges.weights[:, k]
    return sums


def shares_on(shares: Float32, spacing: Vector, shape: Shape, new_spacing: Vector) -> npt.NDArray[np.uint16]:
    """Values between 0 and 1 on a finer grid, interpolated linearly as `labels_on` does scores.

    Returns
    -------
    ndarray
        uint16, of `shape`: 65535 stands for 1.
    """
    taps = finer_taps(_shape(shares), spacing, shape, new_spacing)
    result = np.zeros(shape, np.uint16)
    for index, (start, pair) in enumerate(zip(*taps[0], strict=True)):
        stripes = _stripes(shares[None, start : start + len(pair)], pair, taps[1])[0]
        plane = _within(stripes, [(2, taps[2])])
        result[index] = np.rint(np.clip(plane, 0, 1) * np.float32(65535))
    return result


def _argmax(scores: Float32) -> Labels:
    best = scores[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for label in range(1, len(scores)):
        labels[scores[label] > best] = label
        np.maximum(best, scores[label], out=best)
    return labels


def _linear_taps(size: int, source: int, ratio: float) -> Taps:
    """First source index and two weights of each voxel; beyond the last source voxel its value stands."""
    places = np.minimum(np.arange(size) * ratio, source - 1)
    starts = np.minimum(np.floor(places + _FUZZ).astype(np.intp), max(source - 2, 0))
    upper = np.clip(places - starts, 0.0, 1.0).astype(np.float32)
    if source == 1:
        return Taps(starts, np.ones((size, 1), np.float32))
    return Taps(starts, np.stack([1 - upper, upper], axis=1))


def _box_taps(size: int, source: int, ratio: float) -> Taps:
    """First source index and weights of the mean over each new voxel's extent, cut at the ends of the source."""
    low = np.maximum(np.arange(size) * ratio - ratio / 2, -0.5)
    high = np.minimum(np.arange(size) * ratio + ratio / 2, source - 0.5)
    count = min(math.ceil(ratio) + 1, source)
    starts = np.clip(np.floor(low + 0.5).astype(np.intp), 0, source - count)
    cells = starts[:, None] + np.arange(count)
    overlap = np.minimum(cells + 0.5, high[:, None]) - np.maximum(cells - 0.5, low[:, None])
    weights = np.maximum(overlap, 0.0)
    return Taps(starts, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def _within(plane: Array, steps: list[tuple[int, Taps]]) -> Float32:
    """A slice (rows, columns) on the new rows and columns: small enough to stay in the processor's cache."""
    result = plane.astype(np.float32, order="C", copy=False)
    for axis, (starts, weights) in steps:
        factors = weights.T[:, :, None] if axis == 1 else weights.T
        sums = np.take(result, starts, axis=axis - 1, mode="clip")
        sums *= factors[0]
        for k in range(1, len(factors)):
            part = np.take(result, starts + k, axis=axis - 1, mode="clip")
            part *= factors[k]
            sums += part
        result = sums
    return result


def _shape(array: Array) -> Shape:
    if array.ndim != 3:
        raise ValueError("a volume has three axes")
    z, y, x = array.shape
    return z, y, x
