"""Identity restored: every attribute, every UID, every character set."""

from __future__ import annotations

import pytest
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.encoded import encode_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.identity import FURTHER_KEYWORDS, IDENTITY_KEYWORDS, SourceIdentity
from dicomnode.results import capture, charset, checks, identity, model_json, pdf, report, segmentation
from dicomnode.results.sources import EMPTY_IDENTITY
from dicomnode.texts import Words
from tests.unit.results import material

EXPLICIT = "1.2.840.10008.1.2.1"
#: A value of each VR that further attributes have.
VALUES = {
    **dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC"), "Größe"),
    **{"PN": "Größe^Änne", "CS": "YES", "DA": "20200102", "DS": "1.5", "US": 4, "FD": 2.5},
}


def restored(originals: list[Dataset]) -> list[Dataset]:
    """All three objects, restored, encoded and decoded again."""
    given, context = material.input_for(originals), material.context_for()
    seg = segmentation.build(given.labels, given.sources, given.findings, context)
    sr = report.build(seg, given.sources, given.findings, given.contours, context)
    picture = given.key_image
    assert picture is not None
    sc = capture.build(picture.rgb, given.sources, given.findings, context, key_slices=picture.slices)
    source = material.identity_of(originals)
    seg, sc = (checks.decode(encode_dataset(identity.restore(item, source), EXPLICIT)) for item in (seg, sc))
    return [seg, checks.decode(report.encode(sr, source)[1]), sc]


def restored_capture(originals: list[Dataset]) -> Dataset:
    """The key image alone, which is made in a moment."""
    given, context = material.input_for(originals), material.context_for()
    picture = given.key_image
    assert picture is not None
    made = capture.build(picture.rgb, given.sources, given.findings, context, key_slices=picture.slices)
    return checks.decode(encode_dataset(identity.restore(made, material.identity_of(originals)), EXPLICIT))


def everything() -> list[Dataset]:
    """Sources that have every attribute of an identity."""
    originals = material.source_series()
    issuer, other, code, step = Dataset(), Dataset(), Dataset(), Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3.4", "ISO"
    other.PatientID, other.TypeOfPatientID = "OLD-1", "TEXT"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTTH", "99LOCAL", "CT Thorax"
    step.CodeValue, step.CodingSchemeDesignator, step.CodeMeaning = "113100", "DCM", "Basic Profile"
    for original in originals:
        original.TypeOfPatientID = "TEXT"
        original.IssuerOfPatientIDQualifiersSequence = [issuer]
        original.OtherPatientIDsSequence = [other]
        original.PatientBirthTime = "0102"
        original.PatientSize = "1.805"
        original.IssuerOfAccessionNumberSequence = [issuer]
        original.ProcedureCodeSequence = [code]
        original.AdmissionID = "ADM"
        original.IssuerOfAdmissionIDSequence = [issuer]
        original.PatientIdentityRemoved = "NO"
        original.DeidentificationMethod = "none"
        original.DeidentificationMethodCodeSequence = [step]
        original.LongitudinalTemporalInformationModified = "UNMODIFIED"
        original.TimezoneOffsetFromUTC = "+0100"
        for keyword in FURTHER_KEYWORDS:
            setattr(original, keyword, [code] if keyword.endswith("Sequence") else VALUES[dictionary_VR(keyword)])
    return originals


def test_every_attribute_returns() -> None:
    originals = everything()
    assert {keyword for keyword in IDENTITY_KEYWORDS if keyword not in originals[0]} == set()
    for result in restored(originals):
        checks.prove_identity(result, originals[0])
        for keyword in set(IDENTITY_KEYWORDS) - {"RequestAttributesSequence"}:
            assert result[keyword].value == originals[0][keyword].value, keyword


def test_images_carry_the_request_and_the_report_refers_to_it() -> None:
    seg, sr, sc = restored(material.source_series())
    for image in (seg, sc):
        assert image.RequestAttributesSequence[0].RequestedProcedureID == "RP-9"
        assert "ReferencedRequestSequence" not in image
    assert "RequestAttributesSequence" not in sr
    (request,) = sr.ReferencedRequestSequence
    assert request.RequestedProcedureID == "RP-9"
    assert request.AccessionNumber == "ACC-1"
    assert request.StudyInstanceUID == sr.StudyInstanceUID
    assert request.PlacerOrderNumberImagingServiceRequest == ""


def test_a_source_without_request_gives_no_reference() -> None:
    originals = material.source_series()
    for original in originals:
        del original.RequestAttributesSequence
    assert "ReferencedRequestSequence" not in restored(originals)[1]


def test_a_request_that_the_source_spells_out_is_taken_whole() -> None:
    originals = material.source_series()
    study, code = Dataset(), Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = "1.2.840.10008.3.1.2.3.1", "1.2.3.9"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "CTTH", "99LOCAL", "CT Thorax"
    for original in originals:
        (request,) = original.RequestAttributesSequence
        request.StudyInstanceUID, request.AccessionNumber = "1.2.3", "OTHER"
        request.ReferencedStudySequence, request.RequestedProcedureCodeSequence = [study], [code]
        request.ReasonForTheRequestedProcedure = "Husten"
    (request,) = restored(originals)[1].ReferencedRequestSequence
    assert (request.StudyInstanceUID, request.AccessionNumber) == ("1.2.3", "OTHER")
    assert request.ReferencedStudySequence[0].ReferencedSOPInstanceUID == "1.2.3.9"
    assert request.RequestedProcedureCodeSequence[0].CodeValue == "CTTH"
    assert request.ReasonForTheRequestedProcedure == "Husten"


def test_empty_sequences_of_the_source_are_left_out() -> None:
    originals = material.source_series()
    for original in originals:
        original.RequestAttributesSequence = []
        original.ProcedureCodeSequence = []
    for result in restored(originals):
        assert "RequestAttributesSequence" not in result
        assert "ProcedureCodeSequence" not in result
        checks.prove_identity(result, originals[0])


def test_what_the_source_lacks_is_absent_or_empty() -> None:
    originals = material.source_series()
    kept = {"StudyInstanceUID", "PatientID"}
    for original in originals:
        for keyword in set(IDENTITY_KEYWORDS) - kept:
            if keyword in original:
                delattr(original, keyword)
    for result in restored(originals):
        for keyword in set(IDENTITY_KEYWORDS) - kept:
            assert (keyword in result) == (keyword in EMPTY_IDENTITY), keyword
            assert not result.get(keyword), keyword
        assert result.PatientID == "A-4711"
        checks.prove_identity(result, originals[0])


def test_no_pseudonym_is_left_and_minted_uids_stay() -> None:
    originals = material.source_series()
    uids = material.identity_of(originals).uids
    for result in restored(originals):
        found = {str(element.value) for element in result.iterall() if element.VR == "UI"}
        assert not found & set(uids)
        assert str(originals[0].StudyInstanceUID) in found
        assert str(result.SOPInstanceUID).startswith("2.25.")
        assert "PSEUDO" not in str(result)


def test_the_given_dataset_is_not_changed() -> None:
    given, context = material.input_for(), material.context_for()
    seg = segmentation.build(given.labels, given.sources, given.findings, context)
    before = encode_dataset(seg, EXPLICIT)
    identity.restore(seg, material.identity_of(material.source_series()))
    assert encode_dataset(seg, EXPLICIT) == before


NAMES = [
    ("ISO_IR 100", "Müller^Jürgen", "ISO_IR 100"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东", "ISO_IR 192"),
    ("", "Plain^Name", None),
    ("ISO_IR 6", "Plain^Name", "ISO_IR 6"),
    ("", "Müller^Jürgen", "ISO_IR 192"),
    ("ISO_IR 100", "Łukasiewicz^Jan", "ISO_IR 192"),
    ("ISO_IR 101", "Łukasiewicz^Jan", "ISO_IR 101"),
    ("ISO_IR 144", "Люкceмбypг", "ISO_IR 144"),
    ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
    (["", "ISO 2022 IR 87"], "Müller^Jürgen=山田^太郎", "ISO_IR 192"),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
    ("ISO_IR 999", "Plain^Name", "ISO_IR 192"),
]


@pytest.mark.parametrize(("terms", "name", "written"), NAMES)
def test_names_are_equal_after_decoding(terms: str | list[str], name: str, written: str | list[str] | None) -> None:
    originals = material.source_series()
    for original in originals:
        original.SpecificCharacterSet = terms
        for keyword in ("ReferringPhysicianName", "RequestAttributesSequence"):
            delattr(original, keyword)
        original.PatientName = name
        if not terms:
            del original.SpecificCharacterSet
    result = restored_capture(originals)
    assert str(result.PatientName) == name
    assert result.get("SpecificCharacterSet") == written


def test_text_of_the_result_itself_decides_too() -> None:
    assert charset.choose(("ISO_IR 100",), {("LO", "Emphysem ≥ 5 %")}) == ("ISO_IR 192",)
    assert charset.choose(("ISO_IR 100",), {("LO", "Größe")}) == ("ISO_IR 100",)


def test_faults_of_the_source_pass_as_they_are() -> None:
    originals = material.source_series()
    for original in originals:
        for tag, vr, value in (
            (0x00100020, "LO", "X" * 80),
            (0x00100030, "DA", "not a date"),
            (0x00100040, "CS", "unknown?"),
        ):
            original.add(DataElement(tag, vr, value, validation_mode=config.IGNORE))
    with hushed():
        for result in restored(originals):
            assert (result.PatientID, str(result.PatientBirthDate), result.PatientSex) == (
                "X" * 80,
                "not a date",
                "unknown?",
            )
            checks.prove_identity(result, originals[0])
            checks.prove_valid(result, material.identity_of(originals).uids)


def test_the_json_model_of_every_kind_of_value() -> None:
    dataset = Dataset()
    dataset.PatientName = "A^B=C=D"
    dataset.PatientWeight = "70.25"
    dataset.SelectorISValue = ["1", "2"]
    dataset.FrameIncrementPointer = 0x00200032
    dataset.EncapsulatedDocument = b"\x00\x01"
    dataset.PatientBirthDate = ""
    dataset.OtherPatientNames = ["E^F", "G^H"]
    dataset.RequestAttributesSequence = [Dataset(), Dataset()]
    dataset.RequestAttributesSequence[1].RequestedProcedureID = "1"
    dataset.add_new(0x00091001, "LO", "private")
    again = model_json.read(dataset.to_json_dict())
    del dataset[0x00091001]
    assert again == dataset


@pytest.mark.parametrize(
    "model",
    [
        {"xx": {"vr": "LO"}},
        {"00100010": {}},
        {"00100010": {"vr": "PN", "Value": ["text"]}},
        {"00100010": []},
        {"7FE00010": {"vr": "OB", "InlineBinary": "§"}},
        {"00400275": {"vr": "SQ", "Value": ["text"]}},
    ],
)
def test_a_vault_that_cannot_be_read_is_a_coded_reason(model: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="result-identity-differs"):
        identity.source_attributes(SourceIdentity(attributes=model, uids={}))


def test_a_vault_nested_without_end_is_refused() -> None:
    model: dict[str, object] = {}
    for _ in range(40):
        model = {"00400275": {"vr": "SQ", "Value": [model]}}
    with pytest.raises(StudyError, match="result-identity-differs"):
        model_json.read(model)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada Tarou  ·  山田 太郎  ·  やまだ たろう"),
        ("Müller^Jürgen^^Dr.", "Müller Jürgen Dr."),
        ("=王^小东", "王 小东"),
        ("", ""),
    ],
)
def test_a_name_on_a_page_has_its_groups_apart(name: str, shown: str) -> None:
    source = Dataset()
    source.PatientName, source.PatientID = name, "A1"
    assert pdf.identity_lines(source, Words())[0] == "Patient: " + "  ·  ".join(filter(None, (shown, "A1")))
