"""What an outcome says: what was sought, what came of it and why, in words and in codes."""

from __future__ import annotations

import dataclasses

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import REASONS
from dicomnode.results import outcome
from dicomnode.results.outcome import lines_of
from dicomnode.results.report import Predecessor
from dicomnode.results.sources import read_sources
from dicomnode.texts import Words
from tests.conformance.results_material import full_findings
from tests.unit.results import material

OLD = Predecessor(study_instance_uid="1.2", series_instance_uid="1.3", sop_instance_uid="1.4", sop_class_uid="1.5")


def items(document: Dataset) -> list[Dataset]:
    """Content items of the sections."""
    return [
        item for section in document.ContentSequence if "ContentSequence" in section for item in section.ContentSequence
    ]


def codes(document: Dataset, concept: str) -> list[Dataset]:
    """Items under a concept."""
    return [item for item in items(document) if item.ConceptNameCodeSequence[0].CodeValue == concept]


def texts(document: Dataset) -> list[str]:
    return [str(item.TextValue) for item in items(document) if item.ValueType == "TEXT"]


def built(code: str, language: str = "en", predecessor: Predecessor | None = None) -> Dataset:
    context = dataclasses.replace(material.context_for(), words=Words(language))
    header = material.copies(material.source_series())[2]
    return outcome.build_outcome(code, header, material.findings_for(), context, predecessor)


@pytest.mark.parametrize("code", ["nothing-found", "geometry-irregular-spacing", "pixel-missing"])
def test_what_was_sought_is_coded_with_its_side(code: str) -> None:
    targets = codes(built(code), "123014")
    assert [item.ConceptCodeSequence[0].CodeValue for item in targets] == ["39607008", "39607008"]
    sides = [item.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning for item in targets]
    assert sides == ["Right", "Left"]


def test_nothing_found_has_no_reason() -> None:
    document = built("nothing-found")
    assert [item.ConceptCodeSequence[0].CodeValue for item in codes(document, "OUTCOME")] == ["NOFINDING"]
    assert codes(document, "REASON") == []
    assert any(text.startswith("No finding") for text in texts(document))
    assert "Looked for: Right lung, Left lung." in texts(document)


@pytest.mark.parametrize(
    ("code", "keyword"), [("pixel-missing", "CodeValue"), ("geometry-irregular-spacing", "LongCodeValue")]
)
def test_not_processed_names_its_reason(code: str, keyword: str) -> None:
    document = built(code)
    assert [item.ConceptCodeSequence[0].CodeValue for item in codes(document, "OUTCOME")] == ["NOTPROCESSED"]
    (reason,) = codes(document, "REASON")
    assert reason.ConceptCodeSequence[0][keyword].value == code
    assert reason.ConceptCodeSequence[0].CodeMeaning == REASONS[code].text[:64]
    assert f"Not processed: {REASONS[code].text}." in texts(document)
    assert document.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DICOMNODE"


@pytest.mark.parametrize(
    ("language", "words"), [("de", "Nicht verarbeitet: "), ("fr", "Non traité : "), ("zh", "未处理:")]
)
def test_it_is_told_in_the_language_of_the_results(language: str, words: str) -> None:
    document = built("pixel-missing", language)
    assert any(text.startswith(words) for text in texts(document))
    assert document.ContentSequence[0].ConceptCodeSequence[0].CodeValue == language


def test_what_it_replaces_is_named() -> None:
    (item,) = built("nothing-found", predecessor=OLD).PredecessorDocumentsSequence
    assert item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPClassUID == "1.5"
    assert "PredecessorDocumentsSequence" not in built("nothing-found")


def test_the_measurements_as_text_say_every_value() -> None:
    found = full_findings(place=(0.0, 0.0, 100.0))
    lines = lines_of(found, Words())
    right = next(line for line in lines if line.startswith("Right lung: "))
    assert right.startswith("Right lung: Volume 2875.5 ml; Mean lung density -845.25 HU; ")
    assert "Pulmonary emphysema: Present (probability 93 %)" in right
    assert "Pulmonary emphysema: Present (probability 93 %)" in lines
    assert "Nodule 1: Nodule 8.0 mm (probability 71 %)" in lines
    series = read_sources(material.copies(material.source_series()))
    context = material.context_for()
    document = outcome.build_report(series, found, (1, 3), context, found=frozenset({1}), predecessor=OLD)
    assert set(lines) <= set(texts(document))
    assert "Left lung was not found." in texts(document)
    images = [item for item in items(document) if item.ValueType == "IMAGE"]
    named = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert named == [series.headers[index].SOPInstanceUID for index in (1, 3)]
    assert "PredecessorDocumentsSequence" in document
