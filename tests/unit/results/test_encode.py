"""The whole way of a result, on a small series made here."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.results import checks, encode
from dicomnode.results.report import Predecessor
from dicomnode.study import ResultRole
from tests.unit.results import material


def encoded(
    given: encode.ResultInput | None = None, originals: list[Dataset] | None = None
) -> dict[ResultRole, Dataset]:
    originals = material.source_series() if originals is None else originals
    given = material.input_for(originals) if given is None else given
    results = encode.encode_results(given, material.context_for(), material.identity_of(originals))
    return {result.role: checks.decode(result.encoded) for result in results}


def test_four_objects_in_the_order_in_which_they_refer_to_each_other() -> None:
    originals = material.source_series()
    given, context = material.input_for(originals), material.context_for()
    results = encode.encode_results(given, context, material.identity_of(originals))
    assert [result.role for result in results] == list(ResultRole)[:4]
    contexts = [(context.written_as(result.form), result.role) for result in results]
    assert [result.sop_instance_uid for result in results] == [one.object_uid(role) for one, role in contexts]
    assert [result.series_instance_uid for result in results] == [one.series_uid(role) for one, role in contexts]
    assert len({result.series_instance_uid for result in results}) == 4
    assert all("2.25" not in repr(result) for result in results)


def test_no_key_image_where_none_is_wanted() -> None:
    objects = encoded(material.input_for(key_image=None))
    assert set(objects) == {ResultRole.SEGMENTATION, ResultRole.REPORT, ResultRole.KEY_OBJECTS}


def test_same_input_gives_the_same_bytes_in_fresh_processes() -> None:
    program = (
        "from tests.unit.results import material as m\n"
        "from dicomnode.results.encode import encode_results\n"
        "for r in encode_results(m.input_for(), m.context_for(), m.identity_of(m.source_series())):\n"
        "    print(r.digest)\n"
    )
    root = Path(__file__).parents[3]
    runs = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"))
    ]
    assert len(set(runs[0])) == 4
    assert runs[0] == runs[1]


def test_a_changed_label_changes_the_segmentation() -> None:
    labels = material.labels_for()
    labels[3, 20, 10] = 0
    first = encode.encode_results(
        material.input_for(), material.context_for(), material.identity_of(material.source_series())
    )
    second = encode.encode_results(
        material.input_for(labels=labels), material.context_for(), material.identity_of(material.source_series())
    )
    assert first[0].digest != second[0].digest


def test_nothing_found_is_a_coded_reason() -> None:
    labels = np.zeros_like(material.labels_for())
    with pytest.raises(StudyError, match="nothing-found"):
        encoded(material.input_for(labels=labels))


def test_one_segment_missing_is_said_and_numbers_stay_without_a_gap() -> None:
    labels = material.labels_for()
    labels[labels == 1] = 0
    objects = encoded(material.input_for(labels=labels))
    segmentation, report = objects[ResultRole.SEGMENTATION], objects[ResultRole.REPORT]
    assert [(item.SegmentNumber, item.SegmentLabel) for item in segmentation.SegmentSequence] == [(1, "Left lung")]
    assert "Right lung was not found." in {item.get("TextValue") for item in _items(report)}
    tracked = {item.TextValue for item in _items(report) if _name(item) == "Tracking Identifier"}
    assert tracked == {"Left lung", "Both lungs"}


COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"


def test_predecessor_is_named() -> None:
    old = Predecessor(
        study_instance_uid="1.2.3", series_instance_uid="1.2.4", sop_instance_uid="1.2.5", sop_class_uid=COMPREHENSIVE
    )
    report = encoded(material.input_for(predecessor=old))[ResultRole.REPORT]
    item = report.PredecessorDocumentsSequence[0]
    assert item.StudyInstanceUID == "1.2.3"
    named = item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert (named.ReferencedSOPInstanceUID, named.ReferencedSOPClassUID) == ("1.2.5", COMPREHENSIVE)


def test_a_model_that_is_a_device_is_known_by_its_identifier() -> None:
    found = material.findings_for()
    device = dataclasses.replace(found, algorithm=dataclasses.replace(found.algorithm, udi="(01)0123"))
    for dataset in encoded(material.input_for(findings=device)).values():
        (equipment,) = dataset.ContributingEquipmentSequence
        assert equipment.UDISequence[0].UniqueDeviceIdentifier == "(01)0123"
    assert "UDISequence" not in encoded()[ResultRole.KEY_IMAGE].ContributingEquipmentSequence[0]


def test_times_follow_the_source_that_has_an_offset() -> None:
    originals = material.source_series()
    for original in originals:
        original.TimezoneOffsetFromUTC = "+0200"
    for dataset in encoded(material.input_for(originals), originals).values():
        assert dataset.TimezoneOffsetFromUTC == "+0200"
        assert (dataset.ContentDate, dataset.ContentTime) == ("20260412", "133015.250000")
        assert dataset.ContributingEquipmentSequence[0].ContributionDateTime == "20260412133015.250000+0200"


def test_research_only_stands_on_every_object() -> None:
    for dataset in encoded().values():
        assert dataset.SeriesDescription.startswith("AI ")
        assert dataset.SeriesDescription.endswith("(research only)")
    given = material.input_for(findings=material.findings_for(research_only=False))
    for dataset in encoded(given).values():
        assert dataset.SeriesDescription.startswith("AI ")
        assert "research" not in dataset.SeriesDescription


def test_a_failure_of_a_library_is_one_coded_reason_without_its_message() -> None:
    given = material.input_for()
    given.sources[2].Rows = 41
    with pytest.raises(StudyError) as caught:
        encoded(given)
    assert caught.value.code == "result-invalid"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "PixelSpacing", "FrameOfReferenceUID"])
def test_sources_without_a_place_are_refused(keyword: str) -> None:
    given = material.input_for()
    delattr(given.sources[1], keyword)
    with pytest.raises(StudyError, match="geometry-attribute-missing"):
        encoded(given)


def test_no_sources_at_all() -> None:
    with pytest.raises(StudyError, match="geometry-too-few-slices"):
        encoded(dataclasses.replace(material.input_for(), sources=[]))


def test_long_decimal_strings_of_a_source_pass() -> None:
    originals = material.source_series()
    for index, original in enumerate(originals):
        position = ["-20.123456789012345678", "-15.987654321098765", f"{100 + 2.5 * index:.15f}"]
        original.add(DataElement(0x00200032, "DS", position, validation_mode=config.IGNORE))
        original.add(DataElement(0x00280030, "DS", ["0.74218797683715820"] * 2, validation_mode=config.IGNORE))
        original.SliceThickness = None
    segmentation = encoded(material.input_for(originals), originals)[ResultRole.SEGMENTATION]
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert all(len(str(value)) <= 16 for value in measures.PixelSpacing)
    assert float(measures.SliceThickness) == pytest.approx(2.5)
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5)


def test_originals_with_malformed_uids_stay_what_they_are() -> None:
    originals = material.source_series()
    for index, original in enumerate(originals):
        original.add(DataElement(0x00080018, "UI", f"1.2.0826.{index + 1}", validation_mode=config.IGNORE))
    report = encoded(material.input_for(originals), originals)[ResultRole.REPORT]
    named = {element.value for element in report.iterall() if element.keyword == "ReferencedSOPInstanceUID"}
    assert named & {f"1.2.0826.{index + 1}" for index in range(6)}


def _items(dataset: Dataset) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence", ()):
        found += [item, *_items(item)]
    return found


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)
