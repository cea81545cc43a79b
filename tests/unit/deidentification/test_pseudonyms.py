"""Pseudonyms: stable, keyed, apart by project; dates move by whole days and keep what stands beside them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms, is_class_uid, shifted_date, shifted_datetime
from tests.unit.deidentification import planted

KEY = bytes(range(32))
ONE = Pseudonyms(KEY, "one", "SITE", 3650)


def test_uids_are_stable_and_differ_by_project_and_key() -> None:
    again = Pseudonyms(KEY, "one")
    assert ONE.uid("1.2.3") == ONE.uid("1.2.3") == again.uid("1.2.3")
    assert ONE.uid("1.2.3").startswith("2.25.")
    assert len({ONE.uid("1.2.3"), Pseudonyms(KEY, "two").uid("1.2.3"), Pseudonyms(b"k" * 32, "one").uid("1.2.3")}) == 3


@pytest.mark.parametrize(
    "uid", ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.4.1.1", "1.2.840.10008.1.5.1", "1.2.840.10008.2.16.4", ""]
)
def test_well_known_uids_stay(uid: str) -> None:
    assert ONE.uid(uid) == uid


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.deidentification.pseudonyms._REMEMBERED", 2)
    pseudonyms = Pseudonyms(KEY, "one")
    assert [pseudonyms.uid(f"1.2.{n}") for n in range(5)] == [ONE.uid(f"1.2.{n}") for n in range(5)]


def test_subjects() -> None:
    assert ONE.subject(" 77 ", "", "1.2") == ONE.subject("77", "SITE", "9.9")
    assert ONE.subject("77", "A", "1.2") != ONE.subject("77", "B", "1.2")
    assert ONE.subject("", "A", "1.2") == ONE.subject("  ", "B", "1.2") != ONE.subject("", "", "1.3")


def test_patient_ids_tokens_and_shifts() -> None:
    one, two = ONE.subject("1", "", ""), ONE.subject("2", "", "")
    assert ONE.patient_id(one) != ONE.patient_id(two)
    assert len(ONE.patient_id(one)) == 19
    assert ONE.token("a", "x") == ONE.token("a", "x") != ONE.token("b", "x")
    shifts = [ONE.shift(ONE.subject(str(n), "", "")) for n in range(50)]
    assert all(timedelta(days=-3650) <= shift <= timedelta(days=-1) for shift in shifts)
    assert len(set(shifts)) > 40
    for most in (1, 2):
        few = Pseudonyms(bytes(range(32)), "project", maximum_date_shift_days=most)
        moved = {few.shift(few.subject(str(n), "", "")) for n in range(50)}
        assert moved == {timedelta(days=-day) for day in range(1, most + 1)}, "no date stays"


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="day"):
        Pseudonyms(KEY, "one", "", 0)
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(b"short", "one")


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20200301", "20200229"),
        ("2020.03.01", "20200229"),
        ("20200101", "20191231"),
        ("20201341", None),
        ("x", None),
        ("", None),
        ("00010101", None),
    ],
)
def test_dates(value: str, moved: str | None) -> None:
    assert shifted_date(value, timedelta(days=-1)) == moved


@pytest.mark.parametrize(
    ("value", "moved"),
    [
        ("20200301093000.123456+0100", "20200229093000.123456+0100"),
        ("20200301", "20200229"),
        ("2020030109", "2020022909"),
        ("202003", "202002"),
        ("2020", "2020"),
        ("2020-0500", "2020-0500"),
        ("20200230", None),
        ("yesterday", None),
    ],
)
def test_dates_and_times(value: str, moved: str | None) -> None:
    assert shifted_datetime(value, timedelta(days=-1)) == moved


@pytest.mark.parametrize(
    "uid",
    ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.999", "1.2.840.10008.5.1.4.1.1.200.9",
     "1.2.840.10008.5.1.4.1.1.210.1", "1.2.840.10008.6.1.1999"],
)  # fmt: skip
def test_uids_of_the_standard(uid: str) -> None:
    assert is_class_uid(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.826.0.1",
        "1.2.840.10008.Mustermann.Max",
        "1.2.840.10008.12345678.19620113",
        "1.2.840.10008.5.1.4.1.1.12345",
        "1.2.840.10008.5.1.4.1.1.19.620",
        "1.2.840.10008.5.1.4.1.1.19.62.01",
        "1.2.840.10008.5.1.4.1.1.062",
        "1.2.840.10008.5.1.4.1.1.",
        "1.2.840.10008.5.1.4.1.1.\u0664",
        "1.2.840.10008.1962",
        "1.2.840.10008",
        "5",
        "",
    ],
)
def test_uids_that_only_look_like_the_standards(uid: str) -> None:
    assert not is_class_uid(uid)


@pytest.mark.parametrize("uid", ["1.2.840.10008.Mustermann.Max", "1.2.840.10008.12345678.19620113"])
@pytest.mark.filterwarnings("ignore")
def test_class_uids_are_no_hiding_place(uid: str) -> None:
    ds, item = planted.slice_of_ct(), Dataset()
    item.add(DataElement(0x00081150, "UI", uid, validation_mode=0))
    item.ReferencedSOPInstanceUID = "1.2.3"
    ds.ReferencedImageSequence = Sequence([item])
    output = Deidentifier(AI, ONE).deidentify(ds)
    assert output.dataset.ReferencedImageSequence[0].ReferencedSOPClassUID == ONE.uid(uid)
    assert output.leaks == ()


def test_no_shift_is_none() -> None:
    """Also where dates may move by a day or two alone."""
    for most in (1, 2):
        pseudonyms = Pseudonyms(bytes(range(32)), "project", maximum_date_shift_days=most)
        days = {pseudonyms.shift(pseudonyms.subject(str(number), "", "")).days for number in range(20)}
        assert days == set(range(-most, 0))
