"""The image library of the report: what the slices are that its regions lie on (TID 1600, 1602, 1604).

May live here: library entries out of bare source headers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from highdicom.sr import ImageLibraryEntryDescriptors
from pydicom.dataset import Dataset

from dicomnode.coding import CodedConcept, dcm, ucum
from dicomnode.results import content
from dicomnode.results.content import Item, Reference
from dicomnode.results.report_groups import SOURCE

_LIBRARY: Final = dcm("111028", "Image Library")
_GROUP: Final = dcm("126200", "Image Library Group")
_MODALITY: Final = dcm("121139", "Modality")
_FRAME_OF_REFERENCE: Final = dcm("112227", "Frame of Reference UID")
_ROWS: Final = dcm("110910", "Pixel Data Rows")
_COLUMNS: Final = dcm("110911", "Pixel Data Columns")
_PIXELS: Final = ucum("{pixels}", "Pixels")
_RATIO: Final = ucum("{-1:1}")
_MILLIMETRE: Final = ucum("mm")
_ACQUISITION: Final = "HAS ACQ CONTEXT"
#: Modalities whose entries say where the slice lies (TID 1604).
_CROSS_SECTIONAL: Final = frozenset({"CT", "MR", "PT"})
_SPACING: Final = (dcm("111066", "Vertical Pixel Spacing"), dcm("111026", "Horizontal Pixel Spacing"))
_THICKNESS: Final = dcm("112225", "Slice Thickness")
_POSITION: Final = tuple(
    dcm(str(110901 + index), f"Image Position (Patient) {axis}") for index, axis in enumerate("XYZ")
)
_ORIENTATION: Final = tuple(
    dcm(str(110904 + index), f"Image Orientation (Patient) {line} {axis}")
    for index, (line, axis) in enumerate((line, axis) for line in ("Row", "Column") for axis in "XYZ")
)


def entries(images: Sequence[Dataset]) -> tuple[Item, ...]:
    """Image Library container; none of no images."""
    if not images:
        return ()
    groups: dict[tuple[CodedConcept, str], list[Item]] = {}
    for header in images:
        key = modality_of(str(header.SOPClassUID)), str(header.get("FrameOfReferenceUID") or "")
        reference = Reference(str(header.SOPClassUID), str(header.SOPInstanceUID))
        entry = content.image(SOURCE, reference, "CONTAINS", *_descriptors(header))
        groups.setdefault(key, []).append(entry)
    return (content.container(_LIBRARY, [content.container(_GROUP, items) for items in groups.values()]),)


def _descriptors(header: Dataset) -> Iterator[Item]:
    yield content.code(_MODALITY, modality_of(str(header.SOPClassUID)), _ACQUISITION)
    if "FrameOfReferenceUID" in header:
        yield content.uid_reference(_FRAME_OF_REFERENCE, str(header.FrameOfReferenceUID), _ACQUISITION)
    yield content.numeric(_ROWS, int(header.Rows), _PIXELS, _ACQUISITION)
    yield content.numeric(_COLUMNS, int(header.Columns), _PIXELS, _ACQUISITION)
    if header.Modality not in _CROSS_SECTIONAL:
        return
    spacing = header.PixelSpacing
    yield _length(_SPACING[1], spacing[1])
    yield _length(_SPACING[0], spacing[0])
    yield _length(_THICKNESS, header.SliceThickness)
    for concept, value in zip(_POSITION, header.ImagePositionPatient, strict=True):
        yield _length(concept, value)
    for concept, value in zip(_ORIENTATION, header.ImageOrientationPatient, strict=True):
        yield content.numeric(concept, value, _RATIO, _ACQUISITION)


def _length(concept: CodedConcept, value: Any) -> Item:
    return content.numeric(concept, value, _MILLIMETRE, _ACQUISITION)


@lru_cache(256)
def modality_of(sop_class_uid: str) -> CodedConcept:
    """Acquisition modality of a kind of image (CID 29), by the library's table."""
    image = Dataset()
    image.SOPClassUID = sop_class_uid
    image.SOPInstanceUID = "2.25.1"
    image.Modality = "OT"
    image.Rows = image.Columns = 1
    item = ImageLibraryEntryDescriptors(image)[0].ConceptCodeSequence[0]
    return CodedConcept(str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))
