"""Truth before sending, of an RT Structure Set: it can reach treatment planning, so every outline of it is proved.

May live here: proofs on the decoded object; each returns nothing or raises one coded reason. The outlines are put back
into pixels by a rule of their own (a pixel belongs to what encloses its centre), not by what drew them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.results.sources import SourceSeries, positions, read_sources

Points = NDArray[np.float64]
#: Distance of a point from its plane: three coordinates of three decimals, mm.
_OFF_PLANE: Final = 0.002
_CODE: Final = "result-invalid"
_Place = tuple[str, str, int]  # SOP Class UID, SOP Instance UID, and the frame of a multi-frame image


def prove_structures(
    structures: Dataset, labels: NDArray[np.uint8], sources: Sequence[Dataset], uids: Mapping[str, str]
) -> None:
    """It is UNAPPROVED, lies in its source's space, and its outlines enclose the label map, pixel by pixel.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns) in source order.
    sources
        Headers in source order.
    uids
        Pseudonymous UID → original UID.

    Raises
    ------
    StudyError
        ``result-invalid`` for what it says of itself, ``result-reference-dangling`` for the images that it names,
        ``result-geometry-differs`` for where its outlines lie.
    """
    series = read_sources(sources)
    _prove_status(structures)
    _prove_space(structures, uids.get(frame := str(series.headers[0].FrameOfReferenceUID), frame))
    places = {_place(header, uids): index for index, header in enumerate(series.headers)}
    _prove_images(structures, places)
    drawn = np.zeros(labels.shape, np.bool_)
    numbers = [int(item.ROINumber) for item in structures.StructureSetROISequence]
    for region, number in zip(structures.ROIContourSequence, numbers, strict=True):
        drawn[:] = False
        for item in region.ContourSequence:
            index = _plane_of(item, places)
            drawn[index] ^= enclosed(_on_plane(item, series, index), series.shape[1:])
        if not np.array_equal(drawn, labels == number):
            raise StudyError("result-geometry-differs", check="mask")
    if set(numbers) != {int(value) for value in np.unique(labels) if value}:
        raise StudyError("result-geometry-differs", check="regions")


def _prove_status(structures: Dataset) -> None:
    """UNAPPROVED and from a machine, in every region; the three lists speak of the same regions, each once."""
    if structures.ApprovalStatus != "UNAPPROVED" or "UNAPPROVED" not in structures.StructureSetLabel:
        raise StudyError(_CODE, check="approval")
    regions = structures.StructureSetROISequence
    if any(item.ROIGenerationAlgorithm != "AUTOMATIC" or not item.ROIName.startswith("AI ") for item in regions):
        raise StudyError(_CODE, check="generation")
    numbers = [item.ROINumber for item in regions]
    outlines = [item.ReferencedROINumber for item in structures.ROIContourSequence]
    observed = [item.ReferencedROINumber for item in structures.RTROIObservationsSequence]
    if len(set(numbers)) != len(numbers) or numbers != outlines or numbers != observed:
        raise StudyError(_CODE, check="regions")


def _prove_space(structures: Dataset, frame_of_reference_uid: str) -> None:
    """There is one Frame of Reference, and it is the source's."""
    found = [str(item.FrameOfReferenceUID) for item in structures.ReferencedFrameOfReferenceSequence]
    named = {str(item.ReferencedFrameOfReferenceUID) for item in structures.StructureSetROISequence}
    if found != [frame_of_reference_uid] or named != {frame_of_reference_uid}:
        raise StudyError(_CODE, check="frame-of-reference")


def _prove_images(structures: Dataset, places: Mapping[_Place, int]) -> None:
    """The images that it lists are those of its source, each once."""
    (space,) = structures.ReferencedFrameOfReferenceSequence
    listed = [
        (str(image.ReferencedSOPClassUID), str(image.ReferencedSOPInstanceUID))
        for study in space.RTReferencedStudySequence
        for series in study.RTReferencedSeriesSequence
        for image in series.ContourImageSequence
    ]
    if len(set(listed)) != len(listed) or set(listed) != {place[:2] for place in places}:
        raise StudyError("result-reference-dangling", check="images")


def _place(header: Dataset, uids: Mapping[str, str]) -> _Place:
    name = str(header.SOPInstanceUID)
    return str(header.SOPClassUID), uids.get(name, name), int(header.get("ReferencedFrameNumber") or 0)


def _plane_of(item: Dataset, places: Mapping[_Place, int]) -> int:
    """Index of the plane on which an outline says that it lies."""
    images = item.ContourImageSequence
    image = images[0]
    frame = int(image.get("ReferencedFrameNumber") or 0)
    index = places.get((str(image.ReferencedSOPClassUID), str(image.ReferencedSOPInstanceUID), frame))
    if len(images) != 1 or index is None:
        raise StudyError("result-reference-dangling", check="contour")
    return index


def _on_plane(item: Dataset, series: SourceSeries, index: int) -> Points:
    """An outline in the pixels of its plane: (column, row), (0, 0) the centre of the first."""
    values = np.array(item.ContourData, dtype=np.float64)
    count = int(item.NumberOfContourPoints)
    if item.ContourGeometricType != "CLOSED_PLANAR" or count < 3 or len(values) != 3 * count:
        raise StudyError(_CODE, check="contour")
    header = series.headers[index]
    orientation = np.array([float(value) for value in header.ImageOrientationPatient]).reshape(2, 3)
    normal = np.cross(*orientation)
    offset = values.reshape(-1, 3) - positions([header])[0]
    if np.abs(offset @ normal).max() > _OFF_PLANE * np.linalg.norm(normal):
        raise StudyError("result-geometry-differs", check="plane")
    row_spacing, column_spacing = series.pixel_spacing
    steps = orientation * np.array([[column_spacing], [row_spacing]])
    return np.asarray(offset @ np.linalg.pinv(steps))


def enclosed(points: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose centres a closed polygon encloses, by the rule of even and odd.

    Parameters
    ----------
    points
        (column, row), where (0, 0) is the centre of the first pixel.
    shape
        Rows, columns.
    """
    rows, columns = shape
    ends = np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    first = np.clip(np.ceil(low), 0, rows).astype(int)
    counts = np.clip(np.ceil(high), 0, rows).astype(int) - first  # rows that an edge crosses, its upper end left out
    edges = np.repeat(np.arange(len(points)), counts)
    row = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    slope = (ends[edges, 0] - points[edges, 0]) / (ends[edges, 1] - points[edges, 1])
    crossing = points[edges, 0] + (row - points[edges, 1]) * slope
    column = np.clip(np.ceil(crossing), 0, columns).astype(int)  # the first pixel beyond the crossing
    toggles = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1)).reshape(rows, columns + 1)
    return np.asarray(np.cumsum(toggles[:, :-1], axis=1) % 2 == 1)
