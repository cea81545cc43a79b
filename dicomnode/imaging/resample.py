"""Grids of other spacing over the same place: linear interpolation of volumes, and of scores back into labels.

May live here: separable interpolation in numpy with a stated grid convention. May not: DICOM, networks.

The convention, everywhere: voxel i of a grid of spacing s lies at i·s from the centre of voxel 0, and voxel 0 of every
grid lies at the same place. A grid never reaches beyond the last voxel of its source. The arithmetic is a fixed sequence
of float32 operations, so that equal inputs give equal bits.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

_FUZZ: Final = 1e-6  # an exact multiple is not lost to a rounding error
_BOX_FROM: Final = 1.5  # reduction from which `antialias` takes means instead of two neighbours


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
    shape = _shape(array)
    sizes = resampled_shape(shape, spacing, new_spacing)
    ratios = [new / old for old, new in zip(spacing, new_spacing, strict=True)]
    result: Array = array
    for axis in sorted(range(3), key=lambda axis: sizes[axis] / shape[axis]):  # what shrinks most comes first
        if ratios[axis] != 1:
            box = antialias and ratios[axis] > _BOX_FROM
            starts, weights = (_box_taps if box else _linear_taps)(sizes[axis], shape[axis], ratios[axis])
            result = _weighted(result, axis, starts, weights)
    return np.array(result, np.float32) if result is array else result


def labels_on(scores: Float32, spacing: Vector, shape: Shape, new_spacing: Vector) -> Labels:
    """Label with the highest score at each voxel of a finer grid, the scores interpolated linearly.

    The finer grid may reach beyond the last coarse voxel, where the outermost score stands. Ties go to the lower label.
    Works slice by slice, and only where the coarse neighbours are not all background: never a whole float volume.

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
    taps = [
        _linear_taps(size, coarse, new / old)
        for size, coarse, old, new in zip(shape, scores.shape[1:], spacing, new_spacing, strict=True)
    ]
    foreground = _argmax(scores) != 0
    labels = np.zeros(shape, np.uint8)
    starts, weights = taps[0]
    for index, (start, pair) in enumerate(zip(starts, weights, strict=True)):
        reach = slice(start, start + len(pair))
        window = _window(foreground[reach].any(axis=0), taps[1][0], taps[2][0])
        if window is not None:
            plane = _plane(scores[:, reach], pair, taps[1:], window)
            labels[(index, *window)] = _argmax(plane)
    return labels


def shares_on(shares: Float32, spacing: Vector, shape: Shape, new_spacing: Vector) -> npt.NDArray[np.uint16]:
    """Values between 0 and 1 on a finer grid, interpolated linearly as `labels_on` does scores.

    Returns
    -------
    ndarray
        uint16, of `shape`: 65535 stands for 1.
    """
    sizes = _shape(shares)
    taps = [
        _linear_taps(size, coarse, new / old)
        for size, coarse, old, new in zip(shape, sizes, spacing, new_spacing, strict=True)
    ]
    result = np.zeros(shape, np.uint16)
    whole = slice(0, shape[1]), slice(0, shape[2])
    for index, (start, pair) in enumerate(zip(*taps[0], strict=True)):
        plane = _plane(shares[None, start : start + len(pair)], pair, taps[1:], whole)[0]
        result[index] = np.rint(np.clip(plane, 0, 1) * np.float32(65535))
    return result


def _plane(scores: Float32, pair: Float32, taps: list[tuple[Any, Any]], window: tuple[slice, slice]) -> Float32:
    """Scores (labels, rows, columns) within a window of one fine slice."""
    result: Array = scores[:, 0] if pair[-1] == 0 else np.tensordot(pair, scores, axes=(0, 1))
    for axis, ((starts, weights), part) in enumerate(zip(taps, window, strict=True), start=1):
        first, count = starts[part], weights.shape[1]
        factors = weights[part].T.reshape(count, *(-1 if d == axis else 1 for d in range(3)))
        sums = np.take(result, first, axis=axis) * factors[0]
        for k in range(1, count):
            sums += np.take(result, first + k, axis=axis) * factors[k]
        result = sums
    return result


def _window(found: npt.NDArray[np.bool_], rows: Array, columns: Array) -> tuple[slice, slice] | None:
    """Part of a fine slice that has a foreground voxel among its coarse neighbours; None when there is no such part."""
    parts = []
    for axis, starts in ((1, rows), (0, columns)):
        hits = np.flatnonzero(found.any(axis=axis))
        if not len(hits):
            return None
        inside = np.flatnonzero((starts >= hits[0] - 1) & (starts <= hits[-1]))
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return parts[0], parts[1]


def _argmax(scores: Float32) -> Labels:
    best = scores[0].copy()
    labels = np.zeros(best.shape, np.uint8)
    for label in range(1, len(scores)):
        labels[scores[label] > best] = label
        np.maximum(best, scores[label], out=best)
    return labels


def _linear_taps(size: int, source: int, ratio: float) -> tuple[npt.NDArray[np.intp], Float32]:
    """First source index and two weights of each voxel; beyond the last source voxel its value stands."""
    places = np.minimum(np.arange(size) * ratio, source - 1)
    starts = np.minimum(np.floor(places + _FUZZ).astype(np.intp), max(source - 2, 0))
    upper = np.clip(places - starts, 0.0, 1.0).astype(np.float32)
    if source == 1:
        return starts, np.ones((size, 1), np.float32)
    return starts, np.stack([1 - upper, upper], axis=1)


def _box_taps(size: int, source: int, ratio: float) -> tuple[npt.NDArray[np.intp], Float32]:
    """First source index and weights of the mean over each new voxel's extent, cut at the ends of the source."""
    low = np.maximum(np.arange(size) * ratio - ratio / 2, -0.5)
    high = np.minimum(np.arange(size) * ratio + ratio / 2, source - 0.5)
    count = min(math.ceil(ratio) + 1, source)
    starts = np.clip(np.floor(low + 0.5).astype(np.intp), 0, source - count)
    cells = starts[:, None] + np.arange(count)
    overlap = np.minimum(cells + 0.5, high[:, None]) - np.maximum(cells - 0.5, low[:, None])
    weights = np.maximum(overlap, 0.0)
    return starts, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _weighted(array: Array, axis: int, starts: Array, weights: Float32) -> Float32:
    shape = list(array.shape)
    shape[axis] = len(starts)
    result = np.empty(shape, np.float32)
    source, target = np.moveaxis(array, axis, 0), np.moveaxis(result, axis, 0)
    part = np.empty(target.shape[1:], np.float32)
    for index, start in enumerate(starts):
        np.multiply(source[start], weights[index, 0], out=target[index], dtype=np.float32, casting="unsafe")
        for k in range(1, weights.shape[1]):
            if weights[index, k]:
                np.multiply(source[start + k], weights[index, k], out=part, dtype=np.float32, casting="unsafe")
                target[index] += part
    return result


def _shape(array: Array) -> Shape:
    if array.ndim != 3:
        raise ValueError("a volume has three axes")
    z, y, x = array.shape
    return z, y, x
