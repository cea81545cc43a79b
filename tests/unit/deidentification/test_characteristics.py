"""What patients are like survives as a whole or not at all, and nobody's name with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.characteristics import is_characteristic
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def kept(keyword: str, value: str, policy: Policy = EXPORT, name: str = "FUCHSBERGER^HILDEGARD") -> str:
    ds = planted.slice_of_ct()
    ds.PatientName = name
    setattr(ds, keyword, value)
    return str(Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.get(keyword) or "")


@pytest.mark.parametrize("policy", [AI, EXPORT])
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("EthnicGroup", "South Asian"),
        ("EthnicGroup", "White British"),
        ("EthnicGroup", "Han"),
        ("Allergies", "Penicillin, Latex"),
        ("Allergies", "NKDA"),
        ("MedicalAlerts", "eGFR 35"),
        ("MedicalAlerts", "allergic to contrast medium"),
        ("MedicalAlerts", "insulin pump"),
        ("PatientState", "intubated"),
        ("PreMedication", "Buscopan 20 mg i.v."),
        ("SpecialNeeds", "hearing aid, wheelchair"),
    ],
)
def test_ordinary_values_stay_whole(keyword: str, value: str, policy: Policy) -> None:
    assert kept(keyword, value, policy) == value


@pytest.mark.parametrize(
    "value",
    [
        "penicillin, see Dr Smith",
        "latex Maier",
        "penicillin 04.05.1951",
        "call 617-555-0134",
        "asthma 1951-05-04 pacemaker",
        "pacemaker 5551234567",
        "latex J. S.",
        "iodine j.smith@example.org",
        "egg http://example.org",
        "1 2 3 4 5 mg",
        "佐藤 penicillin",
        "12",
        "-",
        "penicillin \u24bf",
    ],
)
def test_what_holds_anything_else_goes_whole(value: str) -> None:
    assert not is_characteristic(value)
    if value.isascii():
        assert kept("Allergies", value) == kept("MedicalAlerts", value) == ""


@pytest.mark.parametrize(
    ("keyword", "value"), [("EthnicGroup", "White"), ("Allergies", "Honey"), ("EthnicGroup", "Han")]
)
def test_the_patients_own_name_is_none(keyword: str, value: str) -> None:
    assert kept(keyword, value) == value
    assert kept(keyword, value, name=f"{value.upper()}^ANN") == ""


def test_a_site_may_know_more_words() -> None:
    assert kept("Allergies", "Zingiberol") == ""
    assert kept("Allergies", "Zingiberol", replace(EXPORT, words=frozenset({"zingiberol"}))) == "Zingiberol"


def test_without_the_option_they_go_as_the_profile_says() -> None:
    strict = replace(EXPORT, options=EXPORT.options - {Option.PATIENT_CHARACTERISTICS, Option.CLEAN_DESCRIPTORS})
    for keyword in ("EthnicGroup", "Allergies", "MedicalAlerts", "PatientState", "PreMedication", "SpecialNeeds"):
        assert kept(keyword, "penicillin" if keyword != "EthnicGroup" else "Asian", strict) == ""
