"""How long a value may be by its VR. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag

#: Characters of a value (PS3.5 6.2).
LIMITS: Final = MappingProxyType({"SH": 16, "LO": 64, "CS": 16, "AE": 16, "ST": 1024, "LT": 10240})


def fitted(tag: BaseTag, vr: str, values: list[str], before: list[str]) -> DataElement:
    """Element of values within the length that the VR has; what the source has itself stays as long as it came."""
    limit = LIMITS.get(vr)
    if limit is not None and any(len(value) > limit for value in values):
        pairs = zip(values, before, strict=True)
        values = [value if value == old else value[:limit].rstrip() for value, old in pairs]
    return DataElement(tag, vr, values[0] if len(values) == 1 else values, already_converted=False)
