"""Images of one series, read one after the other: what an image says as the one before did is not parsed again.

May live here: telling what two files have in common. What of a file is new is converted as in `reading`, and whatever is
not as simple as a slice after its neighbour goes that whole way.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicomnode.encoded.quiet import hushed
from dicomnode.encoded.reading import EXPLICIT_LITTLE, IMPLICIT_LITTLE, convert, read_part10, split_part10
from dicomnode.encoded.walk import LONG_VRS, Buffer, Limits, Walk, layout_of
from dicomnode.errors import StudyError

_PREAMBLE: Final = 132  # and the prefix (PS3.10 7.1)
_TAG: Final = struct.Struct("<HH")
_SHORT: Final = struct.Struct("<H")
_LONG: Final = struct.Struct("<L")
_PIXEL_DATA: Final = Tag(0x7FE00010)
#: What decides how others are read: Transfer Syntax UID, Specific Character Set, Pixel Representation.
_DECIDING: Final = frozenset({0x00020010, 0x00080005, 0x00280103})

#: What may hold more than a value.
_NESTED: Final = frozenset({"SQ", "UN"})


class _Part(NamedTuple):
    """An element of a file.

    Attributes
    ----------
    encoded
        Its bytes, header and value.
    value_at
        Where in them the value starts.
    length_at, length
        Where in them the value's length stands, and how.
    element
        None: of the meta information.
    fixed
        Where it differs, the file has to be read anew.
    """

    encoded: bytes
    value_at: int
    length_at: int
    length: struct.Struct
    tag: BaseTag
    element: DataElement | None
    fixed: bool


class SeriesReader:
    """Reads images of one series.

    An element that differs from the image before is converted, one that does not is copied: equal to `read_part10` on
    every file alone. Native pixel data stays a view into the file's bytes.

    Parameters
    ----------
    limits
        Budgets of reading; what is copied was within them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._before: tuple[list[_Part], Dataset] | None = None

    def read(self, file: Buffer) -> Dataset:
        """A Data Set out of the bytes of a file; see `read_part10`.

        Raises
        ------
        StudyError
            ``object-too-complex`` or ``object-malformed``.
        """
        data = bytes(file)
        found = None if self._before is None else self._read_alike(data, *self._before)
        if found is None:
            found = read_part10(data, self._limits)
            parts = _parts(data, found, self._limits)
            self._before = None if parts is None else (parts, found)
        return found

    def _read_alike(self, data: bytes, parts: list[_Part], before: Dataset) -> Dataset | None:
        """A Data Set with the same elements as the one before; None where it has others."""
        found: dict[BaseTag, DataElement | RawDataElement] = {}
        changed = []
        at = 0
        for part in parts:
            if data.startswith(part.encoded, at):
                if part.element is not None:
                    found[part.tag] = _copied(part.element)
                at += len(part.encoded)
                continue
            start = at + part.value_at
            if part.fixed or start > len(data) or not data.startswith(part.encoded[: part.length_at], at):
                return None
            end = start + part.length.unpack_from(data, at + part.length_at)[0]
            if end > len(data):
                return None
            if part.tag == _PIXEL_DATA and part.element is not None:
                value = memoryview(data)[start:end]
                found[part.tag] = DataElement(part.tag, part.element.VR, value, already_converted=True)
            elif part.element is not None:
                found[part.tag] = _raw(part, data[start:end], before)
                changed.append(part.tag)
            at = end
        return _completed(found, changed, before, self._limits) if at == len(data) else None


def _copied(element: DataElement) -> DataElement:
    """An element of its own with the same value; what `copy.copy` does, in a third of the time."""
    made = DataElement.__new__(DataElement)
    made.__dict__.update(element.__dict__)
    return made


def _raw(part: _Part, value: bytes, before: Dataset) -> RawDataElement:
    implicit = before.original_encoding[0] is True
    vr = None if implicit else part.encoded[4:6].decode("ascii")
    return RawDataElement(part.tag, vr, len(value), value, 0, implicit, True)


def _completed(
    found: dict[BaseTag, DataElement | RawDataElement], changed: list[BaseTag], before: Dataset, limits: Limits
) -> Dataset:
    dataset = Dataset(found)
    implicit, little = before.original_encoding
    dataset.set_original_encoding(implicit, little, before.original_character_set)
    dataset.file_meta = before.file_meta
    try:
        with hushed():
            for tag in changed:
                convert(dataset, tag, limits)
    except Exception:  # noqa: BLE001 - as in `reading`: pydicom raises many kinds on a damaged value
        raise StudyError("object-malformed") from None
    return dataset


def _parts(data: bytes, dataset: Dataset, limits: Limits) -> list[_Part] | None:
    """Elements of a file that was read; None where it is none that others can be told from."""
    syntax, encoded = split_part10(data)
    start = len(data) - len(encoded)
    if start <= _PREAMBLE or data[_PREAMBLE - 4 : _PREAMBLE] != b"DICM":
        return None
    if syntax not in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        return None
    try:
        meta = _cut(data, _PREAMBLE, start, EXPLICIT_LITTLE, limits)
        body = _cut(data, start, len(data), syntax, limits)
    except StudyError:  # the reader does not mind everything in the meta information
        return None
    if any(one[0] not in dataset for one in body):  # padding that was left out
        return None
    head = _Part(data[:_PREAMBLE], _PREAMBLE, 0, _LONG, Tag(0), None, True)
    return [head, *(_part(one, None) for one in meta), *(_part(one, dataset[one[0]]) for one in body)]


def _part(cut: tuple[BaseTag, bytes, int, bool], element: DataElement | None) -> _Part:
    tag, encoded, value_at, implicit = cut
    long = value_at == 12
    unknown = not implicit and encoded[4:6] == b"UN"
    return _Part(
        encoded=encoded,
        value_at=value_at,
        length_at=8 if long else 4 if implicit else 6,
        length=_LONG if long or implicit else _SHORT,
        tag=tag,
        element=element,
        fixed=tag in _DECIDING or tag.is_private_creator or unknown or (element is not None and element.VR in _NESTED),
    )


def _cut(data: bytes, start: int, end: int, syntax: str, limits: Limits) -> list[tuple[BaseTag, bytes, int, bool]]:
    """Tag, bytes, place of the value in them, and whether there is no VR, of each top-level element."""
    walk = Walk(memoryview(data)[start:end], layout_of(syntax), limits)
    heads = []
    for element in walk.elements():
        at = start + element.start
        tag = _TAG.pack(element.tag >> 16, element.tag & 0xFFFF)
        long = not walk.implicit and data[at - 12 : at - 8] == tag and data[at - 8 : at - 6] in LONG_VRS
        heads.append((Tag(element.tag), at - (12 if long else 8), 12 if long else 8))
    ends = [at for _, at, _ in heads[1:]] + [end]
    return [(tag, data[at:stop], size, walk.implicit) for (tag, at, size), stop in zip(heads, ends, strict=True)]
