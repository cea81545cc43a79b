"""Ages above the highest that a policy lets stand by itself (PS3.15 E.3.6), in attributes and in structured reports.

Pure. Of reports it acts on what the walk made: numeric content items (TID 1007, PS3.3 10.2) whose concept is an age.
"""

from __future__ import annotations

from math import inf
from types import MappingProxyType
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue

from dicomnode.deidentification import codes
from dicomnode.deidentification.nesting import Node, datasets, items_of
from dicomnode.deidentification.values import ASCII, texts

_CONCEPT_NAME: Final = 0x0040A043
_MEASURED_VALUES: Final = 0x0040A300
_UNITS: Final = 0x004008EA
_NUMERIC_VALUE: Final = 0x0040A30A
_NUMERATOR: Final = 0x0040A162
_DENOMINATOR: Final = 0x0040A163
#: Floating Point Value, Rational Numerator and Denominator Value say the same again.
_AGAIN: Final = (0x0040A161, _NUMERATOR, _DENOMINATOR)
#: Subject Age; and ages of patients in SNOMED CT and LOINC.
_AGES: Final = frozenset(
    {("DCM", "121033"), ("SCT", "397669002"), ("SCT", "424144002"), ("LN", "30525-0"), ("LN", "21612-7"),
     ("LN", "29553-5")}
)  # fmt: skip
#: UCUM: how many make a year.
_A_YEAR: Final = MappingProxyType({"a": 1, "a_j": 1, "a_g": 1, "a_t": 1, "mo": 12, "wk": 52, "d": 365, "h": 8766})
#: Of Age Strings (PS3.5 6.2, AS): how many make a year.
_UNITS_OF_A_YEAR: Final = MappingProxyType({"Y": 1, "M": 12, "W": 52, "D": 365})


def limited(age: str, highest: int | None) -> str:
    """An Age String as it is or, where it is above the highest (None: none is), one year more than that."""
    if highest is not None and int(age[:-1]) >= (highest + 1) * _UNITS_OF_A_YEAR[age[-1].upper()]:
        return f"{highest + 1:03}Y"
    return age


def limit_ages(dataset: Dataset, highest: int) -> None:
    """Make every age of a report above the highest one year more than that.

    An age without a known unit, and what else lasts as many years and may be one, has no measured value any more (PS3.3
    C.18.1: none is allowed): it is not told as another number.
    """
    judged: dict[int, Dataset] = {}  # measured values, by what measures them
    for node in datasets(dataset):
        if id(node.dataset) in judged:
            continue
        names = items_of(node.dataset, _CONCEPT_NAME) if _CONCEPT_NAME in node.dataset else None
        is_age = codes.read(names[0], node.encodings)[1::-1] in _AGES if names else False
        _limit(node, highest, is_age=is_age)
        measured = items_of(node.dataset, _MEASURED_VALUES) or [] if _MEASURED_VALUES in node.dataset else []
        judged |= {id(item): item for item in measured}
        if not all(_limit(node.item(item), highest, is_age=is_age) for item in measured):
            node.dataset[_MEASURED_VALUES] = DataElement(_MEASURED_VALUES, "SQ", [])


def _limit(node: Node, highest: int, *, is_age: bool) -> bool:
    """Whether a value may be told, as it was or as the limit; where not, it is emptied."""
    item = node.dataset
    values = _values(item)
    if not values:
        return True
    units = items_of(item, _UNITS) if _UNITS in item else None
    unit = codes.read(units[0], node.encodings) if units else codes.Code("", "", "")
    in_a_year = _A_YEAR.get(unit.value)
    if not is_age and (in_a_year is None or unit.scheme != "UCUM"):
        return True
    if in_a_year is not None and all(value < (highest + 1) * in_a_year for value in values):
        return True
    limit = None if in_a_year is None or not is_age else str((highest + 1) * in_a_year)
    item[_NUMERIC_VALUE] = DataElement(_NUMERIC_VALUE, "DS", limit)
    for tag in _AGAIN:
        if tag in item:
            del item[tag]
    return limit is not None


def _values(item: Dataset) -> list[float]:
    """What the value of a numeric item is, by each attribute that says it."""
    found = list(map(float, texts(item.get_item(_NUMERIC_VALUE), "DS", ASCII))) if _NUMERIC_VALUE in item else []
    for tag in _AGAIN[:2]:
        if tag not in item:
            continue
        try:
            values = item[tag].value
            parts = item[_DENOMINATOR].value if tag == _NUMERATOR and _DENOMINATOR in item else 1
            found += [float(value) / parts for value in (values if isinstance(values, MultiValue) else [values])]
        except (TypeError, ValueError, ZeroDivisionError, BytesLengthException):
            found.append(inf)  # nobody knows
    return found
