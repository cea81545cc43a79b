"""From a canonical volume to the network's input: spacing, window, padding.

Pure. Training uses the same functions, so that a network sees in service what it saw when it learned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.resample import resample
from dicomnode.manifest import Intensity, Preprocess

Array = npt.NDArray[np.float32]
Size = tuple[int, int, int]
Spacing = tuple[float, float, float]


def prepare(values: npt.NDArray[Any], spacing_mm: Spacing, rule: Preprocess) -> tuple[Array, Size]:
    """Network input of a volume.

    Parameters
    ----------
    values
        (z, y, x) toward superior, posterior, left; HU for CT.
    spacing_mm
        Of its axes.

    Returns
    -------
    tuple
        float32 (Z, Y, X), each size a multiple of the rule's; and its size before it was padded at the high ends.
    """
    coarse = resample(values, spacing_mm, rule.spacing_mm, antialias=rule.antialias)
    z, y, x = coarse.shape
    margins = [(0, -size % factor) for size, factor in zip(coarse.shape, rule.multiple_of, strict=True)]
    if any(margin for _, margin in margins):
        coarse = np.pad(coarse, margins, constant_values=rule.pad_hu)
    return normalise(coarse, rule.intensity), (z, y, x)


def normalise(values: Array, window: Intensity) -> Array:
    """Clip to the window and map it linearly to the scale's range, in place."""
    np.clip(values, window.lower, window.upper, out=values)
    values -= np.float32(window.lower)
    values *= np.float32(1 / (window.upper - window.lower))
    if window.scale == "minus-one-to-one":
        values *= np.float32(2)
        values -= np.float32(1)
    return values


def restored(values: Array, window: Intensity) -> Array:
    """Values that `normalise` mapped, within the window: its inverse, as a new array."""
    low, high = (-1.0, 1.0) if window.scale == "minus-one-to-one" else (0.0, 1.0)
    factor = np.float32((window.upper - window.lower) / (high - low))
    return np.asarray((values - np.float32(low)) * factor + np.float32(window.lower), dtype=np.float32)
