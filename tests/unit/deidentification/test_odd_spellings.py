"""Odd spellings of the source's own identities that an adversary found: base64, house numbers, telephones among alerts."""

from __future__ import annotations

import base64

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.characteristics import is_characteristic
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.traces import traces
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
TEXTS = ("SeriesDescription", "ProtocolName", "SoftwareVersions", "SequenceName", "StationName", "DetectorID",
         "DeviceSerialNumber", "ConvolutionKernel", "DerivationDescription", "MedicalAlerts")  # fmt: skip


def left(policy: Policy, text: str) -> list[str]:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientAddress = "Smith^Jane", "12 High Street, 80331 Oxford; Neue Gasse 4b"
    for keyword in TEXTS:
        setattr(ds, keyword, text)
    return planted.where_left(policy, ds, TEXTS, text)


@BOTH
@pytest.mark.parametrize("name", ["Smith", "SMITH", "smith", "Smith^Jane", "Jane Smith", "xSmith"])
def test_base64_of_a_name(policy: Policy, name: str) -> None:
    text = base64.b64encode(name.encode()).decode()
    assert left(policy, text) == []
    assert left(policy, text.rstrip("=")) == []
    ds = planted.slice_of_ct()
    ds.PatientName = "Smith^Jane"
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert not find_leaks(ds, output)
    output.SoftwareVersions = text
    assert find_leaks(ds, output)


@BOTH
@pytest.mark.parametrize("before", ["x", "CT", "v1_", "MR_T"])
def test_base64_of_a_name_behind_something_else(policy: Policy, before: str) -> None:
    assert left(policy, before + base64.b64encode(b"Smith").decode()) == []


@BOTH
@pytest.mark.parametrize(
    "text", ["12 High", "LIVING AT 12 HIGH", "12, High St", "High 12", "Gasse 4b", "at 4B Gasse", "80331 Oxford"]
)
def test_a_house_number_with_its_street(policy: Policy, text: str) -> None:
    assert left(policy, text) == []


@pytest.mark.parametrize("text", ["12 mm High Resolution", "High Resolution 13"])
def test_street_words_and_numbers_that_are_not_together_stay(text: str) -> None:
    assert "SoftwareVersions" in left(AI, text)


@pytest.mark.parametrize("number", ["089 440 052", "020-7946", "1234 5678 9012", "020/7946"])
def test_a_telephone_number_is_no_alert(number: str) -> None:
    assert not is_characteristic(f"allergic {number}")
    assert not is_characteristic(f"CT {number}")


@pytest.mark.parametrize("text", ["amoxicillin 875/125", "trimethoprim 160/800", "prednisone 50/50/50"])
def test_strengths_of_a_combination_are(text: str) -> None:
    assert is_characteristic(text)


def test_doses_are() -> None:
    assert is_characteristic("aspirin 100, 1.5, 20")
    assert is_characteristic("prednisone 50 mg 13, 7, 1 hours before")


@pytest.mark.parametrize(
    "text",
    [
        "123 Main St",
        "221b Baker Street",
        "7 Oak Dr",
        "1187 N Larkspur Ave",
        "42 Long Field Ln",
        "123 MAIN ST",
        "9 ELM AVE",
        "1600 HIGH DRIVE",
    ],
)
def test_streets_go_with_their_short_names(text: str) -> None:
    """From descriptors and makers' texts, whosever they are."""
    ds = planted.slice_of_ct()
    ds.SeriesDescription = ds.SoftwareVersions = f"CT {text}"
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(ds).dataset
    assert (output.SeriesDescription, output.get("SoftwareVersions")) == ("CT", "CT")


@pytest.mark.parametrize(
    "text", ["3 mm ST", "5 Soft Tissue", "120 kV ST", "2 Phase Liver", "1.5 mm Chest ST", "4 Chamber CT"]
)
def test_what_only_looks_like_a_street_stays(text: str) -> None:
    assert not any(traces(text))
