"""Fragments of a source's own identifiers: parts of dates, counted days, numbers turned round, ages with sexes."""

from __future__ import annotations

import gc

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.fragments import Fragments, ages_between, fragments_of
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
KNOWN = fragments_of(
    frozenset(["ac40917", "k7r2m9", "12 high street sw1a 1aa", "x" * 60 + " 4711 " + "y" * 60]),
    frozenset(["19510203", "2001"]),
    frozenset([69, 6]),
    frozenset(["F", "O"]),
    frozenset(["dj"]),
)
TEXTS = ("SoftwareVersions", "SeriesDescription", "ProtocolName", "SequenceName", "ConvolutionKernel", "BodyPartExamined",
         "StationName", "ImageType", "MedicalAlerts", "DerivationDescription")  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])


@pytest.mark.parametrize(
    "text",
    ["5102", "0251", "51/02", "02.1951", "1951.02", "V5102", "0302", "29 5102", "18662", "18662_T1", "51034", "1951034", "30201591", "1591",
     "Feb51", "51feb", "03Feb", "129b3bb", "0x129B3BB", "71904", "71904CA", "7-19-04", "40 917", "409x17", "AC4091", "C40917",
     "9fd5", "9M2R7K", "K7R2M", "sw1a", "zsw1a1aa", "4711", "69F", "F69", "F/69", "69 (f)", "w_069", "female 69", "V69", "V69f", "69y", "6yo", "069Y",
     "b1951", "51b", "V1951B", "f51", "DJ51", "1951dj", "VDJ69", "age69"],
)  # fmt: skip
def test_what_is_found(text: str) -> None:
    assert KNOWN.spans(text)


@pytest.mark.parametrize(
    "text",
    ["1951", "H69f", "B69s", "69.5 F", "0.69 F", "M69", "5f", "b50", "V6.9", "V 69", "T1 3D", "512x512", "5.1", "18663", "5103", "Street 12", "12",
     "high", "69 x f", "51 mm 02 s 3", "dj", "2001"],
)  # fmt: skip
def test_what_is_not(text: str) -> None:
    assert not KNOWN.spans(text)
    assert not Fragments().spans(text)


def test_where_it_stands() -> None:
    assert {text[start:end] for text in ("Thorax 51-02 B31s",) for start, end in KNOWN.spans(text)} == {"51-02"}


@pytest.mark.parametrize(
    ("text", "proved"), [("30201591", True), ("x 9-M-2-R-7-K 3", False), ("5102", False), ("female 69", False), ("129b3bb", True)]
)  # fmt: skip
def test_long_ones_alone_prove_a_leak(text: str, proved: bool) -> None:
    assert KNOWN.prove(text) is proved


@pytest.mark.parametrize(
    ("value", "counted", "measured"),
    [("18662", True, False), ("195102", True, True), ("5102", False, False), ("0302", True, True), ("00302", False, False), ("71904", True, False),
     ("03.0210", False, False), ("302.01591", True, True), ("-18662", False, False), ("0", False, False), ("", False, False), ("1e5", False, False),
     ("18662.0", True, False)],
)  # fmt: skip
def test_numbers(value: str, counted: bool, measured: bool) -> None:
    assert KNOWN.has_number(value, measured=False) is counted
    assert KNOWN.has_number(value, measured=True) is measured


@pytest.mark.parametrize(
    ("born", "day", "ages"), [("19510203", "20200301", (69,)), ("19510203", "20200202", (68,)), ("20200301", "20190101", ())]
)  # fmt: skip
def test_ages(born: str, day: str, ages: tuple[int, ...]) -> None:
    assert tuple(ages_between(born, day)) == ages


@BOTH
@pytest.mark.parametrize(
    "text", ["5102", "CT 02/51", "V18662", "18661", "218877", "21 88-77", "778x812", "be23c", "F69", "CT 69F", "V69", "JD51", "69y F", "V0302"]
)  # fmt: skip
def test_no_text_keeps_them(policy: Policy, text: str) -> None:
    ds = planted.slice_of_ct()
    for keyword in TEXTS:
        setattr(ds, keyword, text)
    ds.SeriesNumber = "18662"
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    told = text.removeprefix("CT ")
    assert [keyword for keyword in TEXTS if told in str(output.get(keyword, ""))] == []
    assert output.get("SeriesNumber") != 18662


@BOTH
@pytest.mark.parametrize("number", ["445551234", "5551234", "414455"])
def test_a_telephone_number_without_its_first_figures_is_no_number_of_a_series(policy: Policy, number: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientTelephoneNumbers, ds.SeriesNumber = "+41 44 555 12 34", number
    assert str(Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.get("SeriesNumber")) != number


@BOTH
def test_first_figures_that_all_of_a_house_have_are_nobodys(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.SeriesDescription = "10004821", "DWI b1000"
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.SeriesDescription == "DWI b1000"


@BOTH
def test_a_long_one_in_an_output_is_a_leak(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert not find_leaks(ds, output)
    output.SoftwareVersions = "30201591"
    assert find_leaks(ds, output)


@BOTH
@pytest.mark.parametrize("text", ["syngo CT 2007A", "B31s", "H69f", "V2.69", "VB20A", "Sensation 64", "5.2", "F18"])
def test_what_makers_write_stays(policy: Policy, text: str) -> None:
    ds = planted.slice_of_ct()
    ds.SoftwareVersions = text
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.SoftwareVersions == text


def test_known_words_stay_beside_a_number_that_is_an_identifier_with_them() -> None:
    ds = planted.slice_of_ct()
    ds.StudyID, ds.SeriesDescription = "QZX_1_A_025_MR_T1", "QZX_1_A_025_MR_T1_image"
    assert Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset.SeriesDescription == "MR_T1_image"


def test_what_was_found_of_a_source_goes_with_it() -> None:
    """A node sees other people all day: of hundreds of sources what was looked for in some hundred texts is no longer held."""
    for source in range(300):
        known = fragments_of(frozenset([f"ac409{source:03}7"]), frozenset(), frozenset(), frozenset(), frozenset())
        for text in ("Thorax 1.0 B31s", f"ac409{source:03}7"):
            assert bool(known.spans(text)) is (text[0] == "a")
    gc.collect()
    assert sum(type(one) is Fragments for one in gc.get_objects()) < 150
