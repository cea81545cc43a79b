"""The report's bytes are those that highdicom gives: for every kind of region, language, character set and source."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode import coding
from dicomnode.encoded import encode_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.findings import Detection, Evaluation, Findings, Measurement
from dicomnode.forms import Form
from dicomnode.results import content, report, segmentation
from dicomnode.results.elements import element
from dicomnode.results.encode import ResultInput
from dicomnode.results.identity import restore
from dicomnode.texts import LANGUAGES, Words
from tests.unit.results import highdicom_report, material

EXPLICIT = "1.2.840.10008.1.2.1"
NODULE = coding.sct("27925004", "Nodule")
JUDGED = coding.private("JUDGED", "Odd finding")


def both(
    originals: list[Dataset] | None = None,
    *,
    words: Words | None = None,
    form: Form = Form.COMPREHENSIVE,
    linked: bool = True,
    empty: bool = False,
    **changes: Any,
) -> tuple[bytes, bytes]:
    """Our bytes and the library's for the same input."""
    originals = originals or material.source_series()
    given: ResultInput = material.input_for(originals, **changes)
    context = dataclasses.replace(material.context_for(), words=words or Words(), form=form.value)
    identity = material.identity_of(originals)
    rest: dict[str, Any] = {"form": form, "linked": linked, "predecessor": given.predecessor}
    with hushed():
        seg = None if empty else segmentation.build(given.labels, given.sources, given.findings, context)
        made = report.build(seg, given.sources, given.findings, given.contours, context, **rest)
        theirs = highdicom_report.build(seg, given.sources, given.findings, given.contours, context, **rest)
        return report.encode(made, identity)[1], encode_dataset(restore(theirs, identity), EXPLICIT)


def told(**changes: Any) -> Findings:
    """Findings with everything that a model may say."""
    base = material.findings_for(remarks=("A remark.",))
    values = base.regions[0].measurements
    sure = Evaluation(concept=NODULE, value=JUDGED, probability=0.125)
    judged = dataclasses.replace(base.regions[0], evaluations=(sure, Evaluation(concept=JUDGED, value=NODULE)))
    places = (
        Detection(
            number=1,
            label="Ball",
            finding=NODULE,
            site=coding.LUNG,
            laterality=coding.LEFT,
            position=(-10.25, -5.5, 105.0),
            diameter_mm=4.2,
            probability=0.9,
            measurements=values[:2],
        ),
        Detection(number=2, label="Point", finding=JUDGED, site=None, position=(-8.0, -4.0, 107.5)),
    )
    plain = dataclasses.replace(base.regions[1], measurements=(), laterality=None)
    regions = (judged, plain, base.regions[2])
    return dataclasses.replace(base, regions=regions, evaluations=(sure,), detections=places, **changes)


@pytest.mark.parametrize("form", [Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D])
@pytest.mark.parametrize("linked", [True, False])
def test_regions_detections_and_judgements(form: Form, linked: bool) -> None:
    ours, theirs = both(form=form, linked=linked, findings=told())
    assert ours == theirs


def test_detections_without_a_segmentation() -> None:
    alone = dataclasses.replace(told(), regions=())
    ours, theirs = both(form=Form.COMPREHENSIVE_3D, empty=True, findings=alone, contours=())
    assert ours == theirs


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language(language: str) -> None:
    ours, theirs = both(words=Words(language), findings=told())
    assert ours == theirs


@pytest.mark.parametrize(
    ("terms", "label"),
    [
        (["ISO_IR 100"], "Größe"),
        (["ISO_IR 100"], "右肺"),
        (["ISO_IR 192"], "右肺, Größe"),
        (["GB18030"], "右肺"),
        (["ISO_IR 144"], "Лёгкое"),
        (["", "ISO 2022 IR 87"], "肺 right"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "肺ﾊｲ"),
        (["ISO_IR 6"], "plain"),
    ],
)
def test_every_letter_in_the_sources_character_set_or_in_utf_8(terms: list[str], label: str) -> None:
    originals = material.source_series()
    for original in originals:
        original.SpecificCharacterSet = terms if len(terms) > 1 else terms[0]
        original.PatientName = original.ReferringPhysicianName = "A^B"
    findings = told()
    named = dataclasses.replace(findings.regions[0], label=label)
    findings = dataclasses.replace(
        findings, regions=(named, *findings.regions[1:]), remarks=(f"{label} ~ \\ {label}.",)
    )
    ours, theirs = both(originals, findings=findings)
    assert ours == theirs


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "OT"])
def test_every_kind_of_entry_in_the_image_library(modality: str) -> None:
    originals = material.source_series(orientation=(0.96, 0.28, 0.0, -0.168, 0.576, -0.8))
    kinds = {"MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128", "OT": "1.2.840.10008.5.1.4.1.1.7"}
    for original in originals:
        original.Modality = modality
        original.SOPClassUID = kinds.get(modality, original.SOPClassUID)
        original.SliceThickness = "2.50"
    ours, theirs = both(originals)
    assert ours == theirs


def test_frames_of_one_image() -> None:
    originals = material.source_series()
    for number, original in enumerate(originals, start=1):
        original.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
        original.SOPInstanceUID = originals[0].SOPInstanceUID
        original.ReferencedFrameNumber = number
    ours, theirs = both(originals, findings=told())
    assert ours == theirs


@pytest.mark.parametrize("calibrated", [True, False])
def test_an_image_that_lies_nowhere(calibrated: bool) -> None:
    (original,) = material.source_series(1)
    original.SOPClassUID, original.Modality = "1.2.840.10008.5.1.4.1.1.1", "CR"
    del original.ImagePositionPatient, original.ImageOrientationPatient, original.FrameOfReferenceUID
    if not calibrated:
        del original.PixelSpacing
    labels = material.labels_for()[2:3]
    findings = dataclasses.replace(told(), detections=())
    ours, theirs = both([original], labels=labels, findings=findings)
    assert ours == theirs


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-7, 1.234567e-300, -123456.7, 9999999.0, 12345678901234.0, 1e300, 0.1])
def test_every_size_of_number(value: float) -> None:
    measured = Measurement(concept=coding.VOLUME, value=value, unit=coding.MILLILITRE)
    base = material.findings_for()
    region = dataclasses.replace(base.regions[0], measurements=(measured,))
    ours, theirs = both(findings=dataclasses.replace(base, regions=(region,)))
    assert ours == theirs


def test_a_predecessor_and_clinical_use() -> None:
    earlier = report.Predecessor(study_instance_uid="2.25.1", series_instance_uid="2.25.2", sop_instance_uid="2.25.3")
    ours, theirs = both(predecessor=earlier, findings=material.findings_for(research_only=False))
    assert ours == theirs


def test_a_text_outside_its_character_set_is_refused() -> None:
    encoder = content.Encoder({}, ["iso8859"])
    with hushed(), pytest.raises(StudyError, match="object-malformed"):
        encoder.sequence([content.text(NODULE, "肺")])


def test_a_value_that_is_too_long_for_its_vr_is_refused() -> None:
    assert len(element(0x00700022, b"FL", bytes(0xFFFC))) == 8 + 0xFFFC
    with pytest.raises(StudyError, match="object-malformed"):
        element(0x00700022, b"FL", bytes(0x10000))


def test_points_are_written_as_floats() -> None:
    item = content.spatial_coordinates(NODULE, "POINT", np.array([[0.1, 0.2, 0.3]]), "2.25.1")
    assert item.value.data == np.array([0.1, 0.2, 0.3], "<f4").tobytes()
