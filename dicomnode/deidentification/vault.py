"""What the vault keeps of a source series: the attributes that a result must carry again, and the way back of its UIDs.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from dicomnode.deidentification.nesting import Node, datasets, items_of, own_encodings
from dicomnode.deidentification.values import ASCII, Element, texts
from dicomnode.errors import StudyError
from dicomnode.identity import IDENTITY_KEYWORDS, SourceIdentity

_TAGS: Final = tuple(tag for keyword in IDENTITY_KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)
_BINARY: Final = frozenset({"OB", "OW", "UN", "OD", "OF", "OL", "OV"})
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
        ``object-without-uids`` where there is no source.

    Notes
    -----
    Text that the declared character set cannot hold was read as UTF-8 or Latin-1; such a source comes back in UTF-8.
    """
    first = next(iter(sources), None)
    if first is None:
        raise StudyError("object-without-uids")
    slim = Dataset()
    for tag in _TAGS:
        if tag in first:
            slim[tag] = first.get_item(tag)
    attributes = _model(slim, own_encodings(first))
    if not _plain(slim) and not _holds(slim):
        attributes["00080005"] = {"vr": "CS", "Value": [_UTF_8]}
    return SourceIdentity(attributes=attributes, uids=dict(uids))


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
                target[f"{int(tag):08X}"] = {"vr": "SQ", "Value": values} if values else {"vr": "SQ"}
                pending += [(node.item(item), value) for item, value in zip(items, values, strict=True)]
            elif vr not in _BINARY and not tag.is_private:
                target[f"{int(tag):08X}"] = _element(vr, node, element)
    return root


def _vr(tag: int, element: Element) -> str:
    try:
        return dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        return element.VR or "UN"


def _element(vr: str, node: Node, element: Element) -> dict[str, Any]:
    if isinstance(element.value, int | float):
        return {"vr": vr, "Value": [element.value]}
    values = texts(element, vr, node.encodings)
    if not values:
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [_name(value) for value in values]}
    return {"vr": vr, "Value": [value or None for value in values]}


def _name(value: str) -> dict[str, str]:
    return {group: part for group, part in zip(_GROUPS, value.split("="), strict=False) if part}


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
