"""The source's own names and numbers in disguise: letters apart, figures for letters, hexadecimal, numbers without their letters."""

from __future__ import annotations

import base64

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.spellings import Spellings
from dicomnode.deidentification.traces import initials
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
SPELLINGS = Spellings.of(["q-40617", "b71.204", "x38", "4055q", "7"], [], ["ferraro", "oduya", "lee"])
PLACES = (
    "SoftwareVersions",
    "SequenceName",
    "SeriesDescription",
    "ConvolutionKernel",
    "StationName",
    "DeviceSerialNumber",
)

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "text",
    ["F e r r a r o", "o-d-u-y-a", "O.D.U.Y.A", "CT o_d_u_y_a 3", "F3rrar0", "0duya", "V1 F3rraro",
     "6665727261726f", "%6F%64%75%79%61", "0x6f 0x64 0x75 0x79 0x61", "\\x6f\\x64\\x75\\x79\\x61", "a6f64757961", "6f006400750079006100",
     "006f00640075007900 61", "%4Fduya", "od%75ya", "Fe=72raro", "o\\u0064uya", "odu&#121;a", "Odu&#x79;a", "V1 %46errar%6F", "TwBkAHUAeQBhAA==",
     "AE8AZAB1AHkAYQ==", "eABPAGQAdQB5AGEA", "AHgATwBkAHUAeQBh", "VCAxTwBkAHUAeQBhAA==",
     "406 17", "4-0617", "71.204", "V71.204", "X 38", "x-38", "40617", "\uff2f d u y a"],
)  # fmt: skip
def test_what_is_found(text: str) -> None:
    assert SPELLINGS.stand_in(text)


@pytest.mark.parametrize(
    "text",
    ["&#" + "1" * 5000, "L e e", "A P R L", "B31s", "T2 3D", "3 8", "X 39", "38", "syngo CT 2007A", "4055", "406", "0d", "deadbeef", "7", "71.2", "Ferrara 3",
     "0DUY4711", "12 34 56", "50%DLP", "TE=80 od=7", "A&B", "AEsAcgBhAHUAcwBl"],
)  # fmt: skip
def test_what_is_not(text: str) -> None:
    assert not SPELLINGS.stand_in(text)
    assert not Spellings().stand_in(text)


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize(
    "text",
    [
        "F e r r a r o",
        "O-d-u-y-a",
        "F3rrar0",
        "0duya",
        "6665727261726f",
        "406 17",
        "4-0617",
        "71.204",
        "X 38",
        "X-38",
        "%4Fduya",
        "%46errar%6F",
        "AHgATwBkAHUAeQBh",
    ],
)
def test_no_text_keeps_them(text: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientID, ds.AccessionNumber, ds.OtherPatientIDs = "Ferraro^Oduya", "Q-40617", "B71.204", "X38"
    for keyword in PLACES:
        setattr(ds, keyword, text)
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert [keyword for keyword in PLACES if text in str(output.get(keyword, ""))] == []
    output.SoftwareVersions = text
    assert find_leaks(ds, output)


@pytest.mark.parametrize(
    ("text", "spelt"), [("T a y l o r", True), ("CT S-M-I-T-H 3", True), ("A P R", False), ("T1 R", False)]
)
def test_a_word_that_somebody_spelt_is_a_name(text: str, spelt: bool) -> None:
    assert any(end - start > 6 for start, end in initials(text)) is spelt


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize(
    "text", ["J0HN", "CT Sm1th", "5m1th V2", "'51", "71y", "CT 71y", "%4A%6F", "%53mith", "CT Sm%69th"]
)
def test_of_others_too(text: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    for keyword in PLACES:
        setattr(ds, keyword, text)
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    told = text.rsplit(maxsplit=1)[-1] if text.startswith("CT") else text.split(maxsplit=1)[0]
    assert [keyword for keyword in PLACES if told in str(output.get(keyword, ""))] == []


@pytest.mark.parametrize("text", ["B31s", "VB20A", "syngo CT 2007A", "H30f", "5.2", "Sensation 64", "CT 50%FOV"])
def test_makers_figures_stay(text: str) -> None:
    ds = planted.slice_of_ct()
    ds.SoftwareVersions = text
    assert Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset.SoftwareVersions == text


#: Of the third of February 1951 and the first of March 2020, of MRN-778812, as people write them.
WRITTEN = ("19510203", "1951-02-03", "03.02.1951", "02/03/1951", "3.2.51", "x3.2.51", "DOB 19510203", "3 Feb 1951",
           "20200301", "01.03.2020", "1 Mar 2020", "MRN-778812", "id 778812")  # fmt: skip
TEXTS = ("SoftwareVersions", "SequenceName", "SeriesDescription", "ConvolutionKernel")


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-16-le"])
@pytest.mark.parametrize("written", WRITTEN)
def test_dates_and_numbers_in_base64_or_hexadecimal_go(written: str, encoding: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    data = written.encode(encoding)
    for text in (base64.b64encode(data).decode().rstrip("="), data.hex(), data.hex().upper(), data.hex(":")):
        for keyword in TEXTS:
            setattr(ds, keyword, text[:64])
        output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
        assert [keyword for keyword in TEXTS if text in str(output.get(keyword, ""))] == [], text
        output.SoftwareVersions = text
        assert find_leaks(ds, output), text


def test_what_is_encoded_and_says_nothing_of_the_source_stays() -> None:
    ds = planted.slice_of_ct()
    for text in ("LightSpeed16", "AquilionONE V10.13SP002", "6d3a7d3", "GEMINI TF TOF 16", "fl3d1_r_t70"):
        ds.SoftwareVersions = text
        assert Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset.SoftwareVersions == text


@pytest.mark.parametrize("name", ["Hernandez", "Kowalski", "Andersson", "Jane Doe", "Doe^Jane", "Tanaka"])
def test_makers_texts_keep_nobody_in_base64_or_hexadecimal(name: str) -> None:
    """Of whom the header says nothing."""
    ds = planted.slice_of_ct()
    for before in ("", "x", "ab"):
        data = (before + name).encode()
        for text in (base64.b64encode(data).decode().rstrip("="), data.hex()):
            ds.SoftwareVersions = ds.SequenceName = text
            output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(ds).dataset
            assert text not in (str(output.get("SoftwareVersions", "")), str(output.get("SequenceName", ""))), text
