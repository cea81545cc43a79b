"""The segmentation object: BINARY, uncompressed, on the source's own planes (PS3.3 A.51, C.8.20).

May live here: building it from a label map. Identity is none of its business (see `identity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as SegmentationObject
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.coding import ANATOMICAL_STRUCTURE
from dicomnode.errors import StudyError
from dicomnode.findings import Algorithm, Findings, Segment
from dicomnode.imaging.census import Box, box_of, extent, slice_counts
from dicomnode.results.concepts import ARTIFICIAL_INTELLIGENCE, code_item, declare_private_scheme, sr_concept
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext, content_description, content_label
from dicomnode.results.equipment import inherit_lossy, stamp
from dicomnode.results.sources import SourceSeries, positions, read_sources
from dicomnode.study import ResultRole
from dicomnode.texts import Words

#: Frames of a segment that are packed together.
_TOGETHER: Final = 16
_PER_FRAME: Final = ("SegmentIdentificationSequence", "PlanePositionSequence", "DerivationImageSequence")
SEGMENTATION_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.66.4"


def segment_numbers(labels: NDArray[np.uint8], segments: Sequence[Segment]) -> dict[int, int]:
    """Value in the label map → Segment Number of the object, for the segments that have a voxel.

    Segment Numbers of a BINARY object run from 1 without a gap (C.8.20.2.3); a segment with no voxel is left out,
    since viewers stumble over segments without frames.

    Raises
    ------
    StudyError
        ``nothing-found`` if no segment has a voxel, ``result-invalid`` if the map holds a value that is not described.
    """
    return numbers_of(slice_counts(labels), segments)


def numbers_of(counted: NDArray[np.int64], segments: Sequence[Segment]) -> dict[int, int]:
    """`segment_numbers` of a label map whose voxels are counted already."""
    counts = counted.sum(axis=0)
    described = sorted(segment.number for segment in segments)
    if np.setdiff1d(np.flatnonzero(counts[1:]) + 1, described).size:
        raise StudyError("result-invalid", check="undescribed-label")
    present = [number for number in described if counts[number]]
    if not present:
        raise StudyError("nothing-found")
    return {number: index for index, number in enumerate(present, start=1)}


def build(
    labels: NDArray[np.uint8], sources: Sequence[Dataset] | SourceSeries, findings: Findings, context: ResultContext
) -> Dataset:
    """Segmentation object in the space of its sources.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns) on the source grid, in source order; 0 is background.
    sources
        Headers in source order; pixel data is not needed.

    Raises
    ------
    StudyError
        ``nothing-found``, ``geometry-attribute-missing``, or ``result-invalid`` if map and headers do not fit.
    """
    series = read_sources(sources)
    if labels.shape != series.shape or labels.dtype != np.uint8:
        raise StudyError("result-invalid", check="label-map-shape")
    numbers = segment_numbers(labels, findings.segments)
    dataset = _construct(_renumbered(labels, numbers), series, findings, numbers, context)
    _finish(dataset, series, findings, numbers, context)
    _write_frames(dataset, labels, series, numbers)
    return dataset


def _renumbered(labels: NDArray[np.uint8], numbers: Mapping[int, int]) -> NDArray[np.uint8]:
    if all(old == new for old, new in numbers.items()):
        return labels
    table = np.zeros(256, dtype=np.uint8)
    for old, new in numbers.items():
        table[old] = new
    return table[labels]


def _construct(
    labels: NDArray[np.uint8],
    series: SourceSeries,
    findings: Findings,
    numbers: Mapping[int, int],
    context: ResultContext,
) -> Dataset:
    role = ResultRole.SEGMENTATION
    dataset: Dataset = SegmentationObject(
        source_images=series.stand_ins(),
        pixel_array=labels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(segment, numbers[segment.number], findings.algorithm, context)
            for segment in sorted(findings.segments, key=lambda segment: segment.number)
            if segment.number in numbers
        ],
        series_instance_uid=context.series_uid(role),
        series_number=max(context.series_number(role), 1),
        sop_instance_uid=context.object_uid(role),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_versions[0],
        device_serial_number=context.device_uid,
        content_label=content_label(findings.algorithm),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        pixel_measures=_measures(series),
        omit_empty_frames=True,
        specific_character_set=None,
    )
    return dataset


def _measures(series: SourceSeries) -> PixelMeasuresSequence | None:
    """Pixel Measures (C.7.6.16.2.1); a distance between slices only where it is the same between all."""
    if not series.calibrated:
        return None
    return PixelMeasuresSequence(
        pixel_spacing=series.pixel_spacing,
        slice_thickness=series.slice_thickness,
        spacing_between_slices=(series.even and series.slice_spacing) or None,
    )


def _describe(segment: Segment, number: int, algorithm: Algorithm, context: ResultContext) -> Dataset:
    """Item of Segment Sequence (C.8.20.4): category, type with laterality, region, colour, algorithm, tracking."""
    item: Dataset = SegmentDescription(
        segment_number=number,
        segment_label=segment.label,
        segmented_property_category=sr_concept(segment.category),
        segmented_property_type=sr_concept(segment.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=_identify(algorithm),
        tracking_uid=context.tracking_uid((segment.number,)),
        tracking_id=segment.label,
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality is not None:
        modifier = code_item(segment.laterality)
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
    if segment.category == ANATOMICAL_STRUCTURE:
        region = code_item(segment.type)
        if segment.laterality is not None:
            region.AnatomicRegionModifierSequence = [code_item(segment.laterality)]
        item.AnatomicRegionSequence = [region]
    return item


def _identify(algorithm: Algorithm) -> AlgorithmIdentificationSequence:
    """Algorithm Identification Macro (PS3.3 10.16)."""
    return AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=sr_concept(ARTIFICIAL_INTELLIGENCE),
        version=algorithm.version,
        source=algorithm.manufacturer,
        parameters={"engine": algorithm.engine, "digest": algorithm.digest},
    )


def _write_frames(
    dataset: Dataset, labels: NDArray[np.uint8], series: SourceSeries, numbers: Mapping[int, int]
) -> None:
    """Write the frames ourselves: the library errs on tiny frames and on the padding."""
    values = {number: value for value, number in numbers.items()}
    planes = [(index, values[number]) for index, number in planes_of(dataset, series)]
    pixels = np.zeros(packed_length(len(planes), labels[0].size), np.uint8)
    pack(pixels, labels, planes, [box_of(plane) for plane in labels])
    dataset.PixelData = pixels.tobytes()


def planes_of(dataset: Dataset, series: SourceSeries) -> list[tuple[int, int]]:
    """Source plane and Segment Number of every frame, in the library's order."""
    planes = []
    for index, group in zip(plane_indices(dataset, series), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        planes.append((index, number))
    return planes


def packed_length(frames: int, size: int) -> int:
    """Bytes of so many frames of so many pixels, an even number."""
    length = -(-frames * size // 8)
    return length + length % 2


def pack(
    pixels: NDArray[np.uint8], labels: NDArray[np.uint8], planes: Sequence[tuple[int, int]], boxes: Sequence[Box]
) -> None:
    """Write frames bit by bit from the least significant (PS3.5 8.1.1); what is zero is not touched.

    Parameters
    ----------
    pixels
        Zeros, `packed_length` of them.
    planes
        Index in the label map and value there, of every frame.
    boxes
        Rows and columns of every slice that hold its labels: there is no need to look elsewhere.
    """
    size, columns = labels[0].size, labels.shape[2]
    if columns % 8 == 0:
        _pack_rows(pixels, labels, planes, boxes)
        return
    for start in range(0, len(planes), 8):  # eight frames fill whole bytes, whatever their size
        masks = [(labels[index] == value).ravel() for index, value in planes[start : start + 8]]
        bits = np.packbits(np.concatenate(masks), bitorder="little")
        first = start * size // 8
        pixels[first : first + len(bits)] = bits


def _pack_rows(
    pixels: NDArray[np.uint8], labels: NDArray[np.uint8], planes: Sequence[tuple[int, int]], boxes: Sequence[Box]
) -> None:
    """Frames whose rows are whole bytes: those of a segment some at a time, so that they stay in the cache."""
    width = labels.shape[2] // 8
    frames = pixels[: len(planes) * labels.shape[1] * width].reshape(len(planes), labels.shape[1], width)
    place = 0
    for value, group in groupby(planes, key=lambda plane: plane[1]):
        indices = [index for index, _ in group]
        for start in range(0, len(indices), _TOGETHER):
            some = indices[start : start + _TOGETHER]
            rows = _around([boxes[index][0] for index in some])
            columns = _around([boxes[index][1] for index in some])
            left, right = columns.start // 8, -(-columns.stop // 8)
            masks = labels[some, rows, left * 8 : right * 8] == value
            bits = np.packbits(masks.reshape(-1), bitorder="little").reshape(*masks.shape[:2], right - left)
            for frame, packed in zip(frames[place : place + len(some), rows, left:right], bits, strict=True):
                marked = extent(np.bitwise_or.reduce(packed, axis=1) != 0)
                frame[marked] = packed[marked]
            place += len(some)


def _around(spans: Sequence[slice]) -> slice:
    """From the first place of some spans to the last."""
    return slice(min(span.start for span in spans), max(span.stop for span in spans))


def plane_indices(dataset: Dataset, series: SourceSeries) -> list[int]:
    """For each frame of the object the index of its plane in source order."""
    groups = dataset.PerFrameFunctionalGroupsSequence
    if not series.in_space:
        return [0] * len(groups)
    places = positions(series.headers)
    at = [[float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient] for group in groups]
    return [int(np.abs(places - position).max(axis=1).argmin()) for position in np.array(at)]


def _spread(dataset: Dataset) -> None:
    """Groups that happen to be the same for all frames go to each frame, where every viewer looks for them."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for keyword in _PER_FRAME:
        if keyword in shared:
            for group in dataset.PerFrameFunctionalGroupsSequence:
                group.add(shared[keyword])
            delattr(shared, keyword)


def _finish(
    dataset: Dataset, series: SourceSeries, findings: Findings, numbers: Mapping[int, int], context: ResultContext
) -> None:
    """Put the node's own in place of what the library made up, and mend what it leaves out."""
    stamp(dataset, ResultRole.SEGMENTATION, findings.algorithm, context)
    inherit_lossy(dataset, series.lossy)
    if not series.in_space:  # type 2C of General Image
        dataset.PatientOrientation = series.headers[0].get("PatientOrientation") or ""
    dataset.SegmentsOverlap = "NO"
    dataset.ContentCreatorName = "dicomnode^AI"
    organization = context.mint("dimensions", ResultRole.SEGMENTATION.value)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    if "DimensionOrganizationType" in dataset:  # optional, and the library says it of objects with one segment alone
        del dataset.DimensionOrganizationType
    _spread(dataset)
    series.name_frames(dataset)
    describe(dataset, findings, numbers, context.words)


def describe(dataset: Dataset, findings: Findings, numbers: Mapping[int, int], words: Words) -> None:
    """Write what depends on which segments there are: Content Description, and the declaration of their codes."""
    names = ", ".join(segment.label for segment in findings.segments if segment.number in numbers)
    dataset.ContentDescription = content_description(names, findings.algorithm, words)
    if "CodingSchemeIdentificationSequence" in dataset:
        del dataset.CodingSchemeIdentificationSequence
    declare_private_scheme(dataset)
