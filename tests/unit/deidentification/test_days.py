"""Days of a source in texts: the day of an examination goes however it is written; versions, fractions and sizes stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.days import Days, unmarked
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
pytestmark = pytest.mark.filterwarnings("ignore")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
TEXTS = ("SeriesDescription", "StudyDescription", "ProtocolName", "SequenceName", "SoftwareVersions", "StationName",
         "DeviceSerialNumber", "ConvolutionKernel", "BodyPartExamined", "DerivationDescription")  # fmt: skip
DAYS = Days.of(frozenset(["20240304"]))


@BOTH
@pytest.mark.parametrize(
    "day",
    ["4.3.24", "4.3.2024", "3/4/24", "04.03.", "4.3.", "03/04", "04-03", "4/3", "3/4", "0304", "03.2024", "2024-03", "2024/03", "202403",
     "032024", "240304", "040324", "030424", "04032024", "Mar4", "MAR04", "4Mar", "Mar24", "2024Mar", "Mrz 24", "04 03 24", "24_03_04",
     "2024064", "24-064", "24064", "2024.064", "24_064", "064/24", "064.2024", "03/24", "03-24", "24/03", "24-03"],
)  # fmt: skip
@pytest.mark.parametrize("around", ["{}", "T1 {} mm", "scan_{}"])
def test_no_text_keeps_the_day_of_a_study(policy: Policy, day: str, around: str) -> None:
    ds = planted.slice_of_ct()
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(ds, keyword, "20240304")
    for keyword in TEXTS:
        text = around.format(day)
        setattr(ds, keyword, text.upper() if keyword == "BodyPartExamined" else text)
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds)
    assert output.leaks == ()
    assert [keyword for keyword in TEXTS if day.lower() in str(output.dataset.get(keyword, "")).lower()] == []


@pytest.mark.parametrize(
    "text",
    ["1.4.3.24", "4.3.24.1", "V4.3.24", "3.4", "4.3 mm", "13/4", "3/41", "2024", "VB30 2024A", "10.3.24", "1304", "03045", "3.04.5",
     "2024.3.5", "MAR", "mar5", "3/4/5/6", "T10-12", "0.3 4", "304", "12-03-2024-1",
     "3/24", "24/3", "03.24", "24.03", "64/24", "64", "064", "24-063", "24-65", "03/24/1", "03/241"],
)  # fmt: skip
def test_what_is_no_day_of_it_stays(text: str) -> None:
    assert list(DAYS.spans(text)) == []
    assert not any(piece == text.casefold() for piece in unmarked("20240304"))


@pytest.mark.parametrize("text", ["since 3/24", "exam 3.24", "dated: 03.24", "vom 3-24"])
def test_a_month_goes_where_a_word_says_that_it_is_one(text: str) -> None:
    assert [text[start:end] for start, end in DAYS.spans(text)] == [text.rsplit(maxsplit=1)[-1]]


def test_a_late_day_of_the_year_is_written_behind_its_year() -> None:
    days, texts = (
        Days.of(frozenset(["20200409"])),
        ("20100", "20-100", "CT 20100", "20/100", "TE 20 100", "20x100", "20101", "100/20"),
    )
    assert [any(days.spans(text)) for text in texts] == [True, True, True, False, False, False, False, False]
    assert {"2020100", "1002020"} <= set(unmarked("20200409"))
    assert {"10020", "20100"}.isdisjoint(unmarked("20200409"))


def test_a_thickness_behind_a_word_is_no_month() -> None:
    days = Days.of(frozenset(["20250110"]))
    texts = "exam 1.25", "exam 1.25 mm", "vom 1.25mm", "bis 1.25 cm", "exam 1/25"
    assert [any(days.spans(text)) for text in texts] == [True, False, False, False, True]


def test_a_date_that_there_is_not_has_no_spellings() -> None:
    assert list(unmarked("20241399")) == []
    assert not any(len(piece) == 5 and piece.isdigit() for piece in unmarked("20240231"))
    assert list(Days().spans("4.3.24")) == []


@BOTH
def test_a_series_with_the_month_for_its_number(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.StudyDate, ds.SeriesNumber = "20240304", "240304"
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.SeriesNumber != 240304


def test_kept_dates_are_kept_in_texts() -> None:
    ds = planted.slice_of_ct()
    ds.StudyDate, ds.SoftwareVersions = "20240304", "syngo 4.3.24"
    kept = replace(AI, options=AI.options - {Option.MODIFIED_DATES} | {Option.FULL_DATES})
    assert Deidentifier(kept, PSEUDONYMS).deidentify(ds).dataset.SoftwareVersions == "syngo 4.3.24"


FULL = replace(EXPORT, options=(EXPORT.options - {Option.MODIFIED_DATES}) | {Option.FULL_DATES})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT, FULL], ids=["ai", "export", "full"])
@pytest.mark.parametrize(
    "value", ["1951", "195102", "19510203", "1951+0100", "195102-0500", "19510203101112.5+0100", "1951020310"]
)
def test_no_date_and_time_is_that_of_birth_or_a_part_of_it(value: str, policy: Policy) -> None:
    """Whatever dates are retained: that of birth is none of these (Table E.1-1)."""
    ds = planted.slice_of_ct()
    ds.AcquisitionDateTime, ds.DateOfLastCalibration = value, "19510203"
    item = Dataset()
    item.ScheduledProcedureStepStartDateTime = value
    ds.RequestAttributesSequence = Sequence([item])
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert done.leaks == ()
    assert "1951" not in str(done.dataset)


@pytest.mark.filterwarnings("ignore")
def test_dates_of_a_study_in_the_year_of_birth_stay() -> None:
    ds = planted.slice_of_ct()
    ds.PatientBirthDate, ds.AcquisitionDateTime, ds.StudyDate = "20200201", "2020", "20200301"
    engine = Deidentifier(FULL, Pseudonyms(bytes(range(32)), "project"))
    assert engine.deidentify(ds).dataset.AcquisitionDateTime == "2020"
    ds.PatientBirthDate, ds.AcquisitionDateTime = "20200301", "20200301101112"
    assert engine.deidentify(ds).dataset.AcquisitionDateTime == "20200301101112"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT, FULL], ids=["ai", "export", "full"])
def test_time_stamps_in_bytes_go_whatever_dates_stay(policy: Policy) -> None:
    """Frame Origin Timestamp and Certified Timestamp: nobody can look into them."""
    ds, item = planted.slice_of_ct(), Dataset()
    item.add_new(0x00340007, "OB", b"\0\0\x5e\x5b\x12\x34\0\0\0\1")
    item.add_new(0x04000310, "OB", b"20200301101112Z ")
    ds.add_new(0x00340007, "OB", b"\0\0\x5e\x5b\x12\x34\0\0\0\1")
    ds.SourceImageSequence = Sequence([item])
    output = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert b"\x5e\x5b\x12\x34" not in planted.encoded(output)
    assert b"20200301101112Z" not in planted.encoded(output)
