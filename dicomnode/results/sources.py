"""The source series as the builders see it: one bare header per slice, without what a result must not inherit.

May live here: reading geometry, references and lossy compression out of source headers. Patient, study and request stay
out: they come from the vault when the identity is restored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError

_KEPT: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
    "ImagePositionPatient",
)
#: Type 2 of Patient and General Study (PS3.3 C.7.1.1, C.7.2.1), which the vault fills.
EMPTY_IDENTITY: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lossy:
    """Lossy compression of a source (PS3.3 C.7.6.1.1.5), which everything made of it inherits."""

    ratios: tuple[float, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSeries:
    """One series of single-frame images, in source order.

    Attributes
    ----------
    headers
        One bare header per slice.
    slice_spacing
        Mean distance of neighbouring slices along their normal, mm; 0 for a single slice.
    slice_thickness
        Slice Thickness of the source, mm; the spacing where the source does not say.
    lossy
        None where no slice ever was compressed with loss.
    """

    headers: tuple[Dataset, ...]
    slice_spacing: float
    slice_thickness: float
    lossy: Lossy | None

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Row and column spacing, mm."""
        row, column = self.headers[0].PixelSpacing
        return float(row), float(column)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.headers), int(self.headers[0].Rows), int(self.headers[0].Columns)


def read_sources(sources: Sequence[Dataset] | SourceSeries) -> SourceSeries:
    """Bare headers of a series.

    Parameters
    ----------
    sources
        Headers in source order (by position along the slice normal, ascending), in pseudonymous space. A series that
        was read before is taken as it is.

    Raises
    ------
    StudyError
        ``geometry-attribute-missing`` if a slice cannot be placed in space.
    """
    if isinstance(sources, SourceSeries):
        return sources
    if not sources:
        raise StudyError("geometry-too-few-slices", slices=0)
    try:
        headers = tuple(_bare(source) for source in sources)
        spacing = _slice_spacing(headers)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StudyError("geometry-attribute-missing") from None
    thickness = _thickness(sources[0]) or spacing or 1.0
    for header in headers:
        header.SliceThickness = f"{thickness:.10g}"
    return SourceSeries(
        headers=headers,
        slice_spacing=spacing,
        slice_thickness=thickness,
        lossy=_lossy(sources),
    )


def positions(headers: Sequence[Dataset]) -> np.ndarray:
    """Image Position (Patient) of every slice: float64 (slices, 3), mm."""
    return np.array([[float(value) for value in header.ImagePositionPatient] for header in headers])


def _bare(source: Dataset) -> Dataset:
    header = Dataset()
    for keyword in _KEPT:
        if keyword in source:
            header.add(source[keyword])
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID"):
        if not header[keyword].value:
            raise ValueError(keyword)
    for keyword in EMPTY_IDENTITY:
        setattr(header, keyword, "")
    return header


def _slice_spacing(headers: Sequence[Dataset]) -> float:
    orientation = np.array([float(value) for value in headers[0].ImageOrientationPatient])
    along = positions(headers) @ np.cross(orientation[:3], orientation[3:])
    return 0.0 if len(along) < 2 else float(abs(along[-1] - along[0]) / (len(along) - 1))


def _thickness(source: Dataset) -> float:
    value = source.get("SliceThickness")
    if value is None or value == "":
        return 0.0
    thickness = float(value)
    return thickness if math.isfinite(thickness) and thickness > 0 else 0.0


def _lossy(sources: Sequence[Dataset]) -> Lossy | None:
    for source in sources:
        if source.get("LossyImageCompression") == "01":
            return Lossy(
                ratios=tuple(float(value) for value in _many(source.get("LossyImageCompressionRatio"))),
                methods=tuple(str(value) for value in _many(source.get("LossyImageCompressionMethod"))),
            )
    return None


def _many(value: Any) -> tuple[Any, ...]:
    if value is None or value == "":
        return ()
    return (value,) if isinstance(value, str | float | int) else tuple(value)
