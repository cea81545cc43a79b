"""Randomised CT phantoms: a chest with lung labels, and bodies without lungs, in HU.

May live here: the public functions, the order of composition, off-target phantoms. May not: file formats, networks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.phantom_anatomy import (
    Anatomy,
    Field,
    Fields,
    Space,
    ellipsoid_depth,
    make_fields,
    make_space,
    sample_anatomy,
    smooth_field,
    typical_anatomy,
)
from dicomnode.imaging.phantom_lungs import (
    DISEASES,
    hu_of_disease_free,
    lung_labels,
    paint_airway,
    paint_disease,
    paint_parenchyma,
    paint_trees,
)
from dicomnode.imaging.phantom_scanner import (
    Scanner,
    add_noise,
    add_streaks,
    apply_field_of_view,
    paint_table,
    sample_scanner,
)
from dicomnode.imaging.phantom_tissue import (
    Tissue,
    paint,
    paint_abdomen,
    paint_arms,
    paint_mediastinum,
    paint_ribs,
    paint_shoulders,
    paint_spine,
    paint_wall,
    sample_tissue,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """A CT volume with known lungs.

    Attributes
    ----------
    hu : numpy.ndarray
        int16, axes (z, y, x), growing toward Superior, Posterior, Left.
    labels : numpy.ndarray
        uint8 of the same shape: 0 background, 1 right lung, 2 left lung.
    spacing : tuple of float
        Distance between voxel centres in mm, (z, y, x).
    truth : Mapping
        What was randomised: region, diseases, contrast and every parameter of the draw.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    spacing: Spacing
    truth: Mapping[str, object]


def chest_phantom(
    rng: np.random.Generator,
    *,
    shape: Shape = (104, 272, 272),
    spacing: Spacing = (3.0, 1.38, 1.38),
    centre: tuple[float, float, float] = (-38.0, 4.0, 0.0),
    typical: bool = True,
    diseases: tuple[str, ...] | None = None,
    contrast: bool | None = None,
) -> Phantom:
    """Draw a chest CT phantom.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every random choice: equal generators give equal phantoms.
    shape, spacing : tuple
        Voxels and their distance in mm, (z, y, x).
    centre : tuple of float
        Point of the body (z, y, x; mm from the carina) in the middle of the volume: moving it up or down cuts the lungs.
    typical : bool
        True: a textbook body with gentle noise, for pictures and demonstrations. False: everything is randomised.
    diseases : tuple of str, optional
        From ``DISEASES``; drawn at random when None.
    contrast : bool, optional
        Intravenous contrast; drawn at random when None.

    Raises
    ------
    ValueError
        If a disease is unknown or the shape or spacing is not positive.
    """
    _check(shape, spacing)
    if diseases is None:
        diseases = ("nodules",) if typical else tuple(d for d in DISEASES if rng.random() < 0.22)
    if unknown := set(diseases) - set(DISEASES):
        raise ValueError(f"unknown diseases: {sorted(unknown)}")
    enhanced = bool(rng.random() < 0.4) if contrast is None else contrast
    anatomy = typical_anatomy(rng) if typical else sample_anatomy(rng)
    tissue = sample_tissue(rng, contrast=enhanced, most=150.0 if typical else 300.0)
    settings = _picture_scanner() if typical else sample_scanner(rng)
    space = make_space(rng, anatomy, shape=shape, spacing=spacing, centre=centre)
    fields = make_fields(space, anatomy)
    canvas = np.full(shape, -1000.0, dtype=np.float32)
    _paint_trunk(canvas, space, anatomy, fields, tissue, rng=rng)
    paint_parenchyma(canvas, space, fields, _breathe(tissue, anatomy), rng)
    richness = 1.0 if typical else float(rng.uniform(0.3, 1.0))
    paint_trees(canvas, space, fields, tissue, rng=rng, richness=richness)
    excluded = paint_disease(canvas, space, fields, rng=rng, diseases=diseases)
    excluded |= paint_airway(canvas, space, tissue, rng)
    truth = {"region": "chest", "diseases": diseases, "contrast": enhanced, **asdict(anatomy), **asdict(settings)}
    labels = lung_labels(fields, excluded)
    return _finish(canvas, space, rng, settings, labels=labels, spacing=spacing, body=fields.body, truth=truth)


def _check(shape: Shape, spacing: Spacing) -> None:
    if min(shape) < 2 or min(spacing) <= 0:
        raise ValueError("shape must be at least 2 and spacing positive on every axis")


def _picture_scanner() -> Scanner:
    return Scanner(noise=11.0, sharpness=-0.5, padding=-1024, fov=1.0, table="curved", streaks=0.0)


def _breathe(tissue: Tissue, anatomy: Anatomy) -> Tissue:
    values = asdict(tissue)
    values["lung"] = tissue.lung + hu_of_disease_free(anatomy)
    return Tissue(**values)


def _paint_trunk(
    canvas: Field, space: Space, anatomy: Anatomy, fields: Fields, tissue: Tissue, *, rng: np.random.Generator
) -> None:
    texture = smooth_field(rng, space.shape, space.spacing, 13.0)
    paint_arms(canvas, space, anatomy, tissue)
    paint_wall(canvas, space, anatomy, fields, tissue, texture=texture)
    paint_ribs(canvas, space, anatomy, fields, tissue)
    paint_shoulders(canvas, space, anatomy, tissue)
    paint(
        canvas,
        np.minimum(fields.cage, fields.mediastinum + 40.0),
        np.float32(tissue.fat) + np.float32(25.0) * np.abs(texture),
        2.0,
    )
    paint_abdomen(canvas, space, fields, tissue, rng)
    paint_mediastinum(canvas, space, anatomy, tissue, rng)
    paint_spine(canvas, space, anatomy, tissue)


def _finish(
    canvas: Field,
    space: Space,
    rng: np.random.Generator,
    settings: Scanner,
    *,
    labels: npt.NDArray[np.uint8],
    spacing: Spacing,
    body: Field,
    truth: dict[str, object],
) -> Phantom:
    paint_table(canvas, space, body, settings.table)
    add_streaks(canvas, space, rng, settings.streaks)
    canvas = add_noise(canvas, rng, settings=settings, step=spacing[2])
    np.clip(canvas, -1024.0, 3071.0, out=canvas)
    apply_field_of_view(canvas, settings, (0.0, 0.0))
    if settings.padding is not None:
        labels[canvas < -1500.0] = 0
    return Phantom(hu=np.rint(canvas).astype(np.int16), labels=labels, spacing=spacing, truth=MappingProxyType(truth))


def abdomen_phantom(rng: np.random.Generator, *, shape: Shape, spacing: Spacing) -> Phantom:
    """Draw an abdomen or pelvis that ends below the lung bases."""
    height = shape[0] * spacing[0]
    return chest_phantom(
        rng, shape=shape, spacing=spacing, centre=(-330.0 - height / 2.0, 0.0, 0.0), typical=False, diseases=()
    )


def head_phantom(rng: np.random.Generator, *, shape: Shape, spacing: Spacing) -> Phantom:
    """Draw a head with skull, brain, air-filled sinuses, pharynx and mastoids."""
    _check(shape, spacing)
    anatomy, tissue, settings = sample_anatomy(rng), sample_tissue(rng, contrast=False), sample_scanner(rng)
    space = make_space(rng, anatomy, shape=shape, spacing=spacing, centre=(float(rng.uniform(-60, 30)), 0.0, 0.0))
    canvas, edge = np.full(shape, -1000.0, dtype=np.float32), float(np.cbrt(np.prod(spacing)))
    neck = np.minimum(62.0 - np.hypot(space.x, space.y - 15.0), -40.0 - space.z)
    face = np.minimum(ellipsoid_depth(space, (0.0, -30.0, -65.0), (62.0, 75.0, 80.0)), 20.0 - space.z)
    skull = ellipsoid_depth(space, (0.0, 0.0, 0.0), (74.0, 94.0, 88.0))
    body = np.maximum(np.maximum(neck, face), skull + 6.0)
    paint(canvas, body, tissue.fat + 90.0, edge)
    for depth in (body - 5.0, skull - 4.0):
        paint(canvas, depth, tissue.muscle, edge)
    paint(canvas, np.minimum(skull, 7.0 - skull), tissue.cortex + 500.0, edge)
    paint(
        canvas, np.minimum(face - 14.0, 4.0 + 6.0 * smooth_field(rng, shape, space.spacing, 18.0)), tissue.cortex, edge
    )
    paint(canvas, skull - 7.0, 34.0, edge)
    paint(canvas, ellipsoid_depth(space, (0.0, -4.0, 8.0), (18.0, 38.0, 14.0)), 6.0, edge)
    caves = [((0, -82, 10), (20, 9, 16)), ((-26, -62, -45), (16, 17, 19)), ((26, -62, -45), (16, 17, 19))]
    caves += [((0, -45, -30), (12, 28, 14)), ((0, -18, -75), (11, 9, 60)), ((0, -60, -62), (12, 30, 14))]
    for centre, radii in caves:
        stretch = float(rng.uniform(0.6, 1.25))
        spot = ellipsoid_depth(space, centre, (radii[0] * stretch, radii[1] * stretch, radii[2] * stretch))
        paint(canvas, np.minimum(spot, body - 5.0), tissue.gas, edge)
    cells = 5.0 * smooth_field(rng, shape, space.spacing, 7.0)
    for side in (-1.0, 1.0):
        mastoid = ellipsoid_depth(space, (side * 56.0, 28.0, -42.0), (13.0, 16.0, 18.0))
        paint(canvas, np.minimum(mastoid, cells), -800.0, edge)
    labels, truth = np.zeros(shape, dtype=np.uint8), {"region": "head", **asdict(settings)}
    return _finish(canvas, space, rng, settings, labels=labels, spacing=spacing, body=body, truth=dict(truth))


def water_phantom(rng: np.random.Generator, *, shape: Shape, spacing: Spacing) -> Phantom:
    """Draw a quality-assurance cylinder of water with inserts, air among them."""
    _check(shape, spacing)
    anatomy, settings = sample_anatomy(rng), sample_scanner(rng)
    space = make_space(rng, anatomy, shape=shape, spacing=spacing, centre=(0.0, 0.0, 0.0))
    canvas, edge = np.full(shape, -1000.0, dtype=np.float32), float(np.cbrt(np.prod(spacing)))
    radius = float(rng.uniform(80.0, 150.0))
    body: Field = np.float32(radius) - np.hypot(space.x, space.y)
    paint(canvas, body, 120.0, edge)
    paint(canvas, body - np.float32(5.0), float(rng.normal(0.0, 5.0)), edge)
    for _ in range(int(rng.integers(0, 7))):
        angle, size = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(5.0, 14.0))
        x, y = 0.6 * radius * np.cos(angle), 0.6 * radius * np.sin(angle)
        rod = size - np.hypot(space.x - np.float32(x), space.y - np.float32(y))
        paint(canvas, rod, float(rng.choice([-1000.0, -100.0, 120.0, 350.0, 990.0])), edge)
    labels, truth = np.zeros(shape, dtype=np.uint8), {"region": "water", **asdict(settings)}
    return _finish(canvas, space, rng, settings, labels=labels, spacing=spacing, body=body, truth=dict(truth))


def legs_phantom(rng: np.random.Generator, *, shape: Shape, spacing: Spacing) -> Phantom:
    """Draw two thighs or lower legs with air between them."""
    _check(shape, spacing)
    anatomy, tissue, settings = sample_anatomy(rng), sample_tissue(rng, contrast=False), sample_scanner(rng)
    space = make_space(rng, anatomy, shape=shape, spacing=spacing, centre=(0.0, 0.0, 0.0))
    canvas, edge = np.full(shape, -1000.0, dtype=np.float32), float(np.cbrt(np.prod(spacing)))
    radius, apart = float(rng.uniform(45.0, 85.0)), float(rng.uniform(0.0, 60.0))
    body: Field = np.full(shape, -1e3, dtype=np.float32)
    for side in (-1.0, 1.0):
        limb = radius - np.hypot(space.x - np.float32(side * (radius + apart / 2.0)), space.y) + 0.03 * space.z
        body = np.maximum(body, limb)
        for inset, value in (
            (0.0, tissue.fat),
            (anatomy.fat * 0.6, tissue.muscle),
            (radius - 13.0, 900.0),
            (radius - 7.0, 20.0),
        ):
            paint(canvas, limb - np.float32(inset), value, edge)
    labels, truth = np.zeros(shape, dtype=np.uint8), {"region": "legs", **asdict(settings)}
    return _finish(canvas, space, rng, settings, labels=labels, spacing=spacing, body=body, truth=dict(truth))
