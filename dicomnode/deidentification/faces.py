"""Faces taken off a series of CT or MR: its images are looked at one by one, then the face's pixels become air in each.

Between the two passes no image is kept, but a coarse volume. What is no volume of a whole head is refused, with a code.
Pure but for the decoder that is handed in. What a face is stands in `imaging.face`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from scipy.ndimage import gaussian_filter

from dicomnode.deidentification.frames import EXPLICIT_LITTLE
from dicomnode.deidentification.heads import Head
from dicomnode.deidentification.stored import PIXEL_DATA
from dicomnode.errors import StudyError
from dicomnode.imaging import frames
from dicomnode.imaging.balloon import Grid
from dicomnode.imaging.brain import Brain, find_brain, has_no_skull, values_of
from dicomnode.imaging.decode import transfer_syntax
from dicomnode.imaging.face import Face
from dicomnode.imaging.geometry import arrange
from dicomnode.imaging.plane import Plane, plane_of
from dicomnode.imaging.stored import EXPLICIT_BIG, NATIVE, Integers, PixelFormat, pixel_format, stored_values
from dicomnode.imaging.straighten import straighten
from dicomnode.imaging.volume import Volume

_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_CLASSES: Final = frozenset(f"{_ROOT}{last}" for last in ("2", "2.1", "2.2", "4", "4.1", "4.4"))
#: Values of Image Type (0008,0008) of what is no slice: scouts, projections, renderings, screens.
_NO_SLICES: Final = ("LOCALIZER", "SCOUT", "MIP", "MINIP", "PROJECTION", "RENDER", "VRT", "SCREEN", "CAPTURE")
_COARSE_MM: Final = 2.0
_CALM_MM: Final = 1.25
_FEWEST_SLICES: Final = 12
_WIDEST_STEP_MM: Final = 8.0
_SAME_MM: Final = 0.05
_AIR_HU: Final = -1000.0
_OUTSIDE_HU: Final = -1500.0
#: What is true of the pixels no longer once some became air; all of Type 3 (PS3.3 C.7.6.3).
_STALE: Final = (0x00280106, 0x00280107, 0x00280108, 0x00280109, 0x7FE00001, 0x7FE00002)


class PixelReader(Protocol):
    """What is needed of a decoder."""

    def pixels(self, dataset: Dataset) -> Integers:
        """Stored values (rows, columns)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Slice:
    plane: Plane
    place: tuple[float, int, str]
    values: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """Modality LUT of one image, and the stored values of its padding."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None


class SeriesOfHead:
    """Images of one series, taken in one by one.

    Parameters
    ----------
    head
        What their headers say, of all the most.
    decoder
        Reads stored values.
    """

    def __init__(self, head: Head, decoder: PixelReader) -> None:
        self._head = head
        self._decoder = decoder
        self._slices: list[_Slice] = []
        self._is_ct: set[bool] = set()

    def add(self, dataset: Dataset) -> None:
        """Take in an image.

        Raises
        ------
        StudyError
            ``withheld-face`` where it is no slice of CT or MR, or its pixels cannot be read: it may not leave, the
            others may; ``withheld-face-geometry`` where it does not say where it lies.
        """
        found = [self._slice(plane, is_ct=_is_ct(dataset)) for plane in _planes(dataset)]
        self._is_ct.add(_is_ct(dataset))
        self._slices += found

    def _slice(self, plane: Dataset, *, is_ct: bool) -> _Slice:
        lies, scale = _lies(plane), _scale(plane)
        try:
            stored = self._decoder.pixels(plane)
        except StudyError as error:
            raise StudyError("withheld-face", because=error.code) from None
        if stored.shape != (lies.rows, lies.columns):
            raise StudyError("withheld-face", because="pixels")
        return _slice(plane, lies, _rescaled(stored, scale, is_ct=is_ct))

    def find(self) -> Defacing | None:
        """The face in them; None: they show no head for certain.

        Raises
        ------
        StudyError
            ``withheld-face-geometry``, ``withheld-face-not-found``; where no header named a region,
            ``withheld-face-unsaid``.
        """
        try:
            return self._find()
        except StudyError as error:
            if self._head is Head.UNSAID:
                raise StudyError("withheld-face-unsaid", **error.facts) from None
            if not error.code.startswith("withheld-"):
                raise StudyError("withheld-face-geometry", because=error.code) from None
            raise

    def _find(self) -> Defacing | None:
        if len(self._is_ct) != 1:
            raise StudyError("withheld-face-geometry", because="modalities")
        (is_ct,) = self._is_ct
        grid = _grid(self._slices, _AIR_HU if is_ct else 0.0)
        self._slices = []
        if is_ct and self._head is not Head.SERIES and has_no_skull(grid):
            return None
        return Defacing(find_brain(grid, is_ct=is_ct), self._decoder)


class Defacing:
    """Takes the face off the images of a series.

    Parameters
    ----------
    brain
        Where the brain lies in all of them.
    decoder
        Reads stored values of compressed images.
    """

    def __init__(self, brain: Brain, decoder: PixelReader) -> None:
        self._air = brain.air
        self._face = Face(brain)
        self._decoder = decoder

    def take_off(self, dataset: Dataset) -> None:
        """Make air of the face, in place: pixels, and what spoke of them. Padding and all other bits stay as they are.

        Notes
        -----
        Compressed images become native, Explicit VR Little Endian.

        Raises
        ------
        StudyError
            As `SeriesOfHead.add`.
        """
        syntax = transfer_syntax(dataset)
        parts = [self._without(plane, syntax, is_ct=_is_ct(dataset)) for plane in _planes(dataset)]
        data = b"".join(parts)
        if syntax not in NATIVE:
            dataset.file_meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
        vr = "OW" if int(dataset.BitsAllocated) > 8 else dataset[PIXEL_DATA].VR
        dataset[PIXEL_DATA] = DataElement(PIXEL_DATA, vr, data + b"\0" * (len(data) % 2))
        for tag in _STALE:
            if tag in dataset:
                del dataset[tag]
        dataset.RecognizableVisualFeatures = "NO"

    def _without(self, plane: Dataset, syntax: str, *, is_ct: bool) -> bytes:
        form, scale, lies = pixel_format(plane), _scale(plane), _lies(plane)
        size = form.bits_allocated // 8
        big = syntax == EXPLICIT_BIG
        if big and size != 2:
            raise StudyError("withheld-face", because="big-endian")
        if syntax in NATIVE:
            value = plane[PIXEL_DATA].value
            cells = np.frombuffer(value, f"{'>' if big else '<'}u{size}", form.pixels).copy()
        else:
            cells = _cells(self._decoder.pixels(plane), form).astype(f"<u{size}")
        cells = cells.reshape(form.rows, form.columns)
        down, right = (
            np.array(lies.orientation[start : start + 3]) * step
            for start, step in zip((3, 0), lies.pixel_spacing, strict=True)
        )
        goes = self._face.on_plane(np.array(lies.position), down, right, (form.rows, form.columns)) > 0
        goes &= ~_outside(stored_values(cells, form), scale, is_ct=is_ct)
        air = _stored_air(_AIR_HU if is_ct else self._air, scale, form)
        cells[goes] = _cells(np.array([air], np.int64), form)[0]
        return cells.tobytes()


def _planes(dataset: Dataset) -> list[Dataset]:
    """Its slices, each a header with pixels of its own."""
    if str(dataset.get("SOPClassUID", "")) not in _CLASSES or _is_no_slice(dataset):
        raise StudyError("withheld-face", because="kind")
    try:
        planes = frames.planes([dataset])
    except StudyError as error:
        raise StudyError("withheld-face", because=error.code) from None
    if any(_is_no_slice(plane) for plane in planes):
        raise StudyError("withheld-face", because="kind")
    return planes


def _is_no_slice(dataset: Dataset) -> bool:
    values = dataset.get("ImageType") or []
    words = [values] if isinstance(values, str) else [str(value) for value in values]
    return any(part in word.upper() for word in words for part in _NO_SLICES)


def _is_ct(dataset: Dataset) -> bool:
    return str(dataset.SOPClassUID).startswith(f"{_ROOT}2")


def _lies(plane: Dataset) -> Plane:
    try:
        return plane_of(plane)
    except StudyError as error:
        raise StudyError("withheld-face-geometry", because=error.code) from None


def _scale(plane: Dataset) -> _Scale:
    if "ModalityLUTSequence" in plane or "FloatPixelData" in plane:
        raise StudyError("withheld-face", because="lookup-table")
    needed = _is_ct(plane)
    slope, intercept = (
        _number(plane, keyword, None if needed else default)
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if not slope:
        raise StudyError("withheld-face", because="rescale")
    value = _number(plane, "PixelPaddingValue", math.nan)
    limit = _number(plane, "PixelPaddingRangeLimit", value)
    padding = None if math.isnan(value) else (int(min(value, limit)), int(max(value, limit)))
    return _Scale(slope=slope, intercept=intercept, padding=padding)


def _number(dataset: Dataset, keyword: str, default: float | None) -> float:
    value = dataset.get(keyword)
    if value is None or value == "":
        value = default
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise StudyError("withheld-face", because="rescale") from None
    if math.isinf(number):
        raise StudyError("withheld-face", because="rescale")
    return number


def _outside(stored: Integers, scale: _Scale, *, is_ct: bool) -> npt.NDArray[np.bool_]:
    """Where nothing was measured: padding (PS3.3 C.7.5.1.1.2), and what scanners write outside of their circle."""
    found = np.zeros(stored.shape, np.bool_)
    if scale.padding is not None:
        found |= (stored >= scale.padding[0]) & (stored <= scale.padding[1])
    if is_ct:
        found |= stored * scale.slope + scale.intercept < _OUTSIDE_HU
    return found


def _rescaled(stored: Integers, scale: _Scale, *, is_ct: bool) -> npt.NDArray[np.float32]:
    values = (stored * np.float32(scale.slope) + np.float32(scale.intercept)).astype(np.float32)
    outside = _outside(stored, scale, is_ct=is_ct)
    if outside.any():
        values[outside] = _AIR_HU if is_ct else values[~outside].min(initial=0.0)
    return values


def _slice(dataset: Dataset, plane: Plane, values: npt.NDArray[np.float32]) -> _Slice:
    """Coarse pixels, about 2 mm wide, and where they lie."""
    factors = [
        max(1, min(round(_COARSE_MM / step), size))
        for step, size in zip(plane.pixel_spacing, values.shape, strict=True)
    ]
    rows, columns = (size // factor for size, factor in zip(values.shape, factors, strict=True))
    cut = values[: rows * factors[0], : columns * factors[1]]
    coarse = cut.reshape(rows, factors[0], columns, factors[1]).mean(axis=(1, 3), dtype=np.float32)
    right, down = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
    shift = down * plane.pixel_spacing[0] * (factors[0] - 1) / 2 + right * plane.pixel_spacing[1] * (factors[1] - 1) / 2
    x, y, z = np.array(plane.position) + shift
    lies = Plane(
        sop_instance_uid=plane.sop_instance_uid, position=(float(x), float(y), float(z)), orientation=plane.orientation,
        pixel_spacing=(plane.pixel_spacing[0] * factors[0], plane.pixel_spacing[1] * factors[1]), rows=rows,
        columns=columns, slice_thickness=plane.slice_thickness, frame_of_reference_uid=plane.frame_of_reference_uid,
    )  # fmt: skip
    height = float(np.array(lies.position) @ np.cross(right, down))
    number = int(_number(dataset, "InstanceNumber", 0.0)) + int(dataset.get("ReferencedFrameNumber") or 0)
    return _Slice(plane=lies, place=(height, number, plane.sop_instance_uid), values=coarse)


def _grid(slices: Sequence[_Slice], beyond: float) -> Grid:
    """An even, straight volume of the first image at every place, without its noise; nothing but air is beyond."""
    chosen = list(_one_at_a_place(slices))
    if len(chosen) < _FEWEST_SLICES:
        raise StudyError("withheld-face-geometry", because="slices", slices=len(chosen))
    geometry = arrange([one.plane for one in chosen])
    if geometry.widest_step > _WIDEST_STEP_MM:
        raise StudyError("withheld-face-geometry", because="step")
    values = values_of(np.stack([chosen[index].values for index in geometry.order]))
    uids = tuple(chosen[index].plane.sop_instance_uid for index in geometry.order)
    volume = Volume(values=values, geometry=geometry, padding=None, sop_instance_uids=uids)
    straight = straighten(geometry).volume(volume)
    calm = gaussian_filter(straight.values, [_CALM_MM / step for step in straight.geometry.spacing], mode="nearest")
    return Grid(values=values_of(calm), affine=straight.geometry.affine(), beyond=beyond)


def _one_at_a_place(slices: Sequence[_Slice]) -> Iterator[_Slice]:
    """Of images at one place (echoes, diffusion weights, times) the first by number, whatever their order."""
    places: dict[int, _Slice] = {}
    for one in sorted(slices, key=lambda one: (one.place[1], one.place[2])):
        places.setdefault(round(one.place[0] / _SAME_MM), one)
    yield from sorted(places.values(), key=lambda one: one.place)


def _stored_air(air: float, scale: _Scale, form: PixelFormat) -> int:
    """Stored value of air, within its bits and no padding."""
    low = -(1 << (form.bits_stored - 1)) if form.signed else 0
    high = low + (1 << form.bits_stored) - 1
    value = min(max(round((air - scale.intercept) / scale.slope), low), high)
    if scale.padding is not None and scale.padding[0] <= value <= scale.padding[1]:
        value = scale.padding[1] + 1 if scale.padding[1] < high else scale.padding[0] - 1
    return min(max(value, low), high)


def _cells(stored: npt.NDArray[Any], form: PixelFormat) -> npt.NDArray[Any]:
    """Cells of stored values: at their bits, the sign extended above."""
    shift = form.high_bit + 1 - form.bits_stored
    whole = (1 << form.bits_allocated) - 1
    return ((stored.astype(np.int64) << shift) & whole).astype(f"u{form.bits_allocated // 8}")
