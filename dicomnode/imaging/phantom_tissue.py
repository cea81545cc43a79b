"""Painting of the chest phantom: tissues, bones, organs and lungs as HU on a canvas.

May live here: HU values and the order of painting. May not: proportions (phantom_anatomy), scanner effects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dicomnode.imaging.phantom_anatomy import (
    Anatomy,
    Field,
    Fields,
    Space,
    ellipsoid_depth,
    locate,
    profile,
    smooth_field,
    spine_line,
)
from dicomnode.imaging.phantom_vessels import grow_tree, paint_polyline, paint_tree

_VEINS = (
    (((-24.0, -10.0, 85.0), (-25.0, -14.0, 30.0), (-24.0, -14.0, -40.0)), (8.0, 9.0, 10.0)),
    (((8.0, -34.0, -40.0), (16.0, -24.0, -8.0), (26.0, -2.0, 2.0), (40.0, 16.0, -10.0)), (14.0, 13.0, 11.0, 8.0)),
    (((20.0, -12.0, -6.0), (0.0, -2.0, -10.0), (-24.0, 2.0, -12.0), (-38.0, 10.0, -18.0)), (11.0, 10.0, 9.0, 8.0)),
)
"""Superior vena cava, left and right pulmonary artery: course and radii, mm."""
_GULLET = ((4.0, 26.0, 200.0), (5.0, 32.0, 60.0), (8.0, 36.0, -40.0), (14.0, 22.0, -130.0))
_CAVITIES = (
    ((16.0, 0.0), 21.0, True),
    ((-22.0, -10.0), 20.0, False),
    ((-12.0, 18.0), 20.0, True),
    ((2.0, -22.0), 19.0, False),
)
"""Left ventricle, right atrium, left atrium, right ventricle: offset (x, y) from the heart's centre, radius, arterial?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tissue:
    """HU of the tissues of one body."""

    fat: float
    muscle: float
    blood: float
    veins: float
    liver: float
    spleen: float
    marrow: float
    cortex: float
    gas: float
    bowel: float
    lung: float
    lung_gradient: float


def sample_tissue(rng: np.random.Generator, *, contrast: bool, most: float = 300.0) -> Tissue:
    """Draw HU values; with `contrast` the blood (by up to `most` HU) and the organs enhance."""
    rise = float(rng.uniform(60.0, most)) if contrast else 0.0
    return Tissue(
        fat=float(rng.normal(-100.0, 10.0)),
        muscle=float(rng.normal(52.0, 9.0)),
        blood=float(rng.normal(42.0, 6.0)) + rise,
        veins=float(rng.normal(42.0, 6.0)) + rise * float(rng.uniform(0.3, 1.6)),
        liver=float(rng.normal(58.0, 10.0)) + 0.18 * rise,
        spleen=float(rng.normal(50.0, 6.0)) + 0.3 * rise,
        marrow=float(rng.normal(190.0, 50.0)),
        cortex=float(rng.normal(650.0, 150.0)),
        gas=float(rng.normal(-985.0, 12.0)),
        bowel=float(rng.normal(25.0, 20.0)),
        lung=float(np.clip(rng.normal(-855.0, 45.0), -930.0, -690.0)),
        lung_gradient=float(rng.uniform(0.1, 0.7)),
    )


def paint(canvas: Field, depth: Field, value: float | Field, edge: float) -> None:
    """Blend a structure into the canvas; its border is `edge` mm wide."""
    alpha = np.clip(depth / np.float32(edge) + np.float32(0.5), 0.0, 1.0)
    canvas += alpha * (np.asarray(value, dtype=np.float32) - canvas)


def edge_width(space: Space) -> float:
    """Width of a border: about one voxel."""
    return float(np.cbrt(np.prod(space.spacing)))


def tube(
    space: Space, canvas: Field, points: list[tuple[float, float, float]], radii: tuple[float, ...], value: float
) -> None:
    """Paint a tube along anatomical points."""
    paint_polyline(canvas, space.spacing, np.array([locate(space, p) for p in points]), radii, value)


def paint_wall(
    canvas: Field, space: Space, anatomy: Anatomy, fields: Fields, tissue: Tissue, *, texture: Field
) -> None:
    """Skin, subcutaneous fat and the muscles of the trunk with fat planes between them."""
    edge = edge_width(space)
    paint(canvas, fields.body, tissue.fat + 12.0 * texture, edge)
    paint(canvas, np.minimum(fields.body, 2.2 - fields.body), 10.0, edge)
    lateral = np.square(space.x / 170.0)
    layer = np.float32(anatomy.fat) * (0.75 + 0.5 * lateral)
    streaks = np.float32(5.0) * (np.abs(texture) - 0.14)
    sheets = np.abs(np.mod(fields.cage + 1.3 * texture, 12.0) - 6.0) * 1.6 - 0.9
    between = np.where((fields.cage > -13.0) | (np.abs(space.x) < 18.0), np.float32(4.0), sheets)
    muscle = np.minimum(fields.body - layer, np.minimum(4.0 + streaks, between))
    paint(canvas, muscle, tissue.muscle + 4.0 * texture, edge)


def paint_arms(canvas: Field, space: Space, anatomy: Anatomy, tissue: Tissue) -> None:
    """Arms raised beside the head or lying along the trunk."""
    if anatomy.arms == "none":
        return
    edge, up = edge_width(space), anatomy.arms == "up"
    heights = (60.0, 100.0, 150.0, 300.0) if up else (-700.0, -200.0, 60.0, 110.0)
    reach = 168.0 + anatomy.fat - 12.0
    xs = (
        (130.0, 150.0, 178.0, 205.0)
        if up
        else (reach + 70 + anatomy.arm_gap, reach + 52 + anatomy.arm_gap, reach + 22, reach - 6)
    )
    centre, start = profile(space, heights, xs), (75.0 if up else -1000.0)
    limit = np.minimum(space.z - start, (2000.0 if up else 118.0) - space.z)
    for side in (-1.0, 1.0):
        distance = np.sqrt(np.square(space.x - side * centre) + np.square(space.y - 12.0))
        for radius, value in (
            (50.0, tissue.fat),
            (43.0 - 0.3 * anatomy.fat, tissue.muscle),
            (11.5, tissue.cortex + 400.0),
            (7.0, tissue.marrow - 120.0),
        ):
            paint(canvas, np.minimum(radius - distance, limit), value, edge)


def paint_ribs(canvas: Field, space: Space, anatomy: Anatomy, fields: Fields, tissue: Tissue) -> None:
    """Ribs as slanting bars in the wall of the cage, cartilage in front, sternum and scapulae."""
    edge = edge_width(space)
    outward = -fields.cage
    angle = np.arctan2(np.abs(space.x), space.y * 1.35 - 4.0) / np.float32(np.pi)
    phase = np.mod(space.z + anatomy.rib_slope * (1.6 * angle - 0.5 * angle**2) + anatomy.rib_phase, 26.0) - 13.0
    section = (1.0 - np.sqrt(np.square(phase / 6.8) + np.square((outward - 5.5) / 4.6))) * 4.6
    extent = np.minimum(space.level - (-205.0 + 130.0 * angle), 112.0 - space.level)
    section = np.minimum(section, np.minimum(extent, (0.93 - angle) * 200.0))
    bony = np.minimum(section, (0.74 - angle) * 150.0)
    paint(canvas, section, 105.0, edge)
    paint(canvas, bony, tissue.cortex, edge)
    paint(canvas, bony - 1.9, tissue.marrow, edge)
    width = profile(space, (-105.0, -80.0, 20.0, 50.0, 70.0), (9.0, 15.0, 16.0, 24.0, 26.0))
    plate = (1.0 - np.sqrt(np.square((outward - 8.5) / 6.5) + np.square(space.x / width) ** 2)) * 6.5
    plate = np.minimum(plate, np.minimum(-50.0 - space.y, np.minimum(space.level + 105.0, 68.0 - space.level)))
    blade = np.minimum(2.9 - np.abs(outward - 17.0), np.minimum(angle - 0.16, 0.40 - angle) * 140.0)
    blade = np.minimum(np.minimum(blade, fields.body - 7.0), np.minimum(space.level + 50.0, 95.0 - space.level))
    for part in (plate, blade):
        paint(canvas, part, tissue.cortex * 0.8, edge)
        paint(canvas, part - 2.0, tissue.marrow, edge)


def paint_shoulders(canvas: Field, space: Space, anatomy: Anatomy, tissue: Tissue) -> None:
    """Clavicles and humeral heads."""
    edge = edge_width(space)
    for side in (-1.0, 1.0):
        bend = [
            (side * 16, -74.0, 72.0),
            (side * 60, -72.0, 92.0),
            (side * 105, -36.0, 108.0),
            (side * 142, -12.0, 112.0),
        ]
        tube(space, canvas, bend, (9.0, 6.5, 6.0, 7.0), tissue.cortex)
        tube(space, canvas, bend, (6.0, 3.5, 3.0, 4.0), tissue.marrow)
        height = 98.0 if anatomy.arms == "up" else 88.0
        ball = ellipsoid_depth(space, (side * 150.0, 12.0, height), (24.0, 24.0, 25.0))
        paint(canvas, ball, tissue.cortex, edge)
        paint(canvas, ball - 2.5, tissue.marrow, edge)


def paint_spine(canvas: Field, space: Space, anatomy: Anatomy, tissue: Tissue) -> None:
    """Vertebral bodies, discs, canal and processes."""
    edge = edge_width(space)
    y = space.y - spine_line(space, anatomy)
    phase = np.mod(space.z + anatomy.rib_phase, 26.0) - 13.0
    body = (1.0 - np.sqrt(np.square(space.x / 18.5) + np.square(y / 15.0))) * 15.0
    disc = 13.0 - np.abs(phase) - 3.5
    arch = np.minimum(13.0 - np.sqrt(np.square(space.x) + np.square(y - 23.0)), np.abs(phase) * -1.0 + 10.0)
    side = np.minimum(
        4.5 - np.abs(y - 25.0 + 0.12 * np.abs(space.x)), np.minimum(36.0 - np.abs(space.x), 6.0 - np.abs(phase))
    )
    spine = np.minimum(
        3.2 - np.abs(space.x), np.minimum(np.minimum(y - 28.0, 56.0 - y), 9.0 - np.abs(phase + 0.25 * (y - 30.0)))
    )
    paint(canvas, body, 85.0, edge)
    for part in (np.minimum(body, disc), arch, side, spine):
        paint(canvas, part, tissue.cortex * 0.85, edge)
        paint(canvas, part - 2.2, tissue.marrow, edge)
    paint(canvas, 9.0 - np.sqrt(np.square(space.x) + np.square(y - 23.0)), 22.0, edge)


def paint_abdomen(canvas: Field, space: Space, fields: Fields, tissue: Tissue, rng: np.random.Generator) -> None:
    """Liver, spleen, stomach with gas, kidneys and bowel below the diaphragm."""
    edge = edge_width(space)
    below = np.minimum(fields.floor - space.z - 1.5, fields.cage - 2.0)
    texture = smooth_field(rng, space.shape, space.spacing, 9.0)
    paint(canvas, np.minimum(below, fields.cage - 2.0), tissue.fat + 15.0 * texture, edge)
    liver = np.minimum(below, ellipsoid_depth(space, (-48.0, -8.0, -160.0), (112.0, 92.0, 105.0), -0.25))
    paint(canvas, liver, tissue.liver + 3.0 * texture, edge)
    _liver_vessels(canvas, space, liver, tissue, rng)
    paint(
        canvas, np.minimum(below, ellipsoid_depth(space, (98.0, 42.0, -165.0), (30.0, 44.0, 52.0))), tissue.spleen, edge
    )
    centre = (float(rng.normal(58, 12)), float(rng.normal(-25, 12)), float(rng.normal(-150, 15)))
    stomach = np.minimum(below, ellipsoid_depth(space, centre, (float(rng.uniform(26, 48)), 42.0, 48.0)))
    paint(canvas, stomach, 45.0, edge)
    paint(canvas, stomach - 4.0, tissue.bowel, edge)
    level = centre[1] + float(rng.uniform(-38.0, 25.0))
    paint(canvas, np.minimum(stomach - 4.5, level - space.y), tissue.gas, edge)
    for side in (-1.0, 1.0):
        kidney = np.minimum(below, ellipsoid_depth(space, (side * 62.0, 44.0, -255.0), (27.0, 27.0, 55.0)))
        paint(canvas, kidney, tissue.spleen + 10.0, edge)
    _paint_bowel(canvas, space, np.minimum(below, -liver - 2.0), tissue, rng)


def _paint_bowel(canvas: Field, space: Space, room: Field, tissue: Tissue, rng: np.random.Generator) -> None:
    edge = edge_width(space)
    largest = float(rng.choice([30.0, 38.0, 55.0]))
    high = int(rng.integers(0, 4))
    for count in range(int(rng.integers(5, 22))):
        middle = (float(rng.uniform(-105, 105)), float(rng.uniform(-75, 25)), float(rng.uniform(-600, -185)))
        if count < high:  # the splenic flexure, right under the left dome
            middle = (float(rng.uniform(45, 112)), float(rng.uniform(-70, 10)), float(rng.uniform(-185, -105)))
        if middle[2] + 60.0 < space.level.min() or middle[2] - 60.0 > space.level.max():
            continue
        radii = (
            float(rng.uniform(12, largest)),
            float(rng.uniform(12, 0.8 * largest)),
            float(rng.uniform(12, largest)),
        )
        loop = np.minimum(ellipsoid_depth(space, middle, radii), room)
        gas = float(rng.uniform(-1.3, 1.3)) * radii[1] + middle[1]
        paint(canvas, loop, 40.0, edge)
        paint(canvas, np.minimum(loop - 2.5, gas - space.y), tissue.gas, edge)


def _liver_vessels(canvas: Field, space: Space, liver: Field, tissue: Tissue, rng: np.random.Generator) -> None:
    inside = np.argwhere(liver > 6.0)
    if len(inside) < 2000:
        return
    value = 0.5 * (tissue.liver + tissue.veins) - 6.0
    for root, count in (((-8.0, 18.0, -110.0), 30), ((-14.0, 2.0, -172.0), 35)):
        targets = inside[rng.integers(0, len(inside), count)] * np.asarray(space.spacing)
        tree = grow_tree(rng, locate(space, root), targets, tip=1.2, trunk=5.0)
        keep = canvas.copy()
        paint_tree(canvas, space.spacing, tree, value)
        canvas[:] = np.where(liver > 0, canvas, keep)


def paint_mediastinum(canvas: Field, space: Space, anatomy: Anatomy, tissue: Tissue, rng: np.random.Generator) -> None:
    """Heart, great vessels and oesophagus (the airways come after the lungs)."""
    _paint_heart(canvas, space, anatomy, tissue, rng)
    spine = float(np.interp(0.0, space.level.ravel(), spine_line(space, anatomy).ravel()))
    bore = anatomy.aorta
    arch = [(-4.0, -22.0, -45.0), (-12.0, -22.0, -8.0), (-9.0, -18.0, 22.0), (4.0, 2.0, 40.0)]
    arch += [(17.0, spine - 20.0, 30.0), (20.0, spine - 12.0, 5.0), (20.0, spine - 12.0, -60.0)]
    tube(space, canvas, arch, tuple(bore * share for share in (1.2, 1.2, 1.1, 1.05, 1.0, 1.0, 1.0)), tissue.blood)
    low = [(20.0, spine - 12.0, -60.0), (20.0, spine - 14.0, -120.0), (14.0, spine - 20.0, -200.0)]
    low += [(8.0, spine - 22.0, -330.0), (6.0, spine - 22.0, -600.0)]
    tube(space, canvas, low, tuple(bore * share for share in (1.0, 0.95, 0.85, 0.7, 0.6)), tissue.blood)
    for points, radii in _VEINS:
        tube(space, canvas, list(points), radii, tissue.veins)
    for x, y in ((-20.0, -8.0), (4.0, -4.0), (16.0, 8.0)):
        branch = [(4.0 + x * 0.3, -4.0, 42.0), (x, y - 4.0, 80.0), (x * 1.8, y, 150.0)]
        tube(space, canvas, branch, (5.5, 4.5, 4.0), tissue.blood)
    tube(space, canvas, list(_GULLET), (7.0, 8.0, 8.5, 9.0), tissue.muscle - 8.0)
    if rng.random() < 0.5:
        air = (1.0, float(rng.uniform(1.0, 4.0)), float(rng.uniform(0.5, 5.0)), 1.0)
        tube(space, canvas, list(_GULLET), air, tissue.gas + 60.0)


def _paint_heart(canvas: Field, space: Space, anatomy: Anatomy, tissue: Tissue, rng: np.random.Generator) -> None:
    edge = edge_width(space)
    x, y, z = anatomy.heart_centre
    heart = ellipsoid_depth(space, anatomy.heart_centre, anatomy.heart_radii, 0.35)
    paint(canvas, heart, tissue.muscle, edge)
    for (dx, dy), radius, arterial in _CAVITIES:
        middle = (x + dx, y + dy, z + float(rng.normal(4.0, 5.0)))
        cavity = ellipsoid_depth(space, middle, (radius, radius, radius * 1.5), 0.3)
        value = tissue.blood if arterial else tissue.veins
        paint(canvas, np.minimum(cavity, heart - 6.0), value, 4.0 * edge)
