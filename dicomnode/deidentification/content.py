"""Content items (PS3.3 C.17.3.2, 10.2) by their concept: the rows of PS3.15 Table E.3.4-1. Pure.

Text and names are treated one by one (treat); UIDs and references to objects become pseudonyms as everywhere, so that
they still resolve. Dates, numbers, codes and containers that the table takes out say nothing here. The item itself stays:
other items refer to it by its place (C.17.3.2.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import cache
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
#: Forms of a value for which a row says the same: what is a name stays one where it is written as a text.
_FORMS: Final = MappingProxyType({"DATE": ("DATETIME",), "DATETIME": ("DATE",), "TEXT": ("PNAME",)})
#: Dates of birth that are no Subject Birth Date (DCM 121031), and what other schemes call them.
_BIRTHS: Final = frozenset({("ln", "21112-8"), ("sct", "184099003"), ("ncit", "c68615"), ("umls", "c0421451")})
_BIRTH: Final = re.compile(
    r"birth|\bborn\b|\bdob\b|geburt|geboren|geboorte|naissance|nacimiento|nascita|nascimento|f[öø]d(?:else|t)|рожд|生年|出生|생년",
    re.IGNORECASE,
)
_UNKNOWN: Final = codes.Code("261665006", "SCT", "Unknown")


def concept(node: Node) -> codes.Code:
    """Concept Name of a content item; empty where it has none."""
    items = items_of(node.dataset, _CONCEPT_NAME) if _CONCEPT_NAME in node.dataset else None
    return codes.read(items[0], node.encodings) if items else codes.Code("", "", "")


def row(node: Node, value_type: str) -> profile.Row | None:
    """Row of the table for a content item; of a concept that has its value in another form, the row of that form."""
    found = concept(node)
    name = found.scheme.casefold(), found.value.casefold()
    return next(
        (one for kind in (value_type, *_FORMS.get(value_type, ())) if (one := _rows().get((*name, kind)))), None
    )


@cache
def _rows() -> Mapping[tuple[str, str, str], profile.Row]:
    """Rows of the table by concept, however the letters of scheme and code are written, and value type."""
    return {
        (scheme.casefold(), value.casefold(), kind): one for (scheme, value, kind), one in profile.content().items()
    }


def is_dropped_date(node: Node, tag: int) -> bool:
    """Whether a date of a content item is no temporal information that may be shifted, such as a date of birth."""
    if tag not in DATES:
        return False
    if (found := row(node, DATES[tag])) is not None:
        return "m" not in found.options
    said = concept(node)
    return (said.scheme.casefold(), said.value.casefold()) in _BIRTHS or _BIRTH.search(said.meaning) is not None


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
