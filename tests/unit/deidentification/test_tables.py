"""Tables, vocabulary, values, codes and rules: the traps that the standard sets."""

from __future__ import annotations

import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes, kinds, private, profile
from dicomnode.deidentification.descriptors import cleaned
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy, SiteAction
from dicomnode.deidentification.rules import Rule, Rules, Treatment
from dicomnode.deidentification.values import decoded, dummy, encodings_of, is_number, texts
from dicomnode.deidentification.vocabulary import is_common, is_term

CT = "1.2.840.10008.5.1.4.1.1.2"
PR = "1.2.840.10008.5.1.4.1.1.11.1"
BASIC = Policy(name="basic", options=frozenset())


def rule(policy: Policy, keyword: str, sop_class_uid: str = CT, sequence: str = "") -> Rule:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return Rules(policy, sop_class_uid).rule(sequence, tag)


def test_tables_are_whole() -> None:
    assert len(profile.attributes()) == 621 + 2 - 2  # without curves and private attributes
    assert profile.attributes()[0x00102161].action == "X"
    assert profile.attributes()[0x60003000].action == "X"
    assert len(profile.content()) == 209
    assert len(profile.safe_private()) >= 470
    assert profile.attributes()[0x00081140].actions == {"X", "Z", "U"}


def test_types_by_sop_class() -> None:
    assert profile.type_of("", "PresentationCreationDate", PR) == 1
    assert profile.type_of("", "PatientID", CT) == 2
    assert profile.type_of("", "InstitutionName", CT) == 3
    assert profile.type_of("SegmentSequence", "SegmentLabel", "1.2.840.10008.5.1.4.1.1.66.4") == 1


@pytest.mark.parametrize(
    ("keyword", "sop_class_uid", "treatment"),
    [
        ("PresentationCreationDate", PR, Treatment.DUMMY),  # X in the table, Type 1 in a presentation state
        ("InstitutionName", CT, Treatment.REMOVE),
        ("AccessionNumber", CT, Treatment.EMPTY),
        ("SeriesDate", CT, Treatment.REMOVE),
        ("AcquisitionDateTime", "1.2.840.10008.5.1.4.1.1.2.1", Treatment.DUMMY),
        ("StudyInstanceUID", CT, Treatment.UID),
        ("FrameOfReferenceUID", CT, Treatment.UID),
        ("PatientAge", CT, Treatment.REMOVE),
        ("DeviceSerialNumber", CT, Treatment.REMOVE),
        ("ReferencedImageSequence", CT, Treatment.SEQUENCE),
        ("KVP", CT, Treatment.NUMBER),
        ("Rows", CT, Treatment.KEEP),
        ("EncapsulatedDocument", CT, Treatment.REMOVE),
        ("WaveformData", CT, Treatment.KEEP),
        ("FillPattern", CT, Treatment.REMOVE),
        ("RetrieveURL", CT, Treatment.REMOVE),
        ("ConvolutionKernel", CT, Treatment.PLAIN),
        ("SOPClassUID", CT, Treatment.CLASS_UID),
        ("Signature", CT, Treatment.REMOVE),
        ("CodingSchemeIdentificationSequence", CT, Treatment.REMOVE),
    ],
)
def test_basic_profile(keyword: str, sop_class_uid: str, treatment: Treatment) -> None:
    assert rule(BASIC, keyword, sop_class_uid).treatment is treatment


def test_what_may_be_empty_is_a_dummy_where_the_table_knows_no_empty_value() -> None:
    """Type 2 and D or X/D (PS3.15 Table E.1-1a)."""
    for sequence, keyword in (("", "RTPlanDate"), ("PlanOverviewSequence", "RTPlanLabel")):
        assert rule(BASIC, keyword, sequence=sequence).fallback is Treatment.DUMMY
    assert rule(BASIC, "StudyDate").fallback is Treatment.EMPTY  # Type 2 and Z


@pytest.mark.parametrize(
    ("keyword", "ai", "export"),
    [
        ("DeviceSerialNumber", Treatment.DEVICE, Treatment.REMOVE),
        ("StationName", Treatment.DEVICE, Treatment.REMOVE),
        ("PatientAge", Treatment.AGE, Treatment.AGE),
        ("PatientSex", Treatment.TERM, Treatment.TERM),
        ("StudyDate", Treatment.DATE, Treatment.DATE),
        ("PatientBirthDate", Treatment.EMPTY, Treatment.EMPTY),
        ("SeriesDescription", Treatment.CLEAN, Treatment.CLEAN),
        ("PatientComments", Treatment.REMOVE, Treatment.REMOVE),
        ("TimezoneOffsetFromUTC", Treatment.ZONE, Treatment.ZONE),
        ("ContentSequence", Treatment.SEQUENCE, Treatment.SEQUENCE),
        ("DateOfLastCalibration", Treatment.DATE, Treatment.DATE),
    ],
)
def test_policies(keyword: str, ai: Treatment, export: Treatment) -> None:
    assert rule(AI, keyword).treatment is ai
    assert rule(EXPORT, keyword).treatment is export


def test_other_options() -> None:
    full = Policy(name="x", options=frozenset({Option.FULL_DATES, Option.UIDS, Option.INSTITUTION}))
    assert rule(full, "StudyDate").treatment is Treatment.DATE
    assert rule(full, "StudyInstanceUID").treatment is Treatment.KEEP_UID
    assert rule(full, "InstitutionName").treatment is Treatment.VERBATIM
    assert full.temporal_information == "UNMODIFIED"
    assert BASIC.temporal_information == "REMOVED"
    with pytest.raises(ValueError, match="both"):
        Policy(name="x", options=frozenset({Option.FULL_DATES, Option.MODIFIED_DATES}))


@pytest.mark.parametrize(
    ("action", "keyword", "treatment"),
    [
        (SiteAction.KEEP, "StationName", Treatment.VERBATIM),
        (SiteAction.KEEP, "StudyDate", Treatment.DATE),
        (SiteAction.CLEAN, "StationName", Treatment.CLEAN),
        (SiteAction.REMOVE, "ConvolutionKernel", Treatment.REMOVE),
        (SiteAction.EMPTY, "Manufacturer", Treatment.EMPTY),
    ],
)
def test_rules_of_a_site(action: SiteAction, keyword: str, treatment: Treatment) -> None:
    found = rule(Policy(name="x", options=EXPORT.options, site={keyword: action}), keyword)
    assert (found.treatment, found.origin) == (treatment, "site")


def test_groups_that_never_survive() -> None:
    rules = Rules(AI, CT)
    for tag in (0x00020010, 0x00080000, 0x50003000, 0x60003000, 0x60020022, 0x00181FFF, 0xFFFCFFFC):
        assert rules.rule("", tag).treatment is Treatment.REMOVE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("CHEST", True), ("HEAD", True), ("AXIAL", True), ("CT_SOM5 SPI", True), ("M_FFE", True), ("HFS", True), ("ORIGINAL", True),
        ("SMITH", False), ("JOHN DOE", False), ("QXZ", False), ("12345678", False), ("MRN123", False),
    ],
)  # fmt: skip
def test_terms(value: str, expected: bool) -> None:
    assert is_term(value) is expected


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("CT Thorax 5.0mm B31s John Smith", "CT Thorax 5.0mm B31s"),
        ("HEAD^ROUTINE (Adult)", "HEAD^ROUTINE (Adult)"),
        ("T2 FLAIR axial 12/05/1970", "T2 FLAIR axial"),
        ("call 555-2255887", ""),
        ("GTVp PTV LUNG_R", "GTVp PTV LUNG_R"),
        ("Wolkenstein", ""),
        ("b1000 ADC", "b1000 ADC"),
    ],
)
def test_cleaned_descriptors(text: str, left: str) -> None:
    assert cleaned(text, frozenset()) == left


def test_own_words_go_even_where_they_are_technical() -> None:
    assert cleaned("Head CT", frozenset({"head"})) == "CT"
    assert is_common("Siemens")


def test_text_of_any_character_set() -> None:
    assert encodings_of([""]) == ("ascii",)
    assert decoded("Müller".encode("latin-1"), encodings_of(["ISO_IR 100"])) == "Müller"
    assert decoded("Müller".encode(), ("ascii",)) == "Müller"
    assert decoded(b"M\xfcller", ("ascii",)) == "Müller"
    assert decoded(b"\x1b$B;3ED\x1b(B^", encodings_of(["", "ISO 2022 IR 87"])) == "山田^"
    assert decoded(b"\x1b\xff\xfe", ("nonsense",)).startswith("\x1b")


def test_values_of_elements() -> None:
    raw = RawDataElement(BaseTag(0x00100010), "PN", 12, b"A^B\\C^D ", 0, False, True)
    assert texts(raw, "PN", ("ascii",)) == ["A^B", "C^D"]
    assert texts(DataElement(0x00081030, "LO", None), "LO", ("ascii",)) == []
    assert texts(DataElement(0x00181020, "LO", ["a", "b"]), "LO", ("ascii",)) == ["a", "b"]
    assert texts(RawDataElement(BaseTag(0x00204000), "LT", 4, b"a\\b ", 0, False, True), "LT", ("ascii",)) == ["a\\b"]
    assert is_number(DataElement(0x00180050, "DS", ["1.5", "2"]), "DS")
    assert is_number(RawDataElement(BaseTag(0x00180050), "DS", 4, b"1.5 ", 0, False, True), "DS")
    assert not is_number(RawDataElement(BaseTag(0x00180050), "DS", 4, b"Jane", 0, False, True), "DS")
    assert not is_number(RawDataElement(BaseTag(0x00180050), "DS", 4, b"1-2-", 0, False, True), "DS")
    assert is_number(DataElement(0x00180050, "DS", MultiValue(str, [])), "DS")
    assert [dummy(vr) for vr in ("PN", "LO", "US", "DA")] == ["DEIDENTIFIED", "REMOVED", 0, "19000101"]
    sizes = {"OB": 2, "OW": 2, "UN": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
    assert {vr: dummy(vr) for vr in sizes} == {vr: bytes(size) for vr, size in sizes.items()}, "D is of non-zero length"


def test_codes() -> None:
    def token(kind: str, value: str) -> str:
        return f"{kind}{len(value)}"

    code = codes.Code
    assert codes.canonical(code("39607008", "SCT", "Jane"), token) == code("39607008", "SCT", "Lung")
    assert codes.canonical(code("T-28000", "SRT", "Jane"), token).meaning == "Lung"
    assert codes.canonical(code("9876543008", "SCT", "Jane"), token).meaning == "SCT 9876543008"
    assert codes.canonical(code("mm/s2", "UCUM", "Jane"), token) == code("mm/s2", "UCUM", "mm/s2")
    assert codes.canonical(code("{Jane Doe}", "UCUM", "x"), token).scheme == codes.UNKNOWN_SCHEME
    assert codes.canonical(code("Jane", "SCT", "x"), token).scheme == codes.UNKNOWN_SCHEME
    source, target = Dataset(), Dataset()
    source.LongCodeValue, source.CodingSchemeDesignator, source.CodingSchemeVersion = "1" * 20, "LN", "Jane"
    source.ContextGroupVersion, source.ContextIdentifier, source.MappingResource = "20020904", "4021", "DCMR"
    codes.write(code("1" * 20, "LN", "x"), source, target, ("ascii",))
    assert target.LongCodeValue == "1" * 20
    for keyword in ("CodingSchemeVersion", "ContextIdentifier", "MappingResource", "ContextGroupVersion"):
        assert keyword not in target, "a date, and what needs it"
    del source.ContextGroupVersion
    codes.write(code("1" * 20, "LN", "x"), source, target, ("ascii",))
    assert (target.ContextIdentifier, target.MappingResource) == ("4021", "DCMR")


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        (CT, kinds.Kind.ORDINARY),
        ("1.2.840.10008.5.1.4.1.1.7", kinds.Kind.TEXT_PRONE),
        ("1.2.840.10008.5.1.4.1.1.6.1", kinds.Kind.ULTRASOUND),
        ("1.2.840.10008.5.1.4.1.1.104.1", kinds.Kind.DOCUMENT),
        ("1.2.840.10008.5.1.4.1.1.66", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.5.1.4.1.1.30", kinds.Kind.ORDINARY),
        ("1.2.840.10008.5.1.1.27", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.5.1.1.29", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.5.1.1.30", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.1.3.10", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.5.1.4.1.1.9.4.2", kinds.Kind.UNSUPPORTED),
        ("1.3.12.2.1107.5.9.1", kinds.Kind.UNSUPPORTED),
        ("7", kinds.Kind.UNSUPPORTED),
        ("1.2.840.10008.1.20.1", kinds.Kind.UNSUPPORTED),
    ],
)
def test_kinds(uid: str, kind: kinds.Kind) -> None:
    assert kinds.kind_of(uid) is kind


def test_private_attributes() -> None:
    tag = BaseTag(0x0019100C)
    assert private.treatment(tag, "SIEMENS MR HEADER") == (Treatment.NUMBER, "IS")
    assert private.treatment(tag, "OTHER")[0] is Treatment.REMOVE
    assert private.treatment(tag, None)[0] is Treatment.REMOVE
    assert not private.is_sound(RawDataElement(tag, "UN", 3, b"abc", 0, False, True), "FD")
