"""Private attributes: which are safe (PS3.15 E.3.10), and how their values are read.

Pure. A private element is safe only with the creator, group and place in its block that the table names.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicomnode.deidentification import profile
from dicomnode.deidentification.rules import Rule, Rules, Treatment
from dicomnode.deidentification.values import Element, texts

#: Treatments by VR: opaque bytes, which nobody can look into, stay out even where the table calls them safe.
_TREATMENTS: Final = {
    "SQ": Treatment.SEQUENCE,
    "CS": Treatment.TERM,
    "DS": Treatment.NUMBER,
    "IS": Treatment.NUMBER,
    "LO": Treatment.PLAIN,
    "SH": Treatment.PLAIN,
    "ST": Treatment.CLEAN,
    "LT": Treatment.CLEAN,
    "UI": Treatment.UID,
    **dict.fromkeys(("FL", "FD", "US", "UL", "SS", "SL", "AT"), Treatment.KEEP),
}
_NUMBERS: Final = frozenset({"FL", "FD", "US", "UL", "SS", "SL", "DS", "IS"})
_TEXTS: Final = frozenset({"LO", "SH", "ST", "LT"})
_REMOVED: Final = Rule(Treatment.REMOVE, Treatment.REMOVE, "", "default")
_SIZES: Final = {"FL": 4, "FD": 8, "US": 2, "UL": 4, "SS": 2, "SL": 4, "AT": 4}


def creators(dataset: Dataset, encodings: tuple[str, ...]) -> dict[int, str]:
    """Creator of each private block of a Data Set: group and block number as one key (PS3.5 7.8.1)."""
    found: dict[int, str] = {}
    for tag in dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        if tag.is_private_creator:
            element: Element = dataset.get_item(tag)
            values = texts(element, "LO", encodings)
            if len(values) == 1:
                found[int(tag)] = values[0]
    return found


def creator_tag(tag: BaseTag) -> int:
    """Tag of the creator of a private element."""
    return (int(tag) >> 16 << 16) | (int(tag) >> 8 & 0xFF)


def rule_of(tag: BaseTag, creator: str | None, on_wire: str | None, rules: Rules, *, safe: bool) -> Rule:
    """Rule for a private attribute: the site's own, else the table's.

    Parameters
    ----------
    on_wire
        VR that it came with; None or UN where that is not known.
    safe
        Whether safe ones are retained at all.
    """
    if creator is None:
        return _REMOVED
    site = rules.private(profile.SafePrivate(creator, tag.group, tag.element & 0xFF), on_wire)
    if site is not None:
        return site
    found, vr = treatment(tag, creator)
    if not safe or found is Treatment.REMOVE:
        return _REMOVED
    found, vr = treatment_on_wire(on_wire, vr)
    return Rule(found, Treatment.REMOVE, vr, "table")


def treatment(tag: BaseTag, creator: str | None) -> tuple[Treatment, str]:
    """Treatment and VR of a private element."""
    if creator is None:
        return Treatment.REMOVE, ""
    vr = profile.safe_private().get(profile.SafePrivate(creator, tag.group, tag.element & 0xFF))
    if vr is None:
        return Treatment.REMOVE, ""
    return (_TREATMENTS.get(vr, Treatment.REMOVE) if vr else Treatment.KEEP), vr


def treatment_on_wire(on_wire: str | None, vr: str) -> tuple[Treatment, str]:
    """Treatment and VR of a safe private element that came with some VR: one of the same kind as the table's, or of any.

    Parameters
    ----------
    on_wire
        VR that it came with; None or UN where that is not known.
    vr
        Of the table; empty where it has none.
    """
    if on_wire in (None, "UN") or on_wire == vr:
        return _TREATMENTS.get(vr, Treatment.REMOVE), vr
    known = str(on_wire)
    alike = any(known in kind and (vr in kind or not vr) for kind in (_NUMBERS, _TEXTS))
    return (_TREATMENTS.get(known, Treatment.REMOVE), known) if alike else (Treatment.REMOVE, "")


def is_sound(element: Element, vr: str) -> bool:
    """Whether the bytes of a binary element can be of its VR (a private VR is often UN on the wire)."""
    value = element.value
    return not isinstance(value, bytes) or vr not in _SIZES or len(value) % _SIZES[vr] == 0
