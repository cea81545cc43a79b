"""Which Key Object Selections are rejection notes, and what they name."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from dicomnode.study import Rejected
from dicomnode.workflow.notes import note_of
from tests.unit.workflow.notes import code, evidence, note


def images(*uids: str) -> list[Dataset]:
    made = []
    for uid in uids:
        image = Dataset()
        image.SOPInstanceUID, image.SeriesInstanceUID = uid, "1.9"
        made.append(image)
    return made


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("113001", Rejected.QUALITY),
        ("113037", Rejected.SAFETY),
        ("113038", Rejected.WORKLIST),
        ("113039", Rejected.EXPIRED),
    ],
)
def test_the_title_says_why(title: str, kind: Rejected) -> None:
    found = note_of(note("1.1", title, {"1.1": images("1.2", "1.3")}))
    assert found is not None
    assert (found.kind, found.named) == (kind, {"1.1": frozenset({"1.2", "1.3"})})


@pytest.mark.parametrize(
    ("title", "scheme"), [("113000", "DCM"), ("113010", "DCM"), ("113037", "99LOCAL"), ("113037", ""), ("", "DCM")]
)
def test_other_selections_reject_nothing(title: str, scheme: str) -> None:
    assert note_of(note("1.1", title, {"1.1": images("1.2")}, scheme=scheme)) is None


def test_what_is_no_selection_is_no_note() -> None:
    other = note("1.1", "113001", {"1.1": images("1.2")})
    other.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    assert note_of(other) is None
    assert note_of(Dataset()) is None


def test_several_studies_are_told_apart_and_content_alone_is_of_its_own() -> None:
    made = note("1.1", "113038", {"1.1": images("1.2"), "2.1": images("2.2")}, content=["1.7"])
    found = note_of(made)
    assert found is not None
    assert found.named == {"1.1": frozenset({"1.2", "1.7"}), "2.1": frozenset({"2.2"})}


def test_broken_sequences_name_nothing_and_raise_nothing() -> None:
    made = note("1.1", "113001", {"1.1": images("1.2")})
    empty = evidence("", images("9.9"))
    made.CurrentRequestedProcedureEvidenceSequence = [Dataset(), empty]
    made.ContentSequence = [Dataset()]
    made.ConceptNameCodeSequence = [Dataset(), code("113001")]
    found = note_of(made)
    assert found is not None
    assert found.named == {}
