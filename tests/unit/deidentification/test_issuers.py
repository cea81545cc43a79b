"""Whose id is it: what qualifies a Patient ID is part of whom pseudonyms belong to, wherever it stands."""

from __future__ import annotations

import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.issuers import issuer_of
from dicomnode.deidentification.nesting import Node, own_encodings
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])


def qualifiers(universal: str | None, kind: str | None = "ISO", *, facility: str = "") -> Dataset:
    item = Dataset()
    if universal is not None:
        item.UniversalEntityID = universal
    if kind is not None:
        item.UniversalEntityIDType = "ISO"
        item["UniversalEntityIDType"]._value = kind  # as it comes, lower case too
    if facility:
        place = Dataset()
        place.CodeValue, place.CodingSchemeDesignator, place.CodeMeaning = facility, "99HOUSE", "A house"
        item.AssigningFacilitySequence, item.IdentifierTypeCode = Sequence([place]), "MR"
    return item


def image(*items: Dataset, issuer: str | None = None) -> Dataset:
    ds = planted.slice_of_ct()
    del ds.IssuerOfPatientID
    if issuer is not None:
        ds.IssuerOfPatientID = issuer
    if items:
        ds.IssuerOfPatientIDQualifiersSequence = Sequence(items)
    return ds


def whose(ds: Dataset, policy: Policy = EXPORT, pseudonyms: Pseudonyms = PSEUDONYMS) -> tuple[str, str]:
    done = Deidentifier(policy, pseudonyms).deidentify(ds).dataset
    assert not any("UniversalEntityID" in item for item in done.get("IssuerOfPatientIDQualifiersSequence") or ())
    return done.PatientID, done.StudyDate


@POLICIES
@pytest.mark.parametrize("text", [None, "", "  "])
def test_ids_of_two_universal_issuers_are_two_patients(policy: Policy, text: str | None) -> None:
    found = [whose(image(*items, issuer=text), policy) for items in (
        [qualifiers("1.2.3.1")], [qualifiers("1.2.3.2")], [qualifiers("1.2.3.1", "UUID")], [],
    )]  # fmt: skip
    assert len({patient for patient, _ in found}) == len({day for _, day in found}) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (qualifiers("1.2.3.1"), qualifiers(" 1.2.3.1 ", "iso ")),
        (qualifiers("1.2.3.1"), qualifiers("1.2.3.1", facility="WARD")),
        (qualifiers(None), qualifiers("", facility="WARD")),
    ],
)
def test_padding_and_what_tells_of_an_id_s_history_make_no_second_patient(one: Dataset, other: Dataset) -> None:
    assert whose(image(one)) == whose(image(other))


def test_a_textual_issuer_decides_where_both_are_said() -> None:
    both = {whose(image(*items, issuer="HOSP")) for items in ([], [qualifiers("1.2.3.1")], [qualifiers("1.2.3.2")])}
    subject = PSEUDONYMS.subject("MRN-778812", "HOSP", "")
    assert {patient for patient, _ in both} == {PSEUDONYMS.patient_id(subject)}
    assert len(both) == 1


def test_qualifiers_without_a_universal_id_are_of_the_default_issuer() -> None:
    house = Pseudonyms(bytes(range(32)), "project", default_issuer="HOSP")
    assert whose(image(qualifiers(None)), pseudonyms=house) == whose(image(issuer="HOSP"), pseudonyms=house)
    assert whose(image(qualifiers("1.2.3.1")), pseudonyms=house) != whose(image(issuer="HOSP"), pseudonyms=house)


def test_a_house_s_default_issuer_may_be_a_universal_one() -> None:
    house = Pseudonyms(bytes(range(32)), "project", default_issuer="&1.2.3.1&ISO")
    assert whose(image(qualifiers("1.2.3.1")), pseudonyms=house) == whose(image(), pseudonyms=house)


def test_no_two_pairs_are_written_alike() -> None:
    pairs = [("a&b", "c"), ("a", "b&c"), ("a\\T\\b", "c"), ("a\\E\\T\\E\\b", "c"), ("a", "")]
    written = set()
    for universal, kind in pairs:
        ds = image(qualifiers(universal, None))
        item = ds.IssuerOfPatientIDQualifiersSequence[0]
        item.add(DataElement(0x00400033, "LO", kind))
        written.add(issuer_of(Node(ds, own_encodings(ds))))
    assert len(written) == len(pairs)
    assert issuer_of(Node(image(qualifiers("1.2.3")), ("ascii",))) == "&1.2.3&ISO"


@pytest.mark.parametrize("vr", ["SQ", "UN", None])
def test_however_the_sequence_comes(vr: str | None) -> None:
    """As a sequence, as UN in Implicit VR, and as Implicit VR."""
    inner = b"\x40\x00\x32\x00\x08\x00\x00\x001.2.3.1 \x40\x00\x33\x00\x04\x00\x00\x00ISO "
    value = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
    if vr == "SQ":
        value = value.replace(b"2\0\x08\0\0\0", b"2\0UT\0\0\x08\0\0\0").replace(b"3\0\x04\0\0\0", b"3\0CS\x04\0")
        value = value[:4] + (len(value) - 8).to_bytes(4, "little") + value[8:]
    ds = image()
    ds[0x00100024] = RawDataElement(BaseTag(0x00100024), vr, len(value), value, 0, vr is None, True)
    assert whose(ds) == whose(image(qualifiers("1.2.3.1")))


def test_a_sequence_that_is_none_says_no_issuer() -> None:
    ds = image()
    ds[0x00100024] = RawDataElement(BaseTag(0x00100024), "SQ", 7, b"\xfe\xff\x00\xe0\xff\xff\x01", 0, False, True)
    assert issuer_of(Node(ds, ("ascii",))) == ""


@POLICIES
def test_one_of_a_group_of_patients_has_the_pseudonym_of_its_own_issuer(policy: Policy) -> None:
    group, alone = image(issuer="HOSP"), image(qualifiers("1.2.3.1"))
    items = [Dataset(), Dataset()]
    for item in items:
        item.PatientID = alone.PatientID = "MOUSE-1"
    items[0].IssuerOfPatientIDQualifiersSequence = Sequence([qualifiers("1.2.3.1")])
    group.GroupOfPatientsIdentificationSequence = Sequence(items)
    done = Deidentifier(policy, PSEUDONYMS).deidentify(group).dataset
    own, other = (one.PatientID for one in done.GroupOfPatientsIdentificationSequence)
    assert own == whose(alone, policy)[0] != other


@POLICIES
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_the_quick_way_tells_them_apart_in_any_order(policy: Policy, order: tuple[int, ...]) -> None:
    files, quick = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits()), 0
    houses = [[qualifiers("1.2.3.1")], [qualifiers("1.2.3.2")], [qualifiers("1.2.3.1", "DNS")], []]
    found = set()
    for number, which in enumerate((*order, *order)):
        ds = image(*houses[which])
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.99.{number}"
        ds.InstanceNumber = number
        data = encode_part10(ds, transfer_syntax_uid=EXPLICIT)
        done, whole = files.deidentify(data), Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits()))
        assert done.data == encode_part10(whole.dataset, transfer_syntax_uid=EXPLICIT)
        found.add(read_part10(done.data, Limits()).PatientID)
        quick += done.quick
    assert len(found) == 4
    assert quick == 4, "the second of each house"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_a_stored_file_says_the_same(syntax: str) -> None:
    said = image(qualifiers("1.2.3.1"))
    stored = read_part10(encode_part10(said, transfer_syntax_uid=syntax), Limits())
    assert whose(stored) == whose(said)
