"""Kinds of objects by SOP Class: images that show what a machine measured, images that may show text, documents, others.

Pure tables (PS3.4 B.5, PS3.6 A), and what an image says of its pixels.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import lru_cache
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.dataset import Dataset

_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."


class Kind(Enum):
    """What an object is to de-identification."""

    ORDINARY = auto()
    TEXT_PRONE = auto()
    ULTRASOUND = auto()
    SLIDE = auto()
    DOCUMENT = auto()
    UNSUPPORTED = auto()


_TABLE: Final = {
    # Secondary Capture, single and multi-frame: screens, scanned paper.
    **dict.fromkeys(("7", "7.1", "7.2", "7.3", "7.4"), Kind.TEXT_PRONE),
    # Visible light: endoscopy, microscopy, photography and their videos.
    **dict.fromkeys(
        ("77.1.1", "77.1.1.1", "77.1.2", "77.1.2.1", "77.1.3", "77.1.4", "77.1.4.1", "77.1", "77.2"), Kind.TEXT_PRONE
    ),
    **dict.fromkeys(("77.1.7", "77.1.8"), Kind.TEXT_PRONE),
    "77.1.6": Kind.SLIDE,
    **dict.fromkeys(("3", "3.1", "6", "6.1"), Kind.ULTRASOUND),
    # Encapsulated PDF, CDA, STL, OBJ, MTL.
    **dict.fromkeys(("104.1", "104.2", "104.3", "104.4", "104.5"), Kind.DOCUMENT),
    # Raw data, voices, standalone curves, overlays and tables.
    **dict.fromkeys(("66", "9.4.1", "9.4.2", "8", "9", "10", "11"), Kind.UNSUPPORTED),
    "201.1": Kind.UNSUPPORTED,
    "200.2": Kind.UNSUPPORTED,
}

#: Stored print and hardcopies, which stand under the root of print management.
_PRINTS: Final = frozenset(f"1.2.840.10008.5.1.1.{last}" for last in ("27", "29", "30"))
#: Storage of editions after the dictionary's: Label Map and Height Map Segmentation.
_NEWER: Final = frozenset({"66.7", "66.8"})


#: Modality (0008,0060) of projections and photographs, where markers and labels are burned in without a flag.
PROJECTIONS: Final = frozenset(
    [
        "CR",
        "DX",
        "MG",
        "RF",
        "XA",
        "IO",
        "PX",
        "NM",
        "OT",
        "RG",
        "DG",
        "OP",
        "OPT",
        "XC",
        "ES",
        "GM",
        "DF",
        "RTIMAGE",
        "BMD",
        "TG",
    ]
)


#: Ophthalmic photographs: colour is natural in them.
PHOTOGRAPHS: Final = frozenset(f"{_STORAGE}{last}" for last in ("77.1.5.1", "77.1.5.2", "77.1.5.3"))
#: SOP Classes of projections: CR, DX, MG, IO, XA, RF, NM, photographs, RT images.
PROJECTED: Final = PHOTOGRAPHS | frozenset(
    f"{_STORAGE}{last}"
    for last in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1", "12.1", "12.1.1", "12.2", "12.2.1", "12.3", "20",
        "481.1",
    )
)  # fmt: skip

#: Slices of CT, MR and PET, an object each.
SLICES: Final = frozenset(f"{_STORAGE}{last}" for last in ("2", "4", "128"))
#: Segmentation and Label Map Segmentation: masks, of one bit or of a few values.
MASKS: Final = frozenset(f"{_STORAGE}{last}" for last in ("66.4", "66.7"))


@lru_cache(1024)
def kind_of(sop_class_uid: str) -> Kind:
    """Kind of an object; a SOP Class that PS3.6 does not register as storage is not supported."""
    short = sop_class_uid.removeprefix(_STORAGE)
    if short in _TABLE and short != sop_class_uid:
        return _TABLE[short]
    if short in _NEWER:
        return Kind.ORDINARY
    entry = UID_dictionary.get(sop_class_uid)
    if (
        sop_class_uid in _PRINTS
        or entry is None
        or entry[1] != "SOP Class"
        or "Storage" not in entry[0]
        or "Commitment" in entry[0]
    ):
        return Kind.UNSUPPORTED
    if "Media Storage" in entry[0] or "Raw Data" in entry[0] or "Audio" in entry[0] or "Inventory" in entry[0]:
        return Kind.UNSUPPORTED
    return Kind.ORDINARY


#: Images whose class does not say so in its name: maps, segmentations, volumes of ultrasound. RT Dose may be without.
_IMAGES: Final = frozenset(
    f"{_STORAGE}{last}"
    for last in ("30", "66.4", "66.7", "66.8", "6.2", "77.1.5.8", "81.1", "82.1", "501.4", "501.5", "501.6")
)
#: Type 1 for all images, whatever their pixels are (PS3.3 C.7.6.3.1, C.7.6.24, C.7.6.25).
_DESCRIPTION: Final = (0x00280002, 0x00280004, 0x00280010, 0x00280011, 0x00280100)


def is_image(sop_class_uid: str) -> bool:
    """Whether objects of a SOP Class have pixels by their definition (PS3.3 A)."""
    name = UID_dictionary.get(sop_class_uid, ("",))[0]
    return sop_class_uid in _IMAGES or "Image Storage" in name


def lacks_description(dataset: Dataset) -> bool:
    """Whether an image without pixels does not even say which it had: its end is missing; a header alone would.

    An image has its pixels or says where they are (`lacks_pixels`), and describes them either way. What was cut off
    behind the description looks like a header that somebody stored alone.
    """
    return _is_of_images(dataset) and not all(tag in dataset for tag in _DESCRIPTION)


def lacks_pixels(dataset: Dataset) -> bool:
    """Whether an object without pixel data is an image that does not say either where its pixels are.

    Pixel Data Provider URL (0028,7FE0) does, of the JPIP transfer syntaxes (PS3.3 C.7.6.3.1.1).
    """
    return _is_of_images(dataset) and not dataset.get("PixelDataProviderURL")


def _is_of_images(dataset: Dataset) -> bool:
    sop_class = dataset.get("SOPClassUID")
    return isinstance(sop_class, str) and is_image(sop_class)
