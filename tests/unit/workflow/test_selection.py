from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import StudyError
from dicomnode.inference import standin
from dicomnode.manifest import InputRule
from dicomnode.workflow.provenance import Guard
from dicomnode.workflow.selection import (
    Header,
    SurveyedSeries,
    choose,
    image_type,
    number,
    patient_of,
    relevant,
    survey,
)
from tests.unit.workflow.samples import row

CT = "1.2.840.10008.5.1.4.1.1.2"
RULE = replace(standin.package().manifest.input, preferred_kernels=("^B[0-3]", "SOFT"))


def image(z: float, **attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = f"2.25.{round(z * 10) + 100000}"
    dataset.Modality = "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.FrameOfReferenceUID = "2.25.1"
    dataset.ImagePositionPatient = [0, 0, z]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.Rows, dataset.Columns = 512, 512
    dataset.SliceThickness = 5
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def series(key: str, positions: list[float], **attributes: Any) -> list[Header]:
    return [
        Header(series_key=key, instance_key=f"{key}-{index}", dataset=image(z, **attributes))
        for index, z in enumerate(positions)
    ]


GUARD = Guard(device_uid="2.25.9")
CHEST = [10.0 * index for index in range(30)]


def code_of(*headers: Header, rule: InputRule = RULE) -> str:
    with pytest.raises(StudyError) as caught:
        choose(survey(headers, rule, GUARD), rule)
    return caught.value.code


def chosen(*headers: Header) -> SurveyedSeries:
    return choose(survey(headers, RULE, GUARD), RULE)


def test_the_soft_kernel_is_chosen_beside_a_lung_kernel_and_a_scout() -> None:
    scout = series("a", [0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    lung = series("b", CHEST, ConvolutionKernel="B70f")
    soft = series("c", CHEST, ConvolutionKernel="B31f")
    assert chosen(*scout, *lung, *soft).summary.series_key == "c"
    assert chosen(*soft, *lung, *scout).summary.series_key == "c"


def test_the_instances_come_in_source_order_whatever_their_arrival() -> None:
    headers = series("a", CHEST[::-1])
    found = chosen(*headers)
    assert found.instance_keys == tuple(f"a-{index}" for index in reversed(range(30)))
    assert found.summary.extent_mm == 290.0
    assert found.summary.slice_spacing_mm == 10.0
    assert found.problem is None


def test_a_localizer_inside_the_series_is_left_out() -> None:
    scout = series("a", [500.0], ImageType=["DERIVED", "PRIMARY", "LOCALIZER"])[0]
    mixed = [replace(scout, instance_key="scout"), *series("a", CHEST)]
    found = chosen(*mixed)
    assert "scout" not in found.instance_keys
    assert found.summary.slices == 30
    assert found.summary.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")


def test_a_series_of_nothing_but_localizers_is_refused() -> None:
    assert code_of(*series("a", CHEST, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])) == "no-suitable-series"


@pytest.mark.parametrize(
    ("positions", "attributes", "code"),
    [
        (CHEST, {"Modality": "MR"}, "no-suitable-series"),
        (CHEST, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "no-suitable-series"),
        (CHEST, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1", "NumberOfFrames": 2}, "geometry-multi-frame"),
        (CHEST, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4.1"}, "no-suitable-series"),
        ([*CHEST[:10], 93.0, *CHEST[12:]], {}, "geometry-irregular-spacing"),
        (CHEST[:3], {}, "geometry-too-few-slices"),
        ([30.0 * index for index in range(10)], {}, "geometry-spacing-too-wide"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], {}, "geometry-extent-too-short"),
        ([*CHEST, 10.0], {}, "geometry-duplicate-position"),
        ([*CHEST[:10], *CHEST[12:]], {}, "geometry-gap"),
    ],
)
def test_a_refusal_says_what_is_wrong(positions: list[float], attributes: dict[str, Any], code: str) -> None:
    assert code_of(*series("a", positions, **attributes)) == code


def test_functional_groups_that_do_not_fit_the_frames_are_told() -> None:
    headers = series("a", CHEST, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=2)
    for header in headers:
        header.dataset.PerFrameFunctionalGroupsSequence = [Dataset()]
    assert code_of(*headers) == "geometry-attribute-missing"


def test_an_uneven_stack_is_judged_by_its_widest_step() -> None:
    found = chosen(*series("a", [*CHEST[:10], 104.0, *CHEST[11:]]))
    assert found.problem is None
    assert found.summary.slice_spacing_mm == 14.0
    assert (
        code_of(*series("a", [*CHEST[:10], *(height + 16.5 for height in CHEST[10:])])) == "geometry-spacing-too-wide"
    )


def test_a_broken_series_of_the_right_kind_explains_better_than_one_of_another_kind() -> None:
    other = series("a", [10.0 * index for index in range(50)], Modality="MR")
    broken = series("b", [*CHEST, 10.0])
    assert code_of(*other, *broken) == "geometry-duplicate-position"


def test_the_longest_broken_series_is_the_one_that_is_told() -> None:
    short = series("a", [*CHEST[:8], 10.0])
    long = series("b", [*CHEST[:10], *CHEST[12:]])
    assert code_of(*short, *long) == "geometry-gap"


def test_a_sound_series_is_taken_though_another_is_broken() -> None:
    assert chosen(*series("a", [*CHEST, 10.0]), *series("b", CHEST)).summary.series_key == "b"


def test_no_series_at_all_is_no_suitable_one() -> None:
    assert code_of() == "no-suitable-series"


def test_a_model_looks_at_images_alone_unless_there_are_none() -> None:
    report = replace(row(1), sop_class_uid="1.2.840.10008.5.1.4.1.1.88.22")
    assert relevant([row(0), report], {CT}) == (row(0),)
    assert relevant([report], {CT}) == (report,)
    assert relevant([], {CT}) == ()


def test_attributes_that_are_absent_empty_or_of_another_kind_read_as_none() -> None:
    dataset = Dataset()
    assert (image_type(dataset), patient_of(dataset), number(dataset, "SliceThickness")) == ((), ("", ""), None)
    dataset.ImageType = "DERIVED"
    dataset.PatientID = " 1 "
    dataset.SliceThickness = ""
    assert (image_type(dataset), patient_of(dataset)) == (("DERIVED",), ("1", ""))
    assert number(dataset, "SliceThickness") is None
    dataset.SliceThickness = "2.5"
    assert number(dataset, "SliceThickness") == 2.5
    assert number(dataset, "ImageType") is None
    dataset.ImagePositionPatient = [1, 2, 3]
    assert number(dataset, "ImagePositionPatient") is None


def test_kernels_of_several_values_are_joined() -> None:
    (found,) = survey(series("a", CHEST, ConvolutionKernel=["Br40d", "3"]), RULE, GUARD)
    assert found.summary.kernel == "Br40d\\3"


def of_patient(**attributes: Any) -> tuple[str, str]:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return patient_of(dataset)


def test_a_patient_with_an_id_is_told_by_it_alone() -> None:
    first = of_patient(PatientID="1", PatientName="Alpha^Anna", PatientBirthDate="19500101", PatientSex="F")
    assert of_patient(PatientID=" 1", PatientName="ALPHA^A") == first == ("1", "")
    assert of_patient(PatientID="1", IssuerOfPatientID="X", PatientName="Alpha^Anna") != first
    assert of_patient(PatientName="Alpha^Anna", PatientBirthDate="19500101", PatientSex="F") != first


def test_an_issuer_may_be_told_by_its_universal_identifier_alone() -> None:
    one, other = Dataset(), Dataset()
    one.UniversalEntityID, other.UniversalEntityID, other.UniversalEntityIDType = "1.2.3.1", "1.2.3.2", "ISO"
    first, second = (of_patient(PatientID="1", IssuerOfPatientIDQualifiersSequence=[item]) for item in (one, other))
    assert (first, second) == (("1", "&1.2.3.1&"), ("1", "&1.2.3.2&ISO"))
    both = of_patient(PatientID="1", IssuerOfPatientID="X", IssuerOfPatientIDQualifiersSequence=[other])
    assert both == ("1", "X")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Beta^Bob"),
        ("PatientName", "Alpha^^Anna"),
        ("PatientName", ""),
        ("PatientBirthDate", "19500102"),
        ("PatientSex", "M"),
        ("IssuerOfPatientID", "X"),
    ],
)
def test_patients_without_ids_are_told_by_name_birth_date_and_sex(keyword: str, value: str) -> None:
    known = {"PatientID": " ", "PatientName": "Alpha^Anna", "PatientBirthDate": "19500101", "PatientSex": "F"}
    assert of_patient(**known) != of_patient(**{**known, keyword: value})


@pytest.mark.parametrize(
    "name", ["MÜLLER^JÖRG", "Müller^Jörg^^^", " Müller ^Jörg ^ ^", "Müller^Jörg==", "Müller^Jörg^=^^ "]
)
def test_case_and_padding_of_a_name_make_no_other_patient(name: str) -> None:
    assert of_patient(PatientName=name) == of_patient(PatientName="Müller^Jörg")
    assert of_patient(PatientName="Müller^Jörg=山田^太郎") != of_patient(PatientName=name)


def test_images_that_an_ai_added_to_a_series_are_left_out_of_it() -> None:
    added = [
        replace(one, instance_key=f"added-{one.instance_key}")
        for one in series("a", [5.0], ImageType=["DERIVED", "PRIMARY", "AI"])
    ]
    found = chosen(*series("a", CHEST), *added)
    assert found.summary.slices == 30
    assert not [key for key in found.instance_keys if key.startswith("added")]


def test_a_series_that_an_ai_made_is_refused_whatever_else_is_wrong_with_it() -> None:
    derived = {"ImageType": ["DERIVED", "PRIMARY", "AI"]}
    assert code_of(*series("a", CHEST, **derived)) == "ai-output"
    assert code_of(*series("a", [*CHEST[:10], *CHEST[12:]], **derived)) == "ai-output"
    excluding = replace(RULE, excluded_image_types=("DERIVED", "LOCALIZER"))
    assert code_of(*series("a", CHEST, **derived), rule=excluding) == "ai-output"
    scout = series("s", [0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert (
        code_of(*scout, *series("a", CHEST, ImageType=["DERIVED", "PRIMARY"]), rule=excluding) == "no-suitable-series"
    )
    assert chosen(*series("a", CHEST), *series("b", CHEST, SliceThickness=1, **derived)).summary.series_key == "a"
