"""Ages in structured reports: above 89 years they are one class in exports, as Patient's Age is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import report

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def code(value: str, scheme: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "x"
    return Sequence([item])


def numeric(value: str, unit: str, concept: tuple[str, str]) -> Dataset:
    measured, item = Dataset(), Dataset()
    measured.NumericValue, measured.FloatingPointValue = value, float(value)
    if unit:
        measured.MeasurementUnitsCodeSequence = code(unit, "UCUM")
    item.RelationshipType, item.ValueType = "HAS OBS CONTEXT", "NUM"
    item.ConceptNameCodeSequence, item.MeasuredValueSequence = code(*concept), Sequence([measured])
    return item


def out(item: Dataset, policy: Policy) -> Dataset:
    source = report().dataset
    source.ContentSequence = Sequence([item])
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(source), Limits())).dataset
    data = encode_part10(done, transfer_syntax_uid=planted.EXPLICIT)
    return read_part10(data, Limits()).ContentSequence[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "unit", "concept", "exported"),
    [
        ("95", "a", ("121033", "DCM"), "90"),
        ("89.9", "a", ("121033", "DCM"), "89.9"),
        ("1140", "mo", ("30525-0", "LN"), "1080"),
        ("1140", "d", ("424144002", "SCT"), "1140"),
        ("95", "", ("121033", "DCM"), None),
        ("95", "mm", ("121033", "DCM"), None),
        ("95", "mm", ("410668003", "SCT"), "95"),
        ("95", "a", ("63900-5", "LN"), None),  # whatever lasts as long may be an age
        ("95", "a", ("445518008", "SCT"), None),
        ("1140", "mo", ("X1", "99X"), None),
        ("40000", "d", ("103335007", "SCT"), None),  # a duration: not told as another number
        ("30000", "d", ("103335007", "SCT"), "30000"),
        ("30.2", "a", ("X1", "99X"), "30.2"),
    ],
)
def test_ages_of_reports(value: str, unit: str, concept: tuple[str, str], exported: str | None) -> None:
    measured = out(numeric(value, unit, concept), EXPORT).MeasuredValueSequence
    assert [one.NumericValue for one in measured] == ([] if exported is None else [float(exported)])
    assert [one for one in measured if "FloatingPointValue" in one] == (list(measured) if exported == value else [])
    assert out(numeric(value, unit, concept), AI).MeasuredValueSequence[0].NumericValue == float(value)


def test_an_age_beside_its_concept_and_one_without_a_value() -> None:
    item = numeric("95", "a", ("121033", "DCM"))
    inner = item.MeasuredValueSequence[0]
    item.NumericValue, item.MeasurementUnitsCodeSequence = "95", inner.MeasurementUnitsCodeSequence
    del inner.NumericValue, inner.FloatingPointValue, item.MeasuredValueSequence
    assert out(item, EXPORT).NumericValue == 90
    item.MeasuredValueSequence = Sequence([inner])
    assert "NumericValue" not in out(item, EXPORT).MeasuredValueSequence[0]


@pytest.mark.parametrize("concept", [("121033", "DCM"), None])
@pytest.mark.parametrize(
    "said", [{"FloatingPointValue": 95.0}, {"RationalNumeratorValue": 190, "RationalDenominatorValue": 2}]
)
@pytest.mark.parametrize("number", [None, "30"])
def test_an_age_is_limited_whichever_attributes_say_it(
    concept: tuple[str, str] | None, said: dict[str, float], number: str | None
) -> None:
    item = numeric("30", "a", concept or ("X1", "99X"))
    measured = item.MeasuredValueSequence[0]
    del measured.FloatingPointValue
    if number is None:
        del measured.NumericValue
    if concept is None:
        del item.ConceptNameCodeSequence
    for keyword, value in said.items():
        setattr(measured, keyword, value)
    left = out(item, EXPORT).MeasuredValueSequence
    assert [one.NumericValue for one in left] == ([90] if concept else [])
    assert not any(keyword in one for one in left for keyword in said)


def test_a_value_of_years_that_cannot_be_read_goes() -> None:
    item = numeric("30", "a", ("X1", "99X"))
    item.MeasuredValueSequence[0].RationalNumeratorValue, item.MeasuredValueSequence[0].RationalDenominatorValue = 95, 0
    assert len(out(item, EXPORT).MeasuredValueSequence) == 0
    del item.MeasuredValueSequence[0].RationalNumeratorValue, item.MeasuredValueSequence[0].RationalDenominatorValue
    kept = out(item, EXPORT).MeasuredValueSequence[0]
    assert (kept.NumericValue, kept.FloatingPointValue) == (30, 30.0)


@pytest.mark.parametrize(
    ("age", "highest", "out"),
    [
        ("089Y", 89, "089Y"), ("090Y", 89, "090Y"), ("091Y", 89, "090Y"), ("101Y", None, "101Y"), ("999M", 89, "999M"),
        ("900M", 70, "071Y"), ("851M", 70, "851M"), ("852M", 70, "071Y"), ("999W", 18, "019Y"), ("800D", 1, "002Y"), ("729D", 1, "729D"),
    ],
)  # fmt: skip
def test_an_age_in_any_unit_is_limited(age: str, highest: int | None, out: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientAge = age
    policy = replace(EXPORT, highest_age=highest)
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.PatientAge == out
