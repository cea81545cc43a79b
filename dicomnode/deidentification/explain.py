"""Explaining: attribute by attribute which rule decided, and what came of it. Values are never told.

Pure: it reads the source, the output and the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes, devices, private, profile
from dicomnode.deidentification.flags import FLAGS
from dicomnode.deidentification.nesting import Node, items_of, own_encodings
from dicomnode.deidentification.policy import Option, Policy
from dicomnode.deidentification.rules import Rules
from dicomnode.deidentification.treat import PIXELS

_OPTIONS: Final = {option.value: option.name.lower().replace("_", " ") for option in Option}
_CHARACTER_SET: Final = 0x00080005


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One attribute.

    Attributes
    ----------
    where
        Tags and item numbers from the top, such as ``(0040,0275)[1](0040,1001)``.
    decided
        Who: ``table``, ``site``, ``default``, ``code``, ``private``; with the row of the table, or the site's rules for devices,
        where there is one.
    treatment
        What the rule says.
    outcome
        ``kept``, ``changed``, ``emptied``, ``removed`` or ``walked`` (a sequence).
    """

    where: str
    keyword: str
    decided: str
    treatment: str
    outcome: str


def explain(source: Dataset, output: Dataset, policy: Policy, sop_class_uid: str) -> Iterator[Explanation]:
    """Every attribute of a source that was de-identified, in its order; then what was added."""
    rules = Rules(policy, sop_class_uid)
    taking = ", ".join(rule.name for rule in policy.devices if not devices.missed(rule, source))
    pending = [(Node(source, own_encodings(source)), output, "", "")]
    while pending:
        node, target, sequence, where = pending.pop()
        creators = private.creators(node.dataset, node.encodings)
        nested = []
        for tag in sorted(node.dataset.keys()):
            place = f"{where}{tag}".replace(" ", "")
            decided, treatment = _decision(node, tag, rules, sequence, creators)
            if taking and int(tag) in PIXELS and not node.depth:
                decided = f"site: devices {taking}"
            outcome = _outcome(node.dataset, target, tag)
            yield Explanation(
                where=place, keyword=_name(tag, creators), decided=decided, treatment=treatment, outcome=outcome
            )
            if outcome == "walked":
                pairs = zip(items_of(node.dataset, tag) or [], items_of(target, tag) or [], strict=False)
                name = keyword_for_tag(tag) if not tag.is_private else ""
                nested += [(node.item(old), new, name, f"{place}[{n}]") for n, (old, new) in enumerate(pairs, 1)]
        pending += reversed(nested)
    for tag in sorted(output.keys()):
        if tag not in source:
            yield Explanation(
                where=str(tag).replace(" ", ""), keyword=keyword_for_tag(tag), decided="always", treatment="write", outcome="added"
            )  # fmt: skip


def _decision(node: Node, tag: BaseTag, rules: Rules, sequence: str, creators: dict[int, str]) -> tuple[str, str]:
    if tag.is_private:
        creator = creators.get(private.creator_tag(tag))
        own = rules.private(
            profile.SafePrivate(creator or "", tag.group, tag.element & 0xFF), node.dataset.get_item(tag).VR
        )
        if own is not None:
            return "site", own.treatment.name.lower()
        treatment, _ = private.treatment(tag, creator)
        return "private: Table E.3.10-1" if treatment.name != "REMOVE" else "private: not safe", treatment.name.lower()
    if codes.is_code(node.dataset) and tag in codes.PARTS:
        return "code: meaning of its scheme", "canonical"
    if int(tag) == _CHARACTER_SET:
        return "always", "set of the text that is kept"
    if int(tag) in FLAGS and not node.depth:
        return "always", "what was seen here"
    rule = rules.rule(sequence, int(tag))
    row = profile.attributes().get(int(tag))
    decided = rule.origin
    if rule.origin == "table" and row is not None:
        kept = ", ".join(_OPTIONS[letter.lower()] for letter in row.options if letter.lower() in _OPTIONS)
        decided = f"table: {row.action}" + (f" ({kept})" if kept else "")
    return decided, rule.treatment.name.lower()


def _outcome(source: Dataset, target: Dataset, tag: BaseTag) -> str:
    if tag not in target:
        return "removed"
    old, new = source[tag], target[tag]
    if new.VR == "SQ":
        return "walked" if new.value else "emptied"
    if new.value == old.value:
        return "kept"
    return "emptied" if new.is_empty else "changed"


def _name(tag: BaseTag, creators: dict[int, str]) -> str:
    if tag.is_private:
        known = creators.get(private.creator_tag(tag))
        safe = known is not None and any(row.creator == known for row in profile.safe_private())
        return f"private of {known}" if safe else "private"
    return keyword_for_tag(tag) if dictionary_has_tag(tag) else "unknown"
