"""A label map, counted in one look: what is in which slice, where, and how much of it along each axis.

May live here: counting. It takes most of what everything after the network takes together, so that it is done once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]
Box = tuple[slice, slice]
#: Labels that are looked for one by one: bytes are compared many at a time, and counted one at a time.
_FEW: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Census:
    """Counts of a label map (slices, rows, columns).

    Attributes
    ----------
    counts
        Voxels of every value in every slice: int64 (slices, 256).
    boxes
        For each slice the rows and columns from the first to the last that hold a label.
    along
        For each axis the labelled voxels at each of its places.
    """

    counts: Counts = field(repr=False)
    boxes: tuple[Box, ...] = field(repr=False)
    along: tuple[Counts, Counts, Counts] = field(repr=False)


def take_census(labels: Labels) -> Census:
    """Look at every voxel once, and at those within the boxes twice more."""
    boxes = tuple(box_of(plane) for plane in labels)
    counts = _counts(labels, boxes)
    along = tuple(np.zeros(size, np.int64) for size in labels.shape)
    along[0][:] = counts[:, 1:].sum(axis=1)
    through = np.zeros(labels.shape[1:], np.uint32)
    for plane, box in zip(labels, boxes, strict=True):
        through[box] += plane[box] != 0
    for axis in (0, 1):
        along[axis + 1][:] = through.sum(axis=1 - axis, dtype=np.int64)
    return Census(counts=counts, boxes=boxes, along=(along[0], along[1], along[2]))


def slice_counts(labels: Labels) -> Counts:
    """Voxels of every value in every slice alone."""
    return _counts(labels, [box_of(plane) for plane in labels])


def _counts(labels: Labels, boxes: tuple[Box, ...] | list[Box]) -> Counts:
    counts = np.zeros((len(labels), 256), dtype=np.int64)
    wide = np.empty(labels[0].size, dtype=np.intp)  # counting widens: one buffer, not one for each slice
    for count, plane, box in zip(counts, labels, boxes, strict=True):
        part = plane[box]
        highest = int(part.max(initial=0))
        if highest <= _FEW:
            count[1 : highest + 1] = [np.count_nonzero(part == value) for value in range(1, highest + 1)]
            count[0] = plane.size - count.sum()
            continue
        np.copyto(wide[: part.size].reshape(part.shape), part)
        count[:] = np.bincount(wide[: part.size], minlength=256)
        count[0] += plane.size - part.size
    return counts


def extent(present: npt.NDArray[np.bool_]) -> slice:
    """From the first to the last place that is present; empty where none is."""
    places = np.flatnonzero(present)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def box_of(plane: npt.NDArray[np.bool_] | Labels) -> Box:
    """Rows and columns from the first to the last that hold something."""
    whole = plane.shape[1] % 8 == 0 and plane.flags.c_contiguous  # eight pixels at a time, where a row has whole eights
    words = plane.view(np.uint64) if whole else plane
    rows = extent(np.bitwise_or.reduce(words, axis=1) != 0)
    if rows.stop == rows.start:
        return rows, rows
    across = np.bitwise_or.reduce(words[rows], axis=0)
    return rows, extent(across.view(np.uint8) != 0)
