"""A chest of three ellipsoids in the patient's own millimetres, put on any grid: the truth does not pass our code."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.plane import Vector
from dicomnode.imaging.volume import Volume

AXES = tuple(tuple(float(sign * (i == axis)) for i in range(3)) for axis in range(3) for sign in (1, -1))
#: The 24 pairs of row and column direction along the patient's axes.
ORIENTATIONS = tuple((row, column) for row, column in itertools.permutations(AXES, 2) if np.dot(row, column) == 0)

#: Centre and radii, mm in the patient (x toward left, y posterior, z superior): right lung (1), left lung (2).
LUNGS = {1: ((-30.0, 0.0, 0.0), (19.0, 26.0, 34.0)), 2: ((28.0, -6.0, 6.0), (15.0, 20.0, 26.0))}
BODY = ((0.0, 0.0, 0.0), (62.0, 42.0, 400.0))


def geometry(
    row: Vector,
    column: Vector,
    *,
    spacing: Vector = (4.0, 2.0, 3.0),
    half: float = 66.0,
    origin_shift: Vector = (0, 0, 0),
) -> VolumeGeometry:
    """Grid of a cube around the chest; spacing is that of slices, rows and columns."""
    normal = np.cross(row, column)
    shape = tuple(int(2 * half / step) + 1 for step in spacing)
    origin = -half * (np.array(row) + np.array(column) + normal) + np.array(origin_shift)
    return VolumeGeometry(
        origin=_vector(origin),
        row_direction=_vector(row),
        column_direction=_vector(column),
        slice_direction=_vector(normal),
        spacing=spacing,
        shape=(shape[0], shape[1], shape[2]),
        frame_of_reference_uid="1.2.3",
        order=tuple(range(shape[0])),
    )


def truth(grid: VolumeGeometry) -> npt.NDArray[np.uint8]:
    """Labels of the chest on a grid."""
    labels = np.zeros(grid.shape, np.uint8)
    for number, (centre, radii) in LUNGS.items():
        labels[_depth(grid, centre, radii) < 1] = number
    return labels


def values(grid: VolumeGeometry) -> npt.NDArray[np.int16]:
    """HU of the chest on a grid."""
    hu = np.where(_depth(grid, *BODY) < 1, 40, -1000).astype(np.int16)
    hu[truth(grid) != 0] = -850
    return hu


def chest(grid: VolumeGeometry) -> Volume:
    """The chest as a volume."""
    return Volume(
        values=values(grid),
        geometry=grid,
        padding=None,
        sop_instance_uids=tuple(f"1.2.3.{index}" for index in range(grid.shape[0])),
    )


def dice(labels: npt.NDArray[Any], expected: npt.NDArray[Any], number: int) -> float:
    """Overlap of one label."""
    both = np.count_nonzero((labels == number) & (expected == number))
    return 2 * both / (np.count_nonzero(labels == number) + np.count_nonzero(expected == number))


def _depth(grid: VolumeGeometry, centre: Vector, radii: Vector) -> npt.NDArray[np.float64]:
    indices = np.indices(grid.shape).reshape(3, -1)
    places = (grid.affine() @ np.vstack([indices, np.ones(indices.shape[1])]))[:3].T
    if grid.heights is not None:
        more = np.array(grid.heights) - np.arange(grid.shape[0]) * grid.spacing[0]
        places = places + more[indices[0], None] * np.array(grid.slice_direction)
    if grid.drift is not None:
        down, right = np.array(grid.drift)[indices[0]].T[:, :, None]
        places = places + down * np.array(grid.column_direction) + right * np.array(grid.row_direction)
    distance = (places - centre) / radii
    return np.asarray((distance**2).sum(axis=1).reshape(grid.shape))


def _vector(array: Any) -> Vector:
    x, y, z = (float(value) for value in array)
    return x, y, z
