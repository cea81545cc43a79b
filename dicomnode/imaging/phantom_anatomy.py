"""Anatomy of the chest phantom: coordinates, randomised proportions and the depth fields of large structures.

May live here: frozen parameters and pure functions from coordinates in mm to depths in mm (positive inside).
May not: HU values, painting, scanner effects.

Anatomical coordinates: x toward Left, y toward Posterior, z toward Superior, millimetres, the carina near the origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Axis = npt.NDArray[np.float64]

_BODY_Z = (-700.0, -500.0, -330.0, -240.0, -150.0, -60.0, 40.0, 90.0, 118.0, 140.0, 162.0, 190.0, 300.0)
_BODY_A = (172.0, 172.0, 158.0, 150.0, 156.0, 164.0, 168.0, 176.0, 182.0, 150.0, 90.0, 62.0, 60.0)
_BODY_B = (110.0, 108.0, 104.0, 103.0, 107.0, 112.0, 107.0, 95.0, 84.0, 74.0, 66.0, 62.0, 64.0)
_BODY_Y = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0, 8.0, 12.0, 14.0, 14.0, 10.0, 2.0)
_CAGE_Z = (-700.0, -330.0, -240.0, -150.0, -60.0, 20.0, 60.0, 90.0, 112.0, 130.0)
_CAGE_A = (128.0, 122.0, 118.0, 124.0, 126.0, 117.0, 100.0, 78.0, 54.0, 40.0)
_CAGE_B = (76.0, 72.0, 76.0, 86.0, 89.0, 80.0, 68.0, 54.0, 42.0, 34.0)
_CAGE_Y = (-6.0, -6.0, -6.0, -4.0, -1.0, 3.0, 8.0, 15.0, 20.0, 22.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Proportions of one randomised body; lengths in mm before `size` is applied."""

    size: tuple[float, float, float]
    roll: float
    fat: float
    breast: float
    barrel: float
    squareness: float
    arms: str
    arm_gap: float
    heart_centre: tuple[float, float, float]
    heart_radii: tuple[float, float, float]
    mediastinum: float
    kyphosis: float
    dome_right: float
    dome_left: float
    recess: float
    aorta: float
    rib_phase: float
    rib_slope: float
    warp: float
    shrink: tuple[float, float]


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw the proportions of one body (adult, either sex, slim to obese, inspiration to expiration)."""
    size = float(rng.normal(1.0, 0.07))
    dome = float(rng.normal(-82.0, 18.0))
    return Anatomy(
        size=(size * rng.uniform(0.92, 1.1), size * rng.uniform(0.9, 1.1), size * rng.uniform(0.93, 1.07)),
        roll=float(rng.normal(0.0, 4.0)),
        fat=float(rng.gamma(2.5, 6.0) + 3.0),
        breast=float(rng.choice([0.0, rng.uniform(10.0, 45.0)])),
        barrel=float(rng.normal(1.0, 0.09)),
        squareness=float(rng.uniform(0.15, 0.5)),
        arms=str(rng.choice(["up", "up", "down", "none"])),
        arm_gap=float(rng.uniform(-4.0, 25.0)),
        heart_centre=(
            float(rng.normal(27, 7)),
            float(rng.normal(-30, 6)),
            float(rng.normal(-66, 8)) + 0.5 * (dome + 82),
        ),
        heart_radii=(float(rng.normal(54, 7)), float(rng.normal(44, 5)), float(rng.normal(56, 6))),
        mediastinum=float(rng.normal(1.0, 0.18)),
        kyphosis=float(rng.normal(0.0, 8.0)),
        dome_right=dome,
        dome_left=dome - float(rng.normal(11.0, 13.0)),
        recess=float(rng.uniform(45.0, 105.0)),
        aorta=float(rng.normal(12.5, 1.8)),
        rib_phase=float(rng.uniform(0.0, 26.0)),
        rib_slope=float(rng.uniform(28.0, 60.0)),
        warp=float(rng.uniform(2.0, 7.0)),
        shrink=(
            float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 25)])),
            float(rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 25)])),
        ),
    )


def typical_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a body close to the textbook, for pictures: arms up, deep breath, modest variation."""
    return Anatomy(
        size=(1.0, 1.0, 1.0), roll=float(rng.normal(0.0, 1.5)), fat=float(rng.uniform(10.0, 18.0)), breast=0.0, barrel=1.0,
        squareness=0.36, arms="up", arm_gap=8.0, heart_centre=(27.0, -30.0, -68.0), heart_radii=(54.0, 44.0, 56.0),
        mediastinum=1.0, kyphosis=0.0, dome_right=-88.0, dome_left=-99.0, recess=80.0, aorta=12.5,
        rib_phase=float(rng.uniform(0.0, 26.0)), rib_slope=42.0, warp=3.5, shrink=(0.0, 0.0),
    )  # fmt: skip


def spline_weights(count: int, step: float, scale: float) -> npt.NDArray[np.float32]:
    """Cubic B-spline basis, sampled: a matrix (count, knots) with knots `scale` mm apart."""
    position = np.arange(count) * step / scale
    knots = int(np.ceil(position[-1])) + 4
    distance = np.abs(position[:, None] - (np.arange(knots)[None, :] - 1.0))
    inner = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    outer = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.where(distance < 1.0, inner, outer).astype(np.float32)


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int, int], spacing: tuple[float, float, float], scale: float
) -> Field:
    """Smooth random field with a standard deviation near 1 and features about `scale` mm wide."""
    weights = [spline_weights(count, step, scale) for count, step in zip(shape, spacing, strict=True)]
    field: Field = rng.standard_normal([w.shape[1] for w in weights]).astype(np.float32)
    field = np.tensordot(weights[0], field, axes=(1, 0))
    field = np.tensordot(field, weights[1], axes=(1, 1)).swapaxes(1, 2)
    field = np.tensordot(field, weights[2], axes=(2, 1))
    return np.ascontiguousarray(field * np.float32(3.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Anatomical coordinates of every voxel.

    Attributes
    ----------
    x, y, z : numpy.ndarray
        float32 (z, y, x), mm, bent by a smooth random field so that no organ is a perfect ellipsoid.
    level : numpy.ndarray
        float32 (z, 1, 1), height without bending.
    spacing : tuple of float
        Voxel size in anatomical mm (z, y, x).
    centre : tuple of float
        Anatomical point (z, y, x) in the middle of the volume.
    roll : float
        Rotation about z, degrees.
    """

    x: Field
    y: Field
    z: Field
    level: Field
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    roll: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume (z, y, x)."""
        return (self.x.shape[0], self.x.shape[1], self.x.shape[2])


def make_space(
    rng: np.random.Generator,
    anatomy: Anatomy,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    centre: tuple[float, float, float],
) -> Space:
    """Lay the voxel grid over the body; `centre` is the anatomical point (z, y, x) in the middle of the volume."""
    scale = (anatomy.size[2], anatomy.size[1], anatomy.size[0])
    axes = [
        ((np.arange(n) - (n - 1) / 2.0) * step / size + middle).astype(np.float32)
        for n, step, size, middle in zip(shape, spacing, scale, centre, strict=True)
    ]
    level = axes[0][:, None, None]
    cosine, sine = np.float32(np.cos(np.radians(anatomy.roll))), np.float32(np.sin(np.radians(anatomy.roll)))
    y, x = axes[1][None, :, None], axes[2][None, None, :]
    bend = [smooth_field(rng, shape, spacing, 55.0) * np.float32(anatomy.warp) for _ in range(3)]
    bend[0] += cosine * x - sine * y
    bend[1] += sine * x + cosine * y
    bend[2] += level
    step = (spacing[0] / scale[0], spacing[1] / scale[1], spacing[2] / scale[2])
    return Space(x=bend[0], y=bend[1], z=bend[2], level=level, spacing=step, centre=centre, roll=anatomy.roll)


def locate(space: Space, point: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Position (z, y, x) in mm from voxel 0 of an anatomical point (x, y, z); it may lie outside the volume."""
    cosine, sine = np.cos(np.radians(space.roll)), np.sin(np.radians(space.roll))
    step, last = np.asarray(space.spacing), np.asarray(space.shape) - 1
    middle = last * step / 2.0 - np.asarray([space.centre[0], space.centre[1], space.centre[2]])
    wanted = np.asarray(point, dtype=np.float64)
    position = np.zeros(3)
    for _ in range(4):
        straight = np.array([wanted[2], cosine * wanted[1] - sine * wanted[0], cosine * wanted[0] + sine * wanted[1]])
        position = straight + middle
        near = np.clip(np.rint(position / step), 0, last).astype(int)
        there = near * step - middle
        index = (int(near[0]), int(near[1]), int(near[2]))
        bend = np.array([
            space.x[index] - (cosine * there[2] - sine * there[1]),
            space.y[index] - (sine * there[2] + cosine * there[1]),
            space.z[index] - there[0],
        ])  # fmt: skip
        wanted = np.asarray(point) - bend
    return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Depth fields of the large structures, mm, positive inside, float32 (z, y, x)."""

    body: Field
    cage: Field
    mediastinum: Field
    right: Field
    left: Field
    floor: Field


def make_fields(space: Space, anatomy: Anatomy) -> Fields:
    """Compute the depth fields of one body."""
    cage, mediastinum = cage_depth(space, anatomy), mediastinum_depth(space, anatomy)
    floors = {side: diaphragm_height(space, anatomy, side) for side in (-1, 1)}
    lungs = {
        side: lung_depth(space, anatomy, side=side, cage=cage, mediastinum=mediastinum, floor=floors[side])
        for side in (-1, 1)
    }
    floor = np.where(space.x < 3.0, floors[-1], floors[1])
    return Fields(
        body=body_depth(space, anatomy), cage=cage, mediastinum=mediastinum, right=lungs[-1], left=lungs[1], floor=floor
    )


def profile(space: Space, heights: tuple[float, ...], values: tuple[float, ...]) -> Field:
    """Interpolate a value given at some heights onto the slices, shape (z, 1, 1)."""
    level = space.level.ravel()
    return np.interp(level, heights, values).astype(np.float32)[:, None, None]


def oval_depth(x: Field, y: Field, half_x: Field, half_y: Field, squareness: float) -> Field:
    """Depth inside a rounded rectangle-like oval in each slice, mm (approximate away from the edge)."""
    u = np.square(x / half_x)
    v = np.square(y / half_y)
    q = u + v - np.float32(squareness) * np.minimum(u, 2) * np.minimum(v, 2)
    return np.asarray((1.0 - np.sqrt(np.clip(q, 0.0, None))) * np.minimum(half_x, half_y), dtype=np.float32)


def body_depth(space: Space, anatomy: Anatomy) -> Field:
    """Depth below the skin, arms excluded."""
    a = profile(space, _BODY_Z, _BODY_A) + np.float32(anatomy.fat - 12.0)
    b = profile(space, _BODY_Z, _BODY_B) * np.float32(anatomy.barrel) + np.float32(0.8 * (anatomy.fat - 12.0))
    depth = oval_depth(space.x, space.y - profile(space, _BODY_Z, _BODY_Y), a, b, anatomy.squareness * 0.8)
    if anatomy.breast > 0:
        for side in (-1.0, 1.0):
            radii = (62.0, 30.0 + anatomy.breast, 60.0)
            depth = np.maximum(depth, ellipsoid_depth(space, (side * 78.0, -82.0 * anatomy.barrel, -35.0), radii))
    return depth


def cage_depth(space: Space, anatomy: Anatomy) -> Field:
    """Depth inside the inner surface of the rib cage (below it: of the abdominal wall)."""
    a, b = profile(space, _CAGE_Z, _CAGE_A), profile(space, _CAGE_Z, _CAGE_B) * np.float32(anatomy.barrel)
    return oval_depth(space.x, space.y - profile(space, _CAGE_Z, _CAGE_Y), a, b, anatomy.squareness)


def ellipsoid_depth(
    space: Space, centre: tuple[float, float, float], radii: tuple[float, float, float], tilt: float = 0.0
) -> Field:
    """Depth inside an ellipsoid (x, y, z), tilted by `tilt` radians about the y axis.

    Slices far from it are not computed: they hold a depth well outside.
    """
    depth: Field = np.full(space.shape, -60.0, dtype=np.float32)
    near = np.flatnonzero(np.abs(space.level.ravel() - centre[2]) < max(radii[0] * abs(tilt), radii[2]) + 30.0)
    if len(near) == 0:
        return depth
    box = slice(int(near[0]), int(near[-1]) + 1)
    x, z = space.x[box] - np.float32(centre[0]), space.z[box] - np.float32(centre[2])
    if tilt:
        cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        x, z = cosine * x + sine * z, cosine * z - sine * x
    q = np.square(x / np.float32(radii[0])) + np.square((space.y[box] - np.float32(centre[1])) / np.float32(radii[1]))
    q += np.square(z / np.float32(radii[2]))
    depth[box] = (1.0 - np.sqrt(q)) * np.float32(min(radii))
    return depth


def spine_line(space: Space, anatomy: Anatomy) -> Field:
    """Posterior position of the vertebral bodies' centre in each slice, shape (z, 1, 1)."""
    bow = np.float32(anatomy.kyphosis)
    base = profile(space, (-600.0, -420.0, -240.0, -120.0, 0.0, 80.0, 150.0, 230.0), (62, 32, 40, 52, 56, 46, 26, 14))
    line = base * np.float32(0.5 + 0.5 * anatomy.barrel) + bow * np.exp(-np.square(space.level / 120.0))
    return np.asarray(line, dtype=np.float32)


def diaphragm_height(space: Space, anatomy: Anatomy, side: int) -> Field:
    """Height of the diaphragm below each voxel for the right (-1) or left (+1) side."""
    top = anatomy.dome_right if side < 0 else anatomy.dome_left
    u = (space.x - np.float32(side * 58.0)) / np.float32(70.0)
    v = (space.y + np.float32(8.0)) / np.float32(86.0 * anatomy.barrel)
    q = np.square(u) + np.square(v)
    drop = np.float32(anatomy.recess) * q * np.sqrt(q) * (1.0 + 0.35 * v)
    return np.asarray(np.float32(top) - np.clip(drop, 0.0, 190.0), dtype=np.float32)


def mediastinum_depth(space: Space, anatomy: Anatomy) -> Field:
    """Depth inside everything between the lungs: core, heart, vertebral column, descending aorta."""
    width = profile(space, (-250, -60.0, 0.0, 50.0, 90.0, 130.0), (20.0, 21.0, 29.0, 27.0, 31.0, 36.0))
    waist = 0.32 + 0.68 * np.exp(-np.square((space.y - 6.0) / 46.0))
    depth = width * np.float32(anatomy.mediastinum) * waist - np.abs(space.x - 3.0)
    depth = np.maximum(depth, ellipsoid_depth(space, anatomy.heart_centre, anatomy.heart_radii, 0.35) + 3.0)
    spine = spine_line(space, anatomy)
    depth = np.maximum(depth, 23.0 - np.sqrt(np.square(space.x) + np.square(space.y - spine)))
    depth = np.maximum(depth, np.minimum(17.0 - np.abs(space.x), space.y - spine))
    for side in (-1.0, 1.0):
        hilum = ellipsoid_depth(space, (2.0 + side * 32.0, 12.0, -18.0), (13.0, 17.0, 24.0))
        depth = np.maximum(depth, hilum)
    aorta = np.square(space.x - 20.0) + np.square(space.y - spine + 12.0)
    below_arch = np.minimum(anatomy.aorta + 3.0 - np.sqrt(aorta), 38.0 - space.level)
    return np.asarray(np.maximum(depth, below_arch), dtype=np.float32)


def soft_minimum(first: Field, second: Field, radius: float) -> Field:
    """Smooth minimum of two depths: intersections get rounded corners of about `radius` mm."""
    h = np.clip(0.5 + (second - first) / np.float32(2.0 * radius), 0.0, 1.0)
    return np.asarray(second + (first - second) * h - np.float32(radius) * h * (1.0 - h), dtype=np.float32)


def lung_depth(space: Space, anatomy: Anatomy, *, side: int, cage: Field, mediastinum: Field, floor: Field) -> Field:
    """Depth inside the right (-1) or left (+1) lung; both hila and vessels inside count as lung."""
    shrink = anatomy.shrink[0 if side < 0 else 1]
    cap = ellipsoid_depth(space, (side * 54.0, 8.0, -60.0), (80.0 - shrink * 0.3, 104.0, 168.0 - shrink))
    # the ellipsoid only closes the apex: below its middle the cage and the diaphragm bound the lung
    cap = np.where(space.z > -60.0, cap, np.float32(60.0))
    depth = soft_minimum(cage - np.float32(1.5 + 0.3 * shrink), cap, 6.0)
    depth = soft_minimum(depth, -mediastinum, 5.0)
    depth = soft_minimum(depth, space.z - floor, 3.0)
    return np.asarray(np.minimum(depth, np.float32(side) * (space.x - 2.0) - 1.5), dtype=np.float32)
