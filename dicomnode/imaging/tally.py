"""What is under a label map: how often each label has which value, counted in one look for whoever needs it.

May live here: counting. Measurements, the chart of the key image and the segmentation all read from this.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.census import Box, Census, take_census

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_LOW, _BINS = -32768, 65536
#: Slices that are counted together.
_SLAB: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Counts of a label map and the values under it.

    Attributes
    ----------
    census
        Of the labels alone, padding included.
    first
        The lowest value that is counted, rounded down.
    histogram
        int64 (labels, values): voxels without padding of each label at each whole value from `first` on. What lies
        beyond 16 bits is counted at the end.
    sums
        Of the exact values of each label, without padding.
    """

    census: Census = field(repr=False)
    first: int
    histogram: Counts = field(repr=False)
    sums: Array = field(repr=False)

    @property
    def voxels(self) -> Counts:
        """Voxels of each label, padding included; none of what is no label."""
        found: Counts = self.census.counts[:, : len(self.histogram)].sum(axis=0)
        found[0] = 0
        return found


def take_tally(values: Array, labels: Labels, padding: Bools | None, size: int = 1) -> Tally:
    """Look at every labelled voxel once.

    Parameters
    ----------
    values, labels, padding
        (slices, rows, columns): HU, segment numbers, where no measurement is.
    size
        Labels that there is a row for, at least.
    """
    census = take_census(labels)
    present = np.flatnonzero(census.counts.any(axis=0))
    size = max(size, int(present[-1]) + 1 if present.size else 1)
    first, histogram = 0, np.zeros((size, 0), np.int64)
    sums = np.zeros(size, np.float64)
    for start in range(0, len(labels), _SLAB):
        label, value = _labelled(values, labels, padding, census.boxes, range(start, min(start + _SLAB, len(labels))))
        if not value.size:
            continue
        exact = value.dtype == np.int16
        bins = value if exact else np.clip(np.floor(value), _LOW, _LOW + _BINS - 1).astype(np.int64)
        low = int(bins.min())
        width = int(bins.max()) - low + 1
        places = label.astype(np.int64)
        places *= width
        places += bins
        places -= low
        counts = np.bincount(places, minlength=size * width).reshape(size, width)
        sums += counts @ np.arange(low, low + width) if exact else np.bincount(label, weights=value, minlength=size)
        first, histogram = _widened(first, histogram, low, width)
        histogram[:, low - first : low - first + width] += counts
    return Tally(census=census, first=first, histogram=histogram, sums=sums)


def _labelled(
    values: Array, labels: Labels, padding: Bools | None, boxes: tuple[Box, ...], slices: range
) -> tuple[Labels, Array]:
    """Label and value of every labelled voxel of some slices that is no padding."""
    found, under = [], []
    for index in slices:
        plane = labels[index][boxes[index]]
        inside = plane > 0
        if padding is not None:
            inside &= ~padding[index][boxes[index]]
        found.append(plane[inside])
        under.append(values[index][boxes[index]][inside])
    return np.concatenate(found), np.concatenate(under)


def _widened(first: int, histogram: Counts, low: int, width: int) -> tuple[int, Counts]:
    """A histogram with room for further bins: that of all that a file can hold would take half a megabyte a label."""
    held = histogram.shape[1]
    start, stop = (min(first, low), max(first + held, low + width)) if held else (low, low + width)
    if (start, stop) == (first, first + held):
        return first, histogram
    wider = np.zeros((len(histogram), stop - start), np.int64)
    if held:
        wider[:, first - start : first - start + held] = histogram
    return start, wider
