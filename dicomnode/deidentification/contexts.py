"""Contexts of the quick way: everything that the treatment of an element depends on, and what becomes of one in it.

What the full way made of an element is remembered under its context and its bytes; other bytes are treated by the same
rules here, or not at all: then the full way decides.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from dicomnode.deidentification import codes, private
from dicomnode.deidentification.heads import TEXTS as TEXTS_OF_HEADS
from dicomnode.deidentification.identifiers import REMEMBERED_TAGS, is_counter, is_identifying
from dicomnode.deidentification.needles import Needles
from dicomnode.deidentification.nesting import Node
from dicomnode.deidentification.rules import Rule, Rules, Treatment
from dicomnode.deidentification.slices import Element
from dicomnode.deidentification.treat import Treater

_REMEMBERED: Final = 4096
#: Besides identities, what decides over the whole object: character set, classes, flags of the pixels, descriptors.
_DECISIVE: Final = frozenset(
    {
        0x00080005,
        0x00080008,
        0x00080016,
        0x00080060,
        0x00080064,
        0x0020000D,
        0x00204000,
        # ages with a sex
        0x00100040,
        0x00101010,
        *TEXTS_OF_HEADS,
        # what the full way writes whatever the source says
        0x00120062,
        0x00120063,
        0x00280301,
        0x00280302,
        0x00280303,
    }
)
_TIME: Final = re.compile(rb"([01]\d|2[0-3])[0-5]\d([0-5]\d|60)(\.\d{1,6})? ?")
_AS_THEY_ARE: Final = frozenset({Treatment.KEEP, Treatment.NUMBER})
_TREATED: Final = _AS_THEY_ARE | {Treatment.UID, Treatment.TIME, Treatment.DATE, Treatment.DATETIME, Treatment.TERM}
#: Treatments of new bytes that this way knows; and their VRs, which the writer leaves as they came.
_BINARY: Final = MappingProxyType({b"US": 2, b"SS": 2, b"UL": 4, b"SL": 4, b"FL": 4, b"FD": 8})
_NUMBERS: Final = frozenset({b"DS", b"IS"})
#: Numbers as most writers write them: few figures, nothing that another writer would leave out. Each is a number of its VR.
_USUAL: Final = MappingProxyType(
    {
        b"DS": re.compile(rb"-?\d{1,6}(?:\.\d{1,7})?(?:\\-?\d{1,6}(?:\.\d{1,7})?)* ?"),
        b"IS": re.compile(rb"-?\d{1,9}(?:\\-?\d{1,9})* ?"),
    }
)
_KNOWN: Final = frozenset(_BINARY) | _NUMBERS | {b"UI", b"TM", b"DA", b"DT", b"CS"}
_NO, _WHOLE, _DAY = range(3)
_ITEM: Final = b"\xfe\xff\x00\xe0"


@dataclass(slots=True, kw_only=True)
class Made:
    """What became of an element: its bytes (None: removed), and the UIDs that were replaced in it."""

    data: bytes | None
    uids: dict[str, str]


@dataclass(slots=True, kw_only=True)
class Context:
    """What objects of one context share.

    Attributes
    ----------
    asked
        Attributes that decide over their pixels, too: a site's rules for devices ask about them.
    """

    rules: Rules
    treater: Treater
    node: Node
    needles: Needles
    creators: dict[int, str]
    made: dict[bytes, Made]
    added: list[tuple[int, bytes]]
    asked: frozenset[int] = frozenset()
    ways: dict[tuple[int, bytes], Rule | None] = field(default_factory=dict)
    numbers: dict[tuple[int, bytes], bool] = field(default_factory=dict)

    def leaks(self, new: list[bytes]) -> bool:
        """Whether elements that were made anew hold what must not come out."""
        return any(map(self.needles.in_element, new)) or next(self.needles.kinds(b"".join(new)), None) is not None

    def way(self, element: Element) -> Rule | None:
        """Rule by which an element is treated here; None where this way does not know."""
        key = element.tag, element.vr
        if key not in self.ways:
            rule = self.rule(element.tag, element.vr)
            same = element.vr in _KNOWN and rule.treatment in _TREATED and rule.vr.encode() == element.vr
            self.ways[key] = rule if same or rule.treatment is Treatment.REMOVE else None
        return self.ways[key]

    def keeps_usual(self, tag: int, value: bytes) -> bool:
        """Whether usual numbers stay as they are; what was found of each is remembered."""
        kind = tag if is_counter(tag) else 0  # what is measured is judged alike
        for part in value.rstrip(b" ").split(b"\\"):
            known = self.numbers.get((kind, part))
            if known is None:
                if len(self.numbers) >= _REMEMBERED:
                    self.numbers.clear()
                known = self.numbers[kind, part] = not self.treater.is_somebodys(part.decode(), tag)
            if not known:
                return False
        return True

    def rule(self, tag: int, vr: bytes) -> Rule:
        """Rule of an attribute of the top level, private ones included."""
        if not (tag >> 16) % 2:
            return self.rules.rule("", tag)
        creator = self.creators.get(private.creator_tag(BaseTag(tag)))
        return private.rule_of(BaseTag(tag), creator, vr.decode(), self.rules, safe=self.treater.keeps_private)


def _is_plain(value: bytes, vr: bytes) -> bool:
    """Whether a value says something, in ASCII and of even length, with its VR's padding at the end alone."""
    padded = value.endswith((b" ", b"\0") if vr == b"UI" else b" ")
    text = value[:-1] if padded else value
    return (
        len(value) % 2 == 0 and text.isascii() and b" " not in text and b"\0" not in text and text.strip(b"\\") != b""
    )


def context_key(elements: list[Element], asked: frozenset[int] = frozenset()) -> tuple[bytes, ...]:
    """Everything that the treatment of an element may depend on besides its own bytes; and all of what is `asked` of devices."""
    parts = []
    for element in elements[:-1]:
        how = _WHOLE if element.tag in asked else _feeds(element.tag, element.vr)
        if how == _DAY:
            parts.append(element.whole[:16])
        elif how == _WHOLE or (element.vr == b"UN" and element.whole[12:16] == _ITEM):
            parts.append(element.whole)
    return tuple(parts)


def feeds_alike(one: Element, other: Element) -> bool:
    """Whether an element with another value leaves the context the same."""
    how = _feeds(one.tag, one.vr)
    return how == _NO or (how == _DAY and one.whole[:16] == other.whole[:16])


@lru_cache(REMEMBERED_TAGS)
def _feeds(tag: int, vr: bytes) -> int:
    """Whether an element belongs to the context: as a whole, by its day, or not."""
    group = tag >> 16
    if group % 2:
        return _WHOLE if vr == b"SQ" or tag & 0xFFFF < 0x100 else _NO
    entry = DicomDictionary.get(tag)
    named = entry[0].encode() if entry else b""
    if vr == b"DT" and named == b"DT":
        return _DAY
    decisive = (
        tag in _DECISIVE
        or tag in codes.PARTS
        or (group == 0x28 and vr == b"US")
        or vr in (b"SQ", b"UN", b"PN", b"DA", b"DT")
    )
    foreign = named != vr and vr not in named.split(b" or ")
    return _WHOLE if decisive or foreign or named in (b"PN", b"DA", b"DT", b"SQ") or is_identifying(tag) else _NO


def treated(element: Element, context: Context) -> Made | None:
    """What the rules make of an element that is new; None where this way does not know."""
    rule = context.way(element)
    if rule is None:
        return None
    if rule.treatment is Treatment.REMOVE:
        return Made(data=None, uids={})
    value = element.whole[8:]
    if rule.treatment is Treatment.NUMBER and len(value) % 2 == 0 and _USUAL[element.vr].fullmatch(value):
        return Made(data=element.whole, uids={}) if context.keeps_usual(element.tag, value) else None
    size = _BINARY.get(element.vr)
    if not value or (len(value) % size if size else not _is_plain(value, element.vr)):
        return None
    if element.vr in _NUMBERS and not _is_canonical(value):
        return None
    if rule.treatment is Treatment.NUMBER:
        return Made(data=element.whole, uids={}) if context.treater.keeps_numbers(element.tag, rule.vr, value) else None
    if rule.treatment is Treatment.UID:
        return None if b"\\" in value else _uid(element, value, context)
    if rule.treatment is Treatment.TIME and _TIME.fullmatch(value) and context.treater.keeps_time(value.decode()):
        return Made(data=element.whole, uids={})
    tag = BaseTag(element.tag)
    raw = RawDataElement(Tag(tag), element.vr.decode(), len(value), value, 0, False, True)
    new = context.treater.treat(rule, tag, raw, context.node)
    if new is None:
        return None
    if rule.treatment in _AS_THEY_ARE:
        return Made(data=element.whole, uids={})
    found = new.value
    text = "\\".join(found) if isinstance(found, MultiValue | list) else str(found)
    return Made(data=_encoded(element, text, b" "), uids={})


def _uid(element: Element, value: bytes, context: Context) -> Made:
    old = value.rstrip(b" \0").decode("ascii")
    new = context.treater.uid(old)
    if len(context.treater.uids) > _REMEMBERED:
        context.treater.uids.clear()
    return Made(data=_encoded(element, new, b"\0"), uids={new: old} if new != old else {})


def _encoded(element: Element, text: str, padding: bytes) -> bytes:
    encoded = text.encode("ascii") + padding * (len(text) % 2)
    return element.whole[:6] + struct.pack("<H", len(encoded)) + encoded


def _is_canonical(value: bytes) -> bool:
    """Whether a decimal or integer string is written back as it is: no sign or zero that a writer would drop."""
    return not any(part[:1] in (b"+", b"") for part in value.rstrip(b" ").split(b"\\"))
