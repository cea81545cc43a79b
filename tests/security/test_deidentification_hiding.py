"""Where identifiers hide, one attack a test: each place was missed by at least one of the usual tools."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentified, Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

LIMITS = Limits(header_scan_bytes=1 << 20, maximum_nesting=32, maximum_items=100_000, maximum_inflated_bytes=1 << 30)
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
TOKEN = "Quxzjvik"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def deidentified(data: bytes, policy: Policy = EXPORT) -> Deidentified:
    return Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, LIMITS))


def file_of(result: Deidentified) -> bytes:
    return encode_part10(result.dataset, transfer_syntax_uid=str(result.dataset.file_meta.TransferSyntaxUID))


def survives(data: bytes, token: str = TOKEN) -> bool:
    output = file_of(deidentified(data)).lower()
    return any(token.lower().encode(encoding) in output for encoding in ("ascii", "utf-16-le"))


def private_file(vr: str, value: object, *, creator: str = "ACME 1.1") -> bytes:
    ds = planted.slice_of_ct()
    ds.add_new(0x00090010, "LO", creator)
    ds.add_new(0x00091001, vr, value)
    return planted.encoded(ds)


def test_private_text() -> None:
    assert not survives(private_file("LO", TOKEN))


def test_private_creator() -> None:
    assert not survives(private_file("LO", "x", creator=f"ACME {TOKEN}"))


def test_private_sequence() -> None:
    item = Dataset()
    item.PatientName, item.SeriesDescription = f"{TOKEN}^A", TOKEN
    assert not survives(private_file("SQ", Sequence([item])))


def test_private_sequence_in_un() -> None:
    inner = struct.pack("<HHL", 0x0010, 0x0010, 8) + TOKEN.encode()
    assert not survives(private_file("UN", struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner))


def test_safe_private_attribute_with_another_creator() -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x00190010, "LO", "NOT SIEMENS")
    ds.add_new(0x0019100C, "IS", "700")
    ds.add_new(0x00190011, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019110C, "IS", "1000")
    output = deidentified(planted.encoded(ds)).dataset
    assert 0x0019100C not in output
    assert output[0x0019110C].value == 1000
    assert output[0x00190011].value == "SIEMENS MR HEADER"


def test_text_in_a_safe_private_attribute() -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x00190010, "LO", "GEMS_ACQU_01")
    ds.add_new(0x0019109E, "LO", TOKEN)
    assert not survives(planted.encoded(ds))


def test_standard_attribute_in_un() -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x00081048, "UN", TOKEN.encode())
    ds.add_new(0x0018A003, "UN", TOKEN.encode())
    assert not survives(planted.encoded(ds))


def test_standard_sequence_in_un() -> None:
    inner = (
        struct.pack("<HHL", 0x0010, 0x0010, 8) + TOKEN.encode() + struct.pack("<HHL", 0x0008, 0x1155, 6) + b"1.2.3\0"
    )
    value = struct.pack("<HHL", 0xFFFE, 0xE000, len(inner)) + inner
    element = struct.pack("<HH2sHL", 0x0008, 0x1140, b"UN", 0, len(value)) + value
    plain = planted.encoded(planted.slice_of_ct())
    place = plain.index(b"\x10\x00\x10\x00PN")
    data = plain[:place] + element + plain[place:]
    output = deidentified(data)
    assert TOKEN.encode() not in file_of(output)
    assert output.dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == PSEUDONYMS.uid("1.2.3")


def test_unknown_attribute_of_an_even_group() -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x00181FFF, "LO", TOKEN)
    ds.add_new(0x40100001, "UT", TOKEN)
    assert not survives(planted.encoded(ds))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tag", "vr"), [(0x00180050, "LT"), (0x00280030, "LO"), (0x00280010, "SH"), (0x00189307, "UT")]
)
def test_words_where_numbers_belong(tag: int, vr: str) -> None:
    ds = planted.slice_of_ct()
    ds[tag] = DataElement(tag, vr, TOKEN)
    if tag == 0x00280010:  # then nobody knows which bytes are the picture
        with pytest.raises(StudyError, match="withheld-pixels"):
            survives(planted.encoded(ds))
        del ds.PixelData
    assert not survives(planted.encoded(ds))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "keyword", ["BodyPartExamined", "ScanOptions", "ImageType", "PatientPosition", "FilterMaterial"]
)
def test_words_in_code_strings(keyword: str) -> None:
    ds = planted.slice_of_ct()
    setattr(ds, keyword, [TOKEN.upper(), "NONE"] if keyword == "ImageType" else TOKEN.upper())
    assert not survives(planted.encoded(ds))


def test_overlays_and_curves() -> None:
    ds = planted.slice_of_ct()
    for group in (0x5000, 0x5002, 0x6000, 0x601E):
        ds.add_new(group << 16 | 0x0022, "LO", TOKEN)
        ds.add_new(group << 16 | 0x1500, "LO", TOKEN)
        ds.add_new(group << 16 | 0x3000, "OW", TOKEN.encode())
        ds.add_new(group << 16 | 0x4000, "LT", TOKEN)
    assert not survives(planted.encoded(ds))


def test_preamble_and_file_meta() -> None:
    ds = planted.slice_of_ct()
    ds.file_meta.SourceApplicationEntityTitle = TOKEN
    ds.file_meta.PrivateInformationCreatorUID = "1.2.3"
    ds.file_meta.PrivateInformation = TOKEN.encode()
    ds.preamble = TOKEN.encode().ljust(128, b"\0")
    assert not survives(planted.encoded(ds))


def test_trailing_padding() -> None:
    ds = planted.slice_of_ct()
    ds.DataSetTrailingPadding = TOKEN.encode()
    assert not survives(planted.encoded(ds))


def test_trailing_bytes_of_pixel_data() -> None:
    ds = planted.slice_of_ct()
    ds.PixelData += TOKEN.encode()
    result = deidentified(planted.encoded(ds))
    assert TOKEN.encode() not in file_of(result)
    assert result.dataset.PixelData == planted.slice_of_ct().PixelData


def test_unused_bits_of_pixel_data() -> None:
    ds = planted.slice_of_ct()
    values = np.frombuffer(ds.PixelData, "<u2")
    ds.PixelData = (values | (np.arange(values.size, dtype="<u2") % 2 << 15)).astype("<u2").tobytes()
    assert deidentified(planted.encoded(ds)).dataset.PixelData == values.tobytes()


def test_signs_of_pixel_data_stay_extended() -> None:
    ds = planted.slice_of_ct()
    ds.PixelRepresentation = 1
    values = np.arange(-32, 32, dtype="<i2")
    ds.PixelData = values.tobytes()
    assert deidentified(planted.encoded(ds)).dataset.PixelData == values.tobytes()


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(payload) + 2) + payload


def test_comment_in_a_jpeg_stream() -> None:
    ds = planted.slice_of_ct()
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x12\x34"
    frame = (
        b"\xff\xd8"
        + segment(0xFE, TOKEN.encode())
        + segment(0xE1, TOKEN.encode())
        + scan
        + b"\xff\xd9"
        + TOKEN.encode()
    )
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    with pytest.raises(StudyError):  # no picture: nobody can look at it
        deidentified(planted.encoded(ds, JPEG_BASELINE))
    output = deidentified(planted.encoded(ds, JPEG_BASELINE), AI).dataset
    assert TOKEN.encode() not in output.PixelData
    assert scan + b"\xff\xd9" in output.PixelData
    assert len(output.PixelData) == len(ds.PixelData)


def test_comment_in_a_jpeg_2000_stream() -> None:
    ds = planted.slice_of_ct()
    rest = b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x0f\x00\x01\xff\x93\x55\xff\xd9"
    frame = b"\xff\x4f" + segment(0x51, b"\0" * 38) + segment(0x64, b"\0\x01" + TOKEN.encode()) + rest
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    with pytest.raises(StudyError):  # no picture: nobody can look at it
        deidentified(planted.encoded(ds, JPEG_2000))
    output = deidentified(planted.encoded(ds, JPEG_2000), AI).dataset
    assert TOKEN.encode() not in output.PixelData
    assert rest in output.PixelData


def test_icon_image() -> None:
    ds = planted.slice_of_ct()
    icon = Dataset()
    icon.Rows, icon.Columns, icon.BitsAllocated, icon.PixelRepresentation, icon.PixelData = 1, 8, 8, 0, TOKEN.encode()
    ds.IconImageSequence = Sequence([icon])
    assert "IconImageSequence" not in deidentified(planted.encoded(ds)).dataset


def test_encrypted_attributes_of_others_and_original_attributes() -> None:
    ds = planted.slice_of_ct()
    item = Dataset()
    item.EncryptedContent = TOKEN.encode()
    ds.EncryptedAttributesSequence = Sequence([item])
    original = Dataset()
    modified = Dataset()
    modified.PatientName = TOKEN
    original.ModifiedAttributesSequence = Sequence([modified])
    ds.OriginalAttributesSequence = Sequence([original])
    assert not survives(planted.encoded(ds))


@pytest.mark.parametrize(
    "keyword", ["RetrieveURL", "RetrieveURI", "StationAETitle", "RetrieveAETitle", "PixelDataProviderURL"]
)
def test_addresses(keyword: str) -> None:
    ds = planted.slice_of_ct()
    setattr(ds, keyword, TOKEN if "AE" in keyword else f"https://pacs.example/{TOKEN}?id=1")
    assert not survives(planted.encoded(ds))


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def test_meanings_of_codes() -> None:
    ds = planted.slice_of_ct()
    ds.AnatomicRegionSequence = Sequence([code("39607008", "SCT", TOKEN)])
    ds.ProcedureCodeSequence = Sequence([code(TOKEN, "99LOCAL", TOKEN), code("71250", f"99{TOKEN}", "x")])
    ds.ViewCodeSequence = Sequence([code("399348003", "SCT", TOKEN)])
    result = deidentified(planted.encoded(ds))
    assert TOKEN.encode() not in file_of(result)
    assert result.dataset.AnatomicRegionSequence[0].CodeMeaning == "Lung"
    assert result.dataset.AnatomicRegionSequence[0].CodeValue == "39607008"
    first, second = result.dataset.ProcedureCodeSequence
    assert first.CodeValue != second.CodeValue
    assert first.CodingSchemeDesignator == "99UNKNOWN"


def content(kind: str, concept: Dataset, **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", kind, Sequence([concept])
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def test_content_of_a_structured_report() -> None:
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", Sequence([code("mm", "UCUM", TOKEN)])
    ds.ContentSequence = Sequence(
        [
            content("TEXT", code("121071", "DCM", "Finding"), TextValue=f"Nodule in {TOKEN}"),
            content("TEXT", code("4711", "99LOCAL", TOKEN), TextValue=TOKEN),
            content("PNAME", code("121008", "DCM", "Person Observer Name"), PersonName=f"{TOKEN}^A"),
            content("NUM", code("103355008", "SCT", "Width"), MeasuredValueSequence=Sequence([measured])),
            content("UIDREF", code("112040", "DCM", "Tracking Unique Identifier"), UID="1.2.3.4.5.6"),
            content("DATE", code("111060", "DCM", "Study Date"), Date="20200301"),
        ]
    )
    ds.VerifyingObserverSequence = Sequence([Dataset()])
    ds.VerifyingObserverSequence[0].VerifyingObserverName = TOKEN
    ds.VerifyingObserverSequence[0].VerifyingOrganization = TOKEN
    result = deidentified(planted.encoded(ds))
    assert TOKEN.encode() not in file_of(result)
    items = result.dataset.ContentSequence
    assert items[0].TextValue == "Nodule in"
    assert items[3].MeasuredValueSequence[0].NumericValue == 12.5
    assert items[3].MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mm"
    assert PSEUDONYMS.uid("1.2.3.4.5.6") == items[4].UID
    assert items[5].Date == result.dataset.StudyDate


@pytest.mark.parametrize(("charset", "name"), [
    ("ISO_IR 192", "Ковалевская^Софья"),
    ("ISO_IR 144", "Люкceмбypг^Роза"),
    ("ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    ("ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
    ("GB18030", "Wang^XiaoDong=王^小东="),
    ("ISO_IR 100", "Müller-Lüdenscheid^Jürgen"),
])  # fmt: skip
def test_names_in_other_character_sets(charset: str, name: str) -> None:
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet = ["", charset] if "2022" in charset else charset
    ds.PatientName = name
    text = name.split("=")[1] if "=" in name else name
    ds.SeriesDescription = f"Thorax {text.replace('^', ' ')}"
    ds.PatientComments = ds.ImageComments = text
    ds.Manufacturer = text.split("^")[0]
    output = file_of(deidentified(planted.encoded(ds)))
    assert not pydicom.dcmread(io.BytesIO(output)).get("Manufacturer")
    for part in (part for part in text.split("^") if len(part) > 1):
        for encoding in ("utf-8", "iso8859-5", "gb18030", "euc_kr", "iso2022_jp", "latin-1", "utf-16-le"):
            try:
                form = part.encode(encoding).removeprefix(b"\x1b$B").removesuffix(b"\x1b(B")
            except UnicodeEncodeError:
                continue
            assert form not in output
    assert pydicom.dcmread(io.BytesIO(output)).SeriesDescription == "Thorax"


def test_own_name_in_what_is_kept_as_it_is() -> None:
    ds = planted.slice_of_ct()
    ds.PatientName = "Wolkenstein^Oda"
    ds.ConvolutionKernel, ds.SequenceName = "WOLKENSTEIN", "*wolkenstein2d"
    ds.ManufacturerModelName = "Scanner of Oda"
    output = file_of(deidentified(planted.encoded(ds))).lower()
    assert b"wolkenstein " not in output
    assert b"scanner of oda" not in output


@pytest.mark.parametrize("name", ["Flynn", "White", "Green", "Dixon", "Eve", "Joslin"])
def test_names_that_are_terms_too(name: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.SequenceName, ds.ConvolutionKernel = f"{name}^Oda", f"scan {name}", name
    ds.SeriesDescription = f"Thorax {name}"
    output = deidentified(planted.encoded(ds)).dataset
    assert output.SeriesDescription == "Thorax"
    assert name not in str([output.get(keyword) for keyword in ("SequenceName", "ConvolutionKernel")])
    assert output.Manufacturer == "SIEMENS"


def test_dates_in_sequences_move_together() -> None:
    ds = planted.slice_of_ct()
    item = Dataset()
    item.RadiopharmaceuticalStartTime = "093000"
    item.RadiopharmaceuticalStartDateTime = "20200301093000.000000+0100"
    item.RadionuclideHalfLife = "6586.2"
    ds.RadiopharmaceuticalInformationSequence = Sequence([item])
    ds.AcquisitionDateTime = "20200301101112+0100"
    output = deidentified(planted.encoded(ds)).dataset
    start = output.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime
    assert start[8:] == "093000.000000+0100"
    assert start[:8] == output.AcquisitionDate == output.AcquisitionDateTime[:8]
    assert start[:8] < "20200301"
    assert output.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife == 6586.2


@pytest.mark.parametrize(
    ("patient_id", "name"), [("1", "Li^Na"), ("007", "May^June"), ("CT", "CT^CT"), ("512", "Head^Brown"), ("A", "X")]
)
def test_short_identifiers_hold_nothing_back(patient_id: str, name: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.PatientName, ds.AccessionNumber, ds.StudyID = patient_id, name, patient_id, "1"
    output = deidentified(planted.encoded(ds)).dataset
    assert [output.get(keyword) for keyword in planted.NEEDED] == [ds.get(keyword) for keyword in planted.NEEDED]


def test_a_leak_is_answered_by_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a rule wrong, the check would still hold the object back, or cut it down."""
    from dicomnode.deidentification import treat

    monkeypatch.setattr(treat.Treater, "_plain", lambda _self, value, _tag: value)
    ds = planted.slice_of_ct()
    ds.PatientName, ds.SequenceName = "Wolkenstein^Oda", "Wolkenstein"
    source = read_part10(planted.encoded(ds), LIMITS)
    with pytest.raises(StudyError) as caught:
        Deidentifier(EXPORT, PSEUDONYMS).deidentify(source)
    assert caught.value.code == "withheld-leak"
    result = Deidentifier(AI, PSEUDONYMS).deidentify(source)
    assert {leak.kind for leak in result.leaks} == {"name"}
    assert "SequenceName" not in result.dataset
    assert result.dataset.PixelData == ds.PixelData
    assert result.dataset.ImagePositionPatient == ds.ImagePositionPatient


@pytest.mark.parametrize("sop_class_uid", ["1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.104.2"])
def test_documents_are_withheld(sop_class_uid: str) -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID, ds.EncapsulatedDocument = sop_class_uid, b"%PDF-1.4"
    with pytest.raises(StudyError) as caught:
        deidentified(planted.encoded(ds))
    assert caught.value.code == "withheld-document"


def test_documents_in_other_objects_are_removed() -> None:
    ds = planted.slice_of_ct()
    ds.EncapsulatedDocument, ds.MIMETypeOfEncapsulatedDocument = TOKEN.encode(), "application/pdf"
    assert not survives(planted.encoded(ds))
