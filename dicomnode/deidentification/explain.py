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

from dicomnode.deidentification import codes, content, devices, private, profile
from dicomnode.deidentification.flags import FLAGS
from dicomnode.deidentification.leakcheck import Leak
from dicomnode.deidentification.nesting import Node, items_of, items_within, own_encodings
from dicomnode.deidentification.policy import Option, Policy
from dicomnode.deidentification.rules import Rules, Treatment
from dicomnode.deidentification.treat import PIXELS

_OPTIONS: Final = {option.value: option.name.lower().replace("_", " ") for option in Option}
_CHARACTER_SET: Final = 0x00080005
#: What is told of every output, whatever its source says of itself: (0012,0062), (0012,0063), (0012,0064), (0028,0303).
_WRITTEN: Final = frozenset({0x00120062, 0x00120063, 0x00120064, 0x00280303})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One attribute.

    Attributes
    ----------
    where
        Tags and item numbers from the top, such as ``(0040,0275)[1](0040,1001)``.
    decided
        Who: ``table``, ``site``, ``default``, ``code``, ``private``, ``always``, ``leak check``; with the row of the table,
        or the site's rules for devices, where there is one; of pixels why text is read in them; and what the leak check
        found there.
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


def explain(
    source: Dataset,
    output: Dataset,
    policy: Policy,
    sop_class_uid: str,
    *,
    minimal: bool = False,
    leaks: tuple[Leak, ...] = (),
    pixels: str = "",
) -> Iterator[Explanation]:
    """Every attribute of a source that was de-identified, in its order; behind those of a Data Set or item what was added to it.

    Parameters
    ----------
    minimal
        Whether the output is the minimal copy that a hit of the leak check leads to.
    leaks
        What the leak check found, told of the attributes in which it stands.
    pixels
        Why text is looked for in the pixels, or why they are withheld; empty where neither is.
    """
    rules = Rules(policy, sop_class_uid)
    taking = ", ".join(rule.name for rule in policy.devices if not devices.missed(rule, source))
    told = {tag: sorted({leak.kind for leak in leaks if leak.tag == tag}) for tag in {leak.tag for leak in leaks}}
    pending = [(Node(source, own_encodings(source)), output, "", "")]
    while pending:
        node, target, sequence, where = pending.pop()
        creators = private.creators(node.dataset, node.encodings)
        nested = []
        for tag in sorted(node.dataset.keys()):
            place = f"{where}{tag}".replace(" ", "")
            decided, treatment = _decision(node, tag, rules, sequence, policy, kept=tag in target)
            if taking and int(tag) in PIXELS and not node.depth:
                decided = f"site: devices {taking}"
            elif pixels and int(tag) in PIXELS and not node.depth:
                decided = f"pixels: {pixels}"
            outcome = _outcome(node.dataset, target, tag)
            if treatment == "write" and outcome == "walked":
                outcome = "changed"  # written anew as a whole
            if minimal and outcome == "removed" and treatment != "remove":
                decided, treatment = "leak check: minimal copy", "remove"
            if kinds := told.get(int(tag)):
                decided += f"; leak check: {', '.join(kinds)} stands here"
            yield Explanation(
                where=place, keyword=_name(tag, creators), decided=decided, treatment=treatment, outcome=outcome
            )
            if outcome == "walked":
                pairs = zip(_items(node.dataset, tag), _items(target, tag), strict=False)
                name = keyword_for_tag(tag) if not tag.is_private else ""
                nested += [(node.item(old), new, name, f"{place}[{n}]") for n, (old, new) in enumerate(pairs, 1)]
        yield from _added(node, target, where)
        pending += reversed(nested)


def _added(node: Node, target: Dataset, where: str) -> Iterator[Explanation]:
    """What an output has besides: what is always written, and of a coded concept what its scheme says."""
    for tag in sorted(target.keys()):
        if tag not in node.dataset:
            decided = "code: meaning of its scheme" if int(tag) in codes.PARTS else "always"
            yield Explanation(
                where=f"{where}{tag}".replace(" ", ""), keyword=keyword_for_tag(tag), decided=decided, treatment="write", outcome="added"
            )  # fmt: skip


def _items(dataset: Dataset, tag: BaseTag) -> list[Dataset]:
    """Items of a sequence, as the walk finds them."""
    return items_of(dataset, tag) or (items_within(dataset, tag) if tag.is_private else None) or []


def _decision(node: Node, tag: BaseTag, rules: Rules, sequence: str, policy: Policy, *, kept: bool) -> tuple[str, str]:
    if tag.is_private:
        return _of_private(node, tag, rules, policy, kept=kept)
    if codes.is_code(node.dataset) and tag in codes.PARTS:
        return "code: meaning of its scheme", "canonical"
    if int(tag) == _CHARACTER_SET and not node.depth:
        return "always", "set of the text that is kept"
    if int(tag) in FLAGS and not node.depth:
        return "always", "what was seen here"
    if int(tag) in _WRITTEN and not node.depth:
        return "always", "write"
    if int(tag) in PIXELS and node.depth:
        return "default", "remove"
    if content.is_dropped(node, int(tag), frozenset(policy.options)):
        return "table: concept of the content item", "content"
    rule = rules.rule(sequence, int(tag))
    row = profile.attributes().get(int(tag))
    decided = rule.origin
    if rule.origin == "table" and row is not None:
        options = ", ".join(_OPTIONS[letter.lower()] for letter in row.options if letter.lower() in _OPTIONS)
        decided = f"table: {row.action}" + (f" ({options})" if options else "")
    return decided, rule.treatment.name.lower()


def _of_private(node: Node, tag: BaseTag, rules: Rules, policy: Policy, *, kept: bool) -> tuple[str, str]:
    if tag.is_private_creator:
        return ("private: creator of what is kept", "write") if kept else ("private: creator of nothing", "remove")
    creator = private.creators(node.dataset, node.encodings).get(private.creator_tag(tag))
    on_wire = node.dataset.get_item(tag).VR
    rule = private.rule_of(tag, creator, on_wire, rules, safe=Option.SAFE_PRIVATE in policy.options)
    if rule.origin != "default":
        return ("site" if rule.origin == "site" else "private: Table E.3.10-1"), rule.treatment.name.lower()
    safe = private.treatment(tag, creator)[0] is not Treatment.REMOVE
    return "private: safe, not retained" if safe else "private: not safe", "remove"


def _outcome(source: Dataset, target: Dataset, tag: BaseTag) -> str:
    if tag not in target:
        return "removed"
    old, new = source[tag], target[tag]
    if new.VR == "SQ":
        return "walked" if new.value else "kept" if old.is_empty else "emptied"
    if new.value == old.value or (new.is_empty and old.is_empty):
        return "kept"
    return "emptied" if new.is_empty else "changed"


def _name(tag: BaseTag, creators: dict[int, str]) -> str:
    if tag.is_private:
        known = creators.get(private.creator_tag(tag))
        safe = known is not None and any(row.creator == known for row in profile.safe_private())
        return f"private of {known}" if safe else "private"
    return keyword_for_tag(tag) if dictionary_has_tag(tag) else "unknown"
