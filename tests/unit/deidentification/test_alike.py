"""Slices that differ from an earlier one in values of the same length: when that is seen, and that it changes nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import cast

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import contexts, quick
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.reader import Reader
from dicomnode.deidentification.slices import split
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])


def slice_of(number: int, size: int = 16) -> Dataset:
    ds = planted.slice_of_ct(size, size)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = planted.CT, "1.2.3.4"
    ds.ReferencedImageSequence = Sequence([item])
    ds.AcquisitionDateTime, ds.NumberOfFrames = "20200301101112", "1"
    ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.826.0.1.3680043.99.1.3.{number}", str(number)
    ds.SliceLocation, ds.ImagePositionPatient = f"{number}.5", ["-150", "-150", f"{number}.5"]
    return ds


def files_of(policy: Policy, count: int = 3) -> FileDeidentifier:
    """One that has seen slices 11, 12, ..."""
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in range(11, 11 + count):
        files.deidentify(planted.encoded(slice_of(number)))
    return files


def the_full_way(policy: Policy, data: bytes) -> tuple[bytes, dict[str, str]]:
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits()))
    return encode_part10(done.dataset, transfer_syntax_uid=planted.EXPLICIT), done.uids


@POLICIES
def test_such_a_slice_is_not_read_element_by_element(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_of(policy)
    monkeypatch.setattr(quick, "split", lambda _: pytest.fail("read anew"))
    for number in (14, 99, 12):
        data = planted.encoded(slice_of(number))
        done = files.deidentify(data)
        assert (done.data, done.uids) == the_full_way(policy, data)
        assert done.quick


@pytest.mark.parametrize("remembered", [1, 4096])
def test_a_number_is_judged_once_for_what_it_is(remembered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found of a number is remembered, for a while; one that is somebody's goes whenever it comes."""
    monkeypatch.setattr(contexts, "_REMEMBERED", remembered)
    files = FileDeidentifier(Deidentifier(EXPORT, PSEUDONYMS), Limits())
    for number in (11, 12, 47110815, 12, 47110815, 13):
        ds = slice_of(number)
        ds.AccessionNumber, ds.SliceLocation, ds.AcquisitionNumber = "47110815", "7.5", str(number % 1000)
        ds.ImagePositionPatient, ds.InstanceNumber = ["-150", "-150", "7.5"], f"0{number}"  # no word of the leak check
        data = planted.encoded(ds)
        done = files.deidentify(data)
        assert done.data == the_full_way(EXPORT, data)[0]
        assert b"47110815" not in done.data
        assert done.quick is (number in (12, 13))


def rows(ds: Dataset) -> None:
    ds.Rows, ds.Columns = 8, 32


def bits(ds: Dataset) -> None:
    ds.BitsStored, ds.HighBit = 16, 15


def inner(ds: Dataset) -> None:
    ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.5"


def name(ds: Dataset) -> None:
    ds.PatientName = "Poe^June"


def patient(ds: Dataset) -> None:
    ds.PatientID = "MRN-778813"


def study(ds: Dataset) -> None:
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.98.1"


def frames(ds: Dataset) -> None:
    ds.NumberOfFrames = "2"


def inverted(ds: Dataset) -> None:
    ds.PhotometricInterpretation = "MONOCHROME1"


def day(ds: Dataset) -> None:
    ds.AcquisitionDateTime = "20200302101112"


def time(ds: Dataset) -> None:
    ds.AcquisitionDateTime = "20200301101113"


def identifier(ds: Dataset) -> None:
    ds.SliceLocation, ds.AccessionNumber = "99.5", "ACC99.50"


def writing(ds: Dataset) -> None:
    ds.ConvolutionKernel = "Doe_"


def other_place(ds: Dataset) -> None:
    del ds.TableHeight
    ds.add_new(0x00181131, "DS", "150 ")


def shorter(ds: Dataset) -> None:
    ds.KVP, ds.ProtocolName = "90", "Lung routine 1"


def unused_bits(ds: Dataset) -> None:
    ds.PixelData = b"\0\xf0" * 256


@POLICIES
@pytest.mark.parametrize(
    "change",
    [
        rows,
        bits,
        frames,
        inverted,
        inner,
        name,
        patient,
        study,
        day,
        time,
        identifier,
        writing,
        other_place,
        shorter,
        unused_bits,
    ],
)
def test_whatever_else_differs_changes_nothing(policy: Policy, change: Callable[[Dataset], None]) -> None:
    ds = slice_of(15)
    change(ds)
    data = planted.encoded(ds)
    assert len(data) == len(planted.encoded(slice_of(15))), "as long as those that were seen, or it proves nothing"
    files = files_of(policy)
    code = ""
    try:
        expected = the_full_way(policy, data)
    except StudyError as error:
        code = error.code
    if code:
        with pytest.raises(StudyError, match=code):
            files.deidentify(data)
        return
    done = files.deidentify(data)
    assert (done.data, done.uids) == expected


def with_value(data: bytes, tag: int, vr: str, value: bytes) -> bytes:
    """The file with an element of these bytes, whatever a writer would say."""
    elements = split(data)
    assert elements is not None
    whole = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
    start = elements[0].end - len(elements[0].whole)
    found = {element.tag: bytes(element.whole) for element in elements} | {tag: whole}
    return data[:start] + b"".join(found[tag] for tag in sorted(found))


@POLICIES
@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00189306, "FD", b"CHEST "), (0x00189306, "FD", b"CHEST SM"), (0x00186030, "UL", b"AB"), (0x00189461, "FL", b"ABCDEF"),
        (0x00209128, "UL", b"007 "), (0x00100040, "CS", b"\\ "), (0x00080031, "TM", b"\\ "), (0x00180022, "CS", b"\\\\"), (0x00201041, "DS", b"1.0\0"),
        (0x00201041, "DS", b"\0\0"), (0x00200013, "IS", b"15\0\0"), (0x00180060, "DS", b"  "), (0x00180022, "CS", b"SE\\IR "),
    ],
)  # fmt: skip
def test_odd_bytes_of_a_value(policy: Policy, tag: int, vr: str, value: bytes) -> None:
    """On the second slice and on the fourth, which are read in two ways."""
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12, 13, 14):
        good = b"1 " if vr in ("CS", "DS", "IS", "TM") else bytes(8)
        data = with_value(planted.encoded(slice_of(number)), tag, vr, value if number % 2 == 0 else good)
        done = files.deidentify(data)
        assert (done.data, done.uids) == the_full_way(policy, data)


@POLICIES
@pytest.mark.parametrize(("tag", "value"), [(0x00280002, b""), (0x00280011, b"\x10"), (0x00280100, b"")])
def test_a_format_that_is_none_has_its_code(policy: Policy, tag: int, value: bytes) -> None:
    """As the full way does: it is refused, or gets its default."""
    data = with_value(planted.encoded(slice_of(15)), tag, "US", value)
    try:
        expected = the_full_way(policy, data)[0]
    except StudyError as error:
        with pytest.raises(StudyError, match=error.code):
            files_of(policy).deidentify(data)
        return
    assert files_of(policy).deidentify(data).data == expected


@POLICIES
def test_the_study_counts_where_it_stands_for_the_patient(policy: Policy) -> None:
    """Without a Patient ID pseudonym and shift of dates are the study's."""
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12, 13, 14):
        ds = slice_of(number)
        ds.PatientID = ""
        if number == 14:
            study(ds)
        data = planted.encoded(ds)
        done = files.deidentify(data)
        assert (done.data, done.uids) == the_full_way(policy, data)


@POLICIES
@pytest.mark.parametrize(("place", "new"), [(128, b"DIXM"), (140, b"\xff\0\0\0"), (0, b"MZ"), (-1, b"\x7f")], ids=str)
def test_bytes_outside_of_values(policy: Policy, place: int, new: bytes) -> None:
    """A broken prefix, a lying length of the meta information, a program in the preamble, another last pixel."""
    data = bytearray(planted.encoded(slice_of(15)))
    place %= len(data)
    data[place : place + len(new)] = new
    files = files_of(policy)
    try:
        expected = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits()).deidentify(bytes(data))
    except StudyError as error:
        with pytest.raises(StudyError, match=error.code):
            files.deidentify(bytes(data))
        return
    assert files.deidentify(bytes(data)).data == expected.data


@POLICIES
def test_another_transfer_syntax_in_the_meta_information(policy: Policy) -> None:
    data = planted.encoded(slice_of(15))
    changed = data.replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x14\x001.2.840.10008.1.2.2\0", 1)
    assert changed != data
    first = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits()).deidentify(changed)
    assert files_of(policy).deidentify(changed).data == first.data


def test_what_is_remembered_is_bounded() -> None:
    files = files_of(AI)
    for length in range(2, 200, 2):
        ds = slice_of(15)
        ds.add_new(0x00189345, "FD", [8.5] * length)
        files.deidentify(planted.encoded(ds))
    assert len(files._moulds) == quick._MOULDS


class Looks:
    """A reader that finds nothing, and counts."""

    def __init__(self) -> None:
        self.pictures = 0

    def read(self, picture: object) -> list[object]:
        self.pictures += 1
        return []


@POLICIES
@pytest.mark.parametrize("flag", ["BurnedInAnnotation", "SeriesDescription", "ImageType", "ConversionType"])
def test_pixels_that_are_read_are_read_on_every_slice(policy: Policy, flag: str) -> None:
    values = {"BurnedInAnnotation": "YES", "SeriesDescription": "Dose Report", "ConversionType": "WSD"}
    reader = Looks()
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS, reader=cast("Reader", reader)), Limits())
    for number in (11, 12, 13):
        ds = slice_of(number, 128)
        setattr(ds, flag, values.get(flag, ["DERIVED", "SECONDARY", "SCREEN SAVE"]))
        before = reader.pictures
        assert not files.deidentify(planted.encoded(ds)).quick
        assert reader.pictures > before


@POLICIES
@pytest.mark.parametrize(
    "keyword", ["PatientIdentityRemoved", "DeidentificationMethod", "LongitudinalTemporalInformationModified"]
)
@pytest.mark.parametrize("values", [("YES", None), (None, "YES"), ("YES", "NO ")])
def test_what_is_always_written_is_written_whatever_another_slice_said(
    policy: Policy, keyword: str, values: tuple[str | None, str | None]
) -> None:
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12, 13, 14):
        ds = slice_of(number)
        if value := values[number > 12]:
            setattr(ds, keyword, value)
        data = planted.encoded(ds)
        assert files.deidentify(data).data == the_full_way(policy, data)[0]
        assert keyword in read_part10(files.deidentify(data).data, Limits())


@POLICIES
def test_uids_padded_by_a_space_have_the_pseudonym_of_those_that_are_not(policy: Policy) -> None:
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12, 13, 14):
        ds = slice_of(number)
        ds.SOPInstanceUID = f"1.2.826.0.1.{number}4"
        data = planted.encoded(ds).replace(f"1.2.826.0.1.{number}4\0".encode(), f"1.2.826.0.1.{number}4 ".encode())
        assert data != planted.encoded(ds)
        done = files.deidentify(data)
        assert (done.data, done.uids) == the_full_way(policy, data)
        assert done.quick == (number > 11)
        assert f"1.2.826.0.1.{number}4" in done.uids.values()


@POLICIES
def test_a_uid_of_several_values(policy: Policy) -> None:
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12, 13):
        ds = slice_of(number)
        ds.SOPInstanceUID = f"1.2.{number}.1.2.4"
        data = planted.encoded(ds).replace(f"1.2.{number}.1.2.4".encode(), f"1.2.{number}\\1.2.4".encode())
        done = files.deidentify(data)
        assert (done.data, done.uids) == the_full_way(policy, data)


@POLICIES
def test_a_time_that_is_none_is_no_time(policy: Policy) -> None:
    files = files_of(policy)
    ds = slice_of(15)
    with hushed():
        ds.ContentTime = "962013"
    data = planted.encoded(ds)
    assert files.deidentify(data).data == the_full_way(policy, data)[0]
    assert b"962013" not in files.deidentify(data).data


@POLICIES
def test_a_date_of_the_source_within_a_number_is_seen(policy: Policy) -> None:
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number in (11, 12):
        files.deidentify(planted.encoded(slice_of(number)))
    ds = slice_of(13)
    ds.SliceLocation = "2.19510203"
    data = planted.encoded(ds)
    try:
        expected = the_full_way(policy, data)[0]
    except StudyError as error:
        with pytest.raises(StudyError, match=error.code):
            files.deidentify(data)
        return
    assert b"19510203" not in expected
    assert files.deidentify(data).data == expected


@POLICIES
def test_a_name_within_a_private_sequence_of_unknown_vr_is_of_one_slice_alone(policy: Policy) -> None:
    """What the series has learnt of a descriptor is not true where a word of it is somebody's name."""

    def file(name: bytes) -> bytes:
        item = struct.pack("<HHLHHL", 0xFFFE, 0xE000, 16, 0x0010, 0x0010, 8) + name
        ds = slice_of(1)
        ds.SeriesDescription = "Lung routine"
        ds.private_block(0x0009, "ACME 1.0", create=True).add_new(0x01, "UN", item)
        return planted.encoded(ds)

    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for name in (b"Meyer   ", b"Lung    "):
        done = files.deidentify(file(name))
        assert (done.data, done.uids) == the_full_way(policy, file(name))
    assert read_part10(done.data, Limits()).SeriesDescription == "routine"
