"""Each proof catches what it is for: a good result is spoilt in one place, and the right reason comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.forms import Wishes, choose
from dicomnode.results import checks, encode, geometry
from dicomnode.results.equipment import model_uid
from dicomnode.study import ResultRole
from tests.unit.results import material


@pytest.fixture(scope="module")
def whole() -> dict[ResultRole, bytes]:
    results = encode.encode_results(
        material.input_for(), material.context_for(), material.identity_of(material.source_series())
    )
    return {result.role: result.encoded for result in results}


@pytest.fixture
def segmentation(whole: dict[ResultRole, bytes]) -> Dataset:
    return checks.decode(whole[ResultRole.SEGMENTATION])


@pytest.fixture
def report(whole: dict[ResultRole, bytes]) -> Dataset:
    return checks.decode(whole[ResultRole.REPORT])


def source() -> Dataset:
    return material.source_series()[0]


def known() -> set[str]:
    uids = set(material.identity_of(material.source_series()).uids.values())
    context = material.context_for()
    for variant in choose(Wishes()):
        written = context.written_as(variant.name)
        uids |= {written.object_uid(variant.role), written.series_uid(variant.role)}
    uids |= {model_uid(material.input_for().findings.algorithm), context.mint("dimensions", "segmentation")}
    return uids | {context.device_uid, *(context.tracking_uid(s) for s in ((1,), (2,), (1, 2)))}


def test_a_good_result_passes(segmentation: Dataset, report: Dataset) -> None:
    for dataset in (segmentation, report):
        checks.prove_identity(dataset, source())
        checks.prove_references(dataset, known())
        checks.prove_valid(dataset, material.identity_of(material.source_series()).uids)
    geometry.prove_segmentation(segmentation, material.labels_for(), material.source_series())
    checks.prove_report(report, checks.tracked(segmentation))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Müller^Jurgen"),
        ("PatientID", "A-4712"),
        ("IssuerOfPatientID", ""),
        ("PatientBirthDate", "19610204"),
        ("PatientWeight", "81.6"),
        ("StudyInstanceUID", "1.2.3"),
        ("AccessionNumber", ""),
        ("FrameOfReferenceUID", "1.2.3"),
        ("PatientIdentityRemoved", "YES"),
        ("RequestAttributesSequence", []),
    ],
)
def test_another_identity_is_caught(segmentation: Dataset, keyword: str, value: object) -> None:
    setattr(segmentation, keyword, value)
    with pytest.raises(StudyError, match="result-identity-differs") as caught:
        checks.prove_identity(segmentation, source())
    assert caught.value.facts == {"attribute": keyword}


@pytest.mark.parametrize("name", ["Müller^Jürgen^^", "Müller^Jürgen==", "Müller^Jürgen "])
def test_delimiters_at_the_end_of_a_name_are_no_difference(segmentation: Dataset, name: str) -> None:
    original = source()
    original.PatientName = name
    checks.prove_identity(segmentation, original)


def test_another_request_of_a_report_is_caught(report: Dataset) -> None:
    report.ReferencedRequestSequence[0].RequestedProcedureID = "RP-8"
    with pytest.raises(StudyError, match="ReferencedRequestSequence"):
        checks.prove_identity(report, source())


def spoil_bit(dataset: Dataset) -> None:
    data = bytearray(dataset.PixelData)
    data[len(data) // 2] ^= 1
    dataset.PixelData = bytes(data)


def spoil_position(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = ["0", "0", "0"]


def spoil_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames -= 1
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    size = -(-dataset.Rows * dataset.Columns * dataset.NumberOfFrames // 8)
    dataset.PixelData = dataset.PixelData[: size + size % 2]


def spoil_double(dataset: Dataset) -> None:
    first, second = dataset.PerFrameFunctionalGroupsSequence[:2]
    second.PlanePositionSequence = first.PlanePositionSequence


def spoil_padding(dataset: Dataset) -> None:
    dataset.PixelData += b"00"


def spoil_spacing(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.8", "0.75"]


def spoil_size(dataset: Dataset) -> None:
    dataset.Rows, dataset.Columns = dataset.Columns, dataset.Rows


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (spoil_bit, "mask"),
        (spoil_position, "position"),
        (spoil_frames, "frames"),
        (spoil_double, "position"),
        (spoil_padding, "length"),
        (spoil_spacing, "plane"),
        (spoil_size, "size"),
    ],
)
def test_another_geometry_is_caught(segmentation: Dataset, spoil: Callable[[Dataset], None], check: str) -> None:
    spoil(segmentation)
    with pytest.raises(StudyError, match="result-geometry-differs") as caught:
        geometry.prove_segmentation(segmentation, material.labels_for(), material.source_series())
    assert caught.value.facts == {"check": check}


def test_flipped_labels_are_caught(segmentation: Dataset) -> None:
    flipped = np.ascontiguousarray(material.labels_for()[:, :, ::-1])
    with pytest.raises(StudyError, match="result-geometry-differs"):
        geometry.prove_segmentation(segmentation, flipped, material.source_series())


@pytest.mark.parametrize("missing", [0, 1])
def test_a_dangling_reference_is_caught(segmentation: Dataset, report: Dataset, missing: int) -> None:
    dataset = (segmentation, report)[missing]
    gone = material.source_series()[1].SOPInstanceUID
    with pytest.raises(StudyError, match="result-reference-dangling"):
        checks.prove_references(dataset, known() - {gone})


@pytest.mark.parametrize(
    ("uid", "passes"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", True),
        ("1.2.840.10008.1.4.1.1", True),  # Talairach Brain Atlas
        ("1.2.840.10008.1.2.2", True),  # retired
        ("1.2.840.10008.5.1.4.1.1.66.7", True),  # ours, later than the dictionary
        ("1.2.840.10008.5.1.4.1.1.2.4417882", False),
        ("1.2.840.10008.4417882", False),
        ("1.2.840.10008.", False),
    ],
)
def test_the_standards_own_uids_are_those_that_it_lists(uid: str, *, passes: bool) -> None:
    dataset = Dataset()
    dataset.add(DataElement(0x00081155, "UI", uid, validation_mode=config.IGNORE))
    if passes:
        checks.prove_references(dataset, set())
        return
    with pytest.raises(StudyError, match="result-reference-dangling"):
        checks.prove_references(dataset, set())


def spoil_type_1(dataset: Dataset) -> None:
    dataset.ContentLabel = ""


def spoil_type_2(dataset: Dataset) -> None:
    del dataset.StudyID


def spoil_uid(dataset: Dataset) -> None:
    dataset.DimensionOrganizationSequence[0].add(DataElement(0x00209164, "UI", "1.02.3", validation_mode=config.IGNORE))


def spoil_pseudonym(dataset: Dataset) -> None:
    dataset.SegmentSequence[0].TrackingUID = material.pseudonym(str(source().StudyInstanceUID))


def spoil_length(dataset: Dataset) -> None:
    dataset.add(DataElement(0x0008103E, "LO", "x" * 65, validation_mode=config.IGNORE))


@pytest.mark.parametrize("spoil", [spoil_type_1, spoil_type_2, spoil_uid, spoil_pseudonym, spoil_length])
def test_an_invalid_object_is_caught(segmentation: Dataset, spoil: Callable[[Dataset], None]) -> None:
    with hushed():
        spoil(segmentation)
        with pytest.raises(StudyError, match="result-invalid"):
            checks.prove_valid(segmentation, material.identity_of(material.source_series()).uids)


def groups_of(report: Dataset) -> list[Dataset]:
    (container,) = [item for item in report.ContentSequence if checks._concept(item) == "126010"]
    return list(container.ContentSequence)


def test_a_tracking_uid_without_contour_is_caught(report: Dataset, segmentation: Dataset) -> None:
    group = groups_of(report)[0]
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "SCOORD"]
    with pytest.raises(StudyError, match="tracking-without-contour"):
        checks.prove_report(report, checks.tracked(segmentation))


def test_a_group_that_names_another_segment_is_caught(report: Dataset, segmentation: Dataset) -> None:
    for item in groups_of(report)[1].ContentSequence:
        if item.ValueType == "IMAGE":
            item.ReferencedSOPSequence[0].ReferencedSegmentNumber = 2
    with pytest.raises(StudyError, match="segment-tracking"):
        checks.prove_report(report, checks.tracked(segmentation))


def test_a_report_without_groups_is_caught(segmentation: Dataset) -> None:
    with pytest.raises(StudyError, match="tracking-without-contour"):
        checks.prove_report(Dataset.from_json({"0040A730": {"vr": "SQ", "Value": []}}), segmentation)


@pytest.mark.parametrize("cut", [7, 300, 3000])
def test_cut_bytes_are_one_coded_reason(whole: dict[ResultRole, bytes], cut: int) -> None:
    with pytest.raises(StudyError, match="result-invalid"):
        checks.decode(whole[ResultRole.REPORT][:-cut])


@pytest.mark.parametrize("keyword", ["station_name", "institution_name"])
@pytest.mark.parametrize("text", ["St. Mary\\CT", "St. Mary\nCT", "St. Mary\x1bCT", "St. Mary\x85CT"])
def test_a_name_that_its_value_representation_cannot_hold_never_leaves(keyword: str, text: str) -> None:
    context = replace(material.context_for(), **{keyword: text})
    with hushed(), pytest.raises(StudyError, match="result-invalid"):
        encode.encode_results(material.input_for(), context, material.identity_of(material.source_series()))


def test_a_long_text_may_have_lines_and_backslashes(segmentation: Dataset) -> None:
    segmentation.ContributingEquipmentSequence[0].ContributionDescription = "one\\two\r\n\tthree"
    checks.prove_valid(segmentation, material.identity_of(material.source_series()).uids)
    with hushed():
        segmentation.ContributingEquipmentSequence[0].ContributionDescription = "one\0two"
        with pytest.raises(StudyError, match="ContributionDescription"):
            checks.prove_valid(segmentation, material.identity_of(material.source_series()).uids)


def test_what_no_dictionary_knows_may_have_any_number_of_values(segmentation: Dataset) -> None:
    segmentation.add(DataElement(0x00990010, "LO", "TESTS"))
    segmentation.add(DataElement(0x00991001, "LO", ["a", "b", "c"]))
    checks.prove_valid(segmentation, material.identity_of(material.source_series()).uids)
