"""Structured reports by concept: each row of PS3.15 Table E.3.4-1, whatever its Value Type, in a tree and in an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import profile
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
BARE = replace(AI, name="bare", options=frozenset({Option.CLEAN_STRUCTURED_CONTENT}))
UID = "1.2.392.200036.4711.1"


def code(value: str, scheme: str = "DCM", meaning: str = "Meaning") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def items(**values: Any) -> Sequence:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return Sequence([item])


def reference() -> Sequence:
    return items(ReferencedSOPClassUID=planted.CT, ReferencedSOPInstanceUID=UID)


def values() -> dict[str, dict[str, Any]]:
    """A value of each Value Type, that can be told from whatever stands for it."""
    number = {
        "NumericValue": "37.5",
        "FloatingPointValue": 37.5,
        "MeasurementUnitsCodeSequence": code("a", "UCUM", "a"),
    }
    return {
        "TEXT": {"TextValue": "WOLKENSTEIN"},
        "PNAME": {"PersonName": "WOLKENSTEIN^OSWALD"},
        "NUM": {"MeasuredValueSequence": items(**number)},
        "CODE": {"ConceptCodeSequence": code("M", "DCM", "Male")},
        "DATE": {"Date": "19530104"},
        "TIME": {"Time": "101112"},
        "DATETIME": {"DateTime": "19530104101112"},
        "UIDREF": {"UID": UID},
        **{key: {"ReferencedSOPSequence": reference()} for key in ("IMAGE", "COMPOSITE", "WAVEFORM")},
        "CONTAINER": {"ContinuityOfContent": "SEPARATE", "ContentSequence": items(RelationshipType="CONTAINS", ValueType="NUM",
            ConceptNameCodeSequence=code("113830"), MeasuredValueSequence=items(**number))},
    }  # fmt: skip


LEFT = [b"37.5", b"WOLKENSTEIN", b"19530104", UID.encode(), b"Male", bytes.fromhex("0000000000c04240")]


def report(*content: Dataset) -> Dataset:
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.SOPClassUID, ds.Modality, ds.ValueType = COMPREHENSIVE, "SR", "CONTAINER"
    ds.ConceptNameCodeSequence, ds.ContentSequence = code("126000"), Sequence(content)
    return ds


def content_item(value_type: str, name: Sequence, **more: Any) -> Dataset:
    return items(RelationshipType="CONTAINS", ValueType=value_type, ConceptNameCodeSequence=name, **more)[0]


def done(ds: Dataset, policy: Policy) -> Dataset:
    return Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits())).dataset


def of(ds: Dataset, policy: Policy) -> tuple[Dataset, bytes]:
    output = done(ds, policy)
    data = encode_part10(output, transfer_syntax_uid=planted.EXPLICIT)
    return output.ContentSequence[0], data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value_type", sorted({key[2] for key in profile.content()}))
def test_without_an_option_no_row_keeps_its_value(value_type: str) -> None:
    rows = [key for key in profile.content() if key[2] == value_type]
    assert rows
    ds = report(*(content_item(value_type, code(value, scheme), **values()[value_type]) for scheme, value, _ in rows))
    output = done(ds, BARE)
    data = encode_part10(output, transfer_syntax_uid=planted.EXPLICIT)
    assert [value for value in LEFT if value in data] == []
    assert len(output.ContentSequence) == len(rows), "other items refer to one by its place"


@pytest.mark.parametrize(
    ("value_type", "name", "kept"),
    [
        ("CODE", code("121032"), {"ai", "export"}),
        ("NUM", code("121033"), {"ai", "export"}),
        ("NUM", code("C54627", "NCIt"), set()),
        ("CONTAINER", code("121000"), {"ai"}),
        ("NUM", code("113830"), {"ai", "export", "bare"}),
        ("CODE", code("363698007", "SCT"), {"ai", "export", "bare"}),
        ("CONTAINER", code("121111"), {"ai", "export", "bare"}),
    ],
    ids=lambda one: str(one[0].CodeValue) if isinstance(one, Sequence) else "",
)
@pytest.mark.parametrize("policy", [AI, EXPORT, BARE], ids=["ai", "export", "bare"])
def test_what_an_option_retains_or_no_row_names_stays(
    value_type: str, name: Sequence, kept: set[str], policy: Policy
) -> None:
    value = values()[value_type]
    item, data = of(report(content_item(value_type, name, **value)), policy)
    stays = policy.name in kept
    assert (any(one in data for one in (b"37.5", b"Male"))) is stays
    if value_type == "NUM":
        assert len(item.MeasuredValueSequence) == stays
    elif value_type == "CODE":
        assert item.ConceptCodeSequence[0].CodeValue == ("M" if stays else "261665006")
    else:
        assert ("ContentSequence" in item) is stays


def test_content_items_of_images_have_their_number_beside_their_concept() -> None:
    """Content Item Macro (PS3.3 10.2), as in Acquisition Context."""
    for name, kept in (("113830", True), ("121033", False)):
        ds = planted.slice_of_ct()
        ds.AcquisitionContextSequence = items(
            ValueType="NUM", ConceptNameCodeSequence=code(name), NumericValue="37.5", FloatingPointValue=37.5,
            MeasurementUnitsCodeSequence=code("a", "UCUM", "a"),
        )  # fmt: skip
        item = done(ds, replace(AI, options=BARE.options | {Option.CLEAN_DESCRIPTORS})).AcquisitionContextSequence
        assert ["NumericValue" in one for one in item] == [kept] * len(item)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("concept", [("12345-6", "LN"), ("439272007", "SCT"), ("X1", "99X")])
def test_a_date_of_birth_goes_whatever_its_concept(concept: tuple[str, str], policy: Policy) -> None:
    """Shifted as the study is, it would tell the age to the day, of the oldest too."""

    def out(**changes: str) -> list[str]:
        given = {"Date": "19510203"}, {"Date": "1951.02.03"}, {"DateTime": "19510203101112"}, {"Date": "19530104"}
        content = [items(ConceptNameCodeSequence=code(*concept), ValueType="DATE", **value)[0] for value in given]
        source = report(*content)
        for keyword, value in changes.items():
            setattr(source, keyword, value)
        done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(source), Limits())).dataset
        return [str(item.get("Date") or item.get("DateTime")) for item in done.ContentSequence]

    *births, other = out()
    assert births == ["19000101"] * 3
    assert other != "19000101"
    assert "19000101" not in out(StudyDate="19510203")  # of a newborn everything is of that day


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize(
    "concept",
    [("21112-8", "LN", "Birth date"), ("184099003", "SCT", "Date of birth"), ("121031", "dcm", "x"), ("121031", "DCM", "x"),
     ("B1", "99X", "Geburtsdatum"), ("B1", "99X", "DOB"), ("B1", "99X", "生年月日"), ("c68615", "NCIT", "x")],
)  # fmt: skip
def test_what_is_called_a_date_of_birth_goes_whoever_knows_it(concept: tuple[str, str, str], policy: Policy) -> None:
    """Where the header has no date of birth, or another one, as of a mother: it came out as old as somebody is, to the day."""
    given: list[dict[str, str]] = [{"Date": "19530104"}, {"DateTime": "19530104101112"}]
    content = [items(ConceptNameCodeSequence=code(*concept), ValueType="DATE", **value)[0] for value in given]
    source = report(*content)
    source.PatientBirthDate, source.SpecificCharacterSet = "", "ISO_IR 192"
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(source), Limits())).dataset
    assert [str(item.get("Date") or item.get("DateTime")) for item in done.ContentSequence] == ["19000101"] * 2


@pytest.mark.filterwarnings("ignore")
def test_a_concept_is_one_however_its_letters_and_its_value_are_written() -> None:
    """Accession Number by `dcm`; an observer's name as a text that reads like a technique; experience by `NCIT`."""
    content = [
        items(ConceptNameCodeSequence=code("121022", "dcm"), ValueType="TEXT", TextValue="chest routine"),
        items(ConceptNameCodeSequence=code("121008"), ValueType="TEXT", TextValue="chest routine"),
        items(ConceptNameCodeSequence=code("c54627", "NCIT"), ValueType="NUM", MeasuredValueSequence=items(
            NumericValue="37", MeasurementUnitsCodeSequence=code("a", "UCUM", "a"))),
        items(ConceptNameCodeSequence=code("111111", "99X"), ValueType="TEXT", TextValue="chest routine"),
    ]  # fmt: skip
    done = Deidentifier(EXPORT, PSEUDONYMS).deidentify(
        read_part10(planted.encoded(report(*(one[0] for one in content))), Limits())
    )
    number, name, experience, other = done.dataset.ContentSequence
    assert [number.TextValue, name.TextValue, other.TextValue] == ["REMOVED", "REMOVED", "chest routine"]
    assert not experience.MeasuredValueSequence
