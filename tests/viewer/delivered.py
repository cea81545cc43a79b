"""What the node delivered, read back from the archive: what a viewer is to draw, by the objects' own word."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import generate_uid

from tests.neighbours import Orthanc

#: Lines of text that OHIF draws for one measurement, at most.
LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One finding of a report, as OHIF merges its groups by Tracking UID.

    Attributes
    ----------
    points
        float64 (points, 2), image-relative: the top left corner of the image is (0, 0).
    sop_instance_uid
        Of the image on which it is drawn.
    lines
        Text of its values, as OHIF prints them.
    """

    name: str
    graphic_type: str
    points: NDArray[np.float64]
    sop_instance_uid: str
    lines: tuple[str, ...]


def objects(orthanc: Orthanc, study_instance_uid: str, modality: str) -> list[Dataset]:
    """Every object of a study with this modality."""
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid, "Modality": modality}}
    names = orthanc.post("/tools/find", query)
    return [pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{name}/file"))) for name in names]


def masks_on(segmentation: Dataset, image: Dataset) -> dict[int, NDArray[np.bool_]]:
    """Segment Number → mask on the plane of an image."""
    position = np.array(image.ImagePositionPatient, dtype=float)
    found = {}
    for group, frame in zip(segmentation.PerFrameFunctionalGroupsSequence, segmentation.pixel_array, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        if np.abs(place - position).max() < 0.01:
            found[int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)] = frame.astype(bool)
    return found


def drawings(report: Dataset) -> list[Drawing]:
    """Findings of a report in its own order."""
    merged: dict[str, list[Dataset]] = {}
    for group in _nodes(report.ContentSequence, "125007"):
        merged.setdefault(_one(group, "112040").UID, []).extend(group)
    return [_drawing(items) for items in merged.values()]


def _drawing(items: Sequence[Dataset]) -> Drawing:
    (region,) = (item for item in items if item.ValueType == "SCOORD")
    return Drawing(
        name=str(_one(items, "112039").TextValue),
        graphic_type=str(region.GraphicType),
        points=np.array(region.GraphicData, dtype=float).reshape(-1, 2),
        sop_instance_uid=str(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID),
        lines=tuple(_line(item) for item in items if item.ValueType == "NUM")[:LINES],
    )


def _line(item: Dataset) -> str:
    """A value as OHIF 3.13 prints it: two decimals, and nothing at all where it is zero (a fault of the viewer)."""
    measured = item.MeasuredValueSequence[0]
    value = float(measured.NumericValue)
    number = "" if value == 0 else f"{value:.2f}"
    unit = measured.MeasurementUnitsCodeSequence[0].CodeValue
    return f"{item.ConceptNameCodeSequence[0].CodeMeaning}: {number} {unit}"


def _nodes(items: Sequence[Dataset], code: str) -> Iterator[Sequence[Dataset]]:
    for item in items:
        children = item.get("ContentSequence") or ()
        if _code(item) == code:
            yield children
        yield from _nodes(children, code)


def _one(items: Sequence[Dataset], code: str) -> Dataset:
    return next(item for item in items if _code(item) == code)


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def as_another(dataset: Dataset, description: str) -> Dataset:
    """A copy as an object and a series of its own."""
    other: Dataset = deepcopy(dataset)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    other.SeriesInstanceUID = generate_uid()
    other.SeriesDescription = description
    return other


def without_drawing(report: Dataset, name: str) -> Dataset:
    """The report with the contour of one finding, and the group that holds it, taken out."""
    spoiled = as_another(report, "Spoiled report")
    for container in spoiled.ContentSequence:
        if _code(container) == "126010":
            container.ContentSequence = [
                group
                for group in container.ContentSequence
                if _one(group.ContentSequence, "112039").TextValue != name
                or not any(item.ValueType == "SCOORD" for item in group.ContentSequence)
            ]
    return spoiled


def with_swapped_colours(segmentation: Dataset) -> Dataset:
    """The segmentation with the colours of its first two segments swapped."""
    spoiled = as_another(segmentation, "Spoiled segmentation")
    first, second = spoiled.SegmentSequence[0], spoiled.SegmentSequence[1]
    colour = first.RecommendedDisplayCIELabValue
    first.RecommendedDisplayCIELabValue = second.RecommendedDisplayCIELabValue
    second.RecommendedDisplayCIELabValue = colour
    return spoiled


def store(orthanc: Orthanc, dataset: Dataset) -> str:
    """Put an object into the archive; its id there."""
    data = io.BytesIO()
    dataset.save_as(data)
    answer: Any = orthanc.post("/instances", data.getvalue())
    return str(answer["ID"])
