"""The same SOP Instance UID again with other bytes: the same object encoded otherwise, or another one.

A pure comparison of two Data Sets (design section 4, "The same UID again").
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STR_VR

from dicomnode.encoded import Limits, read_dataset
from dicomnode.errors import StudyError


class Sameness(Enum):
    """How two objects with one UID relate."""

    SAME = "same"
    OTHER_HEADER = "other-header"
    OTHER_PIXELS = "other-pixels"


#: Attributes that tell how pixels are encoded, not what they are (PS3.3 C.7.6.3), and what senders rewrite.
_ENCODING: Final = frozenset(
    {
        "PixelData",
        "PlanarConfiguration",
        "DataSetTrailingPadding",
        "DerivationDescription",
        "DerivationCodeSequence",
        "LossyImageCompression",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
        "EncapsulatedPixelDataValueTotalLength",
    }
)
#: Pixels that are no whole numbers (PS3.3 C.7.6.24, C.7.6.25), which no transfer syntax compresses.
_FLOATS: Final = ("FloatPixelData", "DoubleFloatPixelData")
#: Photometric Interpretations (PS3.3 C.7.6.3.1.2) that a transcoding makes of each other; those of gray say what values mean.
_COLOURS: Final = frozenset(
    {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"}
)
_PHOTOMETRIC: Final = "PhotometricInterpretation"
#: Bytes of one value of VRs whose values stay bytes here, where they are not one (PS3.5 6.2).
_WORDS: Final = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
#: What the value of a sequence begins with in little endian (PS3.5 7.5).
_ITEM: Final = b"\xfe\xff\x00\xe0"
#: Where values whose VR was lost are read: a sequence that is one in any syntax, and a private element.
_SEQUENCE: Final = (0x0040, 0x0275)
_PLAIN: Final = (0x0009, 0x1001)
_IMPLICIT: Final = struct.Struct("<HHL").pack
_SHORT: Final = struct.Struct("<HH2sH").pack
_LONG: Final = struct.Struct("<HH2sHL").pack
#: They have passed those of the configuration, with the object around them.
_LIMITS: Final = Limits()


def compare(first: Dataset, second: Dataset, pixels: Callable[[Dataset], Any]) -> Sameness:
    """Relation of two objects that carry the same SOP Instance UID.

    Parameters
    ----------
    pixels
        Decodes the stored values of an image.
    """
    same_pixels = _same_pixels(first, second, pixels)
    if not same_pixels:
        return Sameness.OTHER_PIXELS
    return Sameness.OTHER_HEADER if headers_differ(first, second) else Sameness.SAME


def headers_differ(first: Dataset, second: Dataset) -> bool:
    """Whether two objects are not the same, whatever their pixels are."""
    return not _same_data_set(_part(first), _part(second))


def _same_pixels(first: Dataset, second: Dataset, pixels: Callable[[Dataset], Any]) -> bool:
    here, there = _part(first), _part(second)
    if not all(_same_floats(here, there, keyword) for keyword in _FLOATS):
        return False
    have = ["PixelData" in first, "PixelData" in second]
    if not all(have):
        return have[0] == have[1]
    if here.big_endian == there.big_endian and bytes(first.PixelData) == bytes(second.PixelData):
        return True
    try:
        return bool(np.array_equal(pixels(first), pixels(second)))
    except StudyError:
        return False  # what cannot be decoded cannot be shown to be the same


def _same_floats(here: _Part, there: _Part, keyword: str) -> bool:
    have = [keyword in here.dataset, keyword in there.dataset]
    if not all(have):
        return have[0] == have[1]
    return _little_endian(here.dataset[keyword], here) == _little_endian(there.dataset[keyword], there)


@dataclass(frozen=True, slots=True)
class _Part:
    """A Data Set or an item, with what it has of the Data Set around it (PS3.5 7.5.3): its character set, and its byte order."""

    dataset: Dataset
    character_set: tuple[str, ...]
    big_endian: bool

    def item(self, dataset: Dataset) -> _Part:
        own = _character_set(dataset) if "SpecificCharacterSet" in dataset else self.character_set
        return _Part(dataset, own, self.big_endian)


def _part(dataset: Dataset) -> _Part:
    meta = getattr(dataset, "file_meta", None)
    big_endian = meta is not None and meta.get("TransferSyntaxUID") == ExplicitVRBigEndian
    return _Part(dataset, _character_set(dataset), big_endian)


def _character_set(dataset: Dataset) -> tuple[str, ...]:
    value = dataset.get("SpecificCharacterSet") or ""
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _same_data_set(here: _Part, there: _Part) -> bool:
    first, second = _elements(here.dataset), _elements(there.dataset)
    if [one.tag for one in first] != [one.tag for one in second]:
        return False
    return all(_same_element(*pair, here, there) for pair in zip(first, second, strict=True))


def _elements(dataset: Dataset) -> list[DataElement]:
    return [element for element in dataset if element.tag.element != 0 and element.keyword not in _ENCODING]


def _same_element(one: DataElement, other: DataElement, here: _Part, there: _Part) -> bool:
    """Whether two elements say the same, also where the VR of one was lost on its way (PS3.5 6.2.2)."""
    if (
        one.keyword == _PHOTOMETRIC
        and _are_colours(one, other)
        and not _are_the_same_bytes(here.dataset, there.dataset)
    ):
        return True
    if one.is_empty or other.is_empty:
        return one.is_empty and other.is_empty
    are_bytes = [isinstance(element.value, bytes) for element in (one, other)]
    if all(are_bytes):
        return _same_bytes(one, other, here, there)
    if are_bytes[0]:
        return _same_element(other, one, there, here)
    if one.VR == "SQ":
        return _same_items(_items(one, here), _items(other, there))
    if are_bytes[1]:
        return _reads_as(one, other, there.character_set)
    return other.VR != "SQ" and str(one.value) == str(other.value)


def _are_colours(*elements: DataElement) -> bool:
    return all(str(element.value).strip() in _COLOURS for element in elements)


def _are_the_same_bytes(first: Dataset, second: Dataset) -> bool:
    """Whether pixels were not transcoded: then another Photometric Interpretation is a correction."""
    return bool(first.get("PixelData") == second.get("PixelData"))


def _same_bytes(one: DataElement, other: DataElement, here: _Part, there: _Part) -> bool:
    """Whether two values are the same bytes but for padding; of what may be numbers, only what makes its length even."""
    shorter, longer = sorted((_little_endian(one, here), _little_endian(other, there)), key=len)
    more = longer[len(shorter) :]
    if longer.startswith(shorter) and not more.strip(b"\0 "):
        return not more or "UN" not in (one.VR, other.VR) or (len(shorter) % 2 == 1 and len(more) == 1)
    return _same_items(_items(one, here), _items(other, there))


def _little_endian(element: DataElement, part: _Part) -> bytes:
    value = bytes(element.value)
    width = _WORDS.get(element.VR)
    if not part.big_endian or width is None or len(value) % width:
        return value
    return np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()


def _same_items(first: list[_Part] | None, second: list[_Part] | None) -> bool:
    if first is None or second is None or len(first) != len(second):
        return False
    return all(_same_data_set(*pair) for pair in zip(first, second, strict=True))


def _items(element: DataElement, part: _Part) -> list[_Part] | None:
    """Items of a sequence, also of one that came as UN, in Implicit VR Little Endian (PS3.5 6.2.2); None where it is none."""
    if element.VR == "SQ":
        return [part.item(item) for item in element.value]
    value = element.value
    if not isinstance(value, bytes) or not value.startswith(_ITEM):
        return None
    read = _read("SQ", value, part.character_set)
    inner = _Part(part.dataset, part.character_set, big_endian=False)
    return None if read is None or read.VR != "SQ" else [inner.item(item) for item in read.value]


def _reads_as(known: DataElement, unknown: DataElement, character_set: tuple[str, ...]) -> bool:
    """Whether the bytes of an element, whose VR was lost, say what the other does when they are read with its VR."""
    value = bytes(unknown.value)
    if isinstance(known.value, str) and known.VR in STR_VR and value.rstrip(b"\0 ") == known.value.encode("utf-8"):
        return True  # what most are
    read = _read(known.VR, value, character_set)
    return read is not None and not isinstance(read.value, bytes) and str(read.value) == str(known.value)


def _read(vr: str, value: bytes, character_set: tuple[str, ...]) -> DataElement | None:
    """The element that bytes are, little endian, when they are read with a VR; None where they cannot be."""
    known = "\\".join(character_set).encode("ascii", "replace")
    try:
        if vr == "SQ":
            encoded = _IMPLICIT(0x0008, 0x0005, len(known)) + known + _IMPLICIT(*_SEQUENCE, len(value)) + value
            return read_dataset(encoded, ImplicitVRLittleEndian, _LIMITS)[_SEQUENCE]
        head = (
            _LONG(*_PLAIN, vr.encode(), 0, len(value))
            if vr in EXPLICIT_VR_LENGTH_32
            else _SHORT(*_PLAIN, vr.encode(), len(value))
        )
        encoded = _SHORT(0x0008, 0x0005, b"CS", len(known)) + known + head + value
        return read_dataset(encoded, ExplicitVRLittleEndian, _LIMITS)[_PLAIN]
    except (StudyError, struct.error):  # it holds none, or is longer than its VR allows
        return None
