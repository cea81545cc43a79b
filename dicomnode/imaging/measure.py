"""Measurements of labelled regions on the original voxels: volume, mean, LAA-950, Perc15, and what cuts a region.

May live here: pure arithmetic and the sentences that qualify it. May not: DICOM objects as results, pictures.

Definitions
-----------
Volume
    Labelled voxels times the volume of a voxel: it agrees with the segmentation, padding included. Where slices are
    uneven, a voxel reaches half-way to the neighbouring slices.
Mean
    Of the labelled voxels without padding, exact.
LAA-950
    Percentage of them strictly below -950 HU.
Perc15
    15th percentile density: the smallest whole HU at or below which lie at least 15 % of them (numpy's
    ``inverted_cdf``; values that are not whole are taken down to the next whole HU).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode import coding
from dicomnode.findings import Measurement, Region, Segment
from dicomnode.imaging.geometry import VolumeGeometry, canonical_axes
from dicomnode.imaging.tally import Tally, take_tally
from dicomnode.manifest import Density, rank
from dicomnode.texts import Words

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

LAA_THRESHOLD_HU: Final = -950
#: A region that touches an end of the scan or of the field of view with more than this is called cut.
CUT_AREA_MM2: Final = 100.0
_ENGLISH: Final = Words("en")
_DIRECTIONS: Final = ("superior", "inferior", "right", "left", "anterior", "posterior")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How a series was acquired, as far as it bears upon density.

    Attributes
    ----------
    slice_thickness_mm, kernel
        None when not stated.
    contrast
        None when it is not known.
    """

    slice_thickness_mm: float | None
    kernel: str | None
    contrast: bool | None


@dataclass(frozen=True, slots=True)
class _Quality:
    """What the manifest's conditions leave of density, and what is said of it."""

    mean: bool
    distribution: bool
    mean_caveat: str
    distribution_caveat: str
    remarks: tuple[str, ...]


def acquisition_of(dataset: Dataset) -> Acquisition:
    """Acquisition of a slice of the series.

    Contrast is unknown where the Contrast/Bolus Module is there without an agent (PS3.3 C.7.6.4).
    """
    try:
        thickness = float(dataset.get("SliceThickness") or 0)
        kernel = dataset.get("ConvolutionKernel") or ""
        agent = dataset.get("ContrastBolusAgent")
    except (TypeError, ValueError, AttributeError):
        return Acquisition(slice_thickness_mm=None, kernel=None, contrast=None)
    text = "\\".join(map(str, kernel)) if isinstance(kernel, MultiValue) else str(kernel)
    contrast = "ContrastBolusAgentSequence" in dataset if agent is None else (bool(str(agent).strip()) or None)
    return Acquisition(
        slice_thickness_mm=thickness if thickness > 0 else None, kernel=text.strip() or None, contrast=contrast
    )


def measure(
    values: Array,
    labels: Labels,
    padding: Bools | None,
    geometry: VolumeGeometry,
    segments: Sequence[Segment],
    *,
    density: Density | None,
    acquisition: Acquisition,
    words: Words = _ENGLISH,
    tally: Tally | None = None,
) -> tuple[tuple[Region, ...], tuple[str, ...]]:
    """Measure every segment that was found, and all of them together.

    Parameters
    ----------
    values, labels, padding
        (slices, rows, columns) on the source grid: HU, segment numbers, where no measurement is.
    density
        The manifest's conditions; None: volumes alone.
    tally
        Of the same labels and values, where it was taken before.

    Returns
    -------
    tuple
        Regions in the order of `segments` (those without a voxel are left out), then their total when there are
        several; and remarks for the reader, in the language of `words`.

    Raises
    ------
    ValueError
        If shapes differ or a label has no segment.
    """
    if not values.shape == labels.shape == geometry.shape or (padding is not None and padding.shape != labels.shape):
        raise ValueError("values, labels, padding and geometry differ in shape")
    numbers = [segment.number for segment in segments]
    size = max(numbers, default=0) + 1
    tally = tally or take_tally(values, labels, padding, size)
    histogram, voxels = tally.histogram, tally.voxels
    if sorted(np.flatnonzero(voxels)) != sorted(n for n in numbers if voxels[n]):
        raise ValueError("a label has no segment")
    volumes = _volumes(tally, geometry)
    quality = _quality(density, acquisition, words)
    cuts = _cuts(labels, padding, geometry, size)
    found = [segment for segment in segments if voxels[segment.number]]
    groups = [(segment,) for segment in found] + ([tuple(found)] if len(found) > 1 else [])
    regions = []
    for group in groups:
        rows = [segment.number for segment in group]
        numbers_of = (tally.first, histogram[rows].sum(axis=0), float(tally.sums[rows].sum()))
        volume = float(volumes[rows].sum())
        touched = {name for name in _DIRECTIONS if (cuts[name][rows] > CUT_AREA_MM2).any()}
        regions.append(_region(group, (volume, *_measurements(*numbers_of, quality)), touched, words))
    absent = tuple(words.say("not-found", label=one.label) for one in segments if not voxels[one.number])
    truncated = tuple(
        _truncation(region, geometry, words) for region in regions if region.truncated and len(region.segments) == 1
    )
    uneven = (words.say("uneven"),) if found and geometry.heights is not None else ()
    return tuple(regions), (*absent, *truncated, *uneven, *(quality.remarks if found else ()))


def percentile_15(histogram: Counts) -> int:
    """Index of the first bin at or below which lie at least 15 % of a histogram's counts."""
    cumulated = np.cumsum(histogram)
    least = -(-15 * int(cumulated[-1]) // 100)  # in whole numbers: 0.15 is no binary fraction
    return int(np.searchsorted(cumulated, max(least, 1)))


def _volumes(tally: Tally, geometry: VolumeGeometry) -> Array:
    """Per label: ml."""
    if geometry.heights is None:
        return tally.voxels * geometry.voxel_volume_ml
    volumes = np.zeros(len(tally.histogram))
    for counts, each in zip(tally.census.counts, geometry.voxel_volumes_ml(), strict=True):
        volumes += counts[: len(volumes)] * each
    volumes[0] = 0.0
    return volumes


def _quality(density: Density | None, acquisition: Acquisition, words: Words) -> _Quality:
    if density is None:
        return _Quality(False, False, "", "", ())
    remarks = []
    contrast = ""
    if not density.contrast_allowed and acquisition.contrast is not False:
        contrast = words.say("contrast" if acquisition.contrast else "contrast-maybe")
        remarks.append(contrast)
    thickness, limit = acquisition.slice_thickness_mm, density.maximum_slice_thickness_mm
    if thickness is None:
        remarks.append(words.say("no-thickness"))
        return _Quality(True, False, contrast, "", tuple(remarks))
    if thickness > limit:
        remarks.append(words.say("too-thick", thickness=f"{thickness:g}", limit=f"{limit:g}"))
        return _Quality(True, False, contrast, "", tuple(remarks))
    kernels = density.soft_kernels
    soft = not kernels or rank(kernels, acquisition.kernel or "") < len(kernels)
    kernel = "" if soft else words.say("kernel")
    remarks += [kernel] if kernel else []
    return _Quality(True, True, contrast, " ".join(filter(None, (contrast, kernel))), tuple(remarks))


def _measurements(first: int, histogram: Counts, total: float, quality: _Quality) -> tuple[Measurement, ...]:
    """Density of one region; nothing where all its voxels are padding."""
    count = int(histogram.sum())
    results: list[Measurement] = []
    if count and quality.mean:
        results.append(
            Measurement(
                concept=coding.MEAN_LUNG_DENSITY,
                value=total / count,
                unit=coding.HOUNSFIELD_UNIT,
                derivation=coding.MEAN,
                caveat=quality.mean_caveat,
            )
        )
    if count and quality.distribution:
        below = 100.0 * int(histogram[: max(LAA_THRESHOLD_HU - first, 0)].sum()) / count
        lowest = float(percentile_15(histogram) + first)
        caveat = quality.distribution_caveat
        results += [
            Measurement(concept=coding.LAA_950, value=below, unit=coding.PERCENT, caveat=caveat),
            Measurement(concept=coding.PERC15, value=lowest, unit=coding.HOUNSFIELD_UNIT, caveat=caveat),
        ]
    return tuple(results)


def _region(
    group: tuple[Segment, ...], found: tuple[float, *tuple[Measurement, ...]], touched: set[str], words: Words
) -> Region:
    volume, *density = found
    first = group[0]
    kinds = {segment.type for segment in group}
    sides = {segment.laterality for segment in group}
    label, site, laterality = first.label, first.type, first.laterality
    if len(group) > 1:
        lungs = kinds == {coding.LUNG} and sides == {coding.RIGHT, coding.LEFT}
        label = words.say("both-lungs" if lungs else "total")
        site = coding.BOTH_LUNGS if lungs else first.type if len(kinds) == 1 else coding.ANATOMICAL_STRUCTURE
        laterality = None
    return Region(
        label=label,
        segments=tuple(segment.number for segment in group),
        site=site,
        laterality=laterality,
        measurements=(Measurement(concept=coding.VOLUME, value=volume, unit=coding.MILLILITRE), *density),
        truncated=tuple(name for name in _DIRECTIONS if name in touched),
    )


def _cuts(labels: Labels, padding: Bools | None, geometry: VolumeGeometry, size: int) -> dict[str, Array]:
    """Per patient direction and label: mm² in which it lies on the end of the scan or on padding beside it."""
    areas = {name: np.zeros(size) for name in _DIRECTIONS}
    axes = canonical_axes(geometry)
    for axis in range(3):
        face = geometry.voxel_volume_ml * 1000.0 / geometry.spacing[axis]
        for name, end in zip(axes.ends(axis), (0, -1), strict=True):
            areas[name] += face * np.bincount(labels.take(end, axis=axis).reshape(-1), minlength=size)
    if padding is not None:
        for index in range(len(labels)):
            if labels[index].any() and padding[index].any():
                _add_padding_cuts(areas, labels[index], padding[index] & (labels[index] == 0), geometry)
    return areas


def _add_padding_cuts(areas: dict[str, Array], labels: Array, outside: Bools, geometry: VolumeGeometry) -> None:
    axes = canonical_axes(geometry)
    size = len(areas["left"])
    for axis in (0, 1):
        face = geometry.spacing[0] * geometry.spacing[2 - axis]
        low, high = axes.ends(axis + 1)
        turned, beside = np.moveaxis(labels, axis, 0), np.moveaxis(outside, axis, 0)
        for name, inner, next_to in ((low, turned[1:], beside[:-1]), (high, turned[:-1], beside[1:])):
            areas[name] += face * np.bincount(inner[next_to], minlength=size)


def _truncation(region: Region, geometry: VolumeGeometry, words: Words) -> str:
    along = canonical_axes(geometry).ends(0)
    parts = []
    for what, names in (
        ("scan-end", [name for name in region.truncated if name in along]),
        ("view-edge", [name for name in region.truncated if name not in along]),
    ):
        if names:
            where = words.say("and").join(words.say(name) for name in names)
            parts.append(words.say(what + "s" * (len(names) > 1), where=where))
    return words.say("cut", label=region.label, what=words.say("and").join(parts))
