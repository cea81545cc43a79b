"""Content items of a report as plain values, and their way into bytes (PS3.3 C.17.3, C.18; Explicit VR Little Endian).

May live here: the shape of a content item, and its encoding. What a report says stands in `report` and beside it. The
bytes are those that highdicom and pydicom give for the same items, in a fiftieth of the time: a report of a hundred
regions has some fifteen thousand Data Sets in it, most of them a code that was written before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import charset
from pydicom.dataset import Dataset
from pydicom.valuerep import DS

from dicomnode.coding import CodedConcept
from dicomnode.errors import StudyError
from dicomnode.results.elements import element, one_item

CONTENT_SEQUENCE: Final = 0x0040A730
_UTF_8: Final = ("utf-8",)


class Reference(NamedTuple):
    """Of an image (PS3.3 10.3), its frame or its segment."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None
    segment: int | None = None


class Number(NamedTuple):
    """Value of NUM: as a DS, as a double where it is no whole number of something, and its unit (C.18.1)."""

    text: str
    value: float | None
    unit: CodedConcept


class Coordinates(NamedTuple):
    """Value of SCOORD and SCOORD3D (C.18.6, C.18.9): graphic type, data as FL, Frame of Reference of the latter."""

    graphic_type: str
    data: bytes
    frame_of_reference_uid: str = ""


class Item(NamedTuple):
    """A content item.

    Attributes
    ----------
    value
        By value type: a text, a UID, a concept, `Number`, `Reference`, `Coordinates`; of a container its template or "".
    """

    relationship: str
    value_type: str
    name: CodedConcept
    value: Any
    children: tuple[Item, ...] = ()


def text(name: CodedConcept, value: str, relationship: str = "CONTAINS") -> Item:
    """TEXT."""
    return Item(relationship, "TEXT", name, value)


def code(name: CodedConcept, value: CodedConcept, relationship: str = "CONTAINS", *children: Item) -> Item:
    """CODE."""
    return Item(relationship, "CODE", name, value, children)


def uid_reference(name: CodedConcept, uid: str, relationship: str = "CONTAINS") -> Item:
    """UIDREF."""
    return Item(relationship, "UIDREF", name, uid)


def image(name: CodedConcept, reference: Reference, relationship: str = "CONTAINS", *children: Item) -> Item:
    """IMAGE."""
    return Item(relationship, "IMAGE", name, reference, children)


def container(name: CodedConcept, children: Iterable[Item], template: str = "") -> Item:
    """CONTAINER."""
    return Item("CONTAINS", "CONTAINER", name, template, tuple(children))


def numeric(
    name: CodedConcept, value: float, unit: CodedConcept, relationship: str = "CONTAINS", *children: Item
) -> Item:
    """NUM; a float stands there as a double, too."""
    written: Any = DS(value, auto_format=True)
    digits = str(getattr(written, "original_string", "") or written)
    exact = float(value) if isinstance(value, float) else None
    return Item(relationship, "NUM", name, Number(digits, exact, unit), children)


def coordinates(name: CodedConcept, graphic_type: str, points: NDArray[np.float64], source: Item) -> Item:
    """SCOORD: points as (column, row) on an image."""
    value = Coordinates(graphic_type, points.astype("<f4").tobytes())
    return Item("CONTAINS", "SCOORD", name, value, (source,))


def spatial_coordinates(
    name: CodedConcept, graphic_type: str, points: NDArray[np.float64], frame_of_reference_uid: str
) -> Item:
    """SCOORD3D: points as (x, y, z) in a Frame of Reference, mm."""
    value = Coordinates(graphic_type, points.astype("<f4").tobytes(), frame_of_reference_uid)
    return Item("CONTAINS", "SCOORD3D", name, value)


class Encoder:
    """Encodes content items, each code once.

    Parameters
    ----------
    uids
        Pseudonymous UID → original UID: the items are written with the originals.
    encodings
        Python's encodings of the Specific Character Set, as pydicom has them.
    """

    def __init__(self, uids: Mapping[str, str], encodings: Sequence[str] = _UTF_8) -> None:
        self._uids = uids
        self._encodings = list(encodings)
        self._codes: dict[CodedConcept, bytes] = {}
        self._texts: dict[tuple[str, str], bytes] = {}
        self._heads: dict[tuple[str, str, CodedConcept], bytes] = {}
        self._values: Mapping[str, Callable[[Any], tuple[bytes, bytes, bytes]]] = {
            "TEXT": self._text_value,
            "CODE": self._code_value,
            "UIDREF": self._uid_value,
            "IMAGE": self._image_value,
            "CONTAINER": self._container_value,
            "NUM": self._numeric_value,
            "SCOORD": self._coordinates_value,
            "SCOORD3D": self._coordinates_value,
        }

    @property
    def concepts(self) -> frozenset[CodedConcept]:
        """Every concept that was written."""
        return frozenset(self._codes)

    @property
    def texts(self) -> set[tuple[str, str]]:
        """(VR, value) of every text that was written and is not plain ASCII."""
        return {pair for pair in self._texts if not pair[1].isascii()}

    def sequence(self, items: Iterable[Item]) -> bytes:
        """Content Sequence (0040,A730) of items.

        Raises
        ------
        StudyError
            ``object-malformed`` if a value cannot be written.
        """
        return element(CONTENT_SEQUENCE, b"SQ", b"".join([self._item(one) for one in items]))

    def _item(self, item: Item) -> bytes:
        first, middle, last = self._values[item.value_type](item.value)
        nested = self.sequence(item.children) if item.children else b""
        return one_item(first, self._head(item), middle, nested, last)

    def _head(self, item: Item) -> bytes:
        key = item.relationship, item.value_type, item.name
        found = self._heads.get(key)
        if found is None:
            found = self._heads[key] = b"".join(
                (
                    element(0x0040A010, b"CS", item.relationship.encode("ascii")),
                    element(0x0040A040, b"CS", item.value_type.encode("ascii")),
                    self._code(0x0040A043, item.name),
                )
            )
        return found

    def _code(self, tag: int, concept: CodedConcept) -> bytes:
        """Code sequence (PS3.3 section 8.8)."""
        found = self._codes.get(concept)
        if found is None:
            found = self._codes[concept] = one_item(
                self._text(0x00080100, "SH", concept.value),
                self._text(0x00080102, "SH", concept.scheme),
                self._text(0x00080104, "LO", concept.meaning),
            )
        return element(tag, b"SQ", found)

    def _text(self, tag: int, vr: str, value: str) -> bytes:
        found = self._texts.get((vr, value))
        if found is None:
            try:
                found = value.encode("ascii") if value.isascii() else charset.encode_string(value, self._encodings)
            except (UnicodeError, LookupError, ValueError):
                raise StudyError("object-malformed") from None
            self._texts[vr, value] = found
        return element(tag, vr.encode("ascii"), found)

    def _uid(self, tag: int, uid: str) -> bytes:
        return element(tag, b"UI", self._uids.get(uid, uid).encode("ascii"))

    def _text_value(self, value: str) -> tuple[bytes, bytes, bytes]:
        return b"", self._text(0x0040A160, "UT", value), b""

    def _code_value(self, value: CodedConcept) -> tuple[bytes, bytes, bytes]:
        return b"", self._code(0x0040A168, value), b""

    def _uid_value(self, value: str) -> tuple[bytes, bytes, bytes]:
        return b"", self._uid(0x0040A124, value), b""

    def _container_value(self, template: str) -> tuple[bytes, bytes, bytes]:
        kept = element(0x0040A050, b"CS", b"CONTINUOUS")
        if template:
            source = element(0x00080105, b"CS", b"DCMR"), element(0x0040DB00, b"CS", template.encode("ascii"))
            kept += element(0x0040A504, b"SQ", one_item(*source))
        return b"", kept, b""

    def _image_value(self, value: Reference) -> tuple[bytes, bytes, bytes]:
        parts = [self._uid(0x00081150, value.sop_class_uid), self._uid(0x00081155, value.sop_instance_uid)]
        if value.frame is not None:
            parts.append(element(0x00081160, b"IS", str(value.frame).encode("ascii")))
        if value.segment is not None:
            parts.append(element(0x0062000B, b"US", struct.pack("<H", value.segment)))
        return element(0x00081199, b"SQ", one_item(*parts)), b"", b""

    def _numeric_value(self, value: Number) -> tuple[bytes, bytes, bytes]:
        exact = b"" if value.value is None else element(0x0040A161, b"FD", struct.pack("<d", value.value))
        digits = element(0x0040A30A, b"DS", value.text.encode("ascii"))
        measured = one_item(self._code(0x004008EA, value.unit), exact, digits)
        return b"", element(0x0040A300, b"SQ", measured), b""

    def _coordinates_value(self, value: Coordinates) -> tuple[bytes, bytes, bytes]:
        parts = [
            element(0x00700022, b"FL", value.data),
            element(0x00700023, b"CS", value.graphic_type.encode("ascii")),
        ]
        if value.frame_of_reference_uid:
            parts.append(self._uid(0x30060024, value.frame_of_reference_uid))
        return b"", b"", b"".join(parts)


def encodings_of(dataset: Dataset) -> list[str]:
    """Python's encodings of a Data Set's Specific Character Set."""
    found: list[str] = charset.convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6")
    return found
