"""What counts as the same patient and study, and what does not."""

from __future__ import annotations

import time

import pytest
from pydicom import Dataset

from dicomnode.workflow.agreement import KEYS, differences, of_study, said_of, same_name

OURS = {
    "StudyInstanceUID": "1.2",
    "PatientID": "P-1",
    "IssuerOfPatientID": "HOSP",
    "PatientName": "Müller^Jörg",
    "PatientBirthDate": "19500102",
    "AccessionNumber": "A1",
}


@pytest.mark.parametrize(
    "other",
    [
        "Müller^Jörg",
        "MÜLLER^JÖRG ",
        "müller^jörg^^^",
        "Muller^Jorg",
        "Mueller^Joerg",
        "M?ller^J?rg",
        "M\ufffdller^J\ufffdrg",
        "MÃ¼ller^JÃ¶rg",
        "Müller, Jörg",
        "Müller",
        "Müller^Jörg^Maria",
        "",
        "^",
        "=山田^太郎",
        "????",
    ],
)
def test_a_name_that_was_spelt_otherwise_is_the_same(other: str) -> None:
    assert same_name("Müller^Jörg", other)
    assert same_name(other, "Müller^Jörg")


@pytest.mark.parametrize("other", ["Maier^Jörg", "Müller^Anna", "Miller^Jorg", "Schmidt", "Jörg^Müller", "M?ller^Anna"])
def test_another_name_is_another(other: str) -> None:
    assert not same_name("Müller^Jörg", other)


def test_groups_are_compared_where_both_have_them() -> None:
    assert same_name("Yamada^Tarou=山田^太郎", "YAMADA^TAROU")
    assert not same_name("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^花子")
    assert not same_name("山田^太郎", "鈴木^太郎")


def test_a_name_made_to_be_slow_is_compared_quickly() -> None:
    nasty = "äa" * 120
    began = time.process_time()
    assert not same_name("a" * 200 + "b", nasty)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ()),
        ({"PatientID": "P-2"}, ("id",)),
        ({"PatientID": "p-1 "}, ()),
        ({"PatientID": ""}, ()),
        ({"IssuerOfPatientID": "OTHER"}, ("issuer",)),
        ({"IssuerOfPatientID": ""}, ()),
        ({"PatientName": "Meier^Jörg", "PatientBirthDate": "19500103"}, ("name", "birth-date")),
        ({"AccessionNumber": "A2"}, ("accession",)),
    ],
)
def test_what_is_said_otherwise_is_named(change: dict[str, str], found: tuple[str, ...]) -> None:
    assert differences(OURS, [{**OURS, **change}]) == found


def test_an_answer_that_says_nothing_is_no_disagreement() -> None:
    assert differences(OURS, [{"StudyInstanceUID": "1.2"}]) == ()


def test_an_id_that_came_later_is_a_change_and_an_accession_number_is_none() -> None:
    ours = {**OURS, "PatientID": "", "AccessionNumber": "", "IssuerOfPatientID": ""}
    assert differences(ours, [OURS]) == ("id",)


def test_two_patients_of_whom_one_is_another_differ() -> None:
    assert differences(OURS, [OURS, {**OURS, "PatientID": "P-2"}]) == ("id",)


def test_answers_about_other_studies_do_not_count() -> None:
    answers = [{"StudyInstanceUID": "9.9"}, {"StudyInstanceUID": "1.2\0"}, {"PatientID": "P-1"}]
    assert of_study(answers, "1.2") == answers[1:]


def test_a_data_set_says_what_an_answer_would() -> None:
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = "P-1", "Doe^Jane", "1.2"
    said = said_of(dataset)
    assert set(said) == {*KEYS, "StudyInstanceUID"}
    assert (said["PatientID"], said["PatientName"], said["AccessionNumber"]) == ("P-1", "Doe^Jane", "")
