"""Tiles: how a volume larger than the network's tile is cut, and how the tiles' logits are joined again.

Pure: numbers and arrays. The plan is a product of three axes, and so are the Gaussian weights: they are normalised
along each axis, sum to one at every voxel, and need neither an array of sums nor a division at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Size = tuple[int, int, int]

_SIGMA = 0.125  # of the tile's size
_FLOOR = 1e-3  # least weight before normalising, relative to the centre


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Tiles along one axis.

    Attributes
    ----------
    size
        Size of every tile.
    starts
        Index of each tile's first voxel, ascending.
    """

    size: int
    starts: tuple[int, ...]

    def weights(self, index: int) -> Array:
        """Normalised weights of one tile; those of all tiles sum to one at every voxel."""
        own = bell(self.size)
        total = np.zeros(self.starts[-1] + self.size)
        for start in self.starts:
            total[start : start + self.size] += own
        start = self.starts[index]
        return np.asarray(own / total[start : start + self.size], dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Tiles of a volume, (z, y, x)."""

    axes: tuple[Axis, Axis, Axis]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return math.prod(len(axis.starts) for axis in self.axes)

    @property
    def tile(self) -> Size:
        """Size of every tile."""
        z, y, x = self.axes
        return z.size, y.size, x.size

    def tiles(self) -> Iterator[tuple[tuple[slice, slice, slice], Array]]:
        """Place and weights (z, y, x) of each tile, x fastest."""
        for indices in product(*(range(len(axis.starts)) for axis in self.axes)):
            z, y, x = (
                (slice(axis.starts[i], axis.starts[i] + axis.size), axis.weights(i))
                for axis, i in zip(self.axes, indices, strict=True)
            )
            weights: Array = z[1][:, None, None] * y[1][:, None] * x[1]
            yield (z[0], y[0], x[0]), weights


def plan(shape: Size, tile: Size, overlap: float) -> Plan:
    """Fewest tiles of equal size that cover a volume and overlap their neighbours by at least a share.

    Parameters
    ----------
    shape, tile
        Volume and largest tile, voxels (z, y, x).
    overlap
        Share of a tile, 0 to less than 1.
    """
    z, y, x = (_axis(size, largest, overlap) for size, largest in zip(shape, tile, strict=True))
    return Plan(axes=(z, y, x))


def run(
    volume: Array,
    layout: Plan,
    network: Callable[[Array], Array],
    *,
    channels: int,
    progress: Callable[[float], None] | None = None,
) -> Array:
    """Logits of a whole volume.

    Parameters
    ----------
    volume
        (Z, Y, X).
    network
        float32 [1, 1, z, y, x] to float32 [1, channels, z, y, x].
    progress
        Told the share done, after each tile.

    Returns
    -------
    float32 (channels, Z, Y, X).
    """
    if layout.count == 1:
        whole: Array = network(np.ascontiguousarray(volume[None, None]))[0]
        _tell(progress, 1.0)
        return whole
    total = np.zeros((channels, *volume.shape), dtype=np.float32)
    for done, (place, weights) in enumerate(layout.tiles(), start=1):
        logits = network(np.ascontiguousarray(volume[place][None, None]))[0]
        logits *= weights
        total[:, *place] += logits
        _tell(progress, done / layout.count)
    return total


def _axis(size: int, largest: int, overlap: float) -> Axis:
    if size <= largest:
        return Axis(size=size, starts=(0,))
    stride = max(1, math.floor(largest * (1 - overlap)))
    gaps = math.ceil((size - largest) / stride)
    return Axis(size=largest, starts=tuple(i * (size - largest) // gaps for i in range(gaps + 1)))


def bell(size: int) -> npt.NDArray[np.float64]:
    """Gaussian over a tile along one axis, before it is normalised: 1 at the centre, never nothing."""
    distance = (np.arange(size) - (size - 1) / 2) / (size * _SIGMA)
    return np.asarray(np.maximum(np.exp(-0.5 * distance**2), _FLOOR), dtype=np.float64)


def _tell(progress: Callable[[float], None] | None, share: float) -> None:
    if progress is not None:
        progress(share)
