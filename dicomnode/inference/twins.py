"""A numpy twin of every kernel: what it computes, said plainly. The kernels are held to these, bit for bit.

Pure. May live here: the meaning of a kernel on whole arrays. May not: addresses, steps and launches, which are the
stand-in device's (`dicomnode.inference.standin_device`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.resample import Taps

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Shares = npt.NDArray[np.uint16]
Size = tuple[int, int, int]


class Window(NamedTuple):
    """Intensities that are kept, and whether they are mapped to -1…1 or to 0…1; `inverse` is 1 / (upper - lower)."""

    lower: np.float32
    upper: np.float32
    inverse: np.float32
    centred: bool


def resample(
    values: Array, taps: Sequence[Taps], nesting: Sequence[int], *, size: Size, pad: np.float32, window: Window
) -> Floats:
    """Network input of a volume: `imaging.resample.resample`, padding and `preprocess.normalise` in one.

    Parameters
    ----------
    values
        (z, y, x) on canonical axes, int16 or float32.
    taps
        Of each axis.
    nesting
        The axis that is summed innermost, the next, the outermost.
    size
        Of the result; beyond the resampled voxels it holds ``pad``.

    Returns
    -------
    float32, of ``size``.
    """
    coarse = values.astype(np.float32)
    for axis in nesting:
        coarse = _along(coarse, axis, taps[axis])
    result = np.full(size, pad, np.float32)
    z, y, x = coarse.shape
    result[:z, :y, :x] = coarse
    result = (np.minimum(np.maximum(result, window.lower), window.upper) - window.lower) * window.inverse
    return result * np.float32(2) - np.float32(1) if window.centred else result


def gather(volume: Floats, origins: npt.NDArray[np.int32], tile: Size) -> Floats:
    """Patches (patches, 1, z, y, x) of a volume, each beginning at its origin."""
    places = (tuple(slice(at, at + size) for at, size in zip(origin, tile, strict=True)) for origin in origins)
    return np.stack([volume[place][None] for place in places])


def accumulate(total: Floats, logits: Floats, weights: Sequence[Floats], *, origin: Size) -> None:
    """Add a patch's logits (channels, z, y, x), weighted along each axis, to the total's, in place."""
    z, y, x = weights
    place = tuple(slice(at, at + len(row)) for at, row in zip(origin, weights, strict=True))
    total[:, *place] += logits * (z[:, None, None] * y[:, None] * x)


def argmax(scores: Floats) -> Labels:
    """Label with the highest score; ties go to the lower one."""
    return np.asarray(np.argmax(scores, axis=0), dtype=np.uint8)


def agree(scores: Floats, labels: Labels, *, margin: np.float32) -> None:
    """Let a label that the rules changed lead by the margin, in place."""
    z, y, x = np.nonzero(labels != argmax(scores))
    scores[labels[z, y, x], z, y, x] = scores[:, z, y, x].max(axis=0) + margin


def foreground(scores: Floats) -> Floats:
    """Probability that a voxel is not background."""
    powers = np.exp(scores - scores.max(axis=0))
    total = powers[0].copy()
    for power in powers[1:]:
        total += power
    return np.asarray(np.float32(1) - powers[0] / total, dtype=np.float32)


def labels_back(scores: Floats, taps: Sequence[Taps]) -> Labels:
    """Label with the highest interpolated score at each voxel of the finer grid."""
    return argmax(np.stack([_fine(channel, taps) for channel in scores]))


def shares_back(shares: Floats, taps: Sequence[Taps]) -> Shares:
    """Interpolated values between 0 and 1, 65535 for 1."""
    fine = np.clip(_fine(shares, taps), np.float32(0), np.float32(1))
    return np.asarray(np.rint(fine * np.float32(65535)), dtype=np.uint16)


def _fine(values: Floats, taps: Sequence[Taps]) -> Floats:
    for axis, table in enumerate(taps):
        values = _along(values, axis, table)
    return values


def _along(values: Floats, axis: int, taps: Taps) -> Floats:
    """Weighted sums along one axis: the first tap always, others where their weight is not 0."""
    shape = [1, 1, 1]
    shape[axis] = len(taps.starts)
    last = values.shape[axis] - 1
    result = np.take(values, taps.starts, axis) * taps.weights[:, 0].reshape(shape)
    for k in range(1, taps.weights.shape[1]):
        weight = taps.weights[:, k].reshape(shape)
        term = np.take(values, np.minimum(taps.starts + k, last), axis) * weight
        result = np.where(weight != 0, result + term, result)
    return np.asarray(result, dtype=np.float32)
