"""Ages of the source's own patient: of children in years, of infants in months, weeks and days; what else a birth is told by."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.infancy import age_of, ages_of_infants, apart, tight
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
TEXTS = ("SeriesDescription", "ProtocolName", "SoftwareVersions", "SequenceName", "ConvolutionKernel",
         "DerivationDescription", "MedicalAlerts")  # fmt: skip


def left(policy: Policy, text: str, born: str, age: str = "", sex: str = "F") -> list[str]:
    ds = planted.slice_of_ct()
    ds.PatientBirthDate, ds.PatientAge, ds.PatientSex, ds.StudyDate = born, age, sex, "20200301"
    for keyword in TEXTS:
        setattr(ds, keyword, text)
    return planted.where_left(policy, ds, TEXTS, text)


@BOTH
@pytest.mark.parametrize(
    ("text", "born", "age", "sex"),
    [("9F", "20110203", "", "F"), ("CT 9 F", "20110203", "", "F"), ("F9", "", "009Y", "F"), ("9M", "", "009Y", "M"), ("69 J", "19510203", "", "M"),
     ("69 y", "19510203", "", "F"), ("18 mo", "20180815", "", "F"), ("CT 18 months", "", "018M", "F"), ("18m", "", "018M", "M"),
     ("18 m", "", "018M", "M"), ("CT 18_M", "20180815", "", "F"), ("3 w", "", "003W", "F"), ("18-month", "20180815", "", "M"), ("3w", "", "003W", "F"), ("5 days", "20200225", "", "F"), ("DOL 5", "20200225", "", "F"),
     ("005D", "", "005D", "F"), ("2/51", "19510203", "", "F"), ("b. 51", "19510203", "", "F"), ("CT 02/51", "19510203", "", "F"),
     ("Feb3", "19510203", "", "F"), ("Dec3", "19511203", "", "F")],
)  # fmt: skip
def test_no_text_keeps_an_age(policy: Policy, text: str, born: str, age: str, sex: str) -> None:
    assert left(policy, text, born, age, sex) == []


@pytest.mark.parametrize(
    ("text", "born", "age", "sex"),
    [("3D", "", "003D", "F"), ("M1", "", "001Y", "M"), ("18 months", "19510203", "", "F"), ("F18", "", "009Y", "F"), ("b 50", "19500203", "", "F"),
     ("V6.9", "", "009Y", "F"), ("3 months", "", "018M", "F")],
)  # fmt: skip
def test_what_is_none_stays(text: str, born: str, age: str, sex: str) -> None:
    assert "SeriesDescription" in left(AI, text, born, age, sex) or "SoftwareVersions" in left(AI, text, born, age, sex)


@BOTH
@pytest.mark.parametrize(
    ("text", "born"), [("b=75", "1975"), ("b 75", "1975"), ("b= 75", "1975"), ("b=15", "2015"), ("b 25", "1925")]
)
def test_b_values_stay(policy: Policy, text: str, born: str) -> None:
    assert {"SeriesDescription", "SequenceName"} <= set(left(policy, text, f"{born}0203"))


@BOTH
@pytest.mark.parametrize(
    ("text", "born"), [("b.75", "1975"), ("b=76", "1976"), ("b 05", "2005"), ("b-75", "1975"), ("b75", "1975")]
)
def test_years_of_birth_beside_b_go(policy: Policy, text: str, born: str) -> None:
    assert left(policy, text, f"{born}0203") == []


def test_last_figures_of_an_accession_number() -> None:
    ds = planted.slice_of_ct()
    ds.AccessionNumber, ds.StationName, ds.DeviceSerialNumber = "A77021897", "21897", "CT021897"
    output = Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset
    assert "21897" not in output.StationName + output.DeviceSerialNumber


def test_ages_in_other_units() -> None:
    assert (age_of("018M"), age_of("069Y"), age_of("18M")) == ((18, "m"), None, None)
    assert list(ages_of_infants("20200225", "20200301")) == [(5, "d")]
    assert list(ages_of_infants("20190902", "20200301")) == [(25, "w"), (5, "m")]
    assert list(ages_of_infants("20200301", "20200225")) == list(ages_of_infants("20201399", "20200301")) == []
    assert "18months" in set(apart((18, "m")))
    assert list(tight((3, "d"))) == []
