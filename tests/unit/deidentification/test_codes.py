"""Coded concepts as a hiding place: what has the form of a code may be the patient."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import codes
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import encode_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def with_code(value: str, scheme: str, meaning: str = "Chest") -> Dataset:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = "Mustermann^Maximilian", "12345670", "19620113"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    ds.AnatomicRegionSequence = Sequence([item])
    return ds


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("MUSTERMANN", "DCM"),
        ("FUCHSBERGER", "DCM"),
        ("MUSTERMANN1", "99DICOMNODE"),
        ("{Morris}g/ml", "UCUM"),
        ("g{Mann(Morris)}", "UCUM"),
        ("12345670", "SCT"),
        ("12345670", "RXNORM"),
        ("19620113", "PUBCHEM_CID"),
        ("12345678", "SCT"),
        ("10000019", "SCT"),
        ("2818491014", "SCT"),  # of a description
        ("2818491022", "SCT"),  # of a relationship
        ("0818491001", "SCT"),
        ("[Mustermann]", "UCUM"),
        ("[smith]", "UCUM"),
        ("1234.5670", "UCUM"),
        ("{Sam}", "UCUM"),
        ("Sam", "UCUM"),
        ("Paul", "UCUM"),
        ("Hans", "UCUM"),
        ("{12345678}", "UCUM"),
        ("HANS", "IBSI"),
        ("SMYTHE1", "I10P"),
        ("DRHUBERTUS", "99DICOMNODE"),
    ],
)
def test_a_code_that_no_table_has_is_no_hiding_place(value: str, scheme: str, policy: Policy) -> None:
    output = Deidentifier(policy, PSEUDONYMS).deidentify(with_code(value, scheme))
    item = output.dataset.AnatomicRegionSequence[0]
    assert (output.leaks, item.CodingSchemeDesignator, item.CodeMeaning) == ((), codes.UNKNOWN_SCHEME, "Withheld")
    assert item.CodeValue.startswith("ID")


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [
        ("39607008", "SCT", "Lung"),
        ("RTSTRUCT", "DCM", "RT Structure Set"),
        ("9876543008", "SCT", "SCT 9876543008"),
        ("77777", "MDC", "MDC 77777"),
        ("mm[Hg]", "UCUM", None),
        ("{SUVbw}g/ml", "UCUM", None),
        ("{SUVlbm(Morris)}", "UCUM", None),
        ("mL/min/1.73m2", "UCUM", None),
        ("mL/100g/min", "UCUM", None),
        ("{1:1}", "UCUM", None),
        ("/100{WBC}", "UCUM", None),
        ("RID1301", "RadLex", None),
        ("[in_i]/s", "UCUM", None),
        ("BW24ZZZ", "I10P", None),
        ("RNU0", "IBSI", None),
        ("{BPM}", "UCUM", None),
        ("ml/min/{1.73_m2}", "UCUM", None),
        ("10*-3{mm2/s}", "UCUM", None),
        ("U/l", "UCUM", None),
        ("PERC15", "99DICOMNODE", None),
    ],
)
def test_codes_of_tables_and_of_nobody_stay(value: str, scheme: str, meaning: str | None) -> None:
    source = with_code(value, scheme, "Mustermann")
    item = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset.AnatomicRegionSequence[0]
    assert (item.CodeValue, item.CodingSchemeDesignator) == (value, scheme)
    assert meaning is None or item.CodeMeaning == meaning


@pytest.mark.parametrize("value", ["39607009", "138875006", "039607008", "3960700", "39607018"])
def test_a_number_that_does_not_check_is_no_code_of_snomed(value: str) -> None:
    """The last digit checks the others, and those before it say that a concept is named."""
    source = with_code(value, "SCT", "Lung")
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset
    assert value.encode() not in encode_part10(output, transfer_syntax_uid=planted.EXPLICIT)


@pytest.mark.parametrize(
    ("value", "scheme", "meaning", "kinds"),
    [
        ("MUSTERMANN", "DCM", "Chest", {"name"}),
        ("12345670", "SCT", "SCT 12345670", {"code"}),
        ("39607008", "SCT", "Mustermann", {"name"}),
        ("39607008", "SCT", "Lung", set()),
        ("77777", "MDC", "MDC 77777", set()),
    ],
)
def test_the_leak_check_looks_into_codes(value: str, scheme: str, meaning: str, kinds: set[str]) -> None:
    source = with_code("1", "2")
    output = Dataset()
    output.ensure_file_meta()
    output.set_original_encoding(False, True, "iso8859")
    output.AnatomicRegionSequence = with_code(value, scheme, meaning).AnatomicRegionSequence
    assert {leak.kind for leak in find_leaks(source, output)} == kinds


@pytest.mark.parametrize("meaning", ["Brown", "Lewis", "Black", "Young"])
def test_a_meaning_of_another_code_that_people_are_called_goes(meaning: str) -> None:
    item = Deidentifier(EXPORT, PSEUDONYMS).deidentify(with_code("69536005", "SCT", meaning)).dataset
    assert item.AnatomicRegionSequence[0].CodeMeaning == "Head"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ContextIdentifier", "54321"), ("ContextIdentifier", "CID54321"), ("CodingSchemeVersion", "555-867-5309"),
        ("CodingSchemeVersion", "12345670"), ("CodingSchemeVersion", "19620113"), ("ContextGroupVersion", "19390522"),
    ],
)  # fmt: skip
def test_nothing_hides_beside_a_code(keyword: str, value: str) -> None:
    source = with_code("39607008", "SCT", "Lung")
    source.AccessionNumber = "54321"
    setattr(source.AnatomicRegionSequence[0], keyword, value)
    done = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source)
    assert (done.leaks, keyword in done.dataset.AnatomicRegionSequence[0]) == ((), False)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ContextIdentifier", "4021"), ("CodingSchemeVersion", "2.0"), ("CodingSchemeVersion", "20200731"), ("CodingSchemeVersion", "2019-09")],
)  # fmt: skip
def test_what_is_of_the_scheme_stays_beside_a_code(keyword: str, value: str) -> None:
    source = with_code("39607008", "SCT", "Lung")
    setattr(source.AnatomicRegionSequence[0], keyword, value)
    done = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset
    assert done.AnatomicRegionSequence[0].get(keyword) == value


def test_a_standard_word_of_one_code_does_not_cover_another() -> None:
    source, output = with_code("1", "2"), Dataset()
    output.ensure_file_meta()
    output.set_original_encoding(False, True, "iso8859")
    output.AnatomicRegionSequence = with_code("MUSTERMANN", "DCM").AnatomicRegionSequence
    output.SeriesDescription = "Mustermann"
    assert {(leak.kind, leak.tag) for leak in find_leaks(source, output)} == {
        ("name", 0x00080100),
        ("name", 0x0008103E),
        ("name", 0),
    }


@pytest.mark.parametrize(
    ("value", "scheme", "meaning", "canonical"),
    [
        ("39607008", "SCT", "Liver", "Lung"),
        ("39607008", "SCT", "Breast", "Lung"),
        ("10200004", "SCT", "Lung", "Liver"),
        ("121401", "DCM", "Measurement", "Derivation"),
        ("mm", "UCUM", "centimeter", "mm"),
        ("39607008", "SCT", "LUNG", "LUNG"),
        ("5.13.5-7", "SCPECG", "QT Interval", "PR Interval"),
        ("5.6.3-9-62", "SCPECG", "Lead II", "aVR, augmented voltage, right"),
        ("2:1", "MDC", "Lead III", "Lead I"),
    ],
)
def test_a_meaning_is_that_of_its_own_code(value: str, scheme: str, meaning: str, canonical: str) -> None:
    """A meaning of another code, however technical, says something else than the value."""
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(with_code(value, scheme, meaning)).dataset
    item = output.AnatomicRegionSequence[0]
    assert (item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning) == (value, scheme, canonical)


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [("5.6.3-9-1", "SCPECG", "Lead I (Einthoven)"), ("5.6.3-9-3", "SCPECG", "Lead V1"), ("5.10.2.5-5", "SCPECG", "QTc Interval"),
     ("2:7168", "MDC", "PR interval per lead"), ("5.10.2.9-9", "SCPECG", "SCPECG 5.10.2.9-9"), ("2:59999", "MDC", "MDC 2:59999"), ("Y-X1743", "99SDM", "FDG -- fluorodeoxyglucose"), ("51185008", "SCT", "Chest"),
     ("T-D3000", "SRT", "Chest"), ("deg", "UCUM", "degrees"), ("uV", "UCUM", "microvolt"), ("123037004", "SCT", "Anatomical Structure"),
     ("C-111A1", "99SDM", "18F"), ("en-US", "RFC5646", "English (United States)"), ("5.6.3-9-62", "SCPECG", "Lead aVR"),
     ("2:64", "MDC", "Lead aVF")],
)  # fmt: skip
def test_codes_of_leads_intervals_and_agents_stay(value: str, scheme: str, meaning: str) -> None:
    item = Deidentifier(EXPORT, PSEUDONYMS).deidentify(with_code(value, scheme, meaning)).dataset
    assert item.AnatomicRegionSequence[0].CodeValue == value
    assert item.AnatomicRegionSequence[0].CodeMeaning == meaning
