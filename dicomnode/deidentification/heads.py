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
#: The same by SOP Class, whatever Modality says: CT, MR, PET, and cone beams (X-Ray 3D Angiographic and Craniofacial).
_SCANS: Final = frozenset(
    f"{_STORAGE}{last}"
    for last in ("2", "2.1", "2.2", "4", "4.1", "4.2", "4.3", "4.4", "128", "128.1", "130", "13.1.1", "13.1.2")
)
#: X-Ray 3D Craniofacial: a head, whatever the words say.
_CRANIOFACIAL: Final = f"{_STORAGE}13.1.2"
#: Contours, masks and dose, which may follow the skin.
_OUTLINES: Final = frozenset({"SEG", "RTSTRUCT", "RTDOSE", "M3D"})
_OUTLINE_CLASSES: Final = frozenset(f"{_STORAGE}{last}" for last in ("66.4", "66.5", "66.7", "481.2", "481.3"))
#: What shows the outside of a body: photographs (VL, dermoscopy), scans of surfaces, which have no pixels.
_OUTSIDE: Final = frozenset({"XC", "DMS", "SMR"})
_SURFACES: Final = frozenset(f"{_STORAGE}{last}" for last in ("68.1", "68.2"))
_OUTSIDE_CLASSES: Final = _SURFACES | {f"{_STORAGE}{last}" for last in ("77.1.4", "77.1.4.1", "77.1.7")}
#: What shows a head where one is named: Secondary Capture (screens), parametric maps, in whatever Modality.
_CAPTURES: Final = frozenset(f"{_STORAGE}{last}" for last in ("7", "7.1", "7.2", "7.3", "7.4", "30"))
#: Nuclear medicine is a volume where it is reconstructed; else a projection.
_NUCLEAR: Final = f"{_STORAGE}20"
_RECONSTRUCTED: Final = frozenset({"RECON TOMO", "RECON GATED TOMO"})
#: What the series or the image says: body part, protocol, descriptions, comments.
_OWN: Final = (0x00180015, 0x0008103E, 0x00181030, 0x00189424, 0x00204000)
#: What the study and its request say, of this series or of another one.
_STUDY: Final = (0x00081030, 0x00400254, 0x00321060, 0x00400007, 0x00400280)
_COIL: Final = 0x00181250
_IMAGE_TYPE: Final = 0x00080008
_SOP_CLASS: Final = 0x00080016
_MODALITY: Final = 0x00080060
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
        ``ELSEWHERE`` where they name other regions alone, or it is neither a scan (CT, MR, PET, cone beam), nor a
        photograph or scan of a surface, nor a capture, map or outlines (segmentation, contours, dose) with a head named;
        ``UNSAID`` where nothing is named of a scan, a photograph or a surface.

    Notes
    -----
    SOP Class and Modality are asked both, since either may be wrong or missing.
    """
    if not _may_show_one(dataset):
        return Head.ELSEWHERE
    if _CRANIOFACIAL in _words(dataset, _SOP_CLASS, "UI"):
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
    asked = _is_scan(dataset) or _shows_the_outside(dataset)
    return Head.ELSEWHERE if not asked or Region.OTHER in own | study else Head.UNSAID


def shows_a_head(dataset: Dataset) -> bool:
    """Whether an object is an image of the head, or of a region that holds it, for what its header says.

    A photograph, or a scan of a surface, of a region that nobody names is one: its face needs no reconstruction.
    """
    least = Head.UNSAID if _shows_the_outside(dataset) else Head.STUDY
    return look(dataset) >= least and not outlines_a_body(dataset)


def outlines_a_body(dataset: Dataset) -> bool:
    """Whether an object may draw the surface of a body without showing it: contours, segmentations, surfaces."""
    return _is(dataset, _OUTLINES, _OUTLINE_CLASSES) and _SCANS.isdisjoint(_words(dataset, _SOP_CLASS, "UI"))


def _is_scan(dataset: Dataset) -> bool:
    return _is(dataset, _MODALITIES, _SCANS)


def _shows_the_outside(dataset: Dataset) -> bool:
    return _is(dataset, _OUTSIDE, _OUTSIDE_CLASSES)


def _is(dataset: Dataset, modalities: frozenset[str], classes: frozenset[str]) -> bool:
    """Whether Modality or SOP Class is one of these."""
    said = _words(dataset, _MODALITY, "CS")
    return not modalities.isdisjoint(said) or not classes.isdisjoint(_words(dataset, _SOP_CLASS, "UI"))


def _may_show_one(dataset: Dataset) -> bool:
    classes = set(_words(dataset, _SOP_CLASS, "UI"))
    if outlines_a_body(dataset) or classes & _SURFACES:
        return True
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return False
    if _NUCLEAR in classes:
        return not _RECONSTRUCTED.isdisjoint(_words(dataset, _IMAGE_TYPE, "CS"))
    return bool(classes & _CAPTURES) or _is_scan(dataset) or _shows_the_outside(dataset)


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
