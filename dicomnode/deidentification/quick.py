"""The quick way for files of ordinary slices: bytes in, bytes out; anything unusual goes the full way (apply).

Slices of a series share nearly all of their elements. What the full way made of an element is remembered under
everything that it depends on (the context: identities, dates, sequences, private creators, character set, pixel format,
descriptors), and is made anew by the same rules where the bytes differ. Property tests prove that both ways give the
same file. Pure but for this memory.
"""

from __future__ import annotations

import re
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cache
from typing import Final

import numpy as np
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from dicomnode.deidentification import private
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.heads import TEXTS as TEXTS_OF_HEADS
from dicomnode.deidentification.identifiers import is_identifying
from dicomnode.deidentification.leakcheck import Source, leaks_in_bytes
from dicomnode.deidentification.nesting import Node, own_encodings
from dicomnode.deidentification.rules import Rule, Rules, Treatment
from dicomnode.deidentification.slices import EXPLICIT_LITTLE, NEEDED, SHORT, SOP_INSTANCE, Element, split
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.deidentification.treat import Treater
from dicomnode.encoded import Limits, encode_part10, read_part10, wrap_part10

_CHARACTER_SET: Final = 0x00080005
_CONTEXTS: Final = 16
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
        0x00280301,
        0x00280302,
        *TEXTS_OF_HEADS,
    }
)
_TIME: Final = re.compile(rb"\d{6}(\.\d{1,6})? ?")
_AS_THEY_ARE: Final = frozenset({Treatment.KEEP, Treatment.NUMBER})
_TREATED: Final = _AS_THEY_ARE | {Treatment.UID, Treatment.TIME, Treatment.DATE, Treatment.DATETIME, Treatment.TERM}
#: Treatments of new bytes that this way knows; and their VRs, which the writer leaves as they came.
_TEXTS: Final = frozenset({b"UI", b"TM", b"DA", b"DT", b"CS", b"DS", b"IS"})
_BINARY: Final = frozenset({b"US", b"SS", b"UL", b"SL", b"FL", b"FD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentifiedFile:
    """A de-identified file, ready to be written.

    Attributes
    ----------
    uids
        New UID → old UID.
    quick
        Whether it went the quick way.
    """

    data: bytes = field(repr=False)
    sop_instance_uid: str
    uids: dict[str, str] = field(repr=False)
    quick: bool = False


@dataclass(slots=True, kw_only=True)
class _Made:
    """What became of an element: its bytes (None: removed), and the UIDs that were replaced in it."""

    data: bytes | None
    uids: dict[str, str]


@dataclass(slots=True, kw_only=True)
class _Context:
    """What objects of one context share."""

    rules: Rules
    treater: Treater
    node: Node
    known: Source
    ours: frozenset[str]
    creators: dict[int, str]
    made: dict[bytes, _Made]
    added: list[tuple[int, bytes]]

    def rule(self, tag: int) -> Rule:
        """Rule of an attribute of the top level, private ones included."""
        if not (tag >> 16) % 2:
            return self.rules.rule("", tag)
        treatment, vr = private.treatment(BaseTag(tag), self.creators.get(private.creator_tag(BaseTag(tag))))
        kept = treatment if self.treater.keeps_private else Treatment.REMOVE
        return Rule(kept, Treatment.REMOVE, vr, "table")


class FileDeidentifier:
    """De-identifies files under one policy, the quick way where it can.

    Parameters
    ----------
    deidentifier
        The full way.
    limits
        Budgets of reading.
    """

    def __init__(self, deidentifier: Deidentifier, limits: Limits) -> None:
        self._full_way = deidentifier
        self._limits = limits
        self._contexts: OrderedDict[tuple[bytes, ...], _Context] = OrderedDict()

    def deidentify(self, data: bytes) -> DeidentifiedFile:
        """De-identify one file.

        Raises
        ------
        StudyError
            As `apply.Deidentifier.deidentify`, and ``object-malformed``.
        """
        elements = split(data)
        if elements is None or self._full_way.recipients:
            return self._full(data)
        key = tuple(_key(elements))
        context = self._contexts.get(key)
        if context is None:
            return self._learn(data, elements, key)
        self._contexts.move_to_end(key)
        return self._assemble(elements, context) or self._full(data)

    def _full(self, data: bytes) -> DeidentifiedFile:
        dataset = read_part10(data, self._limits)
        done = self._full_way.deidentify(dataset)
        syntax = str(done.dataset.file_meta.TransferSyntaxUID)
        new = encode_part10(done.dataset, transfer_syntax_uid=syntax)
        return DeidentifiedFile(data=new, sop_instance_uid=str(done.dataset.SOPInstanceUID), uids=done.uids)

    def _learn(self, data: bytes, elements: list[Element], key: tuple[bytes, ...]) -> DeidentifiedFile:
        """The full way once; what it made of each element is remembered, where it did nothing to the pixels."""
        dataset = read_part10(data, self._limits)
        done = self._full_way.deidentify(dataset)
        new = encode_part10(done.dataset, transfer_syntax_uid=str(done.dataset.file_meta.TransferSyntaxUID))
        result = DeidentifiedFile(data=new, sop_instance_uid=str(done.dataset.SOPInstanceUID), uids=done.uids)
        after = split(new)
        if after is None or done.leaks or elements[-1].whole != after[-1].whole:
            return result
        outputs = {element.tag: element.whole for element in after}
        if b"ISO_IR 192" in outputs.get(_CHARACTER_SET, b""):  # some text is not ASCII: another object may have none
            return result
        rules, treater, known, ours = self._full_way.context_of(dataset, done.dataset)
        sources = {element.tag for element in elements}
        made = {}
        for element in elements[:-1]:
            output = outputs.get(element.tag)
            uids = {uid: old for uid, old in done.uids.items() if output is not None and uid.encode() in output}
            made[element.whole] = _Made(data=output, uids=uids)
        self._contexts[key] = _Context(
            rules=rules,
            treater=treater,
            node=Node(Dataset(), own_encodings(dataset)),
            known=known,
            ours=ours,
            creators=private.creators(dataset, own_encodings(dataset)),
            made=made,
            added=[(tag, whole) for tag, whole in outputs.items() if tag not in sources],
        )
        if len(self._contexts) > _CONTEXTS:
            self._contexts.popitem(last=False)
        return result

    def _assemble(self, elements: list[Element], context: _Context) -> DeidentifiedFile | None:
        if not self._pixels_stay(elements):
            return None
        output = list(context.added)
        uids: dict[str, str] = {}
        new: list[bytes] = []
        for element in elements[:-1]:
            made = context.made.get(element.whole)
            if made is None:
                made = _treated(element, context)
                if made is None:
                    return None
                if made.data is not None:
                    new.append(made.data)
            if made.data is not None:
                output.append((element.tag, made.data))
                uids.update(made.uids)
        if leaks_in_bytes(context.known, b"".join(new), set(context.ours)):
            return None
        output.sort()
        return _wrapped(output, elements[-1].whole, uids)

    def _pixels_stay(self, elements: list[Element]) -> bool:
        """Whether the full way would leave the pixels as they are; their format is that of the context."""
        by_tag = {element.tag: element.whole[-2:] for element in elements if element.tag in NEEDED}
        stored, signed = (SHORT(by_tag[tag])[0] for tag in (0x00280101, 0x00280103))
        pixels = elements[-1].whole
        words = np.frombuffer(pixels, "<u2", offset=12)
        if stored < 16 and (signed or int(words.max()) >> stored):
            return False
        if not self._full_way.looks_at_every_image:
            return True
        rows = SHORT(by_tag[0x00280010])[0]
        return not has_strokes(words.view("<i2" if signed else "<u2").reshape(rows, -1))


def _key(elements: list[Element]) -> list[bytes]:
    """Everything that the treatment of an element may depend on besides its own bytes."""
    parts = []
    for element in elements[:-1]:
        how = _feeds(element.tag, element.vr)
        if how == _DAY:
            parts.append(element.whole[:16])
        elif how == _WHOLE or (element.vr == b"UN" and element.whole[12:16] == _ITEM):
            parts.append(element.whole)
    return parts


_NO, _WHOLE, _DAY = range(3)
_ITEM: Final = b"\xfe\xff\x00\xe0"


@cache
def _feeds(tag: int, vr: bytes) -> int:
    """Whether an element belongs to the context: as a whole, by its day, or not."""
    group = tag >> 16
    if group % 2:
        return _WHOLE if vr == b"SQ" or tag & 0xFFFF < 0x100 else _NO
    entry = DicomDictionary.get(tag)
    named = entry[0].encode() if entry else b""
    if vr == b"DT" and named == b"DT":
        return _DAY
    decisive = tag in _DECISIVE or (group == 0x28 and vr == b"US") or vr in (b"SQ", b"UN", b"PN", b"DA", b"DT")
    foreign = named != vr and vr not in named.split(b" or ")
    return _WHOLE if decisive or foreign or named in (b"PN", b"DA", b"DT", b"SQ") or is_identifying(tag) else _NO


def _treated(element: Element, context: _Context) -> _Made | None:
    """What the rules make of an element that is new; None where this way does not know."""
    rule = context.rule(element.tag)
    if rule.treatment is Treatment.REMOVE:
        return _Made(data=None, uids={})
    value = element.whole[8:]
    plain = value.isascii() and (b" " not in value[:-1]) and b"\0" not in value[:-1]
    if (
        element.vr not in _TEXTS | _BINARY
        or rule.treatment not in _TREATED
        or rule.vr.encode() != element.vr
        or not value
    ):
        return None
    if element.vr in _BINARY:
        return _Made(data=element.whole, uids={})
    if not plain or (element.vr in (b"DS", b"IS") and not _is_canonical(value)):
        return None
    if rule.treatment is Treatment.UID and b"\\" not in value:
        return _uid(element, value, context)
    if rule.treatment is Treatment.TIME and _TIME.fullmatch(value):
        return _Made(data=element.whole, uids={})
    tag = BaseTag(element.tag)
    raw = RawDataElement(Tag(tag), element.vr.decode(), len(value), value, 0, False, True)
    before = len(context.treater.uids)
    new = context.treater.treat(rule, tag, raw, context.node)
    if new is None:
        return None
    if rule.treatment in _AS_THEY_ARE:
        return _Made(data=element.whole, uids={})
    found = new.value
    text = "\\".join(found) if isinstance(found, MultiValue | list) else str(found)
    encoded = text.encode("ascii")
    encoded += (b"\0" if element.vr == b"UI" else b" ") * (len(encoded) % 2)
    uids = {}
    if rule.treatment is Treatment.UID:
        uids = {uid: old for uid in text.split("\\") if (old := context.treater.uids.get(uid)) is not None}
    if before > _REMEMBERED:
        context.treater.uids.clear()
    return _Made(data=element.whole[:6] + struct.pack("<H", len(encoded)) + encoded, uids=uids)


def _uid(element: Element, value: bytes, context: _Context) -> _Made:
    old = value.rstrip(b"\0").decode("ascii")
    new = context.treater.uid(old)
    encoded = new.encode("ascii") + b"\0" * (len(new) % 2)
    data = element.whole[:6] + struct.pack("<H", len(encoded)) + encoded
    return _Made(data=data, uids={new: old} if new != old else {})


def _is_canonical(value: bytes) -> bool:
    """Whether a decimal or integer string is written back as it is: no sign or zero that a writer would drop."""
    return not any(part[:1] in (b"+", b"") for part in value.rstrip(b" ").split(b"\\"))


def _wrapped(output: list[tuple[int, bytes]], pixels: bytes, uids: dict[str, str]) -> DeidentifiedFile:
    by_tag = dict(output)
    instance, sop_class = (by_tag[tag][8:].rstrip(b"\0").decode("ascii") for tag in (SOP_INSTANCE, 0x00080016))
    head = wrap_part10(
        b"",
        sop_class_uid=sop_class,
        sop_instance_uid=instance,
        transfer_syntax_uid=EXPLICIT_LITTLE,
    )
    data = b"".join((head, *(whole for _, whole in output), pixels))
    return DeidentifiedFile(data=data, sop_instance_uid=instance, uids=uids, quick=True)
