"""Images of one series, read one after the other: what an image says as the one before did is not parsed again.

May live here: telling what two files have in common. What of a file is new is converted as in `reading`, and whatever is
not as simple as a slice after its neighbour goes that whole way.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicomnode.encoded.alike import Common, Element, copied
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

_DECIMAL: Final = rb" ?-?[0-9]{1,6}(?:\.[0-9]{1,6})? ?"
#: Values that pydicom converts without a fault or a warning (PS3.5 6.2): they may wait until somebody asks for them.
_SOUND: Final = {
    "UI": re.compile(rb"(?:0|[1-9][0-9]{0,62})(?:\.(?:0|[1-9][0-9]{0,62})){1,31}\0?"),
    "IS": re.compile(rb" ?-?[0-9]{1,9} ?"),
    "DS": re.compile(_DECIMAL + rb"(?:\\" + _DECIMAL + rb"){0,7}"),
}
_LONGEST_UID: Final = 65  # with its padding
#: What may hold more than a value.
_NESTED: Final = frozenset({"SQ", "UN"})


class _Part(NamedTuple):
    """An element of a file.

    Attributes
    ----------
    encoded
        Its bytes, header and value; of pixel data the header alone.
    value_at
        Where in them the value starts.
    length_at, length
        Where in them the value's length stands, and how.
    vr
        None: of the meta information.
    fixed
        Where it differs, the file has to be read anew.
    pixels
        Whether it is the pixel data, which is never compared.
    """

    encoded: bytes
    value_at: int
    length_at: int
    length: struct.Struct
    tag: BaseTag
    vr: str | None
    fixed: bool
    pixels: bool


class _Pattern:
    """What files of a series are compared with: the first of them, and where others have differed from it so far."""

    def __init__(self, parts: list[_Part], dataset: Dataset) -> None:
        self._parts = parts
        implicit, little = dataset.original_encoding
        self._implicit = implicit is True
        self._series: dict[BaseTag, Element] = {
            part.tag: copied(dataset[part.tag]) for part in parts if part.vr is not None and not part.pixels
        }
        self._moving = {index for index, part in enumerate(parts) if part.pixels}
        self._steps = self._planned()
        bare = Dataset({})
        bare.set_original_encoding(implicit, little, dataset.original_character_set)
        bare.file_meta = dataset.file_meta
        self._attributes: dict[str, Any] = bare.__dict__

    def read(self, data: bytes) -> tuple[Dataset, list[BaseTag]] | None:
        """A Data Set with the elements of the pattern, and what of it is to be converted; None where it has others."""
        found = self._match(data)
        if found is None and self._learn(data):
            found = self._match(data)
        if found is None:
            return None
        return self._dataset(found), [tag for tag, element in found.items() if self._is_urgent(element)]

    def _match(self, data: bytes) -> dict[BaseTag, Element] | None:
        """Elements that differ; None where something differs that has not before."""
        found: dict[BaseTag, Element] = {}
        at = 0
        for encoded, part in self._steps:
            if data.startswith(encoded, at) and (part is None or not part.pixels):
                at += len(encoded)
                continue
            end = None if part is None else _end(part, data, at)
            if part is None or end is None:
                return None
            if part.vr is not None:
                found[part.tag] = self._element(part, data, at + part.value_at, end)
            at = end
        return found if at == len(data) else None

    def _learn(self, data: bytes) -> bool:
        """Look element by element where a file differs; whether that is anywhere new, and the rest as before."""
        at = 0
        moving = set(self._moving)
        for index, part in enumerate(self._parts):
            if index not in moving and data.startswith(part.encoded, at):
                at += len(part.encoded)
                continue
            end = _end(part, data, at)
            if end is None:
                return False
            moving.add(index)
            at = end
        if at != len(data) or moving == self._moving:
            return False
        self._moving = moving
        self._steps = self._planned()
        return True

    def _planned(self) -> list[tuple[bytes, _Part | None]]:
        """Bytes that lie together and never differed, and each element that has."""
        steps: list[tuple[bytes, _Part | None]] = []
        for moves, numbers in groupby(range(len(self._parts)), key=self._moving.__contains__):
            parts = [self._parts[number] for number in numbers]
            steps += [(part.encoded, part) for part in parts] if moves else [(_joined(parts), None)]
        return steps

    def _element(self, part: _Part, data: bytes, start: int, end: int) -> Element:
        if part.pixels:
            return DataElement(part.tag, str(part.vr), memoryview(data)[start:end], already_converted=True)
        vr = None if self._implicit else part.encoded[4:6].decode("ascii")
        return RawDataElement(part.tag, vr, end - start, data[start:end], 0, self._implicit, True)

    def _is_urgent(self, element: Element) -> bool:
        """Whether a value has to be converted now, since that might fail or warn."""
        if isinstance(element, DataElement):
            return False
        series = self._series[element.tag]
        sound = None if element.tag.is_private else _SOUND.get(str(series.VR))
        value = element.value or b""
        return sound is None or not sound.fullmatch(value) or (series.VR == "UI" and len(value) > _LONGEST_UID)

    def _dataset(self, found: Mapping[BaseTag, Element]) -> Dataset:
        """A Data Set of its own over the series' elements and some others; in a tenth of the time of making one."""
        elements = Common(self._series)
        elements.update(found)
        made = Dataset.__new__(Dataset)
        attributes = made.__dict__
        for name, value in self._attributes.items():
            attributes[name] = value.copy() if type(value) is dict else value
        attributes["_dict"] = elements
        return made


class SeriesReader:
    """Reads images of one series.

    An element that differs from the image before is converted, one that does not is the series', and copied for whoever
    takes it out: equal to `read_part10` on every file alone. Native pixel data stays a view into the file's bytes.

    Parameters
    ----------
    limits
        Budgets of reading; what is shared was within them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._pattern: _Pattern | None = None

    def read(self, file: Buffer) -> Dataset:
        """A Data Set out of the bytes of a file; see `read_part10`.

        Raises
        ------
        StudyError
            ``object-too-complex`` or ``object-malformed``.
        """
        data = bytes(file)
        found = None if self._pattern is None else self._pattern.read(data)
        if found is not None:
            return _converted(*found, self._limits)
        dataset = read_part10(data, self._limits)
        parts = _parts(data, dataset, self._limits)
        self._pattern = None if parts is None else _Pattern(parts, dataset)
        return dataset


def _converted(dataset: Dataset, tags: list[BaseTag], limits: Limits) -> Dataset:
    try:
        with hushed():
            for tag in tags:
                convert(dataset, tag, limits)
    except Exception:  # noqa: BLE001 - as in `reading`: pydicom raises many kinds on a damaged value
        raise StudyError("object-malformed") from None
    return dataset


def _joined(parts: list[_Part]) -> bytes:
    return b"".join(part.encoded for part in parts)


def _end(part: _Part, data: bytes, at: int) -> int | None:
    """Where an element with the header of a part ends; None where there is none, or where it may not differ."""
    start = at + part.value_at
    if part.fixed or start > len(data) or not data.startswith(part.encoded[: part.length_at], at):
        return None
    end = start + int(part.length.unpack_from(data, at + part.length_at)[0])
    return end if end <= len(data) else None


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
    head = _Part(data[:_PREAMBLE], _PREAMBLE, 0, _LONG, Tag(0), None, True, False)
    return [head, *(_part(one, None) for one in meta), *(_part(one, dataset[one[0]]) for one in body)]


def _part(cut: tuple[BaseTag, bytes, int, bool], element: DataElement | None) -> _Part:
    tag, encoded, value_at, implicit = cut
    long = value_at == 12
    unknown = not implicit and encoded[4:6] == b"UN"
    return _Part(
        encoded=encoded[:value_at] if tag == _PIXEL_DATA else encoded,
        pixels=tag == _PIXEL_DATA,
        value_at=value_at,
        length_at=8 if long else 4 if implicit else 6,
        length=_LONG if long or implicit else _SHORT,
        tag=tag,
        vr=None if element is None else element.VR,
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
