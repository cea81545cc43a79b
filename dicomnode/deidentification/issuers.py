"""Who issued a Patient ID (PS3.3 Table 10-18): what is said in a text, else the universal identifier of the authority. Pure."""

from __future__ import annotations

from typing import Final

from dicomnode.deidentification.nesting import Node, items_of
from dicomnode.deidentification.values import texts

_ISSUER: Final = 0x00100021
_QUALIFIERS: Final = 0x00100024
_UNIVERSAL: Final = 0x00400032
_UNIVERSAL_TYPE: Final = 0x00400033


def issuer_of(node: Node) -> str:
    """Issuer of Patient ID (0010,0021) of a Data Set or item; where it says none, its `universal_issuer`; else empty."""
    return _text(node, _ISSUER, "LO") or universal_issuer(node)


def universal_issuer(node: Node) -> str:
    """Universal Entity ID and its type, as HL7 writes an authority without a name of its own: ``&1.2.3&ISO``; empty where there is none.

    Facility, jurisdiction and kind of the id are no part: they tell of its history, and one id may come with several.
    """
    if _QUALIFIERS not in node.dataset:
        return ""
    for item in items_of(node.dataset, _QUALIFIERS) or ():
        inner = node.item(item)
        if universal := _text(inner, _UNIVERSAL, "UT"):
            return f"&{_escaped(universal)}&{_escaped(_text(inner, _UNIVERSAL_TYPE, 'CS').upper())}"
    return ""


def is_universal(issuer: str) -> bool:
    """Whether an issuer is of the form of `universal_issuer`."""
    return issuer.startswith("&")


def _text(node: Node, tag: int, vr: str) -> str:
    if tag not in node.dataset:
        return ""
    return next(iter(texts(node.dataset.get_item(tag), vr, node.encodings)), "").strip()


def _escaped(text: str) -> str:
    """As HL7 does, so that two pairs are never written alike."""
    return text.replace("\\", "\\E\\").replace("&", "\\T\\")
