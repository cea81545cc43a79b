"""The facade and the leak check: flags, character sets, refusals, and that the source stays as it is."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date

import pydicom
import pytest
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification import apply
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import Leak, find_leaks
from dicomnode.deidentification.minimal import minimal
from dicomnode.deidentification.nesting import Node, datasets, items_of
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

LIMITS = Limits(header_scan_bytes=1 << 20, maximum_nesting=32, maximum_items=100_000, maximum_inflated_bytes=1 << 30)
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def deidentified(ds: Dataset, policy: Policy = EXPORT) -> Dataset:
    return Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset


def test_flags_are_written() -> None:
    output = deidentified(planted.slice_of_ct())
    assert output.PatientIdentityRemoved == "YES"
    assert output.DeidentificationMethod == "dicomnode export"
    assert output.LongitudinalTemporalInformationModified == "MODIFIED"
    values = [item.CodeValue for item in output.DeidentificationMethodCodeSequence]
    assert values == ["113100", "113103", "113104", "113105", "113107", "113108", "113111"]
    assert "113109" in [
        item.CodeValue for item in deidentified(planted.slice_of_ct(), AI).DeidentificationMethodCodeSequence
    ]
    assert output.file_meta.MediaStorageSOPInstanceUID == output.SOPInstanceUID


def test_the_source_stays_as_it_is() -> None:
    source = read_part10(planted.encoded(planted.slice_of_ct()), LIMITS)
    before = encode_part10(source, transfer_syntax_uid=planted.EXPLICIT)
    deidentified(source)
    assert encode_part10(source, transfer_syntax_uid=planted.EXPLICIT) == before


def test_raw_elements_need_no_conversion() -> None:
    source = pydicom.dcmread(io.BytesIO(planted.encoded(planted.slice_of_ct(), planted.IMPLICIT)))
    output = deidentified(source)
    assert encode_part10(output, transfer_syntax_uid=planted.IMPLICIT)
    assert output.ImagePositionPatient == source.ImagePositionPatient


@pytest.mark.filterwarnings("ignore")
def test_ages_above_89_are_one_class_in_exports() -> None:
    ds = planted.slice_of_ct()
    for age, exported in (("091Y", "090Y"), ("089Y", "089Y"), ("0Y", "0Y"), ("011M", "011M"), ("very", None)):
        ds["PatientAge"] = DataElement(BaseTag(0x00101010), "AS", age)
        assert deidentified(ds).get("PatientAge") == exported
    ds.PatientAge = "091Y"
    assert deidentified(ds, AI).PatientAge == "091Y"


def test_text_that_is_kept_survives_in_utf_8() -> None:
    ds = planted.slice_of_ct()
    ds.StudyDescription = "Schädel nativ"
    source = read_part10(planted.encoded(ds), LIMITS)
    output = read_part10(encode_part10(deidentified(source, AI), transfer_syntax_uid=planted.EXPLICIT), LIMITS)
    assert output.SpecificCharacterSet == "ISO_IR 192"
    assert output.StudyDescription == "Schädel nativ"
    assert deidentified(planted.slice_of_ct()).SpecificCharacterSet == "ISO_IR 100"


def test_full_dates_and_no_dates() -> None:
    ds = planted.slice_of_ct()
    ds.AcquisitionDateTime, ds.TimezoneOffsetFromUTC = "20200301101112", "+0100"
    full = deidentified(ds, Policy(name="full", options=frozenset({Option.FULL_DATES})))
    assert (full.StudyDate, full.AcquisitionDateTime) == ("20200301", "20200301101112")
    assert full.TimezoneOffsetFromUTC == "+0100"
    none = deidentified(ds, Policy(name="none", options=frozenset()))
    assert not none.StudyDate
    assert "AcquisitionDateTime" not in none
    assert "TimezoneOffsetFromUTC" not in none
    assert none.LongitudinalTemporalInformationModified == "REMOVED"


def test_stacks_and_layers_stay_consistent() -> None:
    ds = planted.slice_of_ct()
    layers = [Dataset(), Dataset()]
    layers[0].GraphicLayer, layers[1].GraphicLayer = "JANE", "OTHER"
    annotation = Dataset()
    annotation.GraphicLayer, annotation.StackID = "OTHER", "Jane's stack"
    ds.GraphicLayerSequence, ds.GraphicAnnotationSequence = Sequence(layers), Sequence([annotation])
    output = deidentified(ds)
    first, second = (item.GraphicLayer for item in output.GraphicLayerSequence)
    assert first != second == output.GraphicAnnotationSequence[0].GraphicLayer
    assert output.GraphicAnnotationSequence[0].StackID.startswith("ID")


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
def test_objects_without_uids(keyword: str) -> None:
    ds = planted.slice_of_ct()
    delattr(ds, keyword)
    with pytest.raises(StudyError) as caught:
        deidentified(ds)
    assert caught.value.code == "object-without-uids"


def test_objects_that_are_not_supported() -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID = "1.3.12.2.1107.5.9.1"
    with pytest.raises(StudyError) as caught:
        deidentified(ds)
    assert caught.value.code == "withheld-sop-class"


def test_a_fault_says_nothing_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(apply, "walk", fail)
    with pytest.raises(StudyError) as caught:
        deidentified(planted.slice_of_ct())
    assert caught.value.code == "withheld-malformed"
    assert caught.value.__cause__ is None
    assert "Doe" not in str(caught.value)


def test_the_memory_for_rules_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "_CLASSES_REMEMBERED", 1)
    engine = Deidentifier(AI, PSEUDONYMS)
    for sop_class_uid in (planted.CT, "1.2.840.10008.5.1.4.1.1.4", planted.CT):
        ds = planted.slice_of_ct()
        ds.SOPClassUID = sop_class_uid
        assert engine.deidentify(ds).dataset.SOPClassUID == sop_class_uid


def test_withheld_where_even_the_least_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "leaks_of", lambda *_: (Leak(kind="name", tag=0),))
    with pytest.raises(StudyError) as caught:
        deidentified(planted.slice_of_ct(), AI)
    assert (caught.value.code, caught.value.facts["kind"]) == ("withheld-leak", "name")


@pytest.mark.parametrize(
    ("keyword", "value", "leaks"),
    [
        ("SeriesDescription", "chest of doe", {("name", 0x0008103E)}),
        ("SeriesDescription", "chest of Müller", {("name", 0x0008103E), ("name", 0)}),
        ("PatientComments", "see MRN-778812", {("code", 0x00104000), ("code", 0)}),
        ("ContentDate", "19510203", {("date", 0x00080023), ("date", 0)}),
        ("SeriesInstanceUID", "1.2.826.0.1.3680043.99.1", {("uid", 0x0020000E), ("uid", 0)}),
        ("ImageComments", "Li", {("short", 0x00204000)}),
        ("SeriesDescription", "chest", set()),
        ("ProtocolName", "Doecker", set()),
    ],
)
def test_find_leaks(keyword: str, value: str, leaks: set[tuple[str, int]]) -> None:
    source = planted.slice_of_ct()
    source.OtherPatientNames = "Li^Müller"
    output = deidentified(source)
    assert find_leaks(source, output) == ()
    setattr(output, keyword, value)
    assert {(leak.kind, leak.tag) for leak in find_leaks(source, output)} == leaks


def test_find_leaks_in_bytes_of_any_alphabet() -> None:
    source = planted.slice_of_ct()
    source.SpecificCharacterSet, source.PatientName = "ISO_IR 192", "Müllerin^Ковалевская=王小东"
    for hidden in (
        "МЮ",
        "müllerin".encode("latin-1"),
        "КОВАЛЕВСКАЯ".encode("iso8859-5"),
        "王小东".encode("gb18030"),
        b"doe",
    ):
        output = deidentified(source)
        data = hidden if isinstance(hidden, bytes) else hidden.encode()
        output.add_new(0x00281201, "OW", data + bytes(len(data) % 2))
        found = {leak.kind for leak in find_leaks(source, output)}
        assert found == ({"name"} if len(data) > 4 else set())


def test_nesting_has_an_end() -> None:
    inner = Dataset()
    for _ in range(3):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner])
        inner = outer
    assert len(list(datasets(inner))) == 4
    with pytest.raises(StudyError) as caught:
        Node(inner, ("ascii",), 100).item(inner)
    assert caught.value.code == "object-too-complex"


def test_what_is_no_sequence_has_no_items() -> None:
    ds = Dataset()
    ds.PatientName = "x"
    assert items_of(ds, 0x00100010) is None
    assert items_of(ds, 0x00081140) is None


@pytest.mark.filterwarnings("ignore")
def test_a_sequence_that_is_none_falls_back() -> None:
    ds = planted.slice_of_ct()
    ds[BaseTag(0x00081140)] = DataElement(BaseTag(0x00081140), "LO", "Jane")
    ds[BaseTag(0x00400555)] = DataElement(BaseTag(0x00400555), "LO", "Jane")
    output = deidentified(ds)
    assert "Jane" not in str(output)


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize("terms", ["DOE JANE", "ISO_IR 100\\DOE JANE", "MRN-778812", "ISO_IR DOE", "ISO-IR 778812"])
def test_a_character_set_is_a_defined_term_or_none(terms: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet = terms.split("\\")
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert done.leaks == ()
    assert str(done.dataset.get("SpecificCharacterSet", "")) in ("", "ISO_IR 192")


def test_words_in_a_character_set_excuse_no_other_place() -> None:
    source, output = planted.slice_of_ct(), planted.slice_of_ct()
    source.PatientName = output.SpecificCharacterSet = "FUCHSBERGER"
    assert "name" in {leak.kind for leak in find_leaks(source, output)}


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
def test_values_in_wrong_spellings_that_can_be_read(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    for tag, vr, value in (
        (0x00181151, "IS", b"210.5 "), (0x00080030, "TM", b"101112.1234567 "), (0x0008002A, "DT", b"20200301101112.1234567"),
        (0x00080021, "DA", b"2020-03-01"), (0x00101010, "AS", b"069y"), (0x00100030, "DA", b"1951-02-03"),
    ):  # fmt: skip
        ds[tag] = RawDataElement(BaseTag(tag), vr, len(value), value, 0, False, True)
    ds.SeriesDate, ds.SeriesDescription = "20200301", "Thorax 03.02.1951"
    done = Deidentifier(policy, PSEUDONYMS).deidentify(ds)
    shift = PSEUDONYMS.shift(PSEUDONYMS.subject(ds.PatientID, ds.IssuerOfPatientID, ""))
    output = done.dataset
    assert done.leaks == ()
    assert output.SeriesDescription == "Thorax"
    assert output.get_item(0x00181151).value == b"210.5 "
    assert (output.StudyTime, output.PatientAge) == ("101112.1234567", "069y")
    day = (date(2020, 3, 1) + shift).strftime("%Y%m%d")
    assert output[0x0008002A].value == f"{day}101112.1234567"
    assert output[0x00080021].value == day


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
def test_a_transfer_syntax_is_one_of_the_standard(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.file_meta.TransferSyntaxUID = "1.2.840.19510203.778812"
    with pytest.raises(StudyError, match="withheld-malformed"):
        Deidentifier(policy, PSEUDONYMS).deidentify(ds)


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize(
    ("name", "value"), [("Doe^J", "DOE62"), ("Kim^A", "KIM1"), ("Lee^B", "CT_LEE7"), ("Ng^Xi", "NG62")]
)
def test_a_short_name_with_a_number_is_no_term(name: str, value: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ScanOptions = name, value
    done = Deidentifier(policy, PSEUDONYMS).deidentify(ds)
    assert (done.leaks, value in str(done.dataset.get("ScanOptions"))) == ((), False)


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
def test_dates_that_are_kept_are_no_leak_though_somebody_was_born_on_that_day(policy: Policy) -> None:
    options = (policy.options - {Option.MODIFIED_DATES}) | {Option.FULL_DATES}
    ds = planted.slice_of_ct()
    ds.PatientBirthDate = ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = "20200301"
    ds.AcquisitionDateTime, ds.SeriesDescription = "20200301101112", "CT 2020-03-01"
    done = Deidentifier(replace(policy, options=options), PSEUDONYMS).deidentify(ds)
    assert done.leaks == ()
    assert (done.dataset.StudyDate, done.dataset.AcquisitionDateTime) == ("20200301", "20200301101112")
    assert not done.dataset.get("PatientBirthDate")
    assert done.dataset.SeriesDescription == "CT"


def test_what_stands_beside_a_code_goes_together() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "39607008", "SCT", "Lung"
    item.MappingResource, item.ContextGroupVersion, item.ContextIdentifier = "DCMR", "20020904", "4031"
    ds = planted.slice_of_ct()
    ds.AnatomicRegionSequence = Sequence([item])
    kept = Deidentifier(EXPORT, PSEUDONYMS).deidentify(ds).dataset.AnatomicRegionSequence[0]
    assert [element.keyword for element in kept] == ["CodeValue", "CodingSchemeDesignator", "CodeMeaning"]


@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_each_of_a_group_of_patients_has_its_own_pseudonym(policy: Policy) -> None:
    def of(patient_id: str) -> Dataset:
        item = Dataset()
        item.PatientID = patient_id
        return item

    group = planted.slice_of_ct()
    group.GroupOfPatientsIdentificationSequence = Sequence([of("MOUSE-1"), of("MOUSE-2"), of(str(group.PatientID))])
    if "IssuerOfPatientID" in group:
        del group.IssuerOfPatientID
    alone = planted.slice_of_ct()
    alone.PatientID = "MOUSE-2"
    if "IssuerOfPatientID" in alone:
        del alone.IssuerOfPatientID
    output = deidentified(group, policy)
    first, second, own = (one.PatientID for one in output.GroupOfPatientsIdentificationSequence)
    assert len({first, second, own}) == 3
    assert own == output.PatientID
    assert second == deidentified(alone, policy).PatientID


@pytest.mark.parametrize("policy", [AI, EXPORT])
@pytest.mark.parametrize("names", [("LAYER1", "LAYER2"), ("ANNOTATIONS", "DRSMITH")])
def test_graphic_layers_stay_apart_and_annotations_find_theirs(names: tuple[str, ...], policy: Policy) -> None:
    state = planted.slice_of_ct()
    del state.PixelData
    state.SOPClassUID, state.Modality = "1.2.840.10008.5.1.4.1.1.11.1", "PR"
    state.GraphicLayerSequence, state.GraphicAnnotationSequence = Sequence(), Sequence()
    for order, name in enumerate(names, start=1):
        layer, annotation, text = Dataset(), Dataset(), Dataset()
        layer.GraphicLayer, layer.GraphicLayerOrder = name, order
        text.UnformattedTextValue = f"{order} mm"
        annotation.GraphicLayer, annotation.TextObjectSequence = name, Sequence([text])
        state.GraphicLayerSequence.append(layer)
        state.GraphicAnnotationSequence.append(annotation)
    output = deidentified(state, policy)
    layers = [layer.GraphicLayer for layer in output.GraphicLayerSequence]
    assert sorted(layers) == ["LAYER1", "LAYER2"]
    assert [one.GraphicLayer for one in output.GraphicAnnotationSequence] == layers
    texts = [one.TextObjectSequence[0].UnformattedTextValue for one in output.GraphicAnnotationSequence]
    assert texts == ["1 mm", "2 mm"]


@pytest.mark.parametrize("number", ["4711", "90244711"])
def test_a_stack_that_is_named_by_the_patients_number_is_not(number: str) -> None:
    content = Dataset()
    content.StackID, content.InStackPositionNumber = "4711", 1
    group = Dataset()
    group.FrameContentSequence = Sequence([content])
    ds = planted.slice_of_ct()
    ds.PatientID, ds.PerFrameFunctionalGroupsSequence = number, Sequence([group])
    kept = deidentified(ds, AI).PerFrameFunctionalGroupsSequence[0].FrameContentSequence[0]
    assert kept.StackID.startswith("ID")
    assert kept.InStackPositionNumber == 1


def test_the_least_keeps_what_stored_values_mean() -> None:
    measures, frame, table, nuclide = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.5], "2"
    frame.PixelMeasuresSequence, frame.FrameComments = Sequence([measures]), "ANYTHING"
    table.LUTDescriptor, table.LUTExplanation = [256, 0, 16], "ANYTHING"
    nuclide.RadionuclideTotalDose, nuclide.Radiopharmaceutical = "370000000", "ANYTHING"
    ds = planted.slice_of_ct()
    ds.PerFrameFunctionalGroupsSequence, ds.ModalityLUTSequence = Sequence([frame]), Sequence([table])
    ds.RadiopharmaceuticalInformationSequence, ds.Units, ds.SeriesDescription = Sequence([nuclide]), "BQML", "ANYTHING"
    least = minimal(ds)
    assert least.PerFrameFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.5]
    assert least.ModalityLUTSequence[0].LUTDescriptor == [256, 0, 16]
    assert least.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose == 370000000
    assert least.Units == "BQML"
    assert b"ANYTHING" not in encode_part10(least, transfer_syntax_uid=planted.EXPLICIT)
    assert "SeriesDescription" not in least
    assert "InstitutionName" not in least


def test_of_codes_the_least_keeps_what_the_tables_vouch_for() -> None:
    known, own = Dataset(), Dataset()
    known.CodeValue, known.CodingSchemeDesignator, known.CodeMeaning = "T-D3000", "SRT", "Chest"
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = "DOE", "99SITE", "JANE"
    known.ContextUID = "1.2.840.10008.6.1.4712"
    ds = planted.slice_of_ct()
    ds.AnatomicRegionSequence, ds.Manufacturer = Sequence([known, own]), "DOE"
    least = minimal(ds)
    (left,) = least.AnatomicRegionSequence
    assert [element.value for element in left] == ["T-D3000", "SRT", "Chest"]
    assert least["Manufacturer"].is_empty


@pytest.mark.parametrize("group", [0x5000, 0x5002, 0x501E, 0x50FE, 0x6000, 0x6002, 0x601E, 0x60FE])
@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_curves_and_overlays_of_every_group_go(group: int, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.add_new((group, 0x3000), "OW", b"DOE^JANE")
    ds.add_new((group, 0x0010), "US", 8)
    assert not [tag for tag in deidentified(ds, policy) if tag.tag.group == group]


@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_a_label_map_stays_one_whatever_the_patients_number(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.StudyID, item = "667", Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.7", "1.2.3.4"
    ds.ReferencedImageSequence = Sequence([item])
    assert deidentified(ds, policy).ReferencedImageSequence[0].ReferencedSOPClassUID == item.ReferencedSOPClassUID


@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_numbers_of_contours_stay_apart(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.StructureSetROISequence = Sequence([Dataset(), Dataset()])
    for roi, number in zip(ds.StructureSetROISequence, ("805306369", "805306370"), strict=True):
        roi.ROINumber = number
    assert [int(roi.ROINumber) for roi in deidentified(ds, policy).StructureSetROISequence] == [805306369, 805306370]


@pytest.mark.parametrize("policy", [AI, EXPORT])
@pytest.mark.parametrize("name", ["4711T^Proband", "0815H", "012W^X", "1042CH"])
def test_somebody_whose_name_begins_with_figures(name: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientID, word = name, "X-9", name.split("^", maxsplit=1)[0]
    ds.SeriesDescription = f"CHEST {word}"
    assert word.encode() not in encode_part10(deidentified(ds, policy), transfer_syntax_uid=planted.EXPLICIT)


@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_a_class_that_nobody_registered_does_not_end_in_the_patients_number(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID = "4711"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-D3000", "SRT", "Chest"
    ds.AnatomicRegionSequence = Sequence([item])
    for number in ("4711", "47.11", "4.711"):
        item.ContextUID = f"1.2.840.10008.6.1.{number}"
        assert number.encode() not in encode_part10(deidentified(ds, policy), transfer_syntax_uid=planted.EXPLICIT)
    item.ContextUID = "1.2.840.10008.6.1.4712"
    assert deidentified(ds, policy).AnatomicRegionSequence[0].get("ContextUID") in (None, "1.2.840.10008.6.1.4712")
