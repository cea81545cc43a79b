"""What of a head is face: a region of space that the brain alone decides, so that nothing of the face's shape stays.

May live here: the region and its distance to the brain, mm, on the planes of a series. May not: pixels, Data Sets.
Lengths are an adult's, in the frame of the head (`brain.Brain`); they grow with the brain.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import ConvexHull

from dicomnode.imaging.balloon import Floats, Values
from dicomnode.imaging.brain import Brain

#: In front of the pons and the ear canals; below the brow; above the larynx.
_BEHIND, _BROW, _LARYNX = 8.0, 8.0, -190.0
_SHOULDERS: Final = 130.0
#: Ears: beside the skull, behind the face.
_EAR_BACK, _EAR_FRONT, _EAR_TOP, _EAR_BOTTOM, _EAR_SIDE = -50.0, 12.0, 25.0, -95.0, 2.0
#: A brain is nearly an ellipsoid: heights above and below the origin by its half length; how much of it is sure to be
#: brain, and how far a bulge of the balloon (into an orbit, along a nerve) is believed.
_ABOVE, _BELOW = 0.85, 0.80
_SURE, _BELIEVED = 0.95, 1.10
_COARSE_MM: Final = 4.0


class Face:
    """The region that goes, for one head."""

    def __init__(self, brain: Brain) -> None:
        self._brain = brain
        self._planes: Floats = ConvexHull(brain.surface).equations

    def depth(self, points: Floats) -> Values:
        """How far points, (..., 3) mm LPS, lie within the region; below 0: outside. Exact to about 1 mm near its border."""
        shape = points.shape[:-1]
        flat = points.reshape(-1, 3)
        front, left, top = self._brain.within(flat).T
        scale = self._brain.scale
        side = np.abs(left)
        face = np.minimum.reduce(
            [front - _BEHIND * scale, _BROW * scale - top, top - _LARYNX * scale, _SHOULDERS * scale - side]
        )
        ears = np.minimum.reduce([
            front - _EAR_BACK * scale, _EAR_FRONT * scale - front, _EAR_TOP * scale - top, top - _EAR_BOTTOM * scale,
            side - self._brain.half_width - _EAR_SIDE * scale, _SHOULDERS * scale - side,
        ])  # fmt: skip
        region = np.maximum(face, ears)
        open_to = region > -_COARSE_MM
        found = region.astype(np.float32)
        found[open_to] = np.minimum(region[open_to], self._from_brain(flat[open_to]) - self._brain.margin)
        return np.asarray(found.reshape(shape))

    def _from_brain(self, points: Floats) -> Floats:
        """Distance from the brain, mm: from the hull of its surface, where that is believed, else from an ellipsoid."""
        within = self._brain.within(points)
        above = np.where(within[:, 2] > 0, _ABOVE, _BELOW) * self._brain.half_length
        half = np.stack(
            [np.full_like(above, self._brain.half_length), np.full_like(above, self._brain.half_width), above]
        )
        radius = np.maximum(np.linalg.norm(within, axis=1), 1e-6)
        relative = np.maximum(np.linalg.norm(within / half.T, axis=1), 1e-6)
        sure, believed = (radius * (1 - share / relative) for share in (_SURE, _BELIEVED))
        near = believed < 2 * self._brain.margin
        hull = np.full(len(points), np.inf)
        for part in np.array_split(np.flatnonzero(near), max(1, near.sum() // 20000)):
            hull[part] = (points[part] @ self._planes[:, :3].T + self._planes[:, 3]).max(axis=1)
        return np.asarray(np.minimum(sure, np.where(near, np.maximum(hull, believed), believed)))

    def on_plane(self, origin: Floats, down: Floats, right: Floats, shape: tuple[int, int]) -> Values:
        """Depth of every pixel of a plane, (rows, columns).

        Parameters
        ----------
        origin
            Centre of the first pixel, mm.
        down, right
            From one row, from one column to the next, mm.
        """
        rows, columns = (_coarse(count, step) for count, step in zip(shape, (down, right), strict=True))
        points = origin + rows[:, None, None] * down + columns[:, None] * right
        coarse = self.depth(points)
        if not (coarse > -_COARSE_MM).any():
            return np.broadcast_to(np.float32(-1), shape)
        between = _between(coarse, rows, shape[0])
        return _between(between.T, columns, shape[1]).T


def _coarse(count: int, step: Floats) -> Floats:
    """Indices about 4 mm apart, both ends among them."""
    reach = (count - 1) * float(np.linalg.norm(step))
    return np.linspace(0.0, count - 1, max(2, round(reach / _COARSE_MM) + 1))


def _between(values: Values, places: Floats, count: int) -> Values:
    """Values at every index, linearly between those at some places (along the first axis)."""
    wanted = np.arange(count)
    low = np.clip(np.searchsorted(places, wanted, "right") - 1, 0, len(places) - 2)
    share = ((wanted - places[low]) / (places[low + 1] - places[low])).astype(np.float32)[:, None]
    return values[low] * (1 - share) + values[low + 1] * share
