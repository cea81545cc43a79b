"""The plane of one image, out of its header (PS3.3 C.7.6.2, Image Plane).

May live here: reading what one image says of where it lies, as leniently as scanners need it. May not: other slices,
pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicomnode.errors import StudyError

Vector = tuple[float, float, float]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """One slice in space (PS3.3 C.7.6.2).

    Attributes
    ----------
    position
        Image Position (Patient): centre of the top left pixel, mm, LPS.
    orientation
        Image Orientation (Patient): direction of a row (growing column index), then of a column.
    pixel_spacing
        Distance between rows, then between columns, mm.
    slice_thickness
        mm; None when absent. Never used as a distance.
    """

    sop_instance_uid: str = field(repr=False)
    position: Vector
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing: tuple[float, float]
    rows: int
    columns: int
    slice_thickness: float | None
    frame_of_reference_uid: str = field(repr=False)


def plane_of(dataset: Dataset) -> Plane:
    """Plane of a single-frame image.

    Raises
    ------
    StudyError
        ``geometry-multi-frame``, or ``geometry-attribute-missing`` (also for values that make no sense).
    """
    if (_numbers(dataset, "NumberOfFrames") or [1.0])[0] > 1:
        raise StudyError("geometry-multi-frame")
    orientation = _required(dataset, "ImageOrientationPatient", 6)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    if max(abs(np.linalg.norm(row) - 1), abs(np.linalg.norm(column) - 1), abs(row @ column)) > 0.01:
        raise _missing("ImageOrientationPatient")
    spacing = _required(dataset, "PixelSpacing", 2)
    rows, columns = (int(_required(dataset, keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    for keyword, least in (("PixelSpacing", min(spacing)), ("Rows", rows), ("Columns", columns)):
        if least <= 0:
            raise _missing(keyword)
    thickness = _numbers(dataset, "SliceThickness")
    return Plane(
        position=_position(dataset),
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        orientation=(*vector_of(row), *vector_of(column)),
        pixel_spacing=(spacing[0], spacing[1]),
        rows=rows,
        columns=columns,
        slice_thickness=thickness[0] if thickness and thickness[0] > 0 else None,
        frame_of_reference_uid=_uid(dataset, "FrameOfReferenceUID"),
    )


def plane_beside(plane: Plane, dataset: Dataset) -> Plane:
    """Plane of an image that differs from another one's in its position and its SOP Instance UID alone.

    Raises
    ------
    StudyError
        ``geometry-attribute-missing``.
    """
    return replace(plane, position=_position(dataset), sop_instance_uid=_uid(dataset, "SOPInstanceUID"))


def vector_of(values: Floats) -> Vector:
    """Three floats, none of them a negative zero."""
    x, y, z = (float(value) + 0.0 for value in values)
    return x, y, z


def _missing(keyword: str) -> StudyError:
    return StudyError("geometry-attribute-missing", attribute=keyword)


def _uid(dataset: Dataset, keyword: str) -> str:
    value = _value(dataset, keyword)
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    if not text.strip(" \0"):
        raise _missing(keyword)
    return text.strip(" \0")


def _position(dataset: Dataset) -> Vector:
    x, y, z = _required(dataset, "ImagePositionPatient", 3)
    return x, y, z


def _required(dataset: Dataset, keyword: str, count: int) -> list[float]:
    values = _numbers(dataset, keyword)
    if values is None or len(values) != count:
        raise _missing(keyword)
    return values


def _numbers(dataset: Dataset, keyword: str) -> list[float] | None:
    """Finite numbers of an element; None when it is absent, empty or no number."""
    value = _value(dataset, keyword)
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip(" \0").split("\\")
    if isinstance(value, str | int | float):
        value = [value]
    try:
        numbers = [float(item) for item in value or ()]
    except (TypeError, ValueError):
        return None
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


def _value(dataset: Dataset, keyword: str) -> Any:
    """Value of an element: the bytes as they came for text, since scanners overrun the 16 bytes of a DS (PS3.5 6.2)."""
    try:
        return dataset.get(keyword) if keyword in ("Rows", "Columns") else _raw(dataset, _tag(keyword))
    except Exception:  # noqa: BLE001 - pydicom raises many kinds on a damaged element
        raise _missing(keyword) from None


def _raw(dataset: Dataset, tag: BaseTag) -> Any:
    return dataset.get_item(tag).value if tag in dataset else None


@cache
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)
