"""Content items (PS3.3 C.17.3.2, 10.2) by their concept: the rows of PS3.15 Table E.3.4-1. Pure.

Text and names are treated one by one (treat); UIDs and references to objects become pseudonyms as everywhere, so that
they still resolve. Dates, numbers, codes and containers that the table takes out say nothing here. The item itself stays:
other items refer to it by its place (C.17.3.2.5).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes, profile
from dicomnode.deidentification.nesting import Node, items_of

TEXTS: Final = MappingProxyType({0x0040A160: "TEXT", 0x0040A123: "PNAME"})
#: Dates stay where an option lets dates stay at all, by their own treatment; a date of birth is none of these.
DATES: Final = MappingProxyType({0x0040A120: "DATETIME", 0x0040A121: "DATE", 0x0040A122: "TIME"})
_MEASURED_VALUES: Final = 0x0040A300
_CONCEPT_CODE: Final = 0x0040A168
#: Value Type by the attribute of the value; of a container, by what it contains.
_OTHERS: Final = MappingProxyType(
    {
        **dict.fromkeys((_MEASURED_VALUES, 0x0040A30A, 0x0040A161, 0x0040A162, 0x0040A163), "NUM"),
        _CONCEPT_CODE: "CODE",
        0x0040A730: "CONTAINER",
    }
)
_CONCEPT_NAME: Final = 0x0040A043
_UNKNOWN: Final = codes.Code("261665006", "SCT", "Unknown")


def concept(node: Node) -> codes.Code:
    """Concept Name of a content item; empty where it has none."""
    items = items_of(node.dataset, _CONCEPT_NAME) if _CONCEPT_NAME in node.dataset else None
    return codes.read(items[0], node.encodings) if items else codes.Code("", "", "")


def row(node: Node, value_type: str) -> profile.Row | None:
    """Row of the table for a content item."""
    found = concept(node)
    return profile.content().get((found.scheme, found.value, value_type))


def is_dropped_date(node: Node, tag: int) -> bool:
    """Whether a date of a content item is no temporal information that may be shifted, such as a date of birth."""
    found = row(node, DATES[tag]) if tag in DATES else None
    return found is not None and "m" not in found.options


def is_dropped(node: Node, tag: int, letters: AbstractSet[str]) -> bool:
    """Whether the table takes out the value of a numeric item, a coded one or a container.

    Parameters
    ----------
    letters
        Options that apply: what one of them retains stays.
    """
    found = row(node, _OTHERS[tag]) if tag in _OTHERS else None
    return found is not None and letters.isdisjoint(letter.lower() for letter in found.options if letter.isupper())


def nothing(tag: BaseTag) -> DataElement | None:
    """What stands for a value that was taken out: no measured value (Type 2), an unknown code (Type 1C); else nothing."""
    if int(tag) == _MEASURED_VALUES:
        return DataElement(tag, "SQ", Sequence())
    if int(tag) != _CONCEPT_CODE:
        return None
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = _UNKNOWN
    return DataElement(tag, "SQ", Sequence([item]))
