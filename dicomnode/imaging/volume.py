"""Volumes: the slices of a series as one array of Hounsfield units on a checked geometry, and its canonical axes.

May live here: rescaling, padding, the order of axes. May not: codecs (decode), interpolation (resample), measuring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.imaging.geometry import Tolerances, VolumeGeometry, arrange, canonical_axes
from dicomnode.imaging.plane import plane_of
from dicomnode.imaging.resample import labels_on, resample, resampled_shape, shares_on
from dicomnode.imaging.stored import Integers, PixelFormat, pixel_format

__all__ = ["Volume", "build", "canonical", "from_canonical", "labels_on", "resample", "resampled_shape", "shares_on"]

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]

#: What padding voxels hold: air at the lower end of the CT scale.
PADDING_HU: Final = -1024
#: No tissue, and no air under any noise, lies below: what scanners write outside the reconstruction circle
#: without declaring it (-2000, -2048, -3024).
OUTSIDE_HU: Final = -1500
_INT16: Final = np.iinfo(np.int16)


class PixelReader(Protocol):
    """What `build` needs of a decoder."""

    def pixels(self, dataset: Dataset) -> Integers:
        """Stored values (rows, columns)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """A series as an array.

    Attributes
    ----------
    values
        (slices, rows, columns) in source order: HU of a CT, rescaled values of others; int16 where slopes and
        intercepts are whole and the values fit, else float32. Padding holds -1024.
    padding
        Where no measurement is: Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2, compared as stored values),
        and CT values below -1500 HU; None when there is no such voxel.
    sop_instance_uids
        Of the slices, in source order.
    """

    values: npt.NDArray[np.int16] | npt.NDArray[np.float32]
    geometry: VolumeGeometry
    padding: Bools | None
    sop_instance_uids: tuple[str, ...] = field(repr=False)


class Rescale(NamedTuple):
    """What an image's header says of its stored values."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None
    is_ct: bool
    bounds: tuple[int, int]


def build(datasets: Sequence[Dataset], *, decoder: PixelReader, tolerances: Tolerances | None = None) -> Volume:
    """Volume of a series of single-frame images, in any order.

    Raises
    ------
    StudyError
        ``geometry-...`` (`geometry.arrange`), ``rescale-attribute-missing`` (a CT without Rescale Slope and Intercept,
        both Type 1 in PS3.3 C.8.2.1; or a value that is no number) or ``pixel-...`` (the decoder).
    """
    planes = [plane_of(dataset) for dataset in datasets]
    geometry = arrange(planes, tolerances)
    first = decoder.pixels(datasets[geometry.order[0]])
    _prove(first, geometry)  # before memory is taken for what headers claim
    slices = Slices(geometry.shape)
    for index, source in enumerate(geometry.order):
        stored = decoder.pixels(datasets[source]) if index else first
        _prove(stored, geometry)
        slices.put(index, rescale_of(datasets[source]), stored)
    uids = tuple(planes[source].sop_instance_uid for source in geometry.order)
    return Volume(values=slices.values, geometry=geometry, padding=slices.padding, sop_instance_uids=uids)


def _prove(stored: Integers, geometry: VolumeGeometry) -> None:
    if stored.shape != geometry.shape[1:]:
        raise StudyError("pixel-undecodable", rows=stored.shape[0], columns=stored.shape[1])


class Slices:
    """Slices, rescaled one by one into an array.

    Attributes
    ----------
    values, padding
        As of `Volume`, for the slices that were put.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.values: Array = np.empty(shape, np.int16)
        self.padding: Bools | None = None

    def put(self, index: int, rule: Rescale, stored: Integers) -> None:
        """Rescale the stored values of an image into a slice."""
        if self.values.dtype == np.int16 and _plain(stored, rule):
            same = stored.view(np.int16) if stored.dtype == np.uint16 else stored  # as the values fit: no conversion
            np.add(same, np.int16(rule.intercept), out=self.values[index], dtype=np.int16, casting="unsafe")
            return
        rescaled, outside = _full(stored, rule)
        if self.values.dtype == np.int16 and not _fits(rescaled, rule):
            self.values = self.values.astype(np.float32)
        self.values[index] = rescaled
        if outside.any():
            self.padding = np.zeros(self.values.shape, np.bool_) if self.padding is None else self.padding
            self.padding[index] = outside

    def grow(self, count: int) -> None:
        """Make room for so many slices; those that were put stay."""
        values, padding = self.values, self.padding
        self.values = np.empty((count, *values.shape[1:]), values.dtype)
        self.values[: len(values)] = values
        if padding is not None:
            self.padding = np.zeros(self.values.shape, np.bool_)
            self.padding[: len(padding)] = padding


def canonical(array: Array, geometry: VolumeGeometry) -> Array:
    """View of a source array (its last three axes) with the nearest axes (z, y, x) toward superior, posterior, left."""
    axes = canonical_axes(geometry)
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + axis for axis in axes.permutation))
    return turned[_steps(axes.flips)]


def from_canonical(array: Array, geometry: VolumeGeometry) -> Array:
    """Inverse of `canonical`, exact: a view on the source axes."""
    axes = canonical_axes(geometry)
    lead = array.ndim - 3
    straight = array[_steps(axes.flips)]
    return straight.transpose(*range(lead), *(lead + axis for axis in axes.inverse_permutation))


def _steps(flips: tuple[bool, bool, bool]) -> tuple[EllipsisType, slice, slice, slice]:
    z, y, x = (slice(None, None, -1 if flip else 1) for flip in flips)
    return ..., z, y, x


def rescale_of(dataset: Dataset) -> Rescale:
    """What the stored values of an image mean.

    Raises
    ------
    StudyError
        ``rescale-attribute-missing``; ``pixel-unsupported`` or ``pixel-missing`` (`stored.pixel_format`).
    """
    is_ct = dataset.get("Modality") == "CT"
    slope, intercept = (_number(dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and intercept is None and not is_ct:
        slope, intercept = 1.0, 0.0
    if slope is None or slope == 0:
        raise StudyError("rescale-attribute-missing", attribute="RescaleSlope")
    if intercept is None:
        raise StudyError("rescale-attribute-missing", attribute="RescaleIntercept")
    first = _number(dataset, "PixelPaddingValue")
    last = _number(dataset, "PixelPaddingRangeLimit")
    form = pixel_format(dataset)
    if first is None:
        return Rescale(slope, intercept, None, is_ct, form.bounds)
    ends = sorted(_as_stored(int(end), form) for end in (first, first if last is None else last))
    return Rescale(slope, intercept, (ends[0], ends[1]), is_ct, form.bounds)


def _as_stored(value: int, form: PixelFormat) -> int:
    """Read a padding value under the wrong VR of US and SS as what was meant."""
    value %= 1 << form.bits_allocated
    return value - (1 << form.bits_allocated) if form.signed and value >> (form.bits_allocated - 1) else value


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        value = dataset.get(keyword)
        number = None if value is None or value == "" else float(value)
    except Exception:  # noqa: BLE001 - pydicom raises many kinds on a damaged element
        raise StudyError("rescale-attribute-missing", attribute=keyword) from None
    return number if number is None or math.isfinite(number) else None


def _plain(stored: Integers, rule: Rescale) -> bool:
    """Whether adding the intercept in 16 bits is all there is to do."""
    if rule.slope != 1 or not rule.intercept.is_integer() or not _INT16.min <= rule.intercept <= _INT16.max:
        return False
    return _adds(*rule.bounds, rule) or _adds(int(stored.min()), int(stored.max()), rule)


def _adds(low: int, high: int, rule: Rescale) -> bool:
    """Whether values between two bounds need nothing but the intercept, and fit."""
    if high > _INT16.max or high + rule.intercept > _INT16.max or low + rule.intercept < _INT16.min:
        return False
    if rule.padding is not None and rule.padding[0] <= high and low <= rule.padding[1]:
        return False
    return not rule.is_ct or low + rule.intercept >= OUTSIDE_HU


def _full(stored: Integers, rule: Rescale) -> tuple[Array, Bools]:
    wide = stored.astype(np.float64) * rule.slope + rule.intercept
    outside = np.zeros(stored.shape, np.bool_)
    if rule.padding is not None:
        outside |= (stored >= rule.padding[0]) & (stored <= rule.padding[1])
    if rule.is_ct:
        outside |= wide < OUTSIDE_HU
    wide[outside] = PADDING_HU
    return wide, outside


def _fits(rescaled: Array, rule: Rescale) -> bool:
    whole = rule.slope.is_integer() and rule.intercept.is_integer()
    return whole and rescaled.min() >= _INT16.min and rescaled.max() <= _INT16.max
