"""Rejection notes (IHE IOCM, RAD TF-2 4.66): which Key Object Selection is one, and which instances it names.

Pure. A note is told by its title alone (PS3.16 CID 7011); other selections reject nothing. What follows stands in `rejections`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from pydicom import Dataset, Sequence

from dicomnode.study import InstanceRow, InstanceState, Rejected

#: Key Object Selection Document Storage.
KEY_OBJECT_SELECTION: Final = "1.2.840.10008.5.1.4.1.1.88.59"
#: Titles of rejection notes, all of DCM.
TITLES: Final = MappingProxyType(
    {
        "113001": Rejected.QUALITY,
        "113037": Rejected.SAFETY,
        "113038": Rejected.WORKLIST,
        "113039": Rejected.EXPIRED,
    }
)
#: By how much a clock may be behind what came before without being wrong.
ADJUSTED: Final = timedelta(minutes=1)


def may_be_note(row: InstanceRow) -> bool:
    """Whether an instance is to be judged: it counts, and is a Key Object Selection."""
    return row.state is InstanceState.CURRENT and row.sop_class_uid == KEY_OBJECT_SELECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionNote:
    """What a note says.

    Attributes
    ----------
    named
        SOP Instance UIDs by Study Instance UID.
    """

    kind: Rejected
    named: Mapping[str, frozenset[str]] = field(repr=False)


def note_of(dataset: Dataset) -> RejectionNote | None:
    """A Key Object Selection as a rejection note; None where it is none.

    Instances are named in Current Requested Procedure Evidence (PS3.3 C.17.2.3), study by study. What the content alone
    names, which no note should do, is taken for the note's own study.
    """
    titles = [TITLES.get(str(one.get("CodeValue") or "").strip()) for one in _items(dataset, "ConceptNameCodeSequence")
              if str(one.get("CodingSchemeDesignator") or "").strip() == "DCM"]  # fmt: skip
    kind = next((one for one in titles if one is not None), None)
    if kind is None or str(dataset.get("SOPClassUID") or "") != KEY_OBJECT_SELECTION:
        return None
    named: dict[str, set[str]] = {}
    for study in _items(dataset, "CurrentRequestedProcedureEvidenceSequence"):
        series = _items(study, "ReferencedSeriesSequence")
        uids = {uid for one in series for uid in _references(one)}
        named.setdefault(_uid(study, "StudyInstanceUID"), set()).update(uids)
    known = {uid for uids in named.values() for uid in uids}
    content = {uid for one in _items(dataset, "ContentSequence") for uid in _references(one)}
    named.setdefault(_uid(dataset, "StudyInstanceUID"), set()).update(content - known)
    return RejectionNote(kind=kind, named={study: frozenset(uids) for study, uids in named.items() if study and uids})


def _references(item: Dataset) -> Iterator[str]:
    for reference in _items(item, "ReferencedSOPSequence"):
        if uid := _uid(reference, "ReferencedSOPInstanceUID"):
            yield uid


def _items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """Items of a sequence; none where it is absent or no sequence."""
    value = dataset.get(keyword)
    yield from value if isinstance(value, Sequence) else ()


def _uid(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip("\0 ")
