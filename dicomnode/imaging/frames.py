"""Frames of multi-frame images as planes: each a header of its own, as a single-frame image would have it.

May live here: functional groups (PS3.3 C.7.6.16) turned into the attributes of a single-frame image. May not: geometry
of a stack, codecs. A plane keeps its image's SOP Instance UID and says which frame it is in Referenced Frame Number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from dicomnode.errors import StudyError

#: Functional group → attributes of a single-frame image that it holds.
_GROUPS: Final = (
    ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
    ("PlanePositionSequence", ("ImagePositionPatient",)),
    ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
    ("PixelValueTransformationSequence", ("RescaleSlope", "RescaleIntercept", "RescaleType")),
    ("FrameVOILUTSequence", ("WindowCenter", "WindowWidth")),
    ("CTReconstructionSequence", ("ConvolutionKernel",)),
    ("CTImageFrameTypeSequence", ()),
    ("MRImageFrameTypeSequence", ()),
)
_LEFT_OUT: Final = frozenset(
    {"SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "PixelData"}
)


def is_multi_frame(dataset: Dataset) -> bool:
    """Whether an image has functional groups: Enhanced and Legacy Converted images."""
    return "PerFrameFunctionalGroupsSequence" in dataset


def planes(datasets: Iterable[Dataset]) -> list[Dataset]:
    """Every plane of some images: multi-frame images frame by frame, others as they are.

    Raises
    ------
    StudyError
        ``geometry-attribute-missing`` if the functional groups do not fit the number of frames, ``pixel-missing`` if
        there are fewer pixels than frames.
    """
    return [
        plane for dataset in datasets for plane in (_frames(dataset) if is_multi_frame(dataset) else iter((dataset,)))
    ]


def _frames(dataset: Dataset) -> Iterator[Dataset]:
    groups = dataset.PerFrameFunctionalGroupsSequence
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    count = int(dataset.get("NumberOfFrames") or 0)
    if count != len(groups) or not count:
        raise StudyError("geometry-attribute-missing", attribute="NumberOfFrames")
    common = Dataset()
    for element in dataset:
        if element.keyword not in _LEFT_OUT:
            common.add(element)
    pixels = _pixels(dataset, count)
    for number, group in enumerate(groups, start=1):
        plane = Dataset()
        plane.update(common)
        for source in (shared[0], group):
            _take(plane, source)
        plane.ReferencedFrameNumber = number
        if pixels is not None:
            plane.PixelData = next(pixels)
            plane["PixelData"].VR = dataset["PixelData"].VR
        if hasattr(dataset, "file_meta"):
            plane.file_meta = dataset.file_meta
        yield plane


def _take(plane: Dataset, groups: Dataset) -> None:
    for sequence, keywords in _GROUPS:
        items: Any = groups.get(sequence)
        if not items:
            continue
        for keyword in keywords:
            if keyword in items[0]:
                plane.add(items[0][keyword])
        if "FrameType" in items[0]:
            plane.pop("ImageType", None)  # the element is shared by all planes
            plane.ImageType = items[0].FrameType


def _pixels(dataset: Dataset, count: int) -> Iterator[bytes] | None:
    if "PixelData" not in dataset:
        return None
    meta = getattr(dataset, "file_meta", None)
    syntax = UID(str(meta.TransferSyntaxUID)) if meta is not None and "TransferSyntaxUID" in meta else None
    data = dataset.PixelData
    if syntax is not None and syntax.is_compressed and syntax.is_encapsulated:
        return (encapsulate([frame]) for frame in generate_frames(data, number_of_frames=count))
    bits = int(dataset.BitsAllocated) * int(dataset.get("SamplesPerPixel") or 1)
    size = int(dataset.Rows) * int(dataset.Columns) * bits // 8
    if len(data) < size * count:
        raise StudyError("pixel-missing", frames=count)
    return (_even(bytes(data[size * index : size * (index + 1)])) for index in range(count))


def _even(data: bytes) -> bytes:
    return data + b"\x00" * (len(data) % 2)
