"""Whether an image shows a head, whose face can be drawn from it. Pure, by what the header says; its words are in `regions`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.deidentification import codes
from dicomnode.deidentification.nesting import items_of, own_encodings
from dicomnode.deidentification.regions import CODES, Region, region_of
from dicomnode.deidentification.values import ASCII, texts

_MODALITIES: Final = frozenset({"CT", "MR", "PT"})
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
#: X-Ray 3D Craniofacial Image Storage: there is nothing else in it.
_CRANIOFACIAL: Final = f"{_STORAGE}13.1.2"
#: Surface Scan Mesh and Point Cloud, which have no pixels.
_SCANNED_SURFACES: Final = frozenset({f"{_STORAGE}68.1", f"{_STORAGE}68.2"})
#: Scans, whatever their Modality: CT, MR, PET, their enhanced and converted forms, and X-Ray 3D.
_SCANS: Final = _SCANNED_SURFACES | frozenset(
    f"{_STORAGE}{last}"
    for last in ("2", "2.1", "2.2", "4", "4.1", "4.3", "4.4", "128", "128.1", "130", "13.1.1", "13.1.2")
)
#: Photographs and videos of people: VL Photographic, Dermoscopic.
_PHOTOGRAPHS: Final = frozenset(f"{_STORAGE}{last}" for last in ("77.1.4", "77.1.4.1", "77.1.7"))
#: Contours and masks, which may follow the skin.
_OUTLINES: Final = frozenset({"SEG", "RTSTRUCT", "M3D"})
#: Secondary Capture: screens of the same head, in whatever Modality.
_CAPTURES: Final = "1.2.840.10008.5.1.4.1.1.7"
#: What the series or the image says: body part, protocol, descriptions, comments.
_OWN: Final = (0x00180015, 0x0008103E, 0x00181030, 0x00189424, 0x00204000)
#: What the study and its request say, of this series or of another one.
_STUDY: Final = (0x00081030, 0x00400254, 0x00321060, 0x00400007, 0x00400280)
_COIL: Final = 0x00181250
TEXTS: Final = (*_OWN, *_STUDY, _COIL)
_OWN_CODES: Final = (0x00082218, 0x00082220, 0x00180012)
_STUDY_CODES: Final = (0x00081032, 0x00321064, 0x00400260, 0x00400008)
_REQUEST: Final = 0x00400275


class Head(IntEnum):
    """What a header says of a head, from the least to the most."""

    ELSEWHERE = 0
    UNSAID = 1
    STUDY = 2
    SERIES = 3


def look(dataset: Dataset) -> Head:
    """Whether an object shows a head by its header.

    Returns
    -------
    Head
        ``SERIES`` where body part, protocol, description or region say so; ``STUDY`` where the study alone does, or
        nothing but the coil or a technique;
        ``ELSEWHERE`` where they name other regions alone, or it is neither a scan (CT, MR, PET, X-Ray 3D, of a surface),
        nor a capture, a photograph or outlines (segmentation, contours) with a head named; ``UNSAID`` where nothing is
        named of a scan or a photograph.
    """
    if not _may_show_one(dataset):
        return Head.ELSEWHERE
    if _is_of(dataset, frozenset({_CRANIOFACIAL})):
        return Head.SERIES
    own = set(_said(dataset, _OWN, _OWN_CODES))
    if Region.HEAD in own:
        return Head.SERIES
    study = set(_said(dataset, _STUDY, _STUDY_CODES))
    for item in _items(dataset, _REQUEST):
        study.update(_said(item, _STUDY, _STUDY_CODES))
    if Region.HEAD in study:
        return Head.STUDY
    coiled = any(region_of(word) is Region.HEAD for word in _words(dataset, _COIL, "LO"))
    if Region.OTHER not in own | study and (coiled or Region.SUSPECTED in own | study):
        return Head.STUDY
    return Head.ELSEWHERE if not _is_scan(dataset) or Region.OTHER in own | study else Head.UNSAID


def shows_a_head(dataset: Dataset) -> bool:
    """Whether an object is an image of the head, or of a region that holds it, for what its header says."""
    return look(dataset) >= Head.STUDY and not outlines_a_body(dataset)


def outlines_a_body(dataset: Dataset) -> bool:
    """Whether an object may draw the surface of a body without showing it: contours, segmentations, surfaces."""
    return bool(_OUTLINES & set(_words(dataset, 0x00080060, "CS"))) and not _is_of(dataset, _SCANS | _PHOTOGRAPHS)


def _is_of(dataset: Dataset, classes: frozenset[str]) -> bool:
    return not classes.isdisjoint(_words(dataset, 0x00080016, "UI"))


def _is_scan(dataset: Dataset) -> bool:
    """Whether it is one by its class, or calls itself one."""
    return _is_of(dataset, _SCANS | _PHOTOGRAPHS) or bool(_MODALITIES & set(_words(dataset, 0x00080060, "CS")))


def _may_show_one(dataset: Dataset) -> bool:
    if outlines_a_body(dataset) or _is_of(dataset, _SCANNED_SURFACES):
        return True
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return False
    captured = any(f"{word}.".startswith(f"{_CAPTURES}.") for word in _words(dataset, 0x00080016, "UI"))
    return captured or _is_scan(dataset)


def _said(dataset: Dataset, tags: tuple[int, ...], sequences: tuple[int, ...]) -> Iterator[Region]:
    for tag in tags:
        for word in _words(dataset, tag, "LO"):
            yield region_of(word)
    for tag in sequences:
        for item in _items(dataset, tag):
            code = codes.read(item, own_encodings(item, own_encodings(dataset)))
            yield CODES.get(code.value, Region.UNSAID)
            for word in _words(item, 0x00080104, "LO"):
                yield region_of(word)


def _items(dataset: Dataset, tag: int) -> list[Dataset]:
    return (items_of(dataset, tag) or []) if tag in dataset else []


def _words(dataset: Dataset, tag: int, vr: str) -> list[str]:
    if tag not in dataset:
        return []
    return texts(dataset.get_item(tag), vr, own_encodings(dataset) if vr == "LO" else ASCII)
