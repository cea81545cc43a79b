"""What the vault keeps of a source series: the attributes that a result must carry again, and the way back of its UIDs.

Pure. A value is kept as it was written, also where its VR does not allow it (decision 23); padding is no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicomnode.deidentification.nesting import Node, datasets, items_of, own_encodings
from dicomnode.deidentification.values import ASCII, ENCODED_VRS, STRING_VRS, Element, written
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.identity import FURTHER_KEYWORDS, REQUIRED_KEYWORDS, SourceIdentity

_REQUIRED: Final = tuple(tag for keyword in REQUIRED_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)
_FURTHER: Final = tuple(tag for keyword in FURTHER_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)
#: VRs whose values are numbers of a fixed width; bulk data and what has no known VR is no identity.
_NUMBERS: Final = frozenset({"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"})
_TEXTS: Final = STRING_VRS - {"UN"}
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_UTF_8: Final = "ISO_IR 192"


def source_identity(sources: Iterable[Dataset], uids: Mapping[str, str]) -> SourceIdentity:
    """Identity of a series, from its first object.

    Parameters
    ----------
    sources
        Data Sets as received.
    uids
        New UID → old UID of all of them, from `apply.Deidentified`.

    Raises
    ------
    StudyError
        ``object-without-uids`` where there is no source; ``identity-unwritable`` where what a result must have
        would say something else than the source has; what it only may have is then left out.

    Notes
    -----
    Text that the declared character set cannot hold was read as UTF-8 or Latin-1; such a source comes back in UTF-8.
    """
    first = next(iter(sources), None)
    if first is None:
        raise StudyError("object-without-uids")
    slim, encodings = _only(first, _REQUIRED), own_encodings(first)
    with hushed():
        attributes = _model(slim, encodings)
        for tag in _FURTHER:
            if tag in first:
                try:
                    attributes |= _model(_only(first, (tag,)), encodings)
                except StudyError:
                    continue
                slim[tag] = first.get_item(tag)
    if not _plain(slim) and not _holds(slim):
        attributes["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
    return SourceIdentity(attributes=attributes, uids=dict(uids))


def _only(dataset: Dataset, tags: Iterable[int]) -> Dataset:
    """Some elements of a Data Set, as they came."""
    slim = Dataset()
    for tag in tags:
        if tag in dataset:
            slim[tag] = dataset.get_item(tag)
    return slim


def _model(dataset: Dataset, encodings: tuple[str, ...]) -> dict[str, Any]:
    """Data Set in the DICOM JSON Model (PS3.18 F.2), values as written."""
    root: dict[str, Any] = {}
    pending = [(Node(dataset, encodings), root)]
    while pending:
        node, target = pending.pop()
        for tag in sorted(node.dataset.keys()):
            element: Element = node.dataset.get_item(tag)
            vr = _vr(tag, element)
            if vr == "SQ":
                items = items_of(node.dataset, tag) or []
                values: list[dict[str, Any]] = [{} for _ in items]
                if values:
                    target[f"{int(tag):08X}"] = {"vr": "SQ", "Value": values}
                elif target is root:  # within an item an empty sequence says nothing, and most may not stand empty
                    target[f"{int(tag):08X}"] = {"vr": "SQ"}
                pending += [(node.item(item), value) for item, value in zip(items, values, strict=True)]
            elif (vr in _TEXTS or vr in _NUMBERS) and _is_kept(tag):
                target[f"{int(tag):08X}"] = _element(tag, vr, node, element)
    return root


def _is_kept(tag: BaseTag) -> bool:
    """Not private, no group length, none of a command or a file's header."""
    return not tag.is_private and tag.element != 0 and 0x0008 <= tag.group < 0xFFFE


def _vr(tag: int, element: Element) -> str:
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return element.VR or "UN"


def _element(tag: BaseTag, vr: str, node: Node, element: Element) -> dict[str, Any]:
    if vr in _NUMBERS:
        return {"vr": vr, "Value": values} if (values := _numbers(node.dataset, tag, vr)) else {"vr": vr}
    values = _written(element, vr, node.encodings)
    if not values:
        return {"vr": vr}
    kept = [_name(value) for value in values] if vr == "PN" else [value or None for value in values]
    if _said(kept) != [value.rstrip("=") if vr == "PN" else value for value in values]:
        raise StudyError("identity-unwritable", attribute=(keyword_for_tag(tag) or "unknown")[:48])
    return {"vr": vr, "Value": kept}


def _numbers(dataset: Dataset, tag: BaseTag, vr: str) -> list[Any]:
    """Values of fixed width; none where the bytes hold no whole number of them."""
    try:
        value = dataset[tag].value
        values = list(value) if isinstance(value, MultiValue | list) else [] if value in (None, "") else [value]
        return [f"{int(one):08X}" if vr == "AT" else one + 0 for one in values]
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes make the parser do, they are no numbers
        return []


def _written(element: Element, vr: str, encodings: tuple[str, ...]) -> list[str]:
    """Values of a text as written; of a VR without a character set every byte is a letter, as it is written again."""
    value = element.value
    if isinstance(value, bytes) and vr not in ENCODED_VRS:
        parts = [part.strip(" \0") for part in value.decode("iso8859").split("\\")]
        return parts if any(parts) else []
    return written(element, vr, encodings)  # what goes into results is what came, character by character


def _name(value: str) -> dict[str, str]:
    """Component groups; the model has three, and what a name has beyond them stays with the last."""
    return {group: part for group, part in zip(_GROUPS, value.split("=", 2), strict=False) if part}


def _said(kept: list[Any]) -> list[str]:
    """What a reader of the model takes its values to say."""
    return [
        "=".join(value.get(group, "") for group in _GROUPS).rstrip("=") if isinstance(value, dict) else value or ""
        for value in kept
    ]


def _plain(dataset: Dataset) -> bool:
    """Whether all text is of the default repertoire."""
    return all(
        value.isascii() and b"\x1b" not in value
        for node in datasets(dataset)
        for tag in node.dataset.keys()  # noqa: SIM118 - a Data Set iterates over parsed elements
        if isinstance(value := node.dataset.get_item(tag).value, bytes)
    )


def _holds(dataset: Dataset) -> bool:
    """Whether every text can be read in the character set that its Data Set declares."""
    for node in datasets(dataset):
        for tag in node.dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            value = node.dataset.get_item(tag).value
            if isinstance(value, bytes) and b"\x1b" not in value and not value.isascii():
                try:
                    value.decode((node.encodings or ASCII)[0])
                except (UnicodeDecodeError, LookupError):
                    return False
    return True
