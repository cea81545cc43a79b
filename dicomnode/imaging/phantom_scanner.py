"""What the scanner adds to the chest phantom: table, reconstruction kernel, noise, streaks, field of view, padding.

May live here: effects on a finished canvas of HU. May not: anatomy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from dicomnode.imaging.phantom_anatomy import Field, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    """Settings of one simulated acquisition.

    Attributes
    ----------
    noise : float
        Standard deviation in soft tissue, HU.
    sharpness : float
        Below 0 a soft kernel (blur, mm), above 0 edge enhancement (strength).
    padding : int or None
        HU outside the circular field of view; None for a square image without padding.
    fov : float
        Diameter of the circular field of view as a share of the image's width.
    table : str
        "curved", "flat" or "none".
    streaks : float
        Strength of horizontal streaks at the shoulders, HU.
    """

    noise: float
    sharpness: float
    padding: int | None
    fov: float
    table: str
    streaks: float


def sample_scanner(rng: np.random.Generator) -> Scanner:
    """Draw a vendor-like mixture of settings."""
    return Scanner(
        noise=float(rng.gamma(2.0, 9.0) + 3.0),
        sharpness=float(rng.choice([rng.uniform(-1.5, 0.0), rng.uniform(0.0, 2.2)])),
        padding=None if rng.random() < 0.4 else int(rng.choice([-1024, -1000, -2000, -2048, -3024])),
        fov=float(rng.uniform(0.9, 1.02)),
        table=str(rng.choice(["curved", "curved", "flat", "none"])),
        streaks=float(rng.choice([0.0, rng.uniform(5.0, 60.0)])),
    )


def paint_table(canvas: Field, space: Space, body: Field, kind: str) -> None:
    """Table under the patient; it never enters the body."""
    if kind == "none":
        return
    x, y = space.x.mean(axis=0, keepdims=True), space.y.mean(axis=0, keepdims=True)
    inside = body > 0
    lowest = float(np.max(space.y, where=inside, initial=-1e3)) if inside.any() else 120.0
    curve = np.square(x) / 900.0 if kind == "curved" else np.zeros_like(x)
    surface = y - (lowest + 7.0) + curve
    width = 225.0 - np.abs(x)
    shell = np.minimum(np.minimum(surface, 26.0 - surface), width)
    outside = body < -2.0
    foam = np.clip(shell + 0.5, 0, 1) * outside
    canvas += foam * (-880.0 - canvas)
    skin = np.clip(2.0 - np.abs(np.minimum(shell, 8.0) - 2.0) * 1.4, 0, 1) * outside * (shell > -1.0)
    canvas += skin * (-180.0 - canvas)


def add_streaks(canvas: Field, space: Space, rng: np.random.Generator, strength: float) -> None:
    """Horizontal streaks through the shoulders, strongest where most bone lies across."""
    if strength <= 0:
        return
    lines = rng.standard_normal((canvas.shape[0], canvas.shape[1], 1)).astype(np.float32)
    lines = ndimage.gaussian_filter1d(lines, 1.2, axis=1) * 1.8
    where = np.exp(-np.square((space.level - 105.0) / 35.0))
    canvas += np.float32(strength) * where * lines


def add_noise(canvas: Field, rng: np.random.Generator, *, settings: Scanner, step: float) -> Field:
    """Blur or sharpen in plane, then add noise whose grain follows the kernel; returns a new canvas."""
    grain = rng.standard_normal(canvas.shape, dtype=np.float32)
    if settings.sharpness <= 0:
        sigma = (0.0, -settings.sharpness / step, -settings.sharpness / step)
        image = ndimage.gaussian_filter(canvas, sigma) if settings.sharpness < -0.1 else canvas
        grain = ndimage.gaussian_filter(grain, (0.0, max(0.55, 0.8 / step), max(0.55, 0.8 / step)))
        grain /= max(float(grain.std()), 1e-6)
    else:
        smooth = ndimage.gaussian_filter(canvas, (0.0, 1.3 / step, 1.3 / step))
        image = canvas + np.float32(0.5 * settings.sharpness) * (canvas - smooth)
        grain = grain - ndimage.gaussian_filter(grain, (0.0, 1.2, 1.2))
        grain *= np.float32((1.0 + 0.8 * settings.sharpness) / max(float(grain.std()), 1e-6))
    level = np.float32(settings.noise) * np.clip(0.55 + (image + 1000.0) / 2200.0, 0.4, 1.5)
    return np.asarray(image + level * grain, dtype=np.float32)


def apply_field_of_view(canvas: Field, settings: Scanner, offset: tuple[float, float]) -> None:
    """Replace what lies outside the circular field of view by the padding value."""
    if settings.padding is None:
        return
    ny, nx = canvas.shape[1:]
    y, x = np.ogrid[:ny, :nx]
    radius = settings.fov * min(nx, ny) / 2.0
    far = np.hypot(y - (ny - 1) / 2.0 - offset[0], x - (nx - 1) / 2.0 - offset[1]) > radius
    canvas[:, far] = settings.padding
