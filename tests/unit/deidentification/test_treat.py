"""What the treatments let through holds none of the source's identifiers: the walk drops them before the leak check must."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)

pytestmark = pytest.mark.filterwarnings("ignore")


def treated(policy: Policy, **changes: object) -> Dataset:
    """Output of the walk; such as nothing was held back from and as was not replaced by the least."""
    ds = planted.slice_of_ct()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits()))
    assert done.leaks == ()
    assert done.dataset.ConvolutionKernel == "B31s"
    return done.dataset


@POLICIES
def test_a_term_that_is_an_identifier_with_a_mark_goes(policy: Policy) -> None:
    assert treated(policy, ScanOptions="ECHO_12").ScanOptions == "ECHO_12"
    assert "ScanOptions" not in treated(policy, ScanOptions="ECHO_12", PatientID="ECHO12")
    assert treated(policy, ScanOptions=["HELIX", "ECHO_12"], PatientID="ECHO12").ScanOptions == ["HELIX", "OTHER"]


@POLICIES
def test_a_descriptor_whose_numbers_are_an_identifier_goes(policy: Policy) -> None:
    text = "ep2d_diff_b50_400_800"
    assert treated(policy, SeriesDescription=text).SeriesDescription == text
    assert treated(policy, SeriesDescription=text, PatientID="400800").SeriesDescription == "ep2d_diff_b50"


@POLICIES
def test_a_maker_s_words_that_are_together_an_identifier_go(policy: Policy) -> None:
    assert treated(policy, SoftwareVersions="MULTI COIL").SoftwareVersions == "MULTI COIL"
    assert "SoftwareVersions" not in treated(policy, SoftwareVersions="MULTI COIL", InstitutionName="Multi Coil")


@POLICIES
@pytest.mark.parametrize("text", ["Head @ 4", "syngo :// Head", "file:// 5"])
def test_a_maker_s_text_with_an_address_goes_as_a_whole(policy: Policy, text: str) -> None:
    assert "SoftwareVersions" not in treated(policy, SoftwareVersions=text)


@pytest.mark.parametrize(
    ("name", "keyword", "value"),
    [
        ("CT AB1", "StudyID", "AB1"), ("CT AB1", "AccessionNumber", "CT AB1"), ("CT HEAD 1", "PatientName", "Head^Ann"),
        ("CT HEAD 1", "PatientName", "Young-Head^Ann"), ("CT Head Chest", "InstitutionName", "CT Head"),
    ],
)  # fmt: skip
def test_a_device_whose_name_has_an_identifier_in_it_is_a_token(name: str, keyword: str, value: str) -> None:
    assert treated(AI, StationName=name).StationName == name
    assert treated(AI, StationName=name, **{keyword: value}).StationName.startswith("ID")


@POLICIES
@pytest.mark.parametrize("values", [["0.7", "778812.0"], ["778812.0", *["1"] * 7]])
def test_an_identifier_among_a_few_numbers_takes_them_away(policy: Policy, values: list[str]) -> None:
    others = ["0.7" if value == "778812.0" else value for value in values]
    assert treated(policy, FrameTimeVector=others).FrameTimeVector == [float(value) for value in others]
    assert (
        treated(policy, FrameTimeVector=values, PatientID="778812").FrameTimeVector == 0
    )  # a dummy: it may be required


@POLICIES
def test_one_of_many_numbers_is_a_measurement(policy: Policy) -> None:
    values = ["778812.0", *["1"] * 8]
    assert len(treated(policy, FrameTimeVector=values, PatientID="778812").FrameTimeVector) == 9


def test_patients_of_a_group_stay_apart_and_are_the_same_elsewhere() -> None:
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"))
    ds, items = planted.slice_of_ct(), []
    for name in ("MOUSE-1", "MOUSE-2", str(ds.PatientID)):
        item = Dataset()
        item.PatientID = name
        items.append(item)
    ds.GroupOfPatientsIdentificationSequence = Sequence(items)
    done = engine.deidentify(ds).dataset
    one, two, own = (item.PatientID for item in done.GroupOfPatientsIdentificationSequence)
    assert len({one, two, own}) == 3
    assert own == done.PatientID
    ds = planted.slice_of_ct()
    ds.PatientID = "MOUSE-1"
    assert engine.deidentify(ds).dataset.PatientID == one


def test_layers_stay_apart() -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    layers, annotations = [], []
    for name in ("DOE JANE", "LAYER1"):
        layer, annotation = Dataset(), Dataset()
        layer.GraphicLayer = annotation.GraphicLayer = name
        layer.GraphicLayerOrder = len(layers) + 1
        layers.append(layer)
        annotations.append(annotation)
    ds.GraphicLayerSequence, ds.GraphicAnnotationSequence = Sequence(layers), Sequence(annotations)
    done = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    named = [item.GraphicLayer for item in done.GraphicLayerSequence]
    assert named == [item.GraphicLayer for item in done.GraphicAnnotationSequence]
    assert len(set(named)) == 2
    assert "DOE JANE" not in named


def test_a_stack_is_not_called_as_the_patient_is() -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.StackID = "4711", "4711"
    done = Deidentifier(AI, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert done.leaks == ()
    assert done.dataset.StackID != "4711"


@pytest.mark.parametrize("count", [3, 12])
def test_an_own_number_among_measurements_costs_the_attribute_alone(count: int) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.FrameTimeVector = "4711237", ["1.5"] * count + ["4711237"]
    done = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert b"4711237" not in planted.encoded(done)
    ds.FrameTimeVector = ["1.5"] * count + ["4711238"]
    done = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert len(done.FrameTimeVector) == count + 1


@pytest.mark.parametrize(
    ("value", "rest"),
    [("20200301471108", ""), ("20200301101112+4711", ""), ("20200301101112.778812", "101112"), ("20200301101112.5+0100", "101112.5+0100"),
     ("20200301", ""), ("2020030110", "10"), ("20200301471108.5", ""), ("2020030110-9911", "")],
)  # fmt: skip
@pytest.mark.parametrize("full", [False, True])
def test_a_date_and_time_holds_no_number_of_the_patient(value: str, rest: str, full: bool) -> None:
    policy = replace(EXPORT, options=EXPORT.options - {Option.MODIFIED_DATES} | {Option.FULL_DATES}) if full else EXPORT
    ds = planted.slice_of_ct()
    ds.PatientID, ds.AcquisitionDateTime = "471108" if "4711" in value else "778812", value
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert str(done.AcquisitionDateTime)[8:] == rest


def test_a_fraction_of_a_second_is_no_number_of_the_patient() -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.AcquisitionTime = "778812", "101112.778812"
    assert Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "p")).deidentify(ds).dataset.AcquisitionTime == "101112"


@pytest.mark.parametrize("group", [0x5000, 0x5002, 0x50FE, 0x6000, 0x6002, 0x60FE, 0x601E])
def test_curves_and_overlays_of_every_group_go(group: int) -> None:
    ds = planted.slice_of_ct()
    ds.add_new(group << 16 | 0x0022, "LO", "DOE JANE")
    ds.add_new(group << 16 | 0x3000, "OW", b"DOE JANE")
    done = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert not [tag for tag in done.keys() if tag.group == group]  # noqa: SIM118 - a Data Set iterates over elements


def test_text_in_place_of_a_uid_goes_where_uids_are_kept() -> None:
    policy = replace(EXPORT, options=EXPORT.options | {Option.UIDS})
    ds = planted.slice_of_ct()
    ds.DeviceUID = "1.2.3.4"
    assert Deidentifier(policy, Pseudonyms(bytes(32), "p")).deidentify(ds).dataset.get("DeviceUID") == "1.2.3.4"
    ds["DeviceUID"]._value = "ZYXW^JANE"
    done = Deidentifier(policy, Pseudonyms(bytes(32), "p")).deidentify(ds).dataset
    assert "ZYXW" not in str(done.get("DeviceUID"))


def test_a_stack_has_no_number_of_anybody() -> None:
    ds = planted.slice_of_ct()
    ds.StackID = "5550134"
    assert Deidentifier(AI, Pseudonyms(bytes(32), "p")).deidentify(ds).dataset.StackID != "5550134"


@POLICIES
def test_pixels_within_a_sequence_go(policy: Policy) -> None:
    """Nobody looks at them, as at those of the object."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = planted.CT, "1.2.3"
    item.Rows, item.Columns, item.BitsAllocated = 1, 16, 8
    item.PixelData = bytes(range(16))
    item["PixelData"].VR = "OW"
    output = treated(policy, SourceImageSequence=Sequence([item]))
    assert output.SourceImageSequence[0].Rows == 1
    assert "PixelData" not in output.SourceImageSequence[0]


@POLICIES
def test_a_class_that_ends_in_a_number_of_the_source_is_replaced(policy: Policy) -> None:
    newer = "1.2.840.10008.5.1.4.1.1.4711"
    assert treated(policy, RelatedGeneralSOPClassUID=newer).RelatedGeneralSOPClassUID == newer
    assert treated(policy, RelatedGeneralSOPClassUID=newer, PatientID="4711").RelatedGeneralSOPClassUID != newer
