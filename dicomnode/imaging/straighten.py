"""Tilted and uneven stacks as even, straight ones for networks and pictures, and label maps back onto the source's planes.

May live here: interpolation between planes that are parallel. Where a stack is even and straight already, nothing is
touched. Measurements and results never use what is made here: they stay on the source's own planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.plane import Floats
from dicomnode.imaging.volume import Volume

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.intp]

_MOST_SLICES: Final = 4  # times as many as the source has: one thin step does not make a thousand slices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Straight:
    """An even, straight grid over a stack.

    Attributes
    ----------
    geometry
        Of the grid; the source's own where that is even and straight.
    """

    source: VolumeGeometry
    geometry: VolumeGeometry
    _heights: Floats
    _shifts: Floats

    @property
    def is_source(self) -> bool:
        """Whether the source is even and straight itself."""
        return self.geometry is self.source

    def volume(self, volume: Volume) -> Volume:
        """The values on the grid, interpolated linearly; what no slice covers has the lowest of them."""
        if self.is_source:
            return volume
        slices, rows, columns = self.geometry.shape
        values = np.empty((slices, rows, columns), np.float32)
        kept: dict[int, npt.NDArray[np.float32]] = {}
        fill = float(volume.values.min())
        for index in range(slices):
            place = float(np.interp(index * self.geometry.spacing[0], self._heights, np.arange(len(self._heights))))
            low = min(int(place), len(self._heights) - 2)
            for wanted in (low, low + 1):
                if wanted not in kept:
                    kept[wanted] = self._shifted(volume.values[wanted], self._shifts[wanted], fill)
            for old in [one for one in kept if one < low]:
                del kept[old]
            share = np.float32(place - low)
            values[index] = kept[low] * (1 - share) + kept[low + 1] * share
        uids = tuple(volume.sop_instance_uids[index] for index in self.nearest_source())
        return Volume(values=values, geometry=self.geometry, padding=None, sop_instance_uids=uids)

    def labels(self, labels: Array) -> Array:
        """A label map of the source on the grid, each voxel from the nearest."""
        if self.is_source:
            return labels
        _, rows, columns = self.geometry.shape
        result = np.zeros(self.geometry.shape, labels.dtype)
        for index, source in enumerate(self.nearest_source()):
            (down, right), (height, width) = self._whole_shift(source), labels.shape[1:]
            part = labels[source][: rows - down, : columns - right]
            result[index, down : down + height, right : right + width] = part
        return result

    def back(self, labels: Array) -> Array:
        """A label map of the grid on the source's own planes, each voxel from the nearest: C-contiguous."""
        if self.is_source:
            return labels
        result = np.zeros(self.source.shape, labels.dtype)
        nearest = np.rint(self._heights / self.geometry.spacing[0]).astype(int)
        for index, grid in enumerate(np.clip(nearest, 0, len(labels) - 1)):
            down, right = self._whole_shift(index)
            part = labels[grid, down : down + result.shape[1], right : right + result.shape[2]]
            result[index, : part.shape[0], : part.shape[1]] = part
        return result

    def nearest_source(self) -> Indices:
        """For each slice of the grid the nearest one of the source."""
        wanted = np.arange(self.geometry.shape[0]) * self.geometry.spacing[0]
        return np.asarray(np.abs(wanted[:, None] - self._heights).argmin(axis=1))

    def _whole_shift(self, index: int) -> tuple[int, int]:
        down, right = np.rint(self._shifts[index]).astype(int)
        return int(down), int(right)

    def _shifted(self, plane: Array, shift: Floats, fill: float) -> npt.NDArray[np.float32]:
        """A plane of the source on the grid's rows and columns, the fill around it."""
        result = plane.astype(np.float32)
        for axis, size in enumerate(self.geometry.shape[1:]):
            whole, moved = math.floor(shift[axis]), np.moveaxis(result, axis, 0)
            share = np.float32(shift[axis] - whole)
            edge = np.full((1, moved.shape[1]), fill, np.float32)
            framed = np.concatenate([edge, moved, edge])
            mixed = framed[1:] * (1 - share) + framed[:-1] * share
            placed = np.full((size, moved.shape[1]), fill, np.float32)
            placed[whole : whole + len(mixed)] = mixed[: size - whole]
            result = np.moveaxis(placed, 0, axis)
        return result


def straighten(geometry: VolumeGeometry) -> Straight:
    """Grid over a stack: the source's pixels, slices at its mean step or, where steps are uneven, near its smallest."""
    slices, rows, columns = geometry.shape
    heights = np.asarray(np.arange(slices) * geometry.spacing[0], np.float64)
    if geometry.heights is not None:
        heights = np.array(geometry.heights)
    drift = np.zeros((slices, 2)) if geometry.drift is None else np.array(geometry.drift)
    shifts = drift / geometry.spacing[1:]
    corner = np.floor(shifts.min(axis=0))
    if geometry.heights is None and geometry.drift is None:
        return Straight(source=geometry, geometry=geometry, _heights=heights, _shifts=shifts)
    reach = float(heights[-1])
    step = geometry.spacing[0]
    if geometry.heights is not None:
        step = max(float(np.diff(heights).min()), reach / (_MOST_SLICES * (slices - 1)))
    more = np.ceil((shifts - corner).max(axis=0)).astype(int)
    origin = np.array(geometry.origin) + corner[0] * geometry.spacing[1] * np.array(geometry.column_direction)
    origin = origin + corner[1] * geometry.spacing[2] * np.array(geometry.row_direction)
    count = math.floor(reach / step + 0.5) + 1
    even = replace(
        geometry,
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        spacing=(step, *geometry.spacing[1:]),
        shape=(count, rows + int(more[0]), columns + int(more[1])),
        order=tuple(range(count)),
        heights=None,
        drift=None,
    )
    return Straight(source=geometry, geometry=even, _heights=heights, _shifts=shifts - corner)
