from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.encoded import Limits, SeriesReader, encode_part10
from dicomnode.workflow.whose import count_patients, disagreement
from tests.unit.workflow.samples import EXPLICIT, tiny_series


def saying(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "Doe^Jane", "19600101", "F"
    dataset.AccessionNumber = "A1"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


OTHERS = [
    ("PatientName", "Roe^Richard"),
    ("PatientBirthDate", "19500505"),
    ("PatientSex", "M"),
    ("AccessionNumber", "A2"),
]


@pytest.mark.parametrize(("keyword", "value"), OTHERS)
@pytest.mark.parametrize("place", [0, 2])
def test_images_that_say_different_things_are_in_nobodys_name(keyword: str, value: str, place: int) -> None:
    images = [saying(), saying(), saying()]
    setattr(images[place], keyword, value)
    found = disagreement(images)
    assert found is not None
    assert (found.code, dict(found.facts)) == ("patient-mismatch", {"attribute": keyword})
    assert value not in str(found)


@pytest.mark.parametrize("keyword", [keyword for keyword, _ in OTHERS])
@pytest.mark.parametrize("value", [None, ""])
def test_what_an_image_does_not_say_disagrees_with_nothing(keyword: str, value: str | None) -> None:
    silent = saying()
    if value is None:
        delattr(silent, keyword)
    else:
        setattr(silent, keyword, value)
    assert disagreement([saying(), silent]) is None
    assert disagreement([silent, saying()]) is None


@pytest.mark.parametrize("name", ["DOE^JANE", "Doe^Jane^^Dr", "Döe^Jane", "Doe^Jane=山田^花子", "Doe^Jane "])
def test_a_name_may_be_spelt_otherwise(name: str) -> None:
    assert disagreement([saying(), saying(PatientName=name)]) is None


def test_every_spelling_is_compared_with_every_other() -> None:
    names = ["Doe^J", "Doe^J^Ann", "Doe^J^Beth"]
    assert disagreement([saying(PatientName=name) for name in names[:2]]) is None
    assert disagreement([saying(PatientName=name) for name in names]) is not None


def test_a_name_of_ever_more_spellings_is_compared_no_more() -> None:
    images = [saying(PatientName="Doe^Jane" + "^" * number + "x") for number in range(1, 18)]
    assert disagreement(images[:16]) is None
    assert disagreement(images) is not None


def test_images_read_one_after_the_other_are_told_apart() -> None:
    images = tiny_series()
    images[2].AccessionNumber = "OTHER"
    reader = SeriesReader(Limits())
    read = [reader.read(encode_part10(image, transfer_syntax_uid=EXPLICIT)) for image in images]
    assert disagreement(read[:2]) is None
    assert disagreement(read) is not None


@pytest.mark.parametrize(
    ("found", "patients"),
    [
        (set(), 0),
        ({("1", "")}, 1),
        ({("1", ""), ("1", "HOSPITAL")}, 1),
        ({("1", "CLINIC"), ("1", "HOSPITAL")}, 2),
        ({("1", ""), ("1", "CLINIC"), ("1", "HOSPITAL")}, 2),
        ({("1", ""), ("2", "")}, 2),
        ({("1", ""), ("2", "HOSPITAL")}, 2),
        ({("", "a"), ("", "b")}, 2),
        ({("", ""), ("", "a")}, 2),
        ({("", ""), ("1", "")}, 2),
        ({("1", "&1.2&ISO"), ("1", "&1.3&ISO")}, 2),
        ({("1", "&1.2&ISO"), ("1", "")}, 1),
        ({("1", "&1.2&ISO"), ("1", "HOSPITAL")}, 1),
        ({("1", "&1.2&ISO"), ("1", "&1.3&ISO"), ("1", "HOSPITAL")}, 2),
        ({("1", "&1.2&ISO"), ("2", "HOSPITAL")}, 2),
        ({("", "&1"), ("", "a")}, 2),
    ],
)
def test_an_issuer_that_is_not_said_makes_no_second_patient(found: set[tuple[str, str]], patients: int) -> None:
    assert count_patients(found) == patients
