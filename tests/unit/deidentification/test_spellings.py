"""The patient's own identifiers in other spellings: numbers as numbers, digits without grouping, dates as people write."""

from __future__ import annotations

import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.spellings import Spellings
from tests.unit.deidentification import planted

ENGINE = Deidentifier(AI, Pseudonyms(bytes(range(32)), "project"))
SPELLINGS = Spellings.of(["0012345678", "mrn 778812", "acc-7", "4711", "12-345-678-9"], ["19620113"])

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    "value",
    ["12345678", "0012345678", "12345678.0", "+12345678", "1.2345678e7", "-12345678", "778812", "123456789",
     "19620113", "13011962", "130162", "620113", "13162", "01131962"],
)  # fmt: skip
def test_numbers_that_identify(value: str) -> None:
    assert SPELLINGS.has_number(value) is (value != "13162")


@pytest.mark.parametrize(
    "value", ["4711", "7", "12345678.5", "1234567", "123456780", "x", "", "nan", "1e999999", "0", "1" * 60]
)
def test_numbers_that_do_not(value: str) -> None:
    assert not SPELLINGS.has_number(value)
    assert not Spellings().has_number(value)


@pytest.mark.parametrize(
    "text",
    ["1234 5678", "1234-5678", "12 34 56 78", "1234.5678", "v 0012345678", "no. 7788-12", "a 9 1234 5678 b",
     "13 Jan 1962", "13JAN1962", "Jan 13, 1962", "13/01/62", "13.1.62", "13.1.1962", "13 1 1962", "62-01-13", "1962 01 13",
     "1962-Jan-13", "born 13. Januar 1962", "1/13/62", "13. 1. 1962", "130162", "13-jan-62"],
)  # fmt: skip
def test_texts_that_identify(text: str) -> None:
    assert SPELLINGS.stand_in(text)


@pytest.mark.parametrize(
    "mark", ["_", ",", ":", ";", "|", "+", "'", "    ", "\t", "\u2013", "\u2010", "\xa0", "\xb7", "\uff0f", " - ", ".."]
)
@pytest.mark.parametrize(
    "parts",
    [("12", "345", "678"), ("13", "01", "62"), ("1962", "1", "13"), ("13", "Jan", "1962"), ("13th", "January", "62")],
)
def test_whatever_stands_between_the_parts(mark: str, parts: tuple[str, ...]) -> None:
    text = mark.join(parts)
    assert SPELLINGS.stand_in(text)
    assert SPELLINGS.stand_in(f"Thorax 5 {text} 3")
    for keyword in ("SeriesDescription", "SoftwareVersions", "StationName", "ContrastBolusAgent"):
        ds = planted.slice_of_ct()
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientID, ds.PatientBirthDate = "0012345678", "19620113"
        setattr(ds, keyword, f"CT {text}"[:16])
        done = ENGINE.deidentify(ds)
        assert (done.leaks, SPELLINGS.stand_in(str(done.dataset.get(keyword)))) == ((), False)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("A12B34", "A12-B34"), ("A12B34", "a12 b34"), ("M123", "M-123"), ("AB-1234", "AB1234"), ("MR1234", "MR 1234"), ("S19/4711", "S19-4711"),
        ("K-1962", "K1962"), ("12A4567", "12A-4567"), ("X7K9", "T2 X7_K9 tra"),
    ],
)  # fmt: skip
def test_identifiers_of_letters_and_digits_between_any_marks(code: str, text: str) -> None:
    assert Spellings.of([code], []).stand_in(text)
    assert not Spellings.of([code], []).stand_in(f"T2{text[0]} tse 4mm")
    for keyword in ("SeriesDescription", "SoftwareVersions", "StationName"):
        ds = planted.slice_of_ct()
        ds.PatientID = code
        setattr(ds, keyword, text)
        done = ENGINE.deidentify(ds)
        assert (done.leaks, Spellings.of([code], []).stand_in(str(done.dataset.get(keyword)))) == ((), False)


@pytest.mark.parametrize("keyword", ["SeriesDescription", "SoftwareVersions", "StationName", "ContrastBolusAgent"])
@pytest.mark.parametrize("text", ["CT P4711", "CT 4711A", "CT b4711", "CT TR4711", "CT 4711ml"])
def test_an_identifier_of_four_digits_beside_letters(keyword: str, text: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID = "4711"
    setattr(ds, keyword, text)
    done = ENGINE.deidentify(ds)
    assert (done.leaks, "4711" in str(done.dataset.get(keyword))) == ((), False)


@pytest.mark.parametrize("text", ["001234", "00 12 34", "0012-34", "0001234", "CT 00-12-34", "v 00_1234"])
def test_an_identifier_that_is_short_but_for_its_zeros(text: str) -> None:
    known = Spellings.of(["00-12-34"], [])
    assert known.stand_in(text)
    assert not any(map(known.stand_in, ("1234", "12-34", "CT 12 34", "00123")))
    assert known.has_number("001234")
    assert not known.has_number("1234")
    for keyword in ("SeriesDescription", "SoftwareVersions", "StationName", "SeriesNumber"):
        ds = planted.slice_of_ct()
        ds.PatientID = "00-12-34"
        ds[keyword] = DataElement(keyword, _vr(keyword), "001234" if keyword == "SeriesNumber" else text)
        done = ENGINE.deidentify(ds)
        assert (done.leaks, known.stand_in(str(done.dataset.get(keyword)))) == ((), False)


def test_a_measurement_that_is_written_as_a_code() -> None:
    ds = planted.slice_of_ct()
    ds.PatientID = "0048213"
    for keyword, value in (("KVP", b"0048213 "), ("ExposureTime", b"0048213 "), ("RepetitionTime", b"48213 ")):
        tag = Tag(keyword)
        ds[tag] = RawDataElement(tag, "IS" if keyword == "ExposureTime" else "DS", len(value), value, 0, False, True)
    done = ENGINE.deidentify(ds).dataset
    assert b"0048213" not in planted.encoded(done)
    assert done.RepetitionTime == 48213


def test_digits_of_other_scripts() -> None:
    assert SPELLINGS.stand_in("\uff11\uff12\uff13\uff14-\uff15\uff16\uff17\uff18")


@pytest.mark.parametrize(
    "text",
    ["syngo CT 2007A", "1.2.3.4", "12 Jan 1962", "14/01/62", "Sensation 64", "Jan", "13 1962", "Br40d 3", "4711", "13 foo 1962"],
)  # fmt: skip
def test_texts_that_do_not(text: str) -> None:
    assert not SPELLINGS.stand_in(text)
    assert not Spellings().stand_in(text)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("SeriesNumber", "12345678"),
        ("SliceLocation", "12345678.0"),
        ("SeriesNumber", "13011962"),
        ("AcquisitionNumber", "130162"),
        ("SoftwareVersions", "1234 5678"),
        ("SequenceName", "12 34 56 78"),
        ("ManufacturerModelName", "13/01/62"),
        ("SoftwareVersions", "13.1.1962"),
        ("StationName", "13JAN1962"),
        ("DeviceSerialNumber", "13 Jan 1962"),
        ("AcquisitionTime", "962013"),
        ("AcquisitionTime", "196201.13"),
        ("ContentTime", "12:61"),
    ],
)
def test_no_spelling_survives_and_nothing_is_held_back(keyword: str, value: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.PatientBirthDate, ds.SequenceName = "0012345678", "19620113", "epi"
    ds[keyword] = DataElement(ds.data_element(keyword).tag if keyword in ds else keyword, _vr(keyword), value)
    done = ENGINE.deidentify(ds)
    assert (done.leaks, value in str(done.dataset.get(keyword))) == ((), False)


def _vr(keyword: str) -> str:
    vrs = {
        "SeriesNumber": "IS",
        "AcquisitionNumber": "IS",
        "SliceLocation": "DS",
        "StationName": "SH",
        "SequenceName": "SH",
    }
    return vrs.get(keyword, "TM" if keyword.endswith("Time") else "LO")


def test_numbers_of_others_stay() -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.PatientBirthDate = "0012345678", "19620113"
    ds.SeriesNumber, ds.SliceLocation, ds.SoftwareVersions, ds.AcquisitionTime = (
        "12345",
        "-123.45678",
        "1.2.3",
        "235960.5",
    )
    done = ENGINE.deidentify(ds)
    for keyword in ("SeriesNumber", "SliceLocation", "SoftwareVersions", "AcquisitionTime", "ImagePositionPatient"):
        assert done.dataset[keyword].value == ds[keyword].value


@pytest.mark.parametrize(
    ("keyword", "value", "kinds"),
    [
        ("SeriesNumber", "12345678", {"code"}),
        ("SeriesNumber", "12345", set()),
        ("SoftwareVersions", "1234-5678", {"code"}),
        ("SoftwareVersions", "13 Jan 1962", {"code"}),
        ("SoftwareVersions", "VB17", set()),
        ("WindowCenter", ["12345678"] * 9, set()),
    ],
)
def test_the_leak_check_knows_them(keyword: str, value: object, kinds: set[str]) -> None:
    source, output = planted.slice_of_ct(), Dataset()
    source.PatientID, source.PatientBirthDate = "0012345678", "19620113"
    output.ensure_file_meta()
    output.set_original_encoding(False, True, "iso8859")
    setattr(output, keyword, value)
    assert {leak.kind for leak in find_leaks(source, output)} == kinds
