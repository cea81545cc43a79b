"""Truth before sending: what is about to leave is decoded again and compared with what it was made from.

May live here: proofs on decoded objects; each returns nothing or raises one coded reason. Nothing is mended here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final

from pydicom import config
from pydicom._uid_dict import UID_dictionary
from pydicom.datadict import dictionary_has_tag, dictionary_VM
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import PersonName, validate_value

from dicomnode.encoded import Buffer, Limits, check_budget
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.forms import SOP_CLASSES
from dicomnode.identity import IDENTITY_KEYWORDS
from dicomnode.results.definitions import IN_SPACE, TYPE_1, TYPE_2
from dicomnode.results.identity import DOCUMENTS, request_item

#: Our own objects may be large; that they are whole is what is asked.
_LIMITS: Final = Limits(
    header_scan_bytes=1024, maximum_nesting=32, maximum_items=50_000_000, maximum_inflated_bytes=1024
)
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
#: VRs of text that the library turns into something else (PS3.5 6.2).
_WRITTEN: Final = frozenset({"DS", "IS", "UI"})
_NOT_COMPARED: Final = frozenset({"SpecificCharacterSet"})
#: Concepts of PS3.16 Annex D.
_IMAGING_MEASUREMENTS: Final = "126010"
_TRACKING_UID: Final = "112040"
_REFERENCED_SEGMENT: Final = "121191"
#: VRs of text, and the control characters that each lets in; escapes of ISO 2022 are gone once a text is decoded.
_TEXTS: Final = MappingProxyType(
    dict.fromkeys(("AE", "CS", "LO", "PN", "SH", "UC"), "") | dict.fromkeys(("LT", "ST", "UT"), "\t\n\f\r")
)
#: UIDs that the standard assigns (PS3.6 Annex A), retired ones too, and classes of ours that came later than the dictionary.
_STANDARD: Final = frozenset(UID_dictionary) | frozenset(SOP_CLASSES.values())
#: Elements that carry the source's own values, faults and all: equality is asked of them, not validity.
_COPIED: Final = frozenset(
    Tag(keyword) for keyword in (*IDENTITY_KEYWORDS, "ReferencedRequestSequence") if keyword != "StudyInstanceUID"
)


def decode(encoded: Buffer) -> Dataset:
    """Decode an object of our own (Explicit VR Little Endian) without trusting anything but its bytes.

    Raises
    ------
    StudyError
        ``result-invalid`` if the bytes are no Data Set.
    """
    try:
        check_budget(encoded, ExplicitVRLittleEndian, _LIMITS)
        with hushed():
            dataset = read_dataset(BytesIO(encoded), is_implicit_VR=False, is_little_endian=True)
            settle(dataset)
    except (StudyError, ValueError, TypeError, LookupError, OSError, NotImplementedError):
        raise StudyError("result-invalid", check="decode") from None
    return dataset


def settle(dataset: Dataset) -> None:
    """Convert every value; what should be a number or a UID and is none stays text as written, a letter for a byte."""
    pending = [dataset]
    while pending:
        current = pending.pop()
        for tag in list(current.keys()):
            raw: Any = current.get_item(tag)
            if isinstance(raw, RawDataElement) and raw.VR in _WRITTEN:
                current[tag] = _written(raw.tag, str(raw.VR), _parted(raw.value or b""))
            elif (element := current[tag]).VR == "SQ":
                pending.extend(element.value)


def _written(tag: BaseTag, vr: str, value: str | list[str]) -> DataElement:
    letters = "".join(value)
    if letters.isascii() and (vr != "UI" or letters == "".join(letters.split())):
        with suppress(ValueError, TypeError, OverflowError):
            return DataElement(tag, vr, value, validation_mode=config.IGNORE)
    return DataElement(tag, vr, value, already_converted=True)


def _parted(value: bytes) -> str | list[str]:
    parts = [part.strip(" \0") for part in value.decode("iso8859").split("\\")]
    return parts[0] if len(parts) == 1 else parts


def prove_identity(result: Dataset, source: Dataset) -> None:
    """Patient, study and request equal the source's after decoding; nothing is added (0012,006x included).

    Parameters
    ----------
    source
        A Data Set with the attributes of `IDENTITY_KEYWORDS` that the source has, and its Frame of Reference UID
        where the result has one.

    Raises
    ------
    StudyError
        ``result-identity-differs`` with the first keyword that differs.
    """
    is_report = result.SOPClassUID in DOCUMENTS
    for keyword in IDENTITY_KEYWORDS:
        if keyword in _NOT_COMPARED:
            continue
        if keyword == "RequestAttributesSequence" and is_report:
            _prove_request(result, source)
        elif not says_the_same(result, source, keyword):
            raise StudyError("result-identity-differs", attribute=keyword)
    keyword = "FrameOfReferenceUID"
    if keyword in result and not says_the_same(result, source, keyword):
        raise StudyError("result-identity-differs", attribute=keyword)


def says_the_same(result: Dataset, source: Dataset, keyword: str) -> bool:
    """Whether an attribute has the same values, or is empty or absent in both."""
    return _plain(result.get(keyword)) == _plain(source.get(keyword))


def _prove_request(report: Dataset, source: Dataset) -> None:
    wanted = [request_item(item, source) for item in source.get("RequestAttributesSequence") or ()]
    if _plain(report.get("ReferencedRequestSequence")) != _plain(wanted):
        raise StudyError("result-identity-differs", attribute="ReferencedRequestSequence")


def _plain(value: object) -> object:
    """Value in a form that compares: empty is absent, numbers as written, sequences by their items."""
    if value is None or value == "":
        return None
    if isinstance(value, Dataset):
        return {
            int(element.tag): plain
            for element in value
            if not element.tag.is_private and (plain := _plain(element.value)) is not None
        }
    if isinstance(value, PersonName):
        return str(value).rstrip("=^ ") or None  # empty components and groups at the end say nothing (PS3.5 6.2.1)
    if isinstance(value, int | float):
        return str(getattr(value, "original_string", None) or repr(float(value))).strip()
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return _text(value) or None
    items = [_plain(item) for item in value]
    return items or None


def _text(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.strip(" \x00")


def prove_references(result: Dataset, known: AbstractSet[str]) -> None:
    """Every UID of the result, nested and private ones too, is known or the standard's own.

    What is neither of the source, minted for this result, nor well-known would be somebody's: most likely a pseudonym
    that nothing maps back.

    Parameters
    ----------
    known
        UIDs of the source series (study, series, objects, Frame of Reference) and those minted for the results made
        with this one.

    Raises
    ------
    StudyError
        ``result-reference-dangling``.
    """
    for element in _all_elements(result, skip=_COPIED):
        if element.VR == "UI":
            for uid in map(str, _values(element)):
                if uid not in known and uid not in _STANDARD:
                    raise StudyError("result-reference-dangling", attribute=element.keyword or "private")


def tracked(segmentation: Dataset) -> dict[int, str]:
    """Segment Number → Tracking UID."""
    items = [item for item in segmentation.SegmentSequence if "TrackingUID" in item]  # a background has none
    return {int(item.SegmentNumber): str(item.TrackingUID) for item in items}


def prove_report(report: Dataset, segments: Mapping[int, str]) -> None:
    """Every Tracking UID has a contour, and a segment that a group names is the one with the same Tracking UID.

    Viewers go black over a Tracking UID without a contour.

    Parameters
    ----------
    segments
        Segment Number → Tracking UID of the segmentation.

    Raises
    ------
    StudyError
        ``result-invalid``.
    """
    drawn, named = set(), set()
    for group in _groups(report):
        tracking = {str(item.UID) for item in group if _concept(item) == _TRACKING_UID}
        named |= tracking
        if any(item.ValueType == "SCOORD" for item in group):
            drawn |= tracking
        for item in group:
            if _concept(item) == _REFERENCED_SEGMENT:
                number = int(item.ReferencedSOPSequence[0].ReferencedSegmentNumber)
                if tracking != {segments.get(number)}:
                    raise StudyError("result-invalid", check="segment-tracking")
    if not named or named != drawn:
        raise StudyError("result-invalid", check="tracking-without-contour")


def _groups(report: Dataset) -> Iterator[Sequence[Dataset]]:
    for container in report.ContentSequence:
        if _concept(container) == _IMAGING_MEASUREMENTS:
            for group in container.ContentSequence:
                yield group.ContentSequence


def _concept(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def prove_valid(result: Dataset, uids: Mapping[str, str]) -> None:
    """Types 1 and 2, value lengths and forms, UIDs; and no UID of the pseudonymous space is left.

    Parameters
    ----------
    uids
        Pseudonymous UID → original UID. An original is let through with its faults: it must stay what it is.

    Raises
    ------
    StudyError
        ``result-invalid`` with the keyword that breaks its definition.
    """
    sop_class_uid = str(result.SOPClassUID)
    needed = TYPE_1[sop_class_uid] + (IN_SPACE if _has_planes(result) else ())
    for keyword in needed:
        if keyword not in result or result[keyword].is_empty:
            raise StudyError("result-invalid", attribute=keyword)
    for keyword in TYPE_2[sop_class_uid]:
        if keyword not in result:
            raise StudyError("result-invalid", attribute=keyword)
    originals = set(uids.values())
    pseudonyms = uids.keys() - originals
    proved: set[tuple[str, str]] = set()
    for element in _all_elements(result, skip=_COPIED):
        if element.VR == "UI":
            _prove_uids(element, pseudonyms, originals)
        elif element.VR not in {"SQ", "OB", "OW"}:
            _prove_values(element, proved)


def _has_planes(result: Dataset) -> bool:
    groups = result.get("PerFrameFunctionalGroupsSequence")
    return bool(groups) and "PlanePositionSequence" in groups[0]


def _prove_uids(element: DataElement, pseudonyms: AbstractSet[str], originals: AbstractSet[str]) -> None:
    for uid in map(str, _values(element)):
        well_formed = len(uid) <= 64 and _UID.fullmatch(uid)
        if uid in pseudonyms or not (well_formed or uid in originals):
            raise StudyError("result-invalid", attribute=element.keyword or "UID")


def _prove_values(element: DataElement, proved: set[tuple[str, str]]) -> None:
    """Lengths and forms; a report says the same thousands of times, so what was proved is remembered."""
    values = _values(element)
    sound = not _too_many(element, len(values))
    try:
        for value in values:
            known = (element.VR, str(value))
            if known not in proved:
                validate_value(element.VR, known[1] if element.VR in {"IS", "DS"} else value, config.RAISE)
                sound = sound and not _controls(element.VR, value)
                proved.add(known)
    except ValueError:
        sound = False
    if not sound:
        raise StudyError("result-invalid", attribute=element.keyword or "private")


def _too_many(element: DataElement, count: int) -> bool:
    """Whether there are more values than PS3.6 lets the attribute have: a backslash parts one text into two."""
    if not dictionary_has_tag(element.tag):
        return False
    most = dictionary_VM(element.tag).rpartition("-")[2]
    return most.isdecimal() and count > int(most)


def _controls(vr: str, value: object) -> bool:
    """Whether a text holds a control character that its VR does not let in (PS3.5 6.2)."""
    return vr in _TEXTS and any(unicodedata.category(one) == "Cc" and one not in _TEXTS[vr] for one in str(value))


def _values(element: DataElement) -> Sequence[object]:
    if element.is_empty:
        return ()
    return list(element.value) if isinstance(element.value, MultiValue | list) else [element.value]


def _all_elements(dataset: Dataset, *, skip: AbstractSet[int], seen: set[int] | None = None) -> Iterator[DataElement]:
    """Every element but those skipped; of an item that stands in several places, once."""
    seen = set() if seen is None else seen
    for found in list(dataset.values()):
        element = found if isinstance(found, DataElement) else dataset[found.tag]
        if element.tag in skip:
            continue
        yield element
        if element.VR == "SQ":
            for item in element.value:
                if id(item) not in seen:
                    seen.add(id(item))
                    yield from _all_elements(item, skip=skip, seen=seen)
