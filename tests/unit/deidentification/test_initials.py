"""The source's own initials: they go though they are an abbreviation of something, together, apart, beside other words."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.names import is_nobodys
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
TEXTS = ("SeriesDescription", "StudyDescription", "ProtocolName", "SequenceName", "SoftwareVersions", "StationName",
         "BodyPartExamined", "DerivationDescription", "ScanOptions")  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    ("name", "letters"),
    [("Krause^Maria", "KM"), ("Krause^Maria", "MK"), ("Stone^Karl", "SK"), ("Roe^Will", "WR"), ("Ford^Mae", "M F"), ("Ford^Mae", "F.M."),
     ("Joy^Ben", "B-J"), ("Joy^Ben", "J_B"), ("Moss^Jack", "J/M"), ("Tran^An", "ta"), ("Hall^Xi", "X H"), ("Joy^Ben", "JB1"), ("Joy^Ben", "1BJ"), ("Joy^Ben", "J,B"), ("Joy^Ben", "B;J"),
     ("Joy^Ben", "J|B"), ("Joy^Ben", "j*b"), ("Joy^Ben", "B - J"), ("Joy^Ben^Max", "B,M,J"), ("Wang^XiaoDong", "wxd1"), ("Webb^DeShawn", "DW1"), ("Webb^DeShawn", "D.W."), ("Webb^LaToya", "L/W"), ("Joy^Ben", "J    B")],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "CT {}", "{} T1", "head_{}", "({})"])
def test_no_text_keeps_them(policy: Policy, name: str, letters: str, around: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName = name
    for keyword in TEXTS:
        text = around.format(letters)
        setattr(ds, keyword, text.upper() if keyword in ("BodyPartExamined", "ScanOptions") else text)
    assert planted.where_left(policy, ds, TEXTS, letters) == []


@BOTH
@pytest.mark.parametrize(
    ("name", "keyword", "text"),
    [("Thomas^Carl", "SeriesDescription", "CT Head"), ("Peters^Anna", "SeriesDescription", "Chest A-P"), ("Peters^Anna", "ProtocolName", "Chest AP"),
     ("Carter^Frank", "ConvolutionKernel", "FC13"), ("Yamada^Aki", "ConvolutionKernel", "YA"), ("Evans^Tom", "SeriesDescription", "T1 TE 15"),
     ("Krause^Maria", "ScanOptions", "FS"), ("Stone^Karl", "SequenceVariant", "SK"), ("Young^Zoe", "ProtocolName", "plane Y Z"),
     ("Peters^Anna", "ProtocolName", "Chest A, P"), ("Joy^Ben", "SoftwareVersions", "B 5, J"), ("Joy^Ben", "SoftwareVersions", "X, B"),
     ("Roe^Will", "SeriesDescription", "CT Thorax KM")],
)  # fmt: skip
def test_what_says_something_else_stays(policy: Policy, name: str, keyword: str, text: str) -> None:
    assert_stays(policy, name, keyword, text)


@BOTH
@pytest.mark.parametrize(
    ("name", "keyword", "text"),
    [("Green^Dana", "SeriesDescription", "T1 GD"), ("Hill^Dan", "ConvolutionKernel", "HD LUNG"), ("Cole^Ed", "SeriesDescription", "Abdomen CE"),
     ("Lee^Vic", "SeriesDescription", "LV SA cine"), ("Wolf^Ben", "ProtocolName", "WB PET AC"), ("Ace^Cy", "ProtocolName", "WB PET AC"),
     ("Bauer^Lena", "ConvolutionKernel", "Bl57"), ("Hahn^Vera", "ConvolutionKernel", "Hv40"), ("Quast^Rolf", "ConvolutionKernel", "Qr40"),
     ("Moss^Xi", "SoftwareVersions", "MX_MR_VE11C"), ("Long^Xi", "SoftwareVersions", "LX 12"), ("Park^Xi", "SoftwareVersions", "PX26")],
)  # fmt: skip
def test_no_other_valid_value_is_left(policy: Policy, name: str, keyword: str, text: str) -> None:
    assert_stays(policy, name, keyword, text)


def assert_stays(policy: Policy, name: str, keyword: str, text: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName = name
    setattr(ds, keyword, text)
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset[keyword].value == text


@BOTH
@pytest.mark.parametrize(
    ("name", "text", "left"),
    [("Olsen^Carl", "CT CHEST W/O, C", "CT CHEST"), ("Taylor^Charles", "C, T, L SPINE", "SPINE"), ("Joy^Ben", "CT A, B, C, D, J, B", "CT A, B, C, D")],
)  # fmt: skip
def test_of_a_few_letters_all_go(policy: Policy, name: str, text: str, left: str) -> None:
    """A part of them would say the contrary, or something else."""
    ds = planted.slice_of_ct()
    ds.PatientName, ds.SoftwareVersions = name, text
    said = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.SoftwareVersions
    assert " ".join(said.replace(",", " ").split()) == left.replace(",", "")


@BOTH
@pytest.mark.parametrize("keyword", ["ConvolutionKernel", "SequenceName"])
@pytest.mark.parametrize("text", ["KM LUNG", "B30f KM", "fl3d KM"])
def test_what_is_one_token_goes_whole(policy: Policy, keyword: str, text: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName = "Krause^Maria"
    setattr(ds, keyword, text)
    assert not Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.get(keyword)


@BOTH
@pytest.mark.parametrize(("born", "text"), [("19570203", "Bl57"), ("19800203", "BL40")])
def test_initials_with_age_or_year_go_whatever_form_they_have(policy: Policy, born: str, text: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientBirthDate, ds.StudyDate, ds.ConvolutionKernel = "Bauer^Lena", born, "20200301", text
    assert not Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.get("ConvolutionKernel")


def test_two_letters_are_somebodys_unless_they_are_listed() -> None:
    assert [letters for letters in ("ct", "km", "adc", "jmd") if is_nobodys(letters)] == ["ct", "adc"]
