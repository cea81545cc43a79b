"""Lungs of the chest phantom: parenchyma, vessel and airway trees, disease, and the label volume.

May live here: everything that decides which voxel is lung. May not: scanner effects, organs elsewhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.phantom_anatomy import Anatomy, Field, Fields, Space, ellipsoid_depth, locate, smooth_field
from dicomnode.imaging.phantom_tissue import Tissue, edge_width, paint, tube
from dicomnode.imaging.phantom_vessels import grow_tree, paint_tree

RIGHT, LEFT = 1, 2
"""Label values: 1 right lung, 2 left lung (0 is everything else)."""

DISEASES = ("nodules", "mass", "consolidation", "effusion", "emphysema", "opacity")
"""What may be drawn into the lungs."""

Labels = npt.NDArray[np.uint8]


def paint_parenchyma(canvas: Field, space: Space, fields: Fields, tissue: Tissue, rng: np.random.Generator) -> None:
    """Fill both lungs."""
    lungs = np.maximum(fields.right, fields.left)
    density = tissue.lung + tissue.lung_gradient * (space.y + 5.0)
    density = density + 14.0 * smooth_field(rng, space.shape, space.spacing, 14.0)
    density += 10.0 * smooth_field(rng, space.shape, space.spacing, max(3.0, 2.0 * edge_width(space)))
    paint(canvas, lungs, np.clip(density, -985.0, -500.0), 1.2 * edge_width(space))


def paint_trees(
    canvas: Field, space: Space, fields: Fields, tissue: Tissue, *, rng: np.random.Generator, richness: float
) -> None:
    """Arteries, veins and bronchi of both lungs; vessels never leave the lung they belong to."""
    for side, depth in ((-1.0, fields.right), (1.0, fields.left)):
        inside = np.argwhere(depth > 4.0)
        if len(inside) < 2000:
            continue
        before = canvas.copy()
        root = locate(space, (2.0 + side * 38.0, 14.0, -18.0))
        for count, tip, trunk in ((int(700 * richness), 0.6, 7.0), (int(450 * richness), 0.6, 6.5)):
            targets = inside[rng.integers(0, len(inside), count)] * np.asarray(space.spacing)
            tree = grow_tree(rng, root + rng.normal(0, 4, 3), targets, tip=tip, trunk=trunk)
            paint_tree(canvas, space.spacing, tree, min(tissue.blood, tissue.veins) * 0.5 + 15.0)
        targets = inside[rng.integers(0, len(inside), int(70 * richness))] * np.asarray(space.spacing)
        airway = grow_tree(rng, root, targets, tip=0.9, trunk=4.2)
        paint_tree(canvas, space.spacing, airway, tissue.lung * 0.75)
        lumen = type(airway)(nodes=airway.nodes, parents=airway.parents, radii=np.maximum(airway.radii - 1.0, 0.25))
        paint_tree(canvas, space.spacing, lumen, -960.0)
        canvas[:] = np.where(depth > -0.5, canvas, before)


def paint_airway(canvas: Field, space: Space, tissue: Tissue, rng: np.random.Generator) -> Labels:
    """Trachea and main bronchi with their walls; returns the mask of what they cover (never lung)."""
    r = float(rng.normal(8.5, 1.1))
    trachea = [(1.0, -6.0, 230.0), (1.0, 6.0, 120.0), (0.0, 12.0, 60.0), (0.0, 15.0, 2.0)]
    right = [(0.0, 15.0, 2.0), (-14.0, 16.0, -10.0), (-33.0, 16.0, -22.0)]
    left = [(0.0, 15.0, 2.0), (18.0, 18.0, -12.0), (40.0, 21.0, -27.0)]
    covered = np.zeros(space.shape, dtype=np.float32)
    for wall in (1.6, 0.0):
        for points, scale in ((trachea, 1.0), (right, 0.78), (left, 0.68)):
            tube(space, canvas, points, (r * scale + wall,), 20.0 if wall else tissue.gas)
            if wall:
                tube(space, covered, points[:2] + points[2:], (r * scale + wall,), 1.0)
    return np.asarray(covered > 0.5, dtype=np.uint8)


def _spot(rng: np.random.Generator, space: Space, depth: Field, radius: float) -> Field | None:
    """Depth inside a bent ball somewhere in the lung."""
    inside = np.argwhere(depth > 1.0)
    if len(inside) == 0:
        return None
    at = tuple(int(i) for i in inside[rng.integers(len(inside))])
    centre = (float(space.x[at]), float(space.y[at]), float(space.z[at]))
    stretch = rng.uniform(0.75, 1.3, 3)
    return ellipsoid_depth(space, centre, (radius * stretch[0], radius * stretch[1], radius * stretch[2]))


def paint_masses(canvas: Field, space: Space, lungs: Field, *, rng: np.random.Generator, radii: list[float]) -> None:
    """Solid nodules and masses with uneven borders; they belong to the lung."""
    for radius in radii:
        depth = _spot(rng, space, lungs, radius)
        if depth is None:
            return
        rough = smooth_field(rng, space.shape, space.spacing, max(6.0, radius * 0.5)) * np.float32(0.16 * radius)
        value = float(rng.normal(40.0, 20.0))
        paint(canvas, np.minimum(depth + rough, lungs), value, edge_width(space))


def paint_infiltrate(canvas: Field, space: Space, lungs: Field, *, rng: np.random.Generator, solid: bool) -> None:
    """A consolidation (solid) or ground-glass opacity in part of the lungs; it belongs to the lung."""
    depth = _spot(rng, space, lungs, float(rng.uniform(25.0, 70.0)))
    if depth is None:
        return
    region = depth + 14.0 * smooth_field(rng, space.shape, space.spacing, 22.0)
    patch = np.clip(region / (6.0 if solid else 25.0) + 0.5, 0.0, 1.0) * (lungs > 0)
    value = float(rng.normal(35.0, 15.0)) if solid else float(rng.uniform(-650.0, -300.0))
    grain = 25.0 * smooth_field(rng, space.shape, space.spacing, 7.0)
    canvas += patch * np.maximum(value + grain - canvas, 0.0).astype(np.float32)


def paint_emphysema(canvas: Field, space: Space, lungs: Field, rng: np.random.Generator) -> None:
    """Areas of very low density and bullae."""
    field = smooth_field(rng, space.shape, space.spacing, float(rng.uniform(8.0, 22.0)))
    amount = np.clip((field - rng.uniform(-0.5, 1.0)) * 2.0, 0.0, 1.0) * (lungs > 1.0) * (canvas < -700.0)
    canvas += (amount * (-980.0 - canvas)).astype(np.float32)


def paint_effusion(canvas: Field, space: Space, fields: Fields, rng: np.random.Generator) -> Labels:
    """Fluid lying in the back of one or both pleural spaces; returns its mask, which is not lung."""
    mask = np.zeros(space.shape, dtype=np.uint8)
    for depth in (fields.right, fields.left):
        if rng.random() < 0.4:
            continue
        level = float(rng.uniform(25.0, 75.0)) + 0.25 * (space.z + 80.0)
        fluid = np.minimum(depth + 0.5, space.y - level - 6.0 * np.cos(space.x / 60.0))
        paint(canvas, fluid, float(rng.normal(12.0, 8.0)), edge_width(space))
        mask |= (fluid > 0).astype(np.uint8)
    return mask


def paint_disease(
    canvas: Field, space: Space, fields: Fields, *, rng: np.random.Generator, diseases: tuple[str, ...]
) -> Labels:
    """Draw the named diseases; returns the mask of voxels that are no longer lung."""
    lungs = np.maximum(fields.right, fields.left)
    gone = np.zeros(space.shape, dtype=np.uint8)
    if "emphysema" in diseases:
        paint_emphysema(canvas, space, lungs, rng)
    if "opacity" in diseases:
        paint_infiltrate(canvas, space, lungs, rng=rng, solid=False)
    if "consolidation" in diseases:
        paint_infiltrate(canvas, space, lungs, rng=rng, solid=True)
    if "nodules" in diseases:
        paint_masses(
            canvas, space, lungs, rng=rng, radii=[float(r) for r in rng.uniform(2.5, 12.0, rng.integers(1, 6))]
        )
    if "mass" in diseases:
        paint_masses(canvas, space, lungs, rng=rng, radii=[float(rng.uniform(14.0, 45.0))])
    if "effusion" in diseases:
        gone |= paint_effusion(canvas, space, fields, rng)
    return gone


def lung_labels(fields: Fields, excluded: Labels) -> Labels:
    """Label volume: 1 right lung, 2 left lung; `excluded` voxels are background."""
    labels = np.zeros(fields.right.shape, dtype=np.uint8)
    labels[fields.right > 0] = RIGHT
    labels[fields.left > 0] = LEFT
    labels[excluded > 0] = 0
    return labels


def hu_of_disease_free(anatomy: Anatomy) -> float:
    """Depth of the breath as a rise of lung density in HU: flat diaphragms mean full lungs."""
    return float(np.clip((anatomy.dome_right + 82.0) * 1.5, -30.0, 60.0))
