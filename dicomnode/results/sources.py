"""The source series as the builders see it: one bare header per plane, without what a result must not inherit.

May live here: reading geometry, references and lossy compression out of source headers. Patient, study and request stay
out: they come from the vault when the identity is restored. A plane of a multi-frame image is a header with the image's
UID and its own Referenced Frame Number (0008,1160), as `imaging.frames` makes it; an image that lies nowhere in space
(a 2D image) is a plane by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicomnode.encoded import series_of
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
    "PatientOrientation",
    "ReferencedFrameNumber",
)
_KEPT_TAGS: Final = tuple((Tag(keyword), keyword) for keyword in _KEPT)
#: What each plane of a series has of its own, and all that is looked at beside.
_OWN: Final = (Tag("SOPInstanceUID"), Tag("ImagePositionPatient"))
_SHARED: Final = tuple(tag for tag, _ in _KEPT_TAGS if tag not in _OWN)
_IN_SPACE: Final = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "FrameOfReferenceUID")
#: Share of the mean step by which a step may differ from it in an even stack.
_EVEN: Final = 0.01
#: SOP Class that stands for a frame while the library looks at it: it knows no frames of an image as planes.
_STAND_IN_CLASS: Final = "1.2.840.10008.5.1.4.1.1.2"
_STAND_IN_ROOT: Final = "2.25.1."
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
    """One series of images, plane by plane, in source order.

    Attributes
    ----------
    headers
        One bare header per plane.
    slice_spacing
        Mean distance of neighbouring slices along their normal, mm; 0 for a single slice.
    even
        Whether every step is the mean one: no slice is missing, none lies elsewhere.
    slice_thickness
        Slice Thickness of the source, mm; the spacing where the source does not say.
    lossy
        None where no slice ever was compressed with loss.
    """

    headers: tuple[Dataset, ...]
    slice_spacing: float
    even: bool
    slice_thickness: float
    lossy: Lossy | None

    @property
    def in_space(self) -> bool:
        """Whether the planes lie in a Frame of Reference."""
        return "ImagePositionPatient" in self.headers[0]

    @property
    def calibrated(self) -> bool:
        """Whether a pixel has a size."""
        return "PixelSpacing" in self.headers[0]

    @property
    def framed(self) -> bool:
        """Whether the planes are frames of multi-frame images."""
        return "ReferencedFrameNumber" in self.headers[0]

    def images(self, indices: Iterable[int] | None = None) -> list[Dataset]:
        """Headers of the images that these planes (None: all) belong to, each image once."""
        chosen = range(len(self.headers)) if indices is None else indices
        found = {str(self.headers[index].SOPInstanceUID): self.headers[index] for index in chosen}
        return list(found.values())

    def stand_ins(self) -> list[Dataset]:
        """Headers under which a library sees each plane as an image of its own; `name_frames` undoes it."""
        if not self.framed:
            return list(self.headers)
        return [_stand_in(header, index) for index, header in enumerate(self.headers)]

    def name_frames(self, dataset: Dataset) -> None:
        """Put the image and its frame in the place of every stand-in that an object refers to."""
        if self.framed:
            self._name(dataset)

    def _name(self, dataset: Dataset) -> None:
        for element in dataset:
            if element.VR != "SQ":
                continue
            for item in element.value:
                self._name(item)
                uid = str(item.get("ReferencedSOPInstanceUID") or "")
                if uid.startswith(_STAND_IN_ROOT):
                    refer(item, self.headers[int(uid.removeprefix(_STAND_IN_ROOT)) - 1])
        instances = dataset.get("ReferencedInstanceSequence")
        if instances:  # a list of images: each stands once, without its frames
            once = {str(item.ReferencedSOPInstanceUID): item for item in instances}
            for item in once.values():
                item.pop("ReferencedFrameNumber", None)
            dataset.ReferencedInstanceSequence = list(once.values())

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Row and column spacing, mm."""
        row, column = self.headers[0].PixelSpacing
        return float(row), float(column)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.headers), int(self.headers[0].Rows), int(self.headers[0].Columns)


def _stand_in(header: Dataset, index: int) -> Dataset:
    made = Dataset()
    for element in header:
        if element.keyword not in ("SOPClassUID", "SOPInstanceUID", "ReferencedFrameNumber"):
            made.add(element)
    made.SOPClassUID = _STAND_IN_CLASS
    made.SOPInstanceUID = f"{_STAND_IN_ROOT}{index + 1}"
    return made


def refer(item: Dataset, header: Dataset) -> None:
    """Write the reference to a plane: its image and, where it is one of several, its frame (PS3.3 10.3)."""
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if "ReferencedFrameNumber" in header:
        item.ReferencedFrameNumber = int(header.ReferencedFrameNumber)


def read_sources(sources: Sequence[Dataset] | SourceSeries) -> SourceSeries:
    """Bare headers of a series.

    Parameters
    ----------
    sources
        Headers in source order (by position along the slice normal, ascending), in pseudonymous space; one header
        alone may lie nowhere in space. A series that was read before is taken as it is.

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
        flat = len(sources) == 1 and not sources[0].get("ImagePositionPatient")
        headers = tuple(_all_bare(sources, flat=flat))
        steps = np.zeros(0) if flat else steps_of(headers)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise StudyError("geometry-attribute-missing") from None
    spacing = float(abs(steps.mean())) if len(steps) else 0.0
    thickness = _thickness(sources[0]) or spacing or 1.0
    shared = DataElement(Tag("SliceThickness"), "DS", f"{thickness:.10g}")
    for header in headers:
        header.add(shared)
    return SourceSeries(
        headers=headers,
        slice_spacing=spacing,
        even=bool(np.abs(steps - steps.mean()).max() <= _EVEN * spacing) if len(steps) else True,
        slice_thickness=thickness,
        lossy=_lossy(sources),
    )


def positions(headers: Sequence[Dataset]) -> np.ndarray:
    """Image Position (Patient) of every slice: float64 (slices, 3), mm."""
    return np.array([[float(value) for value in header.ImagePositionPatient] for header in headers])


def _all_bare(sources: Sequence[Dataset], *, flat: bool) -> Iterator[Dataset]:
    """Bare headers of all planes: what they share, nobody changes in one of them."""
    empty = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(empty, keyword, "")
    known: tuple[object, dict[BaseTag, DataElement]] | None = None
    for source in sources:
        series = series_of(source, _SHARED)
        if known is not None and known[0] is series:
            header = Dataset(dict(known[1]))
            for tag in _OWN:
                header[tag] = source[tag]
                if not header[tag].value:
                    raise ValueError(tag)
        else:
            header = _bare(source, empty, flat=flat)
            known = None if series is None else (series, {element.tag: element for element in header})
        yield header


def _bare(source: Dataset, empty: Iterable[DataElement], *, flat: bool) -> Dataset:
    header = Dataset()
    for tag, keyword in _KEPT_TAGS:
        if tag in source and not (flat and keyword in _IN_SPACE and keyword != "PixelSpacing"):
            header.add(source[tag])
    if flat:
        _calibrate(header, source)
    else:
        for keyword in _IN_SPACE:
            if not header[keyword].value:
                raise ValueError(keyword)
    for element in empty:
        header.add(element)
    return header


def _calibrate(header: Dataset, source: Dataset) -> None:
    """Size of a pixel of a 2D image: what was calibrated, else what the detector says (PS3.3 10.7.1.3)."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if source.get(keyword):
            header.PixelSpacing = list(source[keyword].value)
            return


def steps_of(headers: Sequence[Dataset]) -> np.ndarray:
    """Distances of neighbouring planes along their normal, mm."""
    orientation = np.array([float(value) for value in headers[0].ImageOrientationPatient])
    return np.asarray(np.diff(positions(headers) @ np.cross(orientation[:3], orientation[3:])))


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
