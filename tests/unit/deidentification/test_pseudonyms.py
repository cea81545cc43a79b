"""Pseudonyms: stable, keyed, apart by project; dates move by whole days and keep what stands beside them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicomnode.deidentification.pseudonyms import Pseudonyms, is_class_uid, shifted_date, shifted_datetime

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


def test_class_uids() -> None:
    assert is_class_uid("1.2.840.10008.5.1.4.1.1.999")
    assert not is_class_uid("1.2.826.0.1")
