"""Truth before sending, of a report: its bytes are read again, and what stands there a thousand times is read once.

May live here: reading alone. The Data Set that comes out is proved by `checks` like any other; two of its items that are
the same bytes are one object, which is looked at once.
"""

from __future__ import annotations

import struct
from typing import Final

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.results import checks
from dicomnode.results.content import CONTENT_SEQUENCE
from dicomnode.results.elements import LONG

_ITEM: Final = struct.Struct("<HHI")
_HEAD: Final = struct.Struct("<HH2sH")
_LENGTH: Final = struct.Struct("<I")
_DEEPEST: Final = 32
_WRONG: Final = (ValueError, TypeError, LookupError, OSError, NotImplementedError, struct.error)


def decode_report(encoded: bytes) -> Dataset:
    """Decode a report of our own (Explicit VR Little Endian) without trusting anything but its bytes.

    Raises
    ------
    StudyError
        ``result-invalid`` if the bytes are no Data Set, or an element of the content has another VR than PS3.6 gives it.
    """
    try:
        start, end = _content(encoded)
        dataset = checks.decode(encoded[:start] + encoded[end:])
        with hushed():
            reader = _Reader(convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6"))
            dataset.add(reader.element(encoded[start:end], 0))
    except _WRONG:
        raise StudyError("result-invalid", check="decode") from None
    return dataset


def _content(encoded: bytes) -> tuple[int, int]:
    """Where Content Sequence begins and ends."""
    at = 0
    while at < len(encoded):
        tag, _, _, end = _header(encoded, at)
        if tag == CONTENT_SEQUENCE:
            return at, end
        at = end
    raise ValueError("no content")


def _header(data: bytes, at: int) -> tuple[int, bytes, int, int]:
    """Tag and VR of an element, and where its value begins and ends."""
    group, number, vr, length = _HEAD.unpack_from(data, at)
    start = at + 8
    if vr in LONG:
        (length,) = _LENGTH.unpack_from(data, start)
        start += 4
    if start + length > len(data):
        raise ValueError("beyond the end")
    return group << 16 | number, vr, start, start + length


class _Reader:
    """Reads elements, the same bytes once."""

    def __init__(self, encodings: list[str]) -> None:
        self._encodings = encodings
        self._elements: dict[bytes, DataElement] = {}
        self._items: dict[bytes, Dataset] = {}

    def element(self, whole: bytes, depth: int) -> DataElement:
        """An element out of its bytes."""
        found = self._elements.get(whole)
        if found is None:
            found = self._elements[whole] = self._element(whole, depth)
        return found

    def _element(self, whole: bytes, depth: int) -> DataElement:
        number, vr, start, _ = _header(whole, 0)
        tag, name = BaseTag(number), vr.decode("ascii")
        if name not in dictionary_VR(tag):
            raise ValueError("another VR")
        value = whole[start:]
        if name == "SQ":
            return DataElement(tag, name, Sequence(self._sequence(value, depth)))
        raw = RawDataElement(tag, name, len(value), value, 0, False, True)
        return convert_raw_data_element(raw, encoding=self._encodings)

    def _sequence(self, value: bytes, depth: int) -> list[Dataset]:
        if depth >= _DEEPEST:
            raise ValueError("too deep")
        items, at = [], 0
        while at < len(value):
            group, number, length = _ITEM.unpack_from(value, at)
            at += _ITEM.size
            if (group, number) != (0xFFFE, 0xE000) or at + length > len(value):
                raise ValueError("no item")
            items.append(self._item(value[at : at + length], depth + 1))
            at += length
        return items

    def _item(self, data: bytes, depth: int) -> Dataset:
        found = self._items.get(data)
        if found is None:
            found = self._items[data] = Dataset()
            at, last = 0, -1
            while at < len(data):
                tag, _, _, end = _header(data, at)
                if tag <= last:
                    raise ValueError("out of order")
                found.add(self.element(data[at:end], depth))
                at, last = end, tag
        return found
