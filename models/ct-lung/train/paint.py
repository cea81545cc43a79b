"""What is painted into a sample before the scanner's effects: disease inside the lungs, gas and stool outside of them.

May live here: painting in HU with numpy. Labels change by a mark at most, for what has no air in it. May not: torch.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def insert_disease(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, mark: int = 0) -> None:
    """Paint a mass or consolidation inside the lungs, in place; `mark` is added to the labels of what has no air."""
    inside = np.argwhere((labels == 1) | (labels == 2))
    if len(inside) < 3000:
        return
    for _ in range(int(rng.integers(1, 4))):
        centre, radius = inside[rng.integers(len(inside))], float(rng.uniform(2.0, 16.0))
        low, high = np.maximum(centre - int(radius * 1.6) - 1, 0), np.minimum(centre + int(radius * 1.6) + 2, hu.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True)]
        z, y, x = np.ix_(*axes)
        stretch = rng.uniform(0.7, 1.4, 3)
        depth = radius - np.sqrt((z * stretch[0]) ** 2 + (y * stretch[1]) ** 2 + (x * stretch[2]) ** 2)
        depth = depth + ndimage.gaussian_filter(rng.standard_normal(depth.shape), 2.0) * radius * 2.0
        alpha = np.clip(depth / rng.uniform(0.8, 5.0) + 0.5, 0, 1) * ((labels[box] == 1) | (labels[box] == 2))
        solid = rng.random() < 0.7
        value = rng.normal(30, 25) if solid else rng.uniform(-650, -250)
        hu[box] += (alpha * (value - hu[box])).astype(np.float32)
        labels[box][(alpha > 0.6) & solid] += mark


def _under_lungs(lung: np.ndarray) -> np.ndarray:
    """Voxels up to 75 mm below the lowest lung voxel of their column: where bowel lies under the diaphragm."""
    height = np.arange(lung.shape[0])[:, None, None]
    lowest = np.where(lung.any(axis=0), lung.argmax(axis=0), -1)[None]
    return (height < lowest) & (height > lowest - 25)


def insert_gas(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Paint gas-filled loops into soft tissue: bowel and stomach, most often right under the diaphragm; in place."""
    free = labels == 0
    near = free & ~ndimage.binary_dilation(~free, iterations=1)
    candidates = (hu > -200) & (hu < 200) & near
    under = candidates & _under_lungs((labels == 1) | (labels == 2))
    inside = np.argwhere(under if under.sum() > 500 and rng.random() < 0.75 else candidates)
    if len(inside) < 500:
        return
    for _ in range(int(rng.integers(1, 6))):
        centre, radius = inside[rng.integers(len(inside))], float(rng.uniform(1.5, 12.0))
        low, high = np.maximum(centre - int(radius * 1.6) - 2, 0), np.minimum(centre + int(radius * 1.6) + 3, hu.shape)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        z, y, x = np.ix_(*[np.arange(a, b) - c for a, b, c in zip(low, high, centre, strict=True)])
        stretch = rng.uniform(0.7, 1.5, 3)
        depth = radius - np.sqrt((z * stretch[0]) ** 2 + (y * stretch[1]) ** 2 + (x * stretch[2]) ** 2)
        depth = depth + ndimage.gaussian_filter(rng.standard_normal(depth.shape), 1.8) * rng.uniform(0.0, 8.0)
        room = near[box] & (hu[box] > -400)
        for inset, value in ((-1.0, 30.0), (0.0, rng.normal(-985.0, 20.0))):
            alpha = np.clip(depth - inset + 0.5, 0, 1) * room
            hu[box] += (alpha * (value - hu[box])).astype(np.float32)


def _direction(rng: np.random.Generator, weights: tuple[float, float, float]) -> np.ndarray:
    vector = rng.standard_normal(3) * weights
    return np.asarray(vector / np.linalg.norm(vector))


def insert_lobe(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, mark: int = 0) -> None:
    """Consolidate one lung beyond an oblique plane, as pneumonia fills a lobe, in place; `mark` as for `insert_disease`."""
    lung = labels == int(rng.integers(1, 3))
    if lung.sum() < 4000:
        return
    (box,) = ndimage.find_objects(lung.astype(np.uint8))
    axes = [np.arange(part.start, part.stop) for part in box]
    z, y, x = np.ix_(*axes)
    a, b, c = _direction(rng, (1.0, 1.0, 0.4))
    along = a * z + b * y + c * x + 2.5 * smooth_noise(rng, lung[box].shape, 4.0)
    edge = float(np.quantile(along[lung[box]], rng.uniform(0.45, 0.9)))
    rim = ndimage.binary_dilation(lung[box]) & (labels[box] == 0) & (hu[box] < -100)  # else a dark line tells the lung
    alpha = np.clip((along - edge) / rng.uniform(0.6, 4.0) + 0.5, 0, 1) * (lung[box] | rim)
    grain = smooth_noise(rng, lung[box].shape, 0.9)
    solid = rng.random() < 0.7
    value = rng.normal(30, 25) + 8.0 * grain if solid else rng.uniform(-650, -200) + 60.0 * grain
    if rng.random() < 0.6:  # air bronchograms
        value = np.where(grain > rng.uniform(1.6, 2.6), -850.0, value)
    hu[box] += (alpha * (value - hu[box])).astype(np.float32)
    labels[box][(alpha > 0.6) & lung[box] & solid] += mark


def insert_diffuse(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Ground glass, fibrosis below the pleura, dependent density or emphysema in both lungs (label unchanged), in place."""
    lung = (labels == 1) | (labels == 2)
    if lung.sum() < 4000:
        return
    (box,) = ndimage.find_objects(lung.astype(np.uint8))
    inside = lung[box]
    shallow = 1.0 - ndimage.uniform_filter(inside.astype(np.float32), 9)
    y = np.linspace(-1.0, 1.0, inside.shape[1], dtype=np.float32)[:, None]
    where = smooth_noise(rng, inside.shape, 6.0) + rng.uniform(0.0, 5.0) * shallow + rng.uniform(-0.3, 1.2) * y
    edge = float(np.quantile(where[inside], rng.uniform(0.3, 0.9)))
    alpha = np.clip((where - edge) / rng.uniform(0.2, 1.5) + 0.5, 0, 1) * inside
    grain = smooth_noise(rng, inside.shape, float(rng.uniform(0.6, 1.5)))
    if rng.random() < 0.25:
        value = np.minimum(-970.0 + 10.0 * grain, hu[box])
    else:
        value = np.maximum(rng.uniform(-700.0, -100.0) + rng.uniform(20.0, 150.0) * grain, hu[box])
    hu[box] += (alpha * (value - hu[box])).astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Noise of unit standard deviation, correlated over `sigma` voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return np.asarray(noise / max(float(noise.std()), 1e-6))


def _chain(rng: np.random.Generator, start: np.ndarray, radius: float) -> list[tuple[np.ndarray, float]]:
    """Centres and radii of the haustra of a piece of colon, voxels."""
    heading, place, beads = _direction(rng, (0.7, 1.0, 1.0)), start.astype(float), []
    for _ in range(int(rng.integers(2, 8))):
        size = radius * float(rng.uniform(0.75, 1.15))
        beads.append((place.copy(), size))
        heading = heading + 0.5 * rng.standard_normal(3)
        heading = heading / np.linalg.norm(heading)
        place = place + heading * size * float(rng.uniform(0.8, 1.3))
    return beads


def _content(rng: np.random.Generator, shape: tuple[int, ...], level: np.ndarray) -> np.ndarray:
    """HU inside the colon: gas, stool mottled as lung is, or gas above stool (`level` is positive below the surface)."""
    gas = np.full(shape, rng.normal(-985.0, 20.0))
    grain = smooth_noise(rng, shape, float(rng.uniform(0.6, 1.8))) * rng.uniform(50.0, 260.0)
    stool = np.clip(rng.uniform(-780.0, -220.0) + grain, -1010.0, 80.0)
    kind = rng.random()
    if kind < 0.55:
        return gas
    return stool if kind < 0.8 else np.where(level > 0, stool, gas)


def _haustra(box: tuple[slice, ...], beads: list[tuple[np.ndarray, float]], fold: float) -> np.ndarray:
    """Depth inside a chain of beads, voxels; folds `fold` thick part each bead from its neighbours."""
    z, y, x = np.ix_(*[np.arange(part.start, part.stop, dtype=np.float32) for part in box])
    depths = [np.float32(r) - np.sqrt((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) for c, r in beads]
    first, second = depths[0], np.full_like(depths[0], -1e3)
    for depth in depths[1:]:
        second = np.maximum(second, np.minimum(first, depth))
        first = np.maximum(first, depth)
    return np.minimum(first, first - second - np.float32(fold)) if fold > 0 else first


def insert_colon(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Paint pieces of colon with gas and stool into background tissue, most often right under the lungs; in place."""
    lung = (labels == 1) | (labels == 2)
    near = (labels == 0) & ~ndimage.binary_dilation(labels != 0, iterations=1)
    candidates = (hu > -250) & (hu < 200) & near
    under = candidates & _under_lungs(lung)
    inside = np.argwhere(under if under.sum() > 500 and rng.random() < 0.8 else candidates)
    if len(inside) < 500:
        return
    largest = 11.0 if lung.any() else 16.0
    for _ in range(int(rng.integers(1, 6))):
        beads = _chain(rng, inside[rng.integers(len(inside))], float(rng.uniform(3.0, largest)))
        low = np.maximum(np.min([c - r - 3 for c, r in beads], axis=0).astype(int), 0)
        high = np.minimum(np.max([c + r + 4 for c, r in beads], axis=0).astype(int), hu.shape)
        if np.any(high - low < 3):
            continue
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        depth = _haustra(box, beads, float(rng.uniform(-1.0, 1.5)))
        depth = depth + smooth_noise(rng, depth.shape, 2.0) * rng.uniform(0.0, 1.0)
        room = near[box] & (hu[box] > -400)
        level = np.arange(low[1], high[1])[:, None] - beads[0][0][1] - rng.uniform(-0.7, 0.7) * beads[0][1]
        content = _content(rng, depth.shape, level)
        for inset, value in ((-1.0, 30.0), (0.0, content)):
            alpha = np.clip(depth - inset + 0.5, 0, 1) * room
            hu[box] += (alpha * (value - hu[box])).astype(np.float32)
