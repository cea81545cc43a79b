"""Trees and tubes of the chest phantom: vessels and airways as capsules painted into a canvas.

May live here: growing branching trees, painting capsules. May not: organs, scanner effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.phantom_anatomy import Field

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A branching tube system: node positions (n, 3) in voxel mm (z, y, x), parent of each node, radius in mm."""

    nodes: Points
    parents: npt.NDArray[np.int64]
    radii: npt.NDArray[np.float64]


def grow_tree(rng: np.random.Generator, root: Points, targets: Points, *, tip: float, trunk: float) -> Tree:
    """Grow a tree from `root` so that every target is reached; radii follow Murray's law between tip and trunk."""
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    nodes, parents = [root], [0]
    lengths = [0.0]
    for target in targets[order]:
        known = np.asarray(nodes)
        distance = np.linalg.norm(known - target, axis=1)
        best = int(np.argmin(distance + 0.35 * np.asarray(lengths)))
        pieces = max(2, int(distance[best] / 7.0))
        side = rng.normal(0.0, 0.09 * distance[best], 3)
        start, previous = known[best], best
        for piece in range(1, pieces + 1):
            t = piece / pieces
            nodes.append(start + (target - start) * t + side * 4.0 * t * (1.0 - t))
            parents.append(previous)
            previous = len(nodes) - 1
            lengths.append(lengths[best] + distance[best] * t)
    parent = np.asarray(parents, dtype=np.int64)
    load = np.ones(len(nodes))
    load[np.unique(parent[1:])] = 0.0
    for node in range(len(nodes) - 1, 0, -1):
        load[parent[node]] += load[node]
    radii = np.clip(tip * load ** (1.0 / 2.7), tip, trunk)
    return Tree(nodes=np.asarray(nodes), parents=parent, radii=radii)


def paint_capsule(
    canvas: Field, spacing: tuple[float, float, float], ends: tuple[Points, Points], radius: float, value: float
) -> None:
    """Blend a capsule (mm, voxel origin at voxel 0) into the canvas; thinner than a voxel it only tints."""
    step = np.asarray(spacing)
    low = np.floor((np.minimum(*ends) - radius) / step).astype(int) - 1
    high = np.ceil((np.maximum(*ends) + radius) / step).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, canvas.shape)
    if np.any(high <= low):
        return
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    axes = [np.arange(a, b) * s for a, b, s in zip(low, high, step, strict=True)]
    relative = [axis - start for axis, start in zip(axes, ends[0], strict=True)]
    along = ends[1] - ends[0]
    square = float(along @ along)
    z, y, x = np.ix_(*relative)
    t = np.clip((z * along[0] + y * along[1] + x * along[2]) / max(square, 1e-6), 0.0, 1.0)
    distance = np.sqrt((z - t * along[0]) ** 2 + (y - t * along[1]) ** 2 + (x - t * along[2]) ** 2)
    edge = float(np.cbrt(np.prod(step)))
    alpha = np.clip((radius - distance) / edge + 0.5, 0.0, 1.0) * min(1.0, (2.0 * radius / edge) ** 1.5)
    region = canvas[box]
    region += (alpha * (value - region)).astype(np.float32)


def paint_polyline(
    canvas: Field, spacing: tuple[float, float, float], points: Points, radii: tuple[float, ...], value: float
) -> None:
    """Paint a tube along points (n, 3), smoothed by a Catmull-Rom curve, radius interpolated along it."""
    padded = np.vstack([2 * points[0] - points[1], points, 2 * points[-1] - points[-2]])
    curve = []
    for i in range(1, len(padded) - 2):
        p0, p1, p2, p3 = padded[i - 1 : i + 3]
        for t in np.linspace(0.0, 1.0, 6, endpoint=False):
            a = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
            curve.append(0.5 * a)
    curve.append(points[-1])
    radius = np.interp(np.linspace(0, 1, len(curve)), np.linspace(0, 1, len(radii)), radii)
    for i in range(len(curve) - 1):
        paint_capsule(canvas, spacing, (curve[i], curve[i + 1]), float(radius[i]), value)


def paint_tree(canvas: Field, spacing: tuple[float, float, float], tree: Tree, value: float) -> None:
    """Paint every branch of a tree."""
    for node in range(1, len(tree.nodes)):
        ends = (tree.nodes[tree.parents[node]], tree.nodes[node])
        paint_capsule(canvas, spacing, ends, float(tree.radii[node]), value)
