"""Reading the DICOM JSON Model (PS3.18 F.2) of the vault back into a Data Set, as it was, faults and all.

May live here: that one translation. A source's own faults (an id of 70 characters, a date that is none) are part of its
identity and pass unchecked, as text where they should be a number; private elements of its sequences are left behind,
since their meaning does not come along, and the character sets of items, since a result has one for all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

from dicomnode.errors import StudyError

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_MAXIMUM_NESTING: Final = 16
_CHARACTER_SET: Final = 0x00080005
#: Numbers that are written as text (PS3.5 6.2).
_NUMBERS: Final = frozenset({"DS", "IS"})


def read(model: Mapping[str, Any]) -> Dataset:
    """Data Set out of its JSON Model.

    Raises
    ------
    StudyError
        ``result-identity-differs`` if the model cannot be read: an identity that is not known cannot be restored.
    """
    try:
        return _dataset(model, _MAXIMUM_NESTING)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, binascii.Error):
        raise StudyError("result-identity-differs", check="vault") from None


def _dataset(model: Mapping[str, Any], depth: int) -> Dataset:
    if depth == 0:
        raise ValueError("nested too deep")
    dataset = Dataset()
    for key, element in model.items():
        tag = Tag(int(key, 16))
        if not tag.is_private and (tag != _CHARACTER_SET or depth == _MAXIMUM_NESTING):
            dataset.add(_element(tag, element, depth))
    return dataset


def _element(tag: BaseTag, element: Mapping[str, Any], depth: int) -> DataElement:
    vr = str(element["vr"])
    if "InlineBinary" in element:
        value: Any = base64.b64decode(element["InlineBinary"], validate=True)
    else:
        values = [_value(vr, item, depth) for item in element.get("Value", ())]
        value = values if vr == "SQ" else _single(values)
    if vr == "UI":
        return DataElement(tag, vr, value, already_converted=True)  # the library's UIDs lose what is no part of one
    try:
        return DataElement(tag, vr, value, validation_mode=config.IGNORE)
    except (ValueError, TypeError, OverflowError):
        if vr not in _NUMBERS:
            raise
        return DataElement(tag, vr, value, already_converted=True)  # no number: it stays the text that it is


def _single(values: list[Any]) -> Any:
    if not values:
        return ""
    return values[0] if len(values) == 1 else values


def _value(vr: str, item: Any, depth: int) -> Any:
    if vr == "SQ":
        return _dataset({} if item is None else item, depth - 1)
    if vr == "PN":
        groups = [str((item or {}).get(group, "")) for group in _GROUPS]
        return PersonName("=".join(groups).rstrip("="), validation_mode=config.IGNORE)
    if item is None:
        return ""
    if vr == "AT":
        return Tag(int(item, 16))
    return str(item) if vr in _NUMBERS else item
