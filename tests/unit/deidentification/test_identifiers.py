"""The source's own identifiers: every form that people write them in is gathered, and found again in a text."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.identifiers import Identifiers, collect, holds

pytestmark = pytest.mark.filterwarnings("ignore")


def identifiers_of(**values: str) -> Identifiers:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return collect(ds)


@pytest.mark.parametrize("text", ["Head", "Young", "syngo young 5", "Young-Head", "CT_HEAD_1"])
def test_each_part_of_a_name_that_a_hyphen_joins_names_somebody(text: str) -> None:
    assert identifiers_of(PatientName="Young-Head^Ann").names_somebody(text)
    assert not identifiers_of(PatientName="Sand^Ann").names_somebody(text)


@pytest.mark.parametrize("name", ["DOEJAN", "JANDOE", "JDOE", "DOEJ"])
def test_what_users_are_called_after_a_name(name: str) -> None:
    known = identifiers_of(PatientName="Doe^Jan")
    assert known.hit(name)
    assert known.hit(f"{name} 5mm")
    assert not identifiers_of(PatientName="Roe^Tim").hit(name)


def test_nobody_is_called_after_an_initial_and_two_letters() -> None:
    known = identifiers_of(PatientName="Li^Mei")
    assert known.hit("LIMEI")
    assert known.hit("MEILI")
    assert not known.hit("MLI")


@pytest.mark.parametrize(
    ("text", "code", "found"),
    [
        ("xacc99817y", "acc99817", True), ("xacc9981y", "acc9981", False), ("x acc9981 y", "acc9981", True),
        ("acc9981y acc9981", "acc9981", True),
    ],
)  # fmt: skip
def test_an_identifier_of_eight_characters_is_found_within_a_word(text: str, code: str, found: bool) -> None:
    assert holds(text, code) is found


@pytest.mark.parametrize(
    ("written", "digits", "found"),
    [("Tel. 030 12345", "03012345", True), ("Tel. 030 1234", "0301234", True), ("Tel. 030 123", "030123", False)],
)
def test_a_telephone_number_is_its_digits_whatever_stands_between(written: str, digits: str, found: bool) -> None:
    assert identifiers_of(PatientTelephoneNumbers=written).hit(f"no {digits}") is found


@pytest.mark.parametrize(
    ("name", "text"), [("山田^太郎", "山田先生"), ("王^小东", "放射线小东医生"), ("김^철수", "철수님")]
)
def test_a_name_of_ideographs_is_found_within_a_word(name: str, text: str) -> None:
    assert identifiers_of(PatientName=name).hit(text)
    assert not identifiers_of(PatientName="李^明").hit(text)


@pytest.mark.parametrize(
    ("number", "time"),
    [
        ("101112", "101112"), ("101112", "101112.5"), ("101112", "10:11:12"), ("1011125", "101112.5"),
        ("000101112", "101112"), ("0001011125", "101112.5"),
        # zeros that no number has before it
        ("000123", "000123"), ("000123", "000123.5"), ("0000123", "000012.3"),
    ],
)  # fmt: skip
def test_a_time_of_day_that_is_an_identifier(number: str, time: str) -> None:
    assert identifiers_of(PatientID=number).is_number_of_time(time)
    assert not identifiers_of(PatientID="778812").is_number_of_time(time)
