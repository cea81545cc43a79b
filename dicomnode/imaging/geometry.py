"""Where slices lie in the patient: planes, their order, the checks that they make one even volume, and its axes.

May live here: pure arithmetic of PS3.3 C.7.6.2 (Image Plane). May not: pixels, files, opinions of a model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dicomnode.errors import StudyError
from dicomnode.imaging.plane import Floats, Plane, Vector, vector_of

Shape = tuple[int, int, int]

#: Names of the two ends of each canonical axis (z, y, x): where the index is low, where it is high.
AXIS_ENDS: Final = (("inferior", "superior"), ("anterior", "posterior"), ("right", "left"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """How far real scanners may stray from an even grid.

    Attributes
    ----------
    orientation_degrees
        Angle between the axes of any slice and those of the first.
    pixel_spacing_mm
        Difference of Pixel Spacing between slices.
    duplicate_mm
        Slices nearer to each other than this lie at the same position.
    step_mm, step_fraction
        Deviation of a step between neighbours from the median step: the larger of the two (mm; of the median). Beyond
        it the stack is uneven.
    grid_fraction
        Deviation of any slice from the even grid of the whole stack, in slice spacings: beyond it, too.
    step_ratio
        Largest step divided by the smallest: an uneven stack beyond it is no stack.
    shear_mm
        Wander of the slices across their normal over the whole stack: beyond it, they are tilted.
    tilt_degrees
        Angle between the normal and the line on which the slices lie.
    """

    orientation_degrees: float = 0.1
    pixel_spacing_mm: float = 0.001
    duplicate_mm: float = 0.01
    step_mm: float = 0.1
    step_fraction: float = 0.05
    grid_fraction: float = 0.25
    step_ratio: float = 5.0
    shear_mm: float = 1.0
    tilt_degrees: float = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeGeometry:
    """A stack of parallel slices in space.

    Attributes
    ----------
    origin
        Centre of the first voxel of the first slice, mm, LPS.
    row_direction, column_direction, slice_direction
        Unit vectors along which the column, row and slice index grow; right-handed in this order.
    spacing
        Distance between slices (the mean), rows and columns, mm: that of positions, never Spacing Between Slices.
    shape
        Slices, rows, columns.
    order
        For each slice in source order the index of its plane in the input of `arrange`.
    heights
        Of each slice above the first along the slice direction, mm, where steps are uneven; None: they are even.
    drift
        How far each slice lies off the first one's normal, along the column and the row direction, mm, where the
        gantry was tilted; None: the slices stack up.
    """

    origin: Vector
    row_direction: Vector
    column_direction: Vector
    slice_direction: Vector
    spacing: Vector
    shape: Shape
    frame_of_reference_uid: str = field(repr=False)
    order: tuple[int, ...]
    heights: tuple[float, ...] | None = None
    drift: tuple[tuple[float, float], ...] | None = None

    def affine(self) -> Floats:
        """Matrix from array indices to the patient.

        PS3.3 C.7.6.2.1.1, widened by the slice axis and with its columns in the order of array axes:
        ``affine() @ (slice, row, column, 1)`` is ``(x, y, z, 1)`` in mm, LPS, of the voxel's centre. Of the even,
        straight stack: `straighten` makes one of any other.
        """
        matrix = np.eye(4)
        directions = (self.slice_direction, self.column_direction, self.row_direction)
        for axis, (direction, spacing) in enumerate(zip(directions, self.spacing, strict=True)):
            matrix[:3, axis] = np.array(direction) * spacing
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def widest_step(self) -> float:
        """Largest distance of two neighbouring slices, mm."""
        return self.spacing[0] if self.heights is None else float(np.diff(self.heights).max())

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, ml; the mean where slices are uneven."""
        return math.prod(self.spacing) / 1000.0

    def voxel_volumes_ml(self) -> Floats:
        """Volume of a voxel of each slice, ml: each reaches half-way to its neighbours, the outermost as far outward."""
        if self.heights is None:
            return np.full(self.shape[0], self.voxel_volume_ml)
        steps = np.diff(self.heights)
        reach = (np.concatenate([steps[:1], steps]) + np.concatenate([steps, steps[-1:]])) / 2
        return np.asarray(reach * self.spacing[1] * self.spacing[2] / 1000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalAxes:
    """How a source array turns into the nearest (z, y, x) array that grows toward superior, posterior and left.

    Attributes
    ----------
    permutation
        Source axis of each canonical axis.
    flips
        For each canonical axis, whether it runs against its source axis.
    spacing, shape
        Of the canonical array, (z, y, x); mm and voxels.
    """

    permutation: Shape
    flips: tuple[bool, bool, bool]
    spacing: Vector
    shape: Shape

    @property
    def inverse_permutation(self) -> Shape:
        """Canonical axis of each source axis."""
        first, second, third = (self.permutation.index(axis) for axis in range(3))
        return first, second, third

    def ends(self, source_axis: int) -> tuple[str, str]:
        """Patient direction at the low and at the high end of a source axis, as named in `AXIS_ENDS`."""
        axis = self.inverse_permutation[source_axis]
        low, high = AXIS_ENDS[axis]
        return (high, low) if self.flips[axis] else (low, high)


def arrange(planes: Sequence[Plane], tolerances: Tolerances | None = None) -> VolumeGeometry:
    """Order planes by their position along the slice normal and check that they make one volume.

    Raises
    ------
    StudyError
        A ``geometry-...`` code with the numbers that broke the rule.
    """
    limits = tolerances or Tolerances()
    if len(planes) < 2:
        raise StudyError("geometry-too-few-slices", slices=len(planes))
    _check_equal(planes, limits)
    row, column, normal = _axes(planes[0])
    positions = np.array([plane.position for plane in planes])
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    spacing, even = _check_steps(heights[order], limits)
    first = planes[int(order[0])]
    return VolumeGeometry(
        origin=first.position,
        row_direction=vector_of(row),
        column_direction=vector_of(column),
        slice_direction=vector_of(normal),
        spacing=(spacing, *first.pixel_spacing),
        shape=(len(planes), first.rows, first.columns),
        frame_of_reference_uid=first.frame_of_reference_uid,
        order=tuple(int(index) for index in order),
        heights=None if even else tuple(float(height) for height in heights[order] - heights[order[0]]),
        drift=_drift(positions[order], (row, column, normal), limits),
    )


def canonical_axes(geometry: VolumeGeometry) -> CanonicalAxes:
    """Axes of the nearest (z, y, x) array: the permutation with the largest sum of cosines, and its flips."""
    directions = np.array([geometry.slice_direction, geometry.column_direction, geometry.row_direction])
    cosines = directions[:, ::-1]  # [source axis, canonical axis]: z, y, x of each direction
    permutation = max(
        itertools.permutations(range(3)), key=lambda axes: round(sum(abs(cosines[axes[k], k]) for k in range(3)), 9)
    )
    first, second, third = permutation
    flips = [bool(cosines[axis, canonical] < 0) for canonical, axis in enumerate(permutation)]
    return CanonicalAxes(
        permutation=(first, second, third),
        flips=(flips[0], flips[1], flips[2]),
        spacing=(geometry.spacing[first], geometry.spacing[second], geometry.spacing[third]),
        shape=(geometry.shape[first], geometry.shape[second], geometry.shape[third]),
    )


def _check_equal(planes: Sequence[Plane], limits: Tolerances) -> None:
    first = planes[0]
    if len({plane.frame_of_reference_uid for plane in planes}) > 1:
        raise StudyError("geometry-mixed-frame-of-reference")
    cosines = np.array([plane.orientation for plane in planes]).reshape(-1, 2, 3)
    chords = np.linalg.norm(cosines - cosines[0], axis=2).max()
    degrees = math.degrees(2 * math.asin(min(1.0, float(chords) / 2)))
    if degrees > limits.orientation_degrees:
        raise StudyError("geometry-mixed-orientation", degrees=round(degrees, 2))
    if len({(plane.rows, plane.columns) for plane in planes}) > 1:
        raise StudyError("geometry-mixed-size")
    spacings = np.array([plane.pixel_spacing for plane in planes])
    deviation = float(np.abs(spacings - first.pixel_spacing).max())
    if deviation > limits.pixel_spacing_mm:
        raise StudyError("geometry-mixed-size", spacing_differs_mm=round(deviation, 4))


def _check_steps(heights: Floats, limits: Tolerances) -> tuple[float, bool]:
    """Mean slice spacing (mm) of heights in ascending order, and whether they are even."""
    steps = np.diff(heights)
    duplicates = int((steps < limits.duplicate_mm).sum())
    if duplicates:
        raise StudyError("geometry-duplicate-position", slices=duplicates)
    median = float(np.sort(steps)[(len(steps) - 1) // 2])  # the lower one: a gap among few slices stays a gap
    allowed = max(limits.step_mm, limits.step_fraction * median)
    multiples = np.rint(steps / median)
    whole = np.abs(steps - multiples * median) <= allowed * multiples
    if ((multiples >= 2) & whole).any() and whole.all():
        raise StudyError("geometry-gap", missing=int((multiples - 1).sum()), spacing_mm=round(median, 3))
    deviation = float(np.abs(steps - median).max())
    spacing = float(heights[-1] - heights[0]) / len(steps)
    grid = float(np.abs(heights - heights[0] - spacing * np.arange(len(heights))).max())
    if steps.max() > limits.step_ratio * steps.min():
        raise StudyError(
            "geometry-irregular-spacing",
            median_mm=round(median, 3),
            smallest_mm=round(float(steps.min()), 3),
            largest_mm=round(float(steps.max()), 3),
        )
    return spacing, deviation <= allowed and grid <= limits.grid_fraction * spacing


def _drift(
    positions: Floats, axes: tuple[Floats, Floats, Floats], limits: Tolerances
) -> tuple[tuple[float, float], ...] | None:
    """Where each slice lies off the first one's normal; None where that is next to nothing."""
    row, column, normal = axes
    offsets = positions - positions[0]
    heights = offsets @ normal
    across = np.stack([offsets @ column, offsets @ row], axis=1)
    lengths = np.linalg.norm(across, axis=1)
    worst = int(lengths.argmax())
    if lengths[worst] <= limits.shear_mm:
        return None
    slope = heights @ across / (heights @ heights)
    degrees = math.degrees(math.atan(float(np.linalg.norm(slope))))
    stray = float(np.linalg.norm(across - heights[:, None] * slope, axis=1).max())
    if degrees > limits.tilt_degrees or stray > limits.shear_mm:
        raise StudyError("geometry-gantry-tilt", degrees=round(degrees, 2), stray_mm=round(stray, 2))
    return tuple((float(down), float(right)) for down, right in across)


def _axes(plane: Plane) -> tuple[Floats, Floats, Floats]:
    row = np.array(plane.orientation[:3])
    row = row / np.linalg.norm(row)
    normal = np.cross(row, np.array(plane.orientation[3:]))
    normal = normal / np.linalg.norm(normal)
    return row, np.cross(normal, row), normal
