"""The vault's part: a source's identity comes back exactly, in whatever character set it was."""

from __future__ import annotations

import io
import json

import pydicom
import pytest
from pydicom import config
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import Limits, read_part10, read_part10_raw
from dicomnode.errors import StudyError
from dicomnode.identity import SourceIdentity
from tests.unit.deidentification import planted

LIMITS = Limits(header_scan_bytes=1 << 20, maximum_nesting=32, maximum_items=100_000, maximum_inflated_bytes=1 << 30)


def restored(identity: SourceIdentity) -> Dataset:
    again = SourceIdentity.from_json(json.loads(json.dumps(identity.to_json())))
    return Dataset.from_json(again.attributes)


@pytest.mark.parametrize(("charset", "name"), [
    ("ISO_IR 100", "Müller^Jürgen"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO_IR 192", "Ce\u0301line^Ｍ\u200bａ=王^\ufe00小"),  # marks by themselves, in another width, with what nobody sees
    ("ISO_IR 192", "Doe^Jane" + "-" * 40),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
])  # fmt: skip
def test_identity_comes_back(charset: str | list[str], name: str) -> None:
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet, ds.PatientName = charset, name
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP1", "S1"
    ds.RequestAttributesSequence = Sequence([request])
    source = read_part10(planted.encoded(ds), LIMITS)
    back = restored(source_identity([source], {"2.25.1": "1.2"}))
    assert str(back.PatientName) == name
    assert back.SpecificCharacterSet == source.SpecificCharacterSet
    for keyword in (
        "PatientID",
        "PatientBirthDate",
        "StudyInstanceUID",
        "AccessionNumber",
        "PatientWeight",
        "StudyTime",
    ):
        assert back[keyword].value == source[keyword].value
    assert back.RequestAttributesSequence[0].RequestedProcedureID == "RP1"
    stream = io.BytesIO()
    back.file_meta = ds.file_meta
    back.SOPClassUID, back.SOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    pydicom.dcmwrite(stream, back, enforce_file_format=True)
    assert str(pydicom.dcmread(io.BytesIO(stream.getvalue())).PatientName) == name


def test_empty_attributes_stay_empty() -> None:
    ds = planted.slice_of_ct()
    ds.AccessionNumber, ds.StudyID = "", None
    back = restored(source_identity([ds], {}))
    assert "AccessionNumber" in back
    assert not back.AccessionNumber
    assert "IssuerOfAccessionNumberSequence" not in back


def test_an_empty_sequence_within_an_item_says_nothing_and_is_not_kept() -> None:
    ds = planted.slice_of_ct()
    request = Dataset()
    request.RequestedProcedureID, request.ReferencedStudySequence = "RP-1", []
    ds.RequestAttributesSequence, ds.ProcedureCodeSequence = [request], []
    identity = restored(source_identity([ds], {}))
    assert [element.keyword for element in identity.RequestAttributesSequence[0]] == ["RequestedProcedureID"]
    assert identity.ProcedureCodeSequence == []


def test_text_outside_its_character_set_comes_back_in_utf_8() -> None:
    plain = planted.encoded(planted.slice_of_ct())
    data = plain.replace(b"Doe^Jane", b"D\xf6e^Jane").replace(b"ISO_IR 100", b"ISO_IR 101")
    source = pydicom.dcmread(io.BytesIO(data))
    del source.SpecificCharacterSet
    identity = source_identity([source], {})
    assert identity.attributes["00080005"]["Value"] == ["ISO_IR 192"]
    assert identity.attributes["00100010"]["Value"] == [{"Alphabetic": "Döe^Jane"}]


def test_numbers_of_fixed_width_are_kept_where_they_are_whole() -> None:
    item = Dataset()
    item.SelectorATValue, item.SelectorFDValue, item.SelectorUSValue = 0x00100010, [0.5, 1.5], 7
    item.SelectorSLValue, item.SelectorOBValue = -3, b"\1\2"
    item.add_new(0x00091001, "US", 1)
    tag = Tag("SelectorFLValue")
    item[tag] = RawDataElement(tag, "FL", 3, b"\1\2\3", 0, False, True)
    ds = planted.slice_of_ct()
    ds.RequestAttributesSequence = Sequence([item])
    (kept,) = source_identity([ds], {}).attributes["00400275"]["Value"]
    assert {keyword_for_tag(int(tag, 16)): model.get("Value") for tag, model in kept.items()} == {
        "SelectorATValue": ["00100010"],
        "SelectorFDValue": [0.5, 1.5],
        "SelectorFLValue": None,
        "SelectorUSValue": [7],
        "SelectorSLValue": [-3],
    }


def test_what_is_kept_says_what_the_source_says(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = planted.slice_of_ct()
    del ds.ReferringPhysicianName
    ds.add(DataElement(Tag("PatientName"), "PN", "A=B=C=D^E", validation_mode=config.IGNORE))
    source = read_part10_raw(planted.encoded(ds), LIMITS)
    name = source_identity([source], {}).attributes["00100010"]["Value"]
    assert name == [{"Alphabetic": "A", "Ideographic": "B", "Phonetic": "C=D^E"}]
    monkeypatch.setattr("dicomnode.deidentification.vault._name", lambda value: {"Alphabetic": value[:6]})
    with pytest.raises(StudyError) as caught:
        source_identity([source], {})
    assert (caught.value.code, caught.value.facts) == ("identity-unwritable", {"attribute": "PatientName"})


def test_no_source() -> None:
    with pytest.raises(StudyError) as caught:
        source_identity([], {})
    assert caught.value.code == "object-without-uids"
