"""Filled lung and pleural fluid painted into a body, told apart as in people: by shape, enhancement, air in the bronchi.

May live here: painting of consolidation, collapse and effusion in HU with numpy. May not: torch, other disease (paint.py).

Fluid (0 to 20 HU, with contrast agent, too) lies in the back and at the base and climbs along the pleura (meniscus); it is no
lung. Consolidated lung (30 to 55 HU, 60 to 100 HU with contrast agent) keeps its volume, ends at a fissure and has air in its
bronchi; lung collapsed above fluid or beside the spine has lost volume. Both stay lung.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from paint import smooth_noise
from samples import SPACING, Sample
from scipy import ndimage

from dicomnode.imaging.phantom_vessels import grow_tree, paint_tree

STEP = (SPACING, SPACING, SPACING)
MARK = 3
"""Added to the label of what was painted: 3 is fluid, 4 and 5 are right and left lung without air."""
SMALLEST = 4000
"""Voxels of a lung below which nothing is painted: 108 ml."""
KINDS = ("lower", "upper", "middle", "part", "collapse", "whole")
SHARES = (0.34, 0.16, 0.08, 0.27, 0.10, 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cavity:
    """One pleural cavity in its box: HU (a view), where lung may be painted, noise of the scan, contrast agent."""

    hu: np.ndarray
    labels: np.ndarray
    side: int
    lung: np.ndarray
    noise: float
    contrast: bool

    @property
    def room(self) -> np.ndarray:
        """The lung and the dark rim that half-filled voxels leave around it, which would tell where it was."""
        rim = ndimage.binary_dilation(self.lung) & (self.labels == 0) & (self.hu < -100)
        return np.asarray(self.lung | rim)

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Height above the base, depth from the front, distance towards the middle: 0 to 1 over the box, to broadcast."""
        z, y, x = (np.linspace(0.0, 1.0, n, dtype=np.float32) for n in self.lung.shape)
        return z[:, None, None], y[None, :, None], (x if self.side == 1 else 1.0 - x)[None, None, :]

    def blend(self, alpha: np.ndarray, value: np.ndarray) -> None:
        """Mix `value` into the HU."""
        self.hu[...] += (alpha * (value - self.hu)).astype(np.float32)


def cavity(hu: np.ndarray, labels: np.ndarray, side: int, *, contrast: bool) -> Cavity | None:
    """The cavity of one side; None where there is too little lung."""
    lung = (labels == side) | (labels == side + MARK)
    if lung.sum() < SMALLEST:
        return None
    (box,) = ndimage.find_objects(lung.astype(np.uint8))
    box = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
    soft = (labels[..., 1:] == 0) & (hu[..., 1:] > 0) & (hu[..., 1:] < 110) & (hu[..., :-1] > 0) & (hu[..., :-1] < 110)
    change = np.abs(np.diff(hu, axis=-1)[soft])
    noise = float(np.median(change)) / 0.954 if change.size else 0.0
    return Cavity(hu=hu[box], labels=labels[box], side=side, lung=lung[box], noise=noise, contrast=contrast)


def _tissue(where: Cavity, rng: np.random.Generator, value: float, rough: float) -> np.ndarray:
    """A volume of one tissue with its texture and the noise of the scan."""
    noise = where.noise * rng.standard_normal(where.lung.shape, dtype=np.float32)
    return np.asarray(np.float32(value) + np.float32(rough) * smooth_noise(rng, where.lung.shape, 1.2) + noise)


def _trees(where: Cavity, rng: np.random.Generator, canvas: np.ndarray, region: np.ndarray) -> None:
    """Bronchi full of air, and with contrast agent bright vessels, from the hilum into `region`; in place."""
    inside = np.argwhere(region)
    if len(inside) < 200:
        return
    z, y, middle = where.axes()
    far = np.abs(z - 0.5) + 0.7 * np.abs(y - 0.55) - middle
    root = np.array(np.unravel_index(np.where(where.lung, far, 9.0).argmin(), where.lung.shape)) * SPACING
    passes = [(float(rng.uniform(0.7, 1.3)), 3.6, -900.0, int(rng.integers(14, 55)))]
    if where.contrast:
        passes.insert(0, (0.8, 4.5, float(rng.uniform(110.0, 220.0)), int(rng.integers(10, 45))))
    for tip, trunk, value, count in passes:
        targets = inside[rng.integers(0, len(inside), count)] * np.asarray(STEP)
        paint_tree(canvas, STEP, grow_tree(rng, root, targets, tip=tip, trunk=trunk), value)


def _solid(where: Cavity, rng: np.random.Generator, region: np.ndarray, *, collapsed: bool) -> np.ndarray:
    """HU of lung without air: its bronchi and vessels in it, now and then a part that does not enhance."""
    if where.contrast:
        value = float(rng.uniform(75.0, 110.0) if collapsed else rng.uniform(60.0, 100.0))
    else:
        value = float(np.clip(rng.normal(46.0 if collapsed else 41.0, 7.0), 28.0, 60.0))
    canvas = _tissue(where, rng, value, float(rng.uniform(2.0, 8.0)))
    if rng.random() < 0.15:
        dead = smooth_noise(rng, canvas.shape, 4.0) > rng.uniform(0.8, 1.8)
        canvas = np.where(dead, canvas - np.float32(value - 18.0), canvas)
    _trees(where, rng, canvas, region)
    return canvas


def _part(where: Cavity, rng: np.random.Generator, along: np.ndarray, low: float, high: float) -> np.ndarray:
    """Depth beyond a plane, voxels, that leaves between `low` and `high` of the lung in front of it."""
    edge = float(np.quantile(along[where.lung], rng.uniform(low, high)))
    return np.asarray(along - edge)


def _lobe(where: Cavity, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Which part of the lung is filled, and the depth inside of it in voxels; fissures are bent planes."""
    shape = where.lung.shape
    z, y, x = (
        np.arange(n, dtype=np.float32).reshape([-1 if i == k else 1 for i in range(3)]) for k, n in enumerate(shape)
    )
    bend = np.float32(rng.uniform(0.5, 2.0)) * smooth_noise(rng, shape, 5.0)
    kind = str(rng.choice(KINDS, p=SHARES))
    steep = np.radians(rng.normal(52.0, 8.0))
    rise, back = np.float32(np.sin(steep)), np.float32(np.cos(steep))
    foot = (rng.normal(0.02, 0.08) * shape[0], rng.normal(0.25, 0.08) * shape[1])
    lower = rise * (y - foot[1]) - back * (z - foot[0]) + bend
    minor = z - shape[0] * rng.normal(0.45, 0.06) + 0.7 * smooth_noise(rng, shape, 5.0)
    inward = x if where.side == 1 else -x
    depths = {"lower": lower, "upper": -lower, "whole": np.full(shape, 9.0, np.float32)}
    if where.side == 1:
        depths["upper"], depths["middle"] = np.minimum(-lower, minor), np.minimum(-lower, -minor)
    if kind == "collapse":
        weights = rng.uniform((-0.5, 0.4, 0.5), (-0.1, 1.0, 1.0))
        return kind, _part(where, rng, weights[0] * z + weights[1] * y + weights[2] * inward + bend, 0.82, 0.95)
    depth = depths.get(kind)
    if depth is None or ((depth > 0) & where.lung).sum() < 0.03 * where.lung.sum():
        a, b, c = (rng.standard_normal(3) * (1.0, 1.0, 0.5)).astype(np.float32)
        length = np.float32(np.sqrt(a * a + b * b + c * c))
        depth = _part(where, rng, (a * z + b * y + c * x) / length + bend, 0.45, 0.92)
    return kind, depth


def fill(where: Cavity, rng: np.random.Generator) -> None:
    """Consolidate, collapse or cloud a lobe or a part of it (labels marked), in place."""
    kind, depth = _lobe(where, rng)
    where.labels[(depth > 0) & where.lung] += MARK
    alpha = np.clip(depth / rng.uniform(0.6, 4.0) + 0.5, 0.0, 1.0) * where.room
    if kind != "collapse" and rng.random() < 0.2:
        haze = rng.uniform(-650.0, -150.0) + 60.0 * smooth_noise(rng, depth.shape, 0.9)
        where.blend(alpha, np.maximum(haze, where.hu))
        return
    where.blend(alpha, _solid(where, rng, (depth > 0) & where.lung, collapsed=kind == "collapse"))


def effuse(where: Cavity, rng: np.random.Generator) -> None:
    """Lay fluid into the back and the base of the cavity, lung collapsed above it; what is fluid is no lung (marked), in place."""
    shape = where.lung.shape
    z, y = np.arange(shape[0], dtype=np.float32)[:, None, None], np.arange(shape[1], dtype=np.float32)[None, :, None]
    inset = ndimage.distance_transform_edt(where.lung).astype(np.float32)
    climb = np.float32(rng.uniform(3.0, 12.0)) * np.exp(-inset / np.float32(rng.uniform(1.2, 4.0)))
    surface = (
        y
        - np.float32(rng.uniform(0.05, 0.35)) * z
        + climb
        + np.float32(rng.uniform(0.2, 1.2)) * smooth_noise(rng, shape, 5.0)
    )
    depth = _part(where, rng, surface, 1.0 - float(rng.choice([0.15, 0.35, 0.65], p=[0.5, 0.35, 0.15])), 0.96)
    room = where.room
    if rng.random() < 0.75:
        above = float(rng.uniform(0.5, 9.0))
        alpha = np.clip((depth + above) / rng.uniform(0.8, 4.0) + 0.5, 0.0, 1.0) * room
        where.blend(alpha, _solid(where, rng, (depth > -above) & (depth < 0) & where.lung, collapsed=True))
        where.labels[(depth > -above) & (where.labels == where.side)] += MARK
    fluid = _tissue(where, rng, float(np.clip(rng.normal(9.0, 6.0), -2.0, 20.0)), 1.0)
    where.blend(np.clip(depth / 0.8 + 0.5, 0.0, 1.0) * room, fluid)
    where.labels[(depth > 0) & where.lung] = MARK


def unmarked(labels: np.ndarray) -> np.ndarray:
    """Labels without marks; 255 stays."""
    return np.where((labels >= MARK) & (labels < 2 * MARK), labels - MARK, labels).astype(np.uint8)


def clouded(sample: Sample, rng: np.random.Generator, *, filled: float, wet: float) -> Sample:
    """The sample with lung filled (one side) and fluid (one or both), each with its share of the draws.

    What was painted has `MARK` added to its label, so that a loss can weigh it; `unmarked` takes it off.
    """
    hu, labels = sample.hu.astype(np.float32), sample.labels.copy()
    first = int(rng.integers(1, 3))
    dice = rng.random(3)
    for side, fills, lies in (
        (first, dice[0] < filled, dice[1] < wet),
        (3 - first, False, dice[1] < wet and dice[2] < 0.4),
    ):
        if not (fills or lies):
            continue
        for share, work in ((fills, fill), (lies, effuse)):
            where = cavity(hu, labels, side, contrast=sample.contrast) if share else None
            if where is not None:
                work(where, rng)
    return Sample(name=sample.name, hu=np.rint(hu).astype(np.int16), labels=labels, contrast=sample.contrast)
