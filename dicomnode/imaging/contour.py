"""Outlines of masks in DICOM image coordinates, and the slices on which to draw them.

May live here: pure geometry of label maps in the plane. May not: drawing, DICOM objects.

Coordinates are (column, row) of PS3.3 C.18.6.1.2 (Spatial Coordinates): (0, 0) is the top left corner of the top left
pixel, whose centre lies at (0.5, 0.5).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicomnode.imaging.census import Census, box_of, slice_counts

#: Pixels below which an outline keeps to the edges.
_SMALL: Final = 64

Polyline = list[tuple[float, float]]
Points = npt.NDArray[np.float64]
Labels = npt.NDArray[np.uint8]

#: Right, down, left, up as (row, column) steps along pixel edges.
_STEPS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))
#: For each direction the pixel at its right hand, seen from the vertex where the edge begins.
_INNER: Final = ((0, 0), (0, -1), (-1, -1), (-1, 0))


def contour(mask: npt.NDArray[Any], *, tolerance: float = 0.3, maximum_points: int = 200) -> Polyline:
    """Outer boundary of the largest component of a mask, holes filled.

    Parameters
    ----------
    mask
        (rows, columns).
    tolerance
        How far the simplified line may lie from the exact one, pixels; doubled until the points suffice.
    maximum_points
        Upper bound of the points, at least 8.

    Returns
    -------
    list
        Closed: the last point repeats the first. Passes through the middle between neighbours inside and outside, and
        so loses half a pixel of area; around less than 64 pixels it keeps to their edges, and to their area.
        Empty for an empty mask.
    """
    if maximum_points < 8 or tolerance <= 0:
        raise ValueError("a contour has at least 8 points and a tolerance greater than 0")
    filled = _largest(np.asarray(mask) != 0)
    if filled is None:
        return []
    part, (row, column) = filled
    exact = _boundary(part, corners=int(np.count_nonzero(part)) < _SMALL) + np.array([column, row])
    simple = _simplified(exact, tolerance)
    while len(simple) > maximum_points:
        tolerance *= 2
        simple = _simplified(exact, tolerance)
    return [(float(x), float(y)) for x, y in simple]


def area_mm2(polyline: Polyline, spacing: tuple[float, float]) -> float:
    """Area within a closed polyline, mm²; `spacing` is Pixel Spacing (rows, columns)."""
    if len(polyline) < 3:
        return 0.0
    points = np.array(polyline)
    x, y = points[:, 0], points[:, 1]
    doubled = float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) + x[-1] * y[0] - x[0] * y[-1])
    return abs(doubled) / 2 * spacing[0] * spacing[1]


def key_slices(labels: Labels | Census) -> dict[int, int]:
    """For each label that occurs, the slice with its largest area (the first of equal ones)."""
    areas = labels.counts if isinstance(labels, Census) else slice_counts(labels)
    found = np.flatnonzero(areas[:, 1:].any(axis=0)) + 1
    return {int(label): int(areas[:, label].argmax()) for label in found}


def spread_slices(labels: npt.NDArray[Any] | Census, count: int) -> tuple[int, ...]:
    """Up to `count` different slices, with equal shares of what is labelled between them (of all when nothing is)."""
    if isinstance(labels, Census):
        return spread(labels.along[0], count)
    return spread(np.array([np.count_nonzero(plane) for plane in labels]), count)


def spread(areas: npt.NDArray[Any], count: int) -> tuple[int, ...]:
    """`spread_slices` of slices whose labelled voxels are counted already."""
    shares = np.cumsum(areas if areas.any() else np.ones(len(areas)))
    places = np.searchsorted(shares, shares[-1] * (np.arange(count) + 0.5) / count)
    return tuple(sorted({int(place) for place in places}))


def _largest(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], tuple[int, int]] | None:
    """Largest component (neighbours share an edge) with its holes filled, cropped, and where the crop begins."""
    down, across = box_of(mask)
    components, count = ndimage.label(mask[down, across])
    if not count:
        return None
    sizes = np.bincount(components.reshape(-1))[1:]
    number = int(sizes.argmax()) + 1
    rows, columns = ndimage.find_objects(components, max_label=count)[number - 1]
    part = ndimage.binary_fill_holes(components[rows, columns] == number)
    return np.asarray(part, np.bool_), (down.start + rows.start, across.start + columns.start)


def _boundary(part: npt.NDArray[np.bool_], *, corners: bool) -> Points:
    """Middles (or corners) of the pixel edges around a component, as (column, row), clockwise on the screen."""
    padded = np.pad(part, 1).tolist()
    column = int(part[0].argmax())
    start = (0, column)
    row, direction = 0, 0
    share = 0.0 if corners else 0.5
    points: list[tuple[float, float]] = []
    while True:
        step = _STEPS[direction]
        points.append((column + step[1] * share, row + step[0] * share))
        row, column = row + step[0], column + step[1]
        if (row, column) == start:
            break
        turns = ((direction + turn) % 4 for turn in (1, 0, 3))  # right first: a common corner makes no neighbours
        direction = next(ahead for ahead in turns if _is_edge(padded, row, column, ahead))
    return np.array(points, np.float64)


def _is_edge(padded: list[list[bool]], row: int, column: int, direction: int) -> bool:
    """Whether the pixel edge from a vertex has the inside at its right hand and the outside at its left."""
    (down, across), (back, aside) = _INNER[direction], _INNER[(direction + 3) % 4]
    return padded[row + down + 1][column + across + 1] and not padded[row + back + 1][column + aside + 1]


def _simplified(points: Points, tolerance: float) -> Points:
    """Douglas and Peucker's line over a ring; the result repeats its first point."""
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    ring = np.concatenate([points, points[:1]])
    keep = np.zeros(len(ring), np.bool_)
    keep[[0, far, len(ring) - 1]] = True
    spans = [(0, far), (far, len(ring) - 1)]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        between = ring[first + 1 : last]
        chord = ring[last] - ring[first]
        offset = between - ring[first]
        length = float(np.hypot(*chord))
        distances = (
            np.abs(offset[:, 0] * chord[1] - offset[:, 1] * chord[0]) / length if length else np.hypot(*offset.T)
        )
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return ring[keep]
