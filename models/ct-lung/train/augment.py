"""Augmentation in scanner terms: bent and scaled bodies, slice thickness, kernels, noise, fields of view, breath.

May live here: random changes of one sample with numpy and torch (what is painted into it: paint.py). Never a flip of left and right, never an upside-down body.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from clouds import MARK
from paint import insert_colon, insert_diffuse, insert_disease, insert_gas, insert_lobe
from samples import SPACING, Sample, smooth_field
from scipy import ndimage
from torch.nn import functional

AIR = -1024.0
DIFFUSE, DISEASE, COMPRESSED = 0.05, 0.4, 0.05
"""Shares of the samples of later phases that have diffuse disease, masses or consolidation, marks of compression."""


def _rotation(rng: np.random.Generator) -> np.ndarray:
    matrix = np.eye(3)
    for axes, sigma in (((0, 1), 5.0), ((0, 2), 4.0), ((1, 2), 8.0)):
        angle = np.radians(rng.normal(0, sigma))
        turn = np.eye(3)
        turn[axes[0], axes[0]] = turn[axes[1], axes[1]] = np.cos(angle)
        turn[axes[0], axes[1]], turn[axes[1], axes[0]] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def warp(sample: Sample, shape: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut a window of `shape` out of a randomly rotated, scaled and bent sample; outside it is air, label 0."""
    size = np.array(sample.hu.shape)
    scale = rng.uniform(0.82, 1.2) * rng.uniform(0.92, 1.08, 3)
    matrix = _rotation(rng) * scale[:, None]
    room = np.maximum(size - np.array(shape) * scale, 0) / 2.0 + 6.0
    centre = (size - 1) / 2.0 + rng.uniform(-1.0, 1.0, 3) * room
    spacing = (SPACING, SPACING, SPACING)
    bend = rng.uniform(0.0, 1.6)
    axes = [np.arange(n, dtype=np.float32) - (n - 1) / 2.0 for n in shape]
    where = []
    for row in range(3):
        a, b, c = (np.float32(v) for v in matrix[row])
        line = a * axes[0][:, None, None] + b * axes[1][None, :, None] + c * axes[2][None, None, :]
        where.append(line + np.float32(centre[row]) + np.float32(bend) * smooth_field(rng, shape, spacing, 60.0))
    grid = torch.from_numpy(
        np.stack([2 * where[i] / max(size[i] - 1, 1) - 1 for i in (2, 1, 0)], axis=-1).astype(np.float32)
    )[None]
    image = torch.from_numpy(sample.hu.astype(np.float32) - np.float32(AIR))[None, None]
    names = torch.from_numpy(sample.labels.astype(np.float32))[None, None]
    hu = functional.grid_sample(image, grid, align_corners=True)[0, 0].numpy() + np.float32(AIR)
    labels = functional.grid_sample(names, grid, mode="nearest", align_corners=True)[0, 0].numpy()
    return hu, labels.astype(np.uint8)


def thicken(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Thick slices: average along z, keep every few millimetres, interpolate back."""
    step = float(rng.uniform(3.5, 9.0)) / SPACING
    thick = ndimage.gaussian_filter1d(hu, 0.4 * step, axis=0)
    count = hu.shape[0]
    position = np.arange(rng.uniform(0, step), count - 1, step)
    if len(position) < 3:
        return hu
    slices = thick[np.rint(position).astype(int)]
    at = np.clip((np.arange(count) - position[0]) / step, 0, len(position) - 1)
    low = np.minimum(at.astype(int), len(position) - 2)
    share = (at - low).astype(np.float32)[:, None, None]
    return slices[low] * (1 - share) + slices[low + 1] * share


def shift_tissue(
    hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, calibrated: bool = False
) -> np.ndarray:
    """Other breath, other calibration, other contrast: lungs, soft tissue and bone move apart, in place.

    `calibrated` keeps water within a few HU, as scanners do, so that fluid and filled lung stay apart.
    """
    lung = ndimage.gaussian_filter(((labels == 1) | (labels == 2)).astype(np.float32), 0.5)
    change = float(rng.normal(0.0, 45.0))
    if rng.random() < 0.12:
        change += float(rng.uniform(50.0, 250.0))
    hu = hu + lung * change * np.clip((-hu - 200.0) / 600.0, 0.0, 1.0)
    gain = float(rng.normal(1.0, 0.01 if calibrated else 0.03))
    hu = (hu + 1000.0) * gain - 1000.0 + float(rng.normal(0.0, 4.0 if calibrated else 12.0))
    low, high = (0.7, 1.6) if calibrated else (0.4, 2.0)
    return np.where(hu > 20.0, 20.0 + (hu - 20.0) * float(rng.uniform(low, high)), hu)


def scanner(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Kernel, noise, streaks, field of view and padding."""
    if rng.random() < 0.35:
        hu = thicken(hu, rng)
    if rng.random() < 0.4:
        blurred = ndimage.gaussian_filter(hu, (0, 0.7, 0.7))
        hu = hu + (hu - blurred) * float(rng.uniform(-1.0, 1.2))
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(noise, (0, 0.8, 0.8)) * 2.4
    hu = hu + noise * np.float32(rng.gamma(1.2, 14.0))
    if rng.random() < 0.1:
        lines = ndimage.gaussian_filter1d(rng.standard_normal((hu.shape[0], hu.shape[1], 1)), 0.7, axis=1)
        hu = hu + lines.astype(np.float32) * float(rng.uniform(10, 70))
    return hu


def compress(hu: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coarse steps in the fine wavelets of each slice, as lossy compression leaves them; even sizes only."""
    a, b, c, d = hu[:, ::2, ::2], hu[:, ::2, 1::2], hu[:, 1::2, ::2], hu[:, 1::2, 1::2]
    mean, step = (a + b + c + d) / 4.0, np.float32(rng.uniform(20.0, 120.0))
    across, down, cross = (
        np.rint(wave / (4.0 * step)) * step for wave in (a - b + c - d, a + b - c - d, a - b - c + d)
    )
    result = np.empty_like(hu)
    result[:, ::2, ::2], result[:, ::2, 1::2] = mean + across + down + cross, mean - across + down - cross
    result[:, 1::2, ::2], result[:, 1::2, 1::2] = mean + across - down - cross, mean - across - down + cross
    return result


def crop_view(hu: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    """Cut the field of view (circle) or the scan's ends, in place; what is cut has no lung."""
    _, ny, nx = hu.shape
    if rng.random() < 0.4:
        y, x = np.ogrid[:ny, :nx]
        radius = rng.uniform(0.36, 0.62) * max(ny, nx)
        offset = rng.normal(0, 6, 2)
        far = np.hypot(y - (ny - 1) / 2 - offset[0], x - (nx - 1) / 2 - offset[1]) > radius
        hu[:, far], labels[:, far] = AIR, 0
    if rng.random() < 0.3:
        keep = int(rng.integers(12, hu.shape[0]))
        first = int(rng.integers(0, hu.shape[0] - keep + 1))
        for part in (slice(0, first), slice(first + keep, None)):
            hu[part], labels[part] = AIR, 0


def augment(
    sample: Sample,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    bowel: tuple[float, float] | None = None,
    lobe: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """One training pair: input float32 in [-1, 1] and labels uint8, both of `shape`.

    `bowel`, for later phases, has shares of samples with gas and with colon, besides disease marked where it has no air, compression,
    HU as calibrated scanners give them; `lobe` also fills one.
    """
    hu, labels = warp(sample, shape, rng)
    if lobe:
        insert_lobe(hu, labels, rng, mark=MARK)
    if bowel:
        kinds = (insert_diffuse, partial(insert_disease, mark=MARK), insert_gas, insert_colon)
        for share, insert in zip((DIFFUSE, DISEASE, *bowel), kinds, strict=True):
            if rng.random() < share:
                insert(hu, labels, rng)
    else:
        if rng.random() < 0.3:
            insert_disease(hu, labels, rng)
        if rng.random() < 0.5:
            insert_gas(hu, labels, rng)
    hu = scanner(shift_tissue(hu, labels, rng, calibrated=bowel is not None), rng)
    if bowel and rng.random() < COMPRESSED:
        hu = compress(hu, rng)
    crop_view(hu, labels, rng)
    volume = (np.clip(hu, -1024.0, 600.0) + 1024.0) / 812.0 - 1.0
    return volume.astype(np.float32), labels
