"""The quick way and the full way give the same file and the same way back, whatever differs between the slices."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy, SiteAction
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier, split
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from dicomnode.site_rules import DeviceRule
from tests import pace
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import ct, mr, pet

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
#: A site's rules for devices, which ask for what changes from slice to slice; none takes the slice that the others come from.
ON_DEVICES = replace(
    EXPORT,
    name="devices",
    devices=tuple(
        DeviceRule.model_validate({"name": f"rule-{number}", "where": [condition], "rows": 16, "columns": 16, "blank": [[0, number, 15, number]]})
        for number, condition in enumerate((
            {"attribute": "InstanceNumber", "at_least": 18}, {"attribute": "SliceLocation", "one_of": ["0.70"]},
            {"attribute": "ScanOptions", "one_of": ["AXIAL"]}, {"attribute": "SoftwareVersions", "matches": "^[47]"},
            {"attribute": "ContentTime", "matches": "10111[1-5]", "unless": True},
        ))
    ),
)  # fmt: skip
ALTER = settings(max_examples=pace.rounds(20, 60), deadline=None, suppress_health_check=list(HealthCheck))

WORDS = st.sampled_from(["Thorax", "Doe", "JANE", "Wolkenstein", "AXIAL", "7", "4471", "69 F", "M_SE", "20200301", ""])
NUMBERS = st.sampled_from(
    ["1", "17", "+3", " 40", "0.70", "1e3", "-12.5", "00123", "99817", "20200301", ".5", "1.", "x"]
)
CHANGES = st.dictionaries(
    st.sampled_from([
        "InstanceNumber", "SliceLocation", "ContentTime", "AcquisitionTime", "ContentDate", "SOPInstanceUID", "WindowCenter", "SeriesDescription",
        "ImageType", "PatientName", "PatientID", "AccessionNumber", "ConvolutionKernel", "ProtocolName", "XRayTubeCurrent", "AcquisitionDateTime",
        "ImageComments", "SeriesInstanceUID", "AcquisitionNumber", "ScanOptions", "BodyPartExamined", "private", "sequence", "pixels",
        "StationName", "FrameOfReferenceUID", "PatientAge", "PatientSex", "SoftwareVersions", "bits",
    ]),
    st.integers(0, 9), max_size=5,
)  # fmt: skip


def changed(ds: Dataset, changes: dict[str, int], words: list[str], numbers: list[str]) -> Dataset:
    for keyword, pick in changes.items():
        word, number = words[pick % len(words)], numbers[pick % len(numbers)]
        if keyword == "private":
            ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
            ds.add_new(0x0019100C, "IS", str(pick * 100))
            ds.add_new(0x00191099, "LO", word)
        elif keyword == "sequence":
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = planted.CT, f"1.2.3.{pick}"
            item.PatientComments = word
            ds.ReferencedImageSequence = Sequence([item])
        elif keyword == "pixels":
            ds.PixelData = bytes([pick, 1]) * (len(ds.PixelData) // 2)
        elif keyword == "bits":
            ds.PixelData = bytes([pick, 0xF0]) * (len(ds.PixelData) // 2)
        elif keyword.endswith("UID"):
            setattr(ds, keyword, f"1.2.826.0.1.3680043.99.{pick}")
        elif "Date" in keyword:
            setattr(ds, keyword, f"202003{pick + 1:02}" + ("101112.5" if keyword.endswith("Time") else ""))
        elif keyword.endswith("Time"):
            setattr(ds, keyword, f"10111{pick}" + (".25" if pick % 2 else ""))
        elif keyword in ("PatientAge", "PatientSex"):
            setattr(ds, keyword, f"{pick * 11:03}Y" if keyword == "PatientAge" else ("", "F", "M")[pick % 3])
        elif keyword in ("InstanceNumber", "SliceLocation", "WindowCenter", "XRayTubeCurrent", "AcquisitionNumber"):
            ds[keyword]._value = number
        elif keyword in ("ImageType", "ScanOptions", "BodyPartExamined"):
            setattr(ds, keyword, ["ORIGINAL", word.upper() or "NONE"] if keyword == "ImageType" else word.upper())
        else:
            setattr(ds, keyword, word)
    return ds


def both(files: FileDeidentifier, policy: Policy, data: bytes) -> bool:
    """Whether it went the quick way; both make the same of it."""
    code = ""
    try:
        dataset = read_part10(data, Limits())
        done = Deidentifier(policy, PSEUDONYMS).deidentify(dataset)
    except StudyError as error:
        code = error.code
    if code:
        with pytest.raises(StudyError) as caught:
            files.deidentify(data)
        assert caught.value.code == code
        return False
    quick = files.deidentify(data)
    assert quick.data == encode_part10(done.dataset, transfer_syntax_uid=str(done.dataset.file_meta.TransferSyntaxUID))
    assert quick.uids == done.uids
    assert quick.sop_instance_uid == done.dataset.SOPInstanceUID
    return quick.quick


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT, ON_DEVICES], ids=lambda policy: policy.name)
def test_both_ways_give_the_same(policy: Policy) -> None:
    ways: list[bool] = []

    @ALTER
    @given(
        series=st.lists(CHANGES, min_size=2, max_size=5),
        words=st.lists(WORDS, min_size=1),
        numbers=st.lists(NUMBERS, min_size=1),
    )
    @example(series=[{"InstanceNumber": 0}, {"InstanceNumber": 1}], words=["7"], numbers=["1", "40"])
    def same(series: list[dict[str, int]], words: list[str], numbers: list[str]) -> None:
        files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
        both(files, policy, planted.encoded(planted.slice_of_ct(16, 16)))
        for changes in series:
            one = changed(planted.slice_of_ct(16, 16), changes, words, numbers)
            ways.append(both(files, policy, planted.encoded(one)))

    same()
    assert any(ways)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("make", [ct, mr, pet])
def test_planted_objects_go_the_same_way_twice(make: object, policy: Policy) -> None:
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in range(3):
        one = make()  # type: ignore[operator]
        one.dataset.SOPInstanceUID, one.dataset.InstanceNumber = f"1.2.3.4.{number}", str(number)
        both(files, policy, planted.encoded(one.dataset))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("keyword", "values"), [("PatientSex", ("", "F")), ("PatientAge", ("050Y", "069Y"))])
def test_sex_and_age_decide_what_goes(keyword: str, values: tuple[str, str]) -> None:
    policy = replace(AI, site={"PatientAge": SiteAction.REMOVE})  # else another age goes the full way
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for value in values:
        ds = planted.slice_of_ct(16, 16)
        ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19510203" if keyword == "PatientSex" else "", "F", ""
        ds.SoftwareVersions = "CT 69 F"
        setattr(ds, keyword, value)
        both(files, policy, planted.encoded(ds))


def test_slices_of_a_series_go_the_quick_way() -> None:
    files = FileDeidentifier(Deidentifier(EXPORT, PSEUDONYMS), Limits())
    ways = []
    for number in range(4):
        ds = planted.slice_of_ct(16, 16)
        ds.SOPInstanceUID, ds.InstanceNumber, ds.SliceLocation = f"1.2.3.4.{number}", str(number), str(number * 1.5)
        ds.ImagePositionPatient, ds.ContentTime = ["0", "0", str(number * 1.5)], f"10111{number}"
        ways.append(files.deidentify(planted.encoded(ds)).quick)
    assert ways == [False, True, True, True]


def test_what_is_not_ordinary_goes_the_full_way() -> None:
    ds = planted.slice_of_ct(16, 16)
    plain = planted.encoded(ds)
    assert split(plain) is not None
    assert split(planted.encoded(ds, planted.IMPLICIT)) is None
    assert split(plain + b"trailing") is None
    assert split(plain[:-2]) is None
    assert split(plain[132:]) is None
