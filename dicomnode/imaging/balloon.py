"""A balloon: a closed mesh that is blown up inside a bright body until it meets a dark wall (Smith 2002, the idea of BET).

May live here: the mesh, its forces, reading values on a grid. May not: what the body is, Data Sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_LEVELS: Final = 3  # 642 vertices: 11 mm apart on an adult's brain
_STEPS: Final = 500
#: Radii of curvature, mm: below the first a bend is smoothed away, above the second it stays.
_SHARPEST, _FLATTEST = 8.0, 30.0
#: How far inward the darkest and the brightest value are looked for, mm.
_INWARD_DARKEST, _INWARD_BRIGHTEST = 7.0, 4.0
_TANGENTIAL: Final = 0.5
_PUSH: Final = 0.05
_WALL: Final = 0.6  # share of the local brightness below which a value is wall


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Values in space.

    Attributes
    ----------
    values
        Shape (slices, rows, columns).
    affine
        ``affine @ (slice, row, column, 1)`` is the voxel's centre, mm, LPS.
    beyond
        Value of all that lies outside.
    """

    values: Values
    affine: Floats
    beyond: float = 0.0

    def indices(self, points: Floats) -> Floats:
        """Fractional indices of points, shape (..., 3), in mm."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])

    def holds(self, points: Floats, within_mm: float = 0.0) -> npt.NDArray[np.bool_]:
        """Whether points lie in the grid, and that far from its edges."""
        found = self.indices(points)
        edge = within_mm / np.linalg.norm(self.affine[:3, :3], axis=0) - 0.5
        inside = (found >= edge) & (found <= np.array(self.values.shape) - 1 - edge)
        return np.asarray(inside.all(axis=-1))

    def at(self, points: Floats) -> Values:
        """Values of the nearest voxels; beyond an edge what is said to be there."""
        nearest = np.rint(self.indices(points)).astype(np.intp)
        beyond = ((nearest < 0) | (nearest >= self.values.shape)).any(axis=-1)
        z, y, x = (np.clip(nearest[..., axis], 0, size - 1) for axis, size in enumerate(self.values.shape))
        return np.where(beyond, np.float32(self.beyond), self.values[z, y, x])


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Brightness of a body: darkest, threshold between body and background, and typical."""

    darkest: float
    threshold: float
    typical: float


@cache
def sphere() -> tuple[Floats, Indices, Indices]:
    """Unit sphere of triangles: vertices (n, 3), triangles (m, 3), neighbours of each vertex (n, 6; five have one twice)."""
    golden = (1 + 5**0.5) / 2
    corners = [(-1, golden, 0), (1, golden, 0), (-1, -golden, 0), (1, -golden, 0)]
    points = [np.roll(np.array(one, float), turn) for turn in range(3) for one in corners]
    vertices = np.array(points)
    near = np.linalg.norm(vertices[:, None] - vertices[None], axis=2)
    edge = near[near > 0.1].min() * 1.1
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] < edge and near[j, k] < edge and near[i, k] < edge
    ]
    triangles = np.array(faces, np.intp)
    for _ in range(_LEVELS):
        vertices, triangles = _divided(vertices, triangles)
    vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    inward = np.einsum("ij,ij->i", np.cross(b - a, c - a), a) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    return vertices, triangles, _neighbours(len(vertices), triangles)


def _divided(vertices: Floats, triangles: Indices) -> tuple[Floats, Indices]:
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    unique, place = np.unique(edges, axis=0, return_inverse=True)
    middle = vertices[unique].mean(axis=1)
    middle *= np.linalg.norm(vertices[0]) / np.linalg.norm(middle, axis=1, keepdims=True)
    ab, bc, ca = (place.reshape(-1) + len(vertices)).reshape(3, -1)
    a, b, c = triangles.T
    parts = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
    return np.concatenate([vertices, middle]), np.concatenate([np.stack(part, axis=1) for part in parts])


def _neighbours(count: int, triangles: Indices) -> Indices:
    beside: list[list[int]] = [[] for _ in range(count)]
    for triangle in triangles.tolist():
        for one in triangle:
            beside[one] += [other for other in triangle if other != one and other not in beside[one]]
    return np.array([(one + one)[:6] for one in beside], np.intp)


def normals(vertices: Floats) -> Floats:
    """Outward unit normal at each vertex."""
    _, triangles, _ = sphere()
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    areas = np.cross(b - a, c - a)
    summed = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(summed, triangles[:, corner], areas)
    return np.asarray(summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-9))


def volume_ml(vertices: Floats) -> float:
    """What a mesh encloses, ml."""
    return _volume(vertices) / 1000.0


def middle_and_spread(vertices: Floats) -> tuple[Floats, Floats]:
    """Centre of what a mesh encloses, mm, and its covariance (3, 3), mm²: however its vertices are spread over it."""
    start = vertices.mean(axis=0)
    corners = _corners(vertices - start)
    a, b, c = corners
    volumes = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    whole = volumes.sum()
    centre = (volumes[:, None] * (a + b + c)).sum(axis=0) / (4 * whole)
    parts = np.stack([*corners, a + b + c])
    spread = np.einsum("n,kni,knj->ij", volumes, parts, parts) / (20 * whole)
    return np.asarray(start + centre), np.asarray(spread - np.outer(centre, centre))


def _volume(vertices: Floats) -> float:
    a, b, c = _corners(vertices)
    return abs(float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum())) / 6


def _corners(vertices: Floats) -> list[Floats]:
    triangles = sphere()[1]
    return [vertices[triangles[:, corner]] for corner in range(3)]


def blow(grid: Grid, levels: Levels, centre: Floats, radius: float) -> Floats:
    """Vertices of the balloon at rest, mm, in the order of `sphere`.

    Parameters
    ----------
    centre, radius
        Where it begins, mm: well inside of the body.

    Notes
    -----
    Each step smooths the mesh along itself, flattens sharp bends, and moves each vertex outward as long as the darkest
    value below it is no wall, inward otherwise.
    """
    unit, _, beside = sphere()
    vertices = centre + unit * radius
    bend, steepness = (1 / _SHARPEST + 1 / _FLATTEST) / 2, 6 / (1 / _SHARPEST - 1 / _FLATTEST)
    depths = np.arange(0.0, _INWARD_DARKEST + 0.1, 1.0)
    for _ in range(_STEPS):
        around = vertices[beside]
        length = float(np.linalg.norm(around - vertices[:, None], axis=2).mean())
        outward = normals(vertices)
        pull = around.mean(axis=1) - vertices
        along = np.einsum("ij,ij->i", pull, outward)[:, None]
        tangential = pull - along * outward
        curvature = 2 * np.abs(along) / length**2
        flatten = (1 + np.tanh(steepness * (curvature - bend))) / 2
        found = grid.at(vertices[:, None] - depths[:, None] * outward[:, None])
        push = _push(found, depths, levels)[:, None] * (_PUSH * length)
        vertices = vertices + _TANGENTIAL * tangential + flatten * along * outward + push * outward
    return vertices


def _push(found: Values, depths: Floats, levels: Levels) -> Floats:
    """Outward (above 0) or inward force at each vertex, by the values below it, shape (vertices, depths)."""
    darkest = np.clip(found.min(axis=1), levels.darkest, levels.typical)
    brightest = np.clip(found[:, depths <= _INWARD_BRIGHTEST].max(axis=1), levels.threshold, levels.typical)
    span = np.maximum(brightest - levels.darkest, 1e-6)
    return np.asarray(2 * (darkest - levels.darkest - span * _WALL) / span, np.float64)
