"""The walk: a Data Set in, a new one out that holds only what its rules let through. Iterative; every sequence is entered.

Pure. Pixels, policy choices for the whole object, and the leak check stand elsewhere (apply).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes, content, private
from dicomnode.deidentification.nesting import Node, items_of, items_within, own_encodings
from dicomnode.deidentification.rules import Rule, Rules, Treatment
from dicomnode.deidentification.treat import PIXELS, Treater
from dicomnode.deidentification.values import BINARY_VRS, BULK_VRS, STRING_VRS, Element

_NUMERIC: Final = BINARY_VRS | {"DS", "IS"}
_REMOVED: Final = Rule(Treatment.REMOVE, Treatment.REMOVE, "", "default")


@dataclass(slots=True)
class Walked:
    """What a walk gave.

    Attributes
    ----------
    dataset
        The new Data Set.
    uids
        New UID → old UID, for every one that was replaced.
    produced
        Dates that the walk wrote: no leak though they may equal another date of the source.
    """

    dataset: Dataset
    uids: dict[str, str] = field(default_factory=dict)
    produced: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Visit:
    source: Node
    target: Dataset
    sequence: str
    depth: int = 0


def walk(source: Dataset, rules: Rules, treater: Treater) -> Walked:
    """De-identify one Data Set by its rules.

    Raises
    ------
    StudyError
        ``object-too-complex`` where its sequences do not end.
    """
    root = Node(source, own_encodings(source))
    walked = Walked(dataset=_like(source))
    pending = [_Visit(root, walked.dataset, "")]
    while pending:
        visit = pending.pop()
        written = codes.BESIDE if codes.is_code(visit.source.dataset) else frozenset[int]()
        if written:
            treater.code(visit.source, visit.target)
        creators = private.creators(visit.source.dataset, visit.source.encodings)
        for tag in sorted(visit.source.dataset.keys()):
            if tag.is_private:
                creator = creators.get(block := private.creator_tag(tag))
                on_wire = visit.source.dataset.get_item(tag).VR
                rule = private.rule_of(tag, creator, on_wire, rules, safe=treater.keeps_private)
                _private(visit, tag, rule, treater, pending)
                if tag in visit.target:
                    visit.target[block] = DataElement(block, "LO", creator)
            elif int(tag) not in written:
                _standard(visit, tag, rules.rule(visit.sequence, int(tag)), treater, pending)
    walked.uids, walked.produced = treater.uids, treater.produced
    return walked


def _like(source: Dataset) -> Dataset:
    """Empty Data Set that takes raw elements of another one as they are."""
    target = Dataset()
    implicit, little = source.original_encoding
    if implicit is not None and little is not None:
        target.set_original_encoding(implicit, little, "iso8859")
    return target


def _standard(visit: _Visit, tag: BaseTag, rule: Rule, treater: Treater, pending: list[_Visit]) -> None:
    nested_pixels = int(tag) in PIXELS and visit.depth > 0  # no object has them there but icons
    if rule.treatment is Treatment.REMOVE or nested_pixels:
        return
    element: Element | None = visit.source.dataset.get_item(tag)
    if element is None:  # pragma: no cover - the tag came from the same Data Set
        return
    if treater.takes_out(visit.source, int(tag)):
        if (instead := content.nothing(tag)) is not None:
            visit.target[tag] = instead
        return
    if rule.treatment is Treatment.SEQUENCE:
        _sequence(visit, tag, rule, pending, treater)
        return
    if element.VR == "UN" and rule.vr not in ("UN", "OB", "OB or OW"):
        element = _known(visit.source.dataset, tag)
    if not _fits(element, rule.vr):
        _fall_back(visit, tag, rule, treater)
        return
    new = treater.treat(rule, tag, element, visit.source)  # type: ignore[arg-type]
    if new is None:
        _fall_back(visit, tag, rule, treater)
    else:
        visit.target[tag] = new


def _known(dataset: Dataset, tag: BaseTag) -> Element | None:
    """Element that came as UN, read with the VR that the dictionary has."""
    try:
        return dataset[tag]
    except Exception:  # noqa: BLE001 - whatever the bytes do to the parser, the element does not survive
        return None


def _fits(element: Element | None, vr: str) -> bool:
    """Whether the VR on the wire is of the kind that the dictionary has; words where numbers belong never survive."""
    if element is None:
        return False
    if element.VR is None or element.VR in vr.split(" or ") or vr == element.VR:
        return True
    if vr in STRING_VRS and element.VR in STRING_VRS - {"UN"}:
        return True
    return (vr in _NUMERIC and element.VR in _NUMERIC) or (vr in BULK_VRS and element.VR in BULK_VRS)


def _fall_back(visit: _Visit, tag: BaseTag, rule: Rule, treater: Treater) -> None:
    if rule.fallback is Treatment.EMPTY:
        visit.target[tag] = DataElement(tag, rule.vr.split(" or ")[0], Sequence() if rule.vr == "SQ" else None)
    elif rule.fallback is Treatment.DUMMY:
        visit.target[tag] = treater.dummy(tag, rule.vr)


def _sequence(visit: _Visit, tag: BaseTag, rule: Rule, pending: list[_Visit], treater: Treater) -> None:
    items = items_of(visit.source.dataset, tag)
    if items is None and tag.is_private:
        items = items_within(visit.source.dataset, tag)
    if items is None:
        _fall_back(visit, tag, rule, treater)
        return
    keyword = "" if tag.is_private else keyword_for_tag(tag)
    target = Sequence([_like(item) for item in items])
    visit.target[tag] = DataElement(tag, "SQ", target)
    pending += [
        _Visit(visit.source.item(old), new, keyword, visit.depth + 1) for old, new in zip(items, target, strict=True)
    ]


def _private(visit: _Visit, tag: BaseTag, rule: Rule, treater: Treater, pending: list[_Visit]) -> None:
    element: Element | None = visit.source.dataset.get_item(tag)
    if rule.treatment is Treatment.SEQUENCE:
        _sequence(visit, tag, rule, pending, treater)
    elif rule.treatment is not Treatment.REMOVE and element is not None and private.is_sound(element, rule.vr):
        new = treater.treat(rule, tag, element, visit.source)
        if new is not None:
            visit.target[tag] = new
