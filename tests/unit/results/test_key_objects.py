"""Key Object Selections: which slices they name, and what a rejection note says of what it retracts."""

from __future__ import annotations

import dataclasses

import pytest
from pydicom.dataset import Dataset

from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results import key_objects
from dicomnode.results.sources import read_sources
from dicomnode.texts import Words
from tests.unit.results import material


def referenced(document: Dataset) -> list[tuple[str, str]]:
    """Value type and object of every reference."""
    return [
        (item.ValueType, str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
        for item in document.ContentSequence
        if "ReferencedSOPSequence" in item
    ]


def said(document: Dataset) -> str:
    (text,) = [str(item.TextValue) for item in document.ContentSequence if item.ValueType == "TEXT"]
    return text


def test_the_slices_that_matter_and_no_others_are_named() -> None:
    sources = material.copies(material.source_series())
    selection = key_objects.build(read_sources(sources), material.findings_for(), (4, 1, 4), material.context_for())
    assert referenced(selection) == [("IMAGE", str(sources[index].SOPInstanceUID)) for index in (1, 4)]
    (evidence,) = selection.CurrentRequestedProcedureEvidenceSequence
    (series,) = evidence.ReferencedSeriesSequence
    assert {str(one.ReferencedSOPInstanceUID) for one in series.ReferencedSOPSequence} == {
        str(sources[index].SOPInstanceUID) for index in (1, 4)
    }
    assert selection.ConceptNameCodeSequence[0].CodeValue == "113000"
    assert said(selection) == "AI result, not reviewed by a physician: Right lung, Left lung, Both lungs"


def test_nothing_found_has_no_names() -> None:
    nothing = dataclasses.replace(material.findings_for(), regions=())
    series = read_sources(material.copies(material.source_series()))
    selection = key_objects.build(series, nothing, (1,), material.context_for())
    assert said(selection) == "AI result, not reviewed by a physician"


@pytest.mark.parametrize(
    ("language", "wrong", "words"),
    [
        ("en", False, "Replaced by a newer AI result"),
        ("en", True, "found wrong"),
        ("de", True, "als falsch erkannt"),
        ("zh", False, "已被"),
    ],
)
def test_a_rejection_note_says_why(language: str, *, wrong: bool, words: str) -> None:
    rejected = []
    for number, form in enumerate((Form.BINARY, Form.COMPREHENSIVE, Form.CAPTURE, Form.PDF, Form.KEY_OBJECTS)):
        header = Dataset()
        header.SOPClassUID, header.SOPInstanceUID = SOP_CLASSES[form], f"1.2.3.{number}"
        header.StudyInstanceUID, header.SeriesInstanceUID = "1.2", f"1.2.4.{number}"
        rejected.append(header)
    context = dataclasses.replace(material.context_for(), words=Words(language))
    note = key_objects.build_rejection(rejected, material.findings_for().algorithm, context, wrong=wrong)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert words in said(note)
    kinds = ["IMAGE", "COMPOSITE", "IMAGE", "COMPOSITE", "COMPOSITE"]
    assert referenced(note) == [(kind, f"1.2.3.{number}") for number, kind in enumerate(kinds)]
