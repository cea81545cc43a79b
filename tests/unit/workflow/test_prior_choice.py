"""Which earlier studies and series are chosen out of what a source shows, lies included."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.manifest import Priors
from dicomnode.workflow.prior_choice import (
    Subject,
    choose_series,
    choose_studies,
    days_before,
    is_patient,
    said_by,
    study_query,
    subject_of,
)

RULE = Priors(modalities=("CT",), number=2, maximum_age_days=400)
SUBJECT = Subject(
    patient_id="P-1",
    issuer="HOSPITAL",
    birth_date="19500101",
    study_instance_uid="1.1",
    study_date="20260301",
    study_time="120000",
)


def header(**values: Any) -> Dataset:
    dataset = Dataset()
    given = {"PatientID": "P-1", "StudyDate": "20260301", "StudyTime": "120000", "StudyInstanceUID": "1.1", **values}
    for keyword, value in given.items():
        setattr(dataset, keyword, value)
    return dataset


def answer(uid: str, day: str, **values: str) -> dict[str, str]:
    return {"PatientID": "P-1", "StudyInstanceUID": uid, "StudyDate": day, "StudyTime": "", **values}


def test_an_image_tells_whose_priors_are_sought() -> None:
    found = subject_of(header(IssuerOfPatientID="HOSPITAL", PatientBirthDate="19500101"))
    assert found == SUBJECT


def test_an_issuer_is_compared_by_what_answers_say_of_it() -> None:
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = "1.2.3", "ISO"
    found = subject_of(header(IssuerOfPatientIDQualifiersSequence=[item], PatientBirthDate="19500101"))
    assert found == replace(SUBJECT, issuer="")
    assert is_patient(answer("1.2", "20250601", IssuerOfPatientID="HOSPITAL", PatientBirthDate="19500101"), found)


@pytest.mark.parametrize(
    "values", [{"PatientID": ""}, {"PatientID": "P*"}, {"PatientID": "P?1"}, {"PatientID": "Pé1"}, {"StudyDate": ""}]
)
def test_who_cannot_be_asked_for_is_not(values: dict[str, str]) -> None:
    assert subject_of(header(**values)) is None


def test_the_query_asks_for_patient_and_range() -> None:
    query = study_query(SUBJECT, RULE)
    assert (query["PatientID"], query["StudyDate"]) == ("P-1", "20250125-20260301")
    assert query["StudyInstanceUID"] == query["PatientBirthDate"] == ""
    ancient = study_query(SUBJECT, Priors(modalities=("CT",), maximum_age_days=36_500))
    assert ancient["StudyDate"].endswith("-20260301")


def test_the_newest_come_first_and_what_lies_is_left_out() -> None:
    shown = [
        answer("1.2", "20250601"),
        answer("1.3", "20260228"),
        answer("1.3", "20260228"),  # twice
        answer("1.1", "20260101"),  # the study itself
        answer("1.4", "20260302"),  # of the future
        answer("1.5", "20200101"),  # too old, though the range was asked for
        answer("1.6", ""),
        answer("", "20260101"),
        answer("../1", "20260101"),
        answer("1\\2", "20260101"),
        answer("1.7", "20260301", StudyTime="115959"),  # the same day, earlier
        answer("1.8", "20260301", StudyTime="120000"),
        answer("1.9", "20260101", PatientID="P-2"),
        answer("1.10", "20260101", PatientID=""),
        answer("1.11", "20260101", IssuerOfPatientID="ELSEWHERE"),
        answer("1.12", "20260101", PatientBirthDate="19600101"),
    ]
    chosen, strangers = choose_studies(shown, SUBJECT, RULE)
    assert [(one.study_instance_uid, one.days_before) for one in chosen] == [("1.7", 0), ("1.3", 1), ("1.2", 273)]
    assert strangers == 4


NAMED = replace(SUBJECT, name="MILLER^ANNA", sex="F")


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({}, True),
        ({"PatientBirthDate": "19500101"}, True),
        ({"PatientID": "P-2"}, False),
        ({"PatientBirthDate": "19500102"}, False),
        ({"PatientBirthDate": "19500101", "PatientName": "SMITH^ANNA"}, True),  # who married
        ({"PatientName": "SMITH^ANNA"}, False),
        ({"PatientName": "Miller^Anna^^^"}, True),
        ({"PatientName": "OTHER^WOMAN", "PatientSex": "F"}, False),
        ({"PatientSex": "M", "PatientBirthDate": "19500101"}, False),
        ({"PatientSex": "O"}, True),
    ],
)
def test_an_image_is_of_the_patient_or_not(values: dict[str, str], same: bool) -> None:
    assert is_patient(said_by(header(**values)), NAMED) is same


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ({"StudyDate": "20260228"}, 1),
        ({"StudyDate": "20260301", "StudyTime": "115959"}, 0),
        ({"StudyDate": "20260301", "StudyTime": "120000"}, None),
        ({"StudyDate": "20260302"}, None),
        ({"StudyDate": "20991231"}, None),
        ({"StudyDate": "20200101"}, None),
        ({"StudyDate": ""}, None),
    ],
)
def test_when_an_image_was_it_says_itself(values: dict[str, str], days: int | None) -> None:
    assert days_before(said_by(header(**values)), SUBJECT, RULE) == days


def test_series_of_the_kind_the_largest_first() -> None:
    shown = [
        {"SeriesInstanceUID": "2.1", "Modality": "CT", "NumberOfSeriesRelatedInstances": "10"},
        {"SeriesInstanceUID": "2.2", "Modality": "CT", "NumberOfSeriesRelatedInstances": "300"},
        {"SeriesInstanceUID": "2.3", "Modality": "SEG", "NumberOfSeriesRelatedInstances": "1"},
        {"SeriesInstanceUID": "2.4", "Modality": "CT", "NumberOfSeriesRelatedInstances": "many"},
        {"SeriesInstanceUID": "", "Modality": "CT"},
        {"SeriesInstanceUID": "2.5", "Modality": "CT", "BodyPartExamined": "FOOT"},
    ]
    assert tuple(choose_series(shown, RULE)) == ("2.2", "2.1", "2.4", "2.5")
    assert tuple(choose_series(shown, Priors(modalities=("CT",), body_parts=("Chest",)))) == ("2.2", "2.1", "2.4")
