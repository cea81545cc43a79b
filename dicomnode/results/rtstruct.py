"""Outlines as an RT Structure Set (PS3.3 A.19): for destinations that ask for it, since it can reach treatment planning.

May live here: that object. It is UNAPPROVED, and its label, its description and the name of every region say AI.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from dicomnode.coding import ANATOMICAL_STRUCTURE
from dicomnode.errors import StudyError
from dicomnode.findings import Findings, Segment
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.imaging.contour import contour
from dicomnode.results.concepts import code_item
from dicomnode.results.context import ResultContext, series_description
from dicomnode.results.equipment import stamp
from dicomnode.results.sources import EMPTY_IDENTITY, SourceSeries, refer
from dicomnode.study import ResultRole

Points = NDArray[np.float64]
#: Detached Study Management, retired: what RT Referenced Study Sequence still names (C.8.8.5).
_STUDY_CLASS: Final = "1.2.840.10008.3.1.2.3.1"
#: How far an outline may lie from the exact one: less than the 0.35 pixels between that and the nearest centre of a
#: pixel, so that an outline encloses the centres of its mask's pixels and no others.
_TOLERANCE_PIXELS: Final = 0.3
#: Points of one outline: Contour Data is a DS of at most 65,534 bytes (PS3.5 7.1.2), 30 bytes a point at the most.
_MAXIMUM_POINTS: Final = 2000
_FEWEST_POINTS: Final = 6  # of a hole and its keyhole
_ANY_NUMBER: Final = 1 << 30


def build(labels: NDArray[np.uint8], series: SourceSeries, findings: Findings, context: ResultContext) -> Dataset:
    """RT Structure Set in the space of its sources: every component of every segment on every plane, holes cut in.

    Raises
    ------
    StudyError
        ``result-invalid`` if the source lies nowhere in space, ``nothing-found`` if no segment has a voxel.
    """
    if not series.in_space:
        raise StudyError("result-invalid", check="contours-nowhere")
    present = [segment for segment in findings.segments if (labels == segment.number).any()]
    if not present:
        raise StudyError("nothing-found")
    dataset = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = SOP_CLASSES[Form.RTSTRUCT]
    dataset.StudyInstanceUID = series.headers[0].StudyInstanceUID
    dataset.FrameOfReferenceUID = series.headers[0].FrameOfReferenceUID
    dataset.PositionReferenceIndicator = series.headers[0].get("PositionReferenceIndicator") or ""
    dataset.Modality = "RTSTRUCT"
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "AI UNAPPROVED"
    dataset.StructureSetDescription = context.words.say("not-reviewed")
    dataset.StructureSetDate, dataset.StructureSetTime = context.date, context.time
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    dataset.StructureSetROISequence = [_region(segment, series, findings) for segment in present]
    dataset.ROIContourSequence = [_outlines(labels, segment, series) for segment in present]
    dataset.RTROIObservationsSequence = [_observation(segment) for segment in present]
    dataset.ApprovalStatus = "UNAPPROVED"
    stamp(dataset, ResultRole.SEGMENTATION, findings.algorithm, context)
    for keyword in ("ContentDate", "ContentTime"):  # a structure set has dates of its own
        delattr(dataset, keyword)
    what = context.words.say("rtstruct")
    dataset.SeriesDescription = series_description(
        ResultRole.SEGMENTATION, findings.algorithm, context.words, what=what
    )
    return dataset


def _frame_of_reference(series: SourceSeries) -> Dataset:
    images = []
    for header in series.images():
        image = Dataset()
        image.ReferencedSOPClassUID = header.SOPClassUID
        image.ReferencedSOPInstanceUID = header.SOPInstanceUID
        images.append(image)
    one = Dataset()
    one.SeriesInstanceUID = series.headers[0].SeriesInstanceUID
    one.ContourImageSequence = images
    study = Dataset()
    study.ReferencedSOPClassUID = _STUDY_CLASS
    study.ReferencedSOPInstanceUID = series.headers[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [one]
    item = Dataset()
    item.FrameOfReferenceUID = series.headers[0].FrameOfReferenceUID
    item.RTReferencedStudySequence = [study]
    return item


def _region(segment: Segment, series: SourceSeries, findings: Findings) -> Dataset:
    item = Dataset()
    item.ROINumber = segment.number
    item.ReferencedFrameOfReferenceUID = series.headers[0].FrameOfReferenceUID
    item.ROIName = f"AI {segment.label}"[:64]
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    item.ROIGenerationDescription = f"{findings.algorithm.name} {findings.algorithm.version}"[:64]
    return item


def _observation(segment: Segment) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = segment.number
    item.RTROIIdentificationCodeSequence = [code_item(segment.type)]
    # A tumour is not an organ; which of the other defined terms it is, for instance GTV, a physician decides: type 2.
    item.RTROIInterpretedType = "ORGAN" if segment.category == ANATOMICAL_STRUCTURE else ""
    item.ROIInterpreter = ""
    return item


def _outlines(labels: NDArray[np.uint8], segment: Segment, series: SourceSeries) -> Dataset:
    item = Dataset()
    item.ReferencedROINumber = segment.number
    item.ROIDisplayColor = list(segment.colour)
    item.ContourSequence = []
    for index in np.flatnonzero((labels == segment.number).any(axis=(1, 2))):
        for points in rings(labels[index] == segment.number):
            item.ContourSequence.append(_outline(points, series, int(index)))
    return item


def _outline(points: Points, series: SourceSeries, index: int) -> Dataset:
    header = series.headers[index]
    orientation = np.array([float(value) for value in header.ImageOrientationPatient])
    position = np.array([float(value) for value in header.ImagePositionPatient])
    row_spacing, column_spacing = series.pixel_spacing
    centred = points - 0.5  # the corner of an image lies half a pixel before the centre of its first pixel
    placed = position + np.outer(centred[:, 0] * column_spacing, orientation[:3])
    placed = placed + np.outer(centred[:, 1] * row_spacing, orientation[3:])
    image = Dataset()
    refer(image, header)
    item = Dataset()
    item.ContourImageSequence = [image]
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(placed)
    item.ContourData = [f"{value:.6g}" if abs(value) < 1e-3 else f"{value:.3f}" for value in placed.reshape(-1)]
    return item


def rings(mask: NDArray[np.bool_], most: int = _MAXIMUM_POINTS) -> Iterator[Points]:
    """Outline of every component of a mask, (column, row), not closed; holes are cut in by keyholes (C.8.8.6.3).

    Parameters
    ----------
    most
        Points of one outline: a component that needs more is parted, and each half has outlines of its own.
    """
    components, _ = ndimage.label(mask)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        part = components[box] == number
        corner = np.array([box[1].start, box[0].start])
        for ring in _rings_of(part, most):
            yield ring + corner


def _rings_of(part: NDArray[np.bool_], most: int) -> Iterator[Points]:
    """Outlines of one component that fills its array."""
    outline = _outline_of(part, most)
    if outline is not None:
        yield outline
        return
    axis = int(part.shape[1] > part.shape[0])
    middle = part.shape[axis] // 2
    for half, start in zip(np.split(part, [middle], axis=axis), (0, middle), strict=True):
        for ring in rings(half, most):
            yield ring + np.array([start, 0] if axis else [0, start])


def _outline_of(part: NDArray[np.bool_], most: int) -> Points | None:
    """Outline of one component with its holes; None where it needs more points than it may have."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(part) & ~part)
    if count * _FEWEST_POINTS > most:
        return None
    outer = _ring(part)
    for hole, box in enumerate(ndimage.find_objects(holes), start=1):
        if len(outer) > most:
            break
        corner = np.array([box[1].start, box[0].start])
        outer = _keyhole(outer, _ring(holes[box] == hole) + corner)
    return outer if len(outer) <= most else None


def _ring(part: NDArray[np.bool_]) -> Points:
    found = contour(part, tolerance=_TOLERANCE_PIXELS, maximum_points=_ANY_NUMBER)
    return np.array(found[:-1], dtype=np.float64)


def _keyhole(outer: Points, inner: Points) -> Points:
    """One ring that goes along the outer one, over to the inner one, around it the other way, and back."""
    distances = ((outer[:, None] - inner[None]) ** 2).sum(axis=2)
    at, to = np.unravel_index(int(distances.argmin()), distances.shape)
    around = np.roll(inner, -int(to), axis=0)
    back = np.concatenate([around[:1], around[:0:-1], around[:1]])
    return np.concatenate([outer[: at + 1], back, outer[at:]])
