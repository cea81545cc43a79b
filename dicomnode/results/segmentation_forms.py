"""A segmentation in the forms that few viewers want: FRACTIONAL and LABELMAP, made of the BINARY one (PS3.3 C.8.20).

May live here: what the forms differ in. Segments, planes and references are those of the BINARY object.
"""

from __future__ import annotations

from copy import copy
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.coding import dcm
from dicomnode.findings import Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.concepts import code_item
from dicomnode.results.context import ResultContext
from dicomnode.results.equipment import stamp
from dicomnode.results.segmentation import plane_indices, segment_numbers
from dicomnode.results.sources import SourceSeries
from dicomnode.study import ResultRole

_FULL: Final = 255
_BACKGROUND: Final = dcm("125040", "Background")
_SEGMENT_NUMBER: Final = 0x0062000B


def build(
    binary: Dataset,
    form: Form,
    labels: NDArray[np.uint8],
    *,
    series: SourceSeries,
    findings: Findings,
    context: ResultContext,
) -> Dataset:
    """The segmentation in another form; the BINARY one stays as it is.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns): what the BINARY object was made of.
    """
    dataset = Dataset()
    for element in binary:
        dataset.add(copy(element))  # an element of its own: what is set below is not the BINARY object's
    dataset.SOPClassUID = SOP_CLASSES[form]
    dataset.SegmentationType = form.name
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    numbers = segment_numbers(labels, findings.segments)
    planes = plane_indices(binary, series)
    if form is Form.LABELMAP:
        frames = _as_label_map(dataset, planes, labels, numbers)
    else:
        frames = _as_fractions(dataset, planes, labels, numbers)
    data = b"".join(frames)
    dataset.PixelData = data + b"\x00" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"
    stamp(dataset, ResultRole.SEGMENTATION, findings.algorithm, context)
    return dataset


def _as_fractions(
    dataset: Dataset, planes: list[int], labels: NDArray[np.uint8], numbers: dict[int, int]
) -> list[bytes]:
    """Occupancy: a voxel lies wholly inside or wholly outside (C.8.20.2.2)."""
    dataset.SegmentationFractionalType = "OCCUPANCY"
    dataset.MaximumFractionalValue = _FULL
    values = {number: value for value, number in numbers.items()}
    return [
        np.where(labels[plane] == values[_number(group)], np.uint8(_FULL), np.uint8(0)).tobytes()
        for plane, group in zip(planes, dataset.PerFrameFunctionalGroupsSequence, strict=True)
    ]


def _as_label_map(
    dataset: Dataset, planes: list[int], labels: NDArray[np.uint8], numbers: dict[int, int]
) -> list[bytes]:
    """One frame for each plane; its values are Segment Numbers, 0 the background, which is described, too."""
    first: dict[int, Dataset] = {}
    for plane, group in zip(planes, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        first.setdefault(plane, group)
    places = list(dict.fromkeys(planes))
    dimensions = dataset.DimensionIndexSequence
    kept = [index for index, item in enumerate(dimensions) if item.DimensionIndexPointer != _SEGMENT_NUMBER]
    dataset.DimensionIndexSequence = [dimensions[index] for index in kept]
    dataset.PerFrameFunctionalGroupsSequence = [_plane_group(first[place], kept) for place in places]
    dataset.NumberOfFrames = len(places)
    dataset.PixelPaddingValue = 0
    dataset.SegmentSequence = [_background(dataset), *dataset.SegmentSequence]
    table = np.zeros(256, np.uint8)
    for value, number in numbers.items():
        table[value] = number
    return [table[labels[place]].tobytes() for place in places]


def _number(group: Dataset) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _plane_group(group: Dataset, kept: list[int]) -> Dataset:
    plane = Dataset()
    for element in group:
        if element.keyword not in ("SegmentIdentificationSequence", "FrameContentSequence"):
            plane.add(element)
    values = group.FrameContentSequence[0].DimensionIndexValues
    values = [values] if isinstance(values, int) else list(values)
    content = Dataset()
    content.DimensionIndexValues = [values[index] for index in kept]
    plane.FrameContentSequence = [content]
    return plane


def _background(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentAlgorithmType = dataset.SegmentSequence[0].SegmentAlgorithmType
    item.SegmentAlgorithmName = dataset.SegmentSequence[0].SegmentAlgorithmName
    item.SegmentedPropertyCategoryCodeSequence = [code_item(_BACKGROUND)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(_BACKGROUND)]
    item.RecommendedDisplayCIELabValue = [0, 32896, 32896]
    return item
