"""Giving a result the identity of its source back: UIDs, patient, study, request, character set.

May live here: the way from pseudonymous space to the source's. Minted UIDs stay; nothing of the pseudonym may remain,
which `checks` proves afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.identity import IDENTITY_KEYWORDS, SourceIdentity
from dicomnode.results import charset, model_json
from dicomnode.results.sources import EMPTY_IDENTITY

_CHARACTER_SET: Final = "SpecificCharacterSet"
#: Kept of a result where the vault has none: UIDs are mapped, not copied.
_MAPPED: Final = "StudyInstanceUID"
#: Documents: they name the request in Referenced Request Sequence (C.17.2, C.17.6.2), which images do not have.
DOCUMENTS: Final = frozenset(
    SOP_CLASSES[form] for form in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D, Form.BASIC_TEXT, Form.KEY_OBJECTS)
)
#: Attributes of an item of Referenced Request Sequence (PS3.3 C.17.2), type 2 unless `_REQUEST_OPTIONAL`.
_REQUEST_EMPTY: Final = (
    "AccessionNumber",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "RequestedProcedureID",
    "RequestedProcedureDescription",
)
_REQUEST_OPTIONAL: Final = (
    "IssuerOfAccessionNumberSequence",
    "OrderPlacerIdentifierSequence",
    "OrderFillerIdentifierSequence",
    "ReasonForTheRequestedProcedure",
    "ReasonForRequestedProcedureCodeSequence",
)


def source_attributes(identity: SourceIdentity) -> Dataset:
    """Attributes of the vault as a Data Set.

    Raises
    ------
    StudyError
        ``result-identity-differs`` if the vault's entry cannot be read.
    """
    return model_json.read(identity.attributes)


def restore(dataset: Dataset, identity: SourceIdentity, texts: AbstractSet[tuple[str, str]] = frozenset()) -> Dataset:
    """A new Data Set: the same result in the space of its source.

    Parameters
    ----------
    dataset
        Result in pseudonymous space; it is not changed, though values are shared.
    texts
        (VR, value) of every text beside ASCII that will stand in the object and does not in the Data Set.

    Raises
    ------
    StudyError
        ``result-identity-differs`` if the vault's entry cannot be read.
    """
    source = source_attributes(identity)
    restored = _map_uids(dataset, identity.uids)
    for keyword in IDENTITY_KEYWORDS:
        if keyword in restored and keyword != _MAPPED:
            delattr(restored, keyword)
        if keyword in source and keyword != _CHARACTER_SET and not _is_empty_sequence(source[keyword]):
            restored.add(source[keyword])
    for keyword in EMPTY_IDENTITY:
        if keyword not in restored:
            setattr(restored, keyword, "")
    if restored.SOPClassUID in DOCUMENTS:
        _turn_request(restored)
    _write_character_set(restored, source, texts)
    return restored


def _is_empty_sequence(element: DataElement) -> bool:
    """Whether it says nothing that its absence does not, and may not stand empty in a result."""
    return element.VR == "SQ" and not element.value


def _map_uids(dataset: Dataset, uids: Mapping[str, str]) -> Dataset:
    """Copy with every UID mapped, in every sequence; other elements are shared."""
    copy = Dataset()
    for element in dataset:
        if element.VR == "SQ":
            items = [_map_uids(item, uids) for item in element.value]
            copy.add(DataElement(element.tag, "SQ", items))
        elif element.VR == "UI" and element.value:
            copy.add(DataElement(element.tag, "UI", _mapped(element.value, uids), validation_mode=config.IGNORE))
        else:
            copy.add(element)
    return copy


def _mapped(value: object, uids: Mapping[str, str]) -> str | list[str]:
    if isinstance(value, MultiValue | list):
        return [uids.get(str(item), str(item)) for item in value]
    return uids.get(str(value), str(value))


def _turn_request(report: Dataset) -> None:
    """Request Attributes become items of Referenced Request Sequence."""
    requests = report.get("RequestAttributesSequence")
    if "RequestAttributesSequence" in report:
        del report.RequestAttributesSequence
    if requests:
        report.ReferencedRequestSequence = [request_item(item, report) for item in requests]


def request_item(attributes: Dataset, report: Dataset) -> Dataset:
    """Item of Referenced Request Sequence out of one of Request Attributes Sequence (PS3.3 10.6)."""
    item = Dataset()
    item.add(attributes["StudyInstanceUID"] if attributes.get("StudyInstanceUID") else report["StudyInstanceUID"])
    item.add(attributes.get(Tag("ReferencedStudySequence")) or DataElement(Tag("ReferencedStudySequence"), "SQ", []))
    for keyword in _REQUEST_EMPTY:
        if keyword in attributes:
            item.add(attributes[keyword])
        else:
            setattr(item, keyword, "")
    if not item.AccessionNumber and "AccessionNumber" in report:
        item.add(report["AccessionNumber"])
    codes = Tag("RequestedProcedureCodeSequence")
    item.add(attributes.get(codes) or DataElement(codes, "SQ", []))
    for keyword in _REQUEST_OPTIONAL:
        if keyword in attributes:
            item.add(attributes[keyword])
    return item


def _write_character_set(restored: Dataset, source: Dataset, texts: AbstractSet[tuple[str, str]]) -> None:
    terms = source.get(_CHARACTER_SET) or ()
    given = (terms,) if isinstance(terms, str) else tuple(str(term or "") for term in terms)
    chosen = charset.choose(given, charset.texts_of(restored) | texts)
    if chosen:
        restored.SpecificCharacterSet = chosen[0] if len(chosen) == 1 else list(chosen)
