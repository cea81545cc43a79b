"""Truth before sending, of what says the same many times: its bytes are read again, what is there a thousand times once.

May live here: reading alone. The Data Set that comes out is proved by `checks` like any other; two of its items that are
the same bytes are one object, which is looked at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
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
from dicomnode.results.elements import head_of, items_of

_DEEPEST: Final = 32
_WRONG: Final = (ValueError, TypeError, LookupError, OSError, NotImplementedError)


def decode_report(encoded: bytes) -> Dataset:
    """Decode a report of our own (Explicit VR Little Endian) without trusting anything but its bytes.

    Raises
    ------
    StudyError
        ``result-invalid`` if the bytes are no Data Set, or an element of the content has another VR than PS3.6 gives it.
    """
    dataset = decode_alike(encoded, {CONTENT_SEQUENCE})
    if CONTENT_SEQUENCE not in dataset:
        raise StudyError("result-invalid", check="decode")
    return dataset


def decode_alike(encoded: bytes, tags: Collection[int]) -> Dataset:
    """Decode an object of our own, in which elements with some tags say many times the same.

    Raises
    ------
    StudyError
        ``result-invalid`` as of `decode_report`.
    """
    try:
        places = list(_places(encoded, tags))
        ends = [0, *(end for _, end in places)]
        rest = [encoded[begin:start] for begin, (start, _) in zip(ends, places, strict=False)]
        dataset = checks.decode(b"".join([*rest, encoded[ends[-1] :]]))
        with hushed():
            reader = _Reader(convert_encodings(dataset.get("SpecificCharacterSet") or "ISO_IR 6"))
            for start, end in places:
                dataset.add(reader.element(encoded[start:end], 0))
    except _WRONG:
        raise StudyError("result-invalid", check="decode") from None
    return dataset


def _places(encoded: bytes, tags: Collection[int]) -> Iterator[tuple[int, int]]:
    """Where elements with some tags begin and end."""
    at = 0
    while at < len(encoded):
        tag, _, _, end = head_of(encoded, at)
        if tag in tags:
            yield at, end
        at = end


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
        number, vr, start, _ = head_of(whole, 0)
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
        return [self._item(item, depth + 1) for item in items_of(value)]

    def _item(self, data: bytes, depth: int) -> Dataset:
        found = self._items.get(data)
        if found is None:
            found = self._items[data] = Dataset()
            at, last = 0, -1
            while at < len(data):
                tag, _, _, end = head_of(data, at)
                if tag <= last:
                    raise ValueError("out of order")
                found.add(self.element(data[at:end], depth))
                at, last = end, tag
        return found
