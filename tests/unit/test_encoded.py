"""Encoded Data Sets: the header scan, the budget, reading, writing."""

from __future__ import annotations

import logging
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom
import pydicom.misc
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomnode.encoded import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    FileHead,
    Limits,
    check_budget,
    encode_dataset,
    encode_part10,
    file_head,
    read_dataset,
    read_file,
    read_head,
    read_part10,
    scan_header,
    split_part10,
    wrap_part10,
)
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
GE_PRIVATE = "1.2.840.113619.5.2"
CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAXES = [IMPLICIT, EXPLICIT, BIG, DEFLATED, GE_PRIVATE]
LIMITS = Limits()


def sample() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = CT
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.Modality = "CT"
    item = Dataset()
    item.ReferencedSOPClassUID = CT
    item.ReferencedSOPInstanceUID = "9.9.9"
    inner = Dataset()
    inner.CodeValue = "X"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([item, Dataset()])
    dataset.PatientName = "Müller^Jörg"
    dataset.SliceThickness = "2.5"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.ImagePositionPatient = [1, 2, 3]
    dataset.Rows = 1
    dataset.Columns = 2
    dataset.BitsAllocated = 16
    dataset.add_new(0x7FE00010, "OW", b"\x01\x02\x03\x04")
    return dataset


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_of_a_beginning_the_elements_that_lie_whole_in_it_are_read(syntax: str) -> None:
    dataset = sample()
    dataset.PixelData = random.Random(1).randbytes(100_000)
    encoded = encode_dataset(dataset, syntax)
    whole, found = read_dataset(encoded, syntax, LIMITS), read_head(encoded[: len(encoded) // 2], syntax, LIMITS)
    del whole.PixelData
    assert found == whole
    assert found.file_meta.TransferSyntaxUID == whole.file_meta.TransferSyntaxUID


def test_a_beginning_may_end_anywhere() -> None:
    encoded = encode_dataset(sample(), EXPLICIT)
    whole = read_dataset(encoded, EXPLICIT, LIMITS)
    counts = []
    for end in range(len(encoded)):
        found = read_head(encoded[:end], EXPLICIT, LIMITS)
        assert all(whole[element.tag] == element for element in found)
        counts.append(len(found))
    assert counts == sorted(counts)
    assert counts[-1] == len(whole) - 1


def explicit(tag: int, vr: str, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr in {"OB", "OW", "SQ", "UN", "UT", "UC", "UR"}:
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def implicit(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(value: bytes = b"", length: int | None = None) -> bytes:
    return implicit(0xFFFEE000, value, length)


UNDEFINED = 0xFFFFFFFF
ITEM_END = implicit(0xFFFEE00D, b"")
SEQUENCE_END = implicit(0xFFFEE0DD, b"")
UIDS = (
    explicit(0x00080016, "UI", CT.encode() + b"\0")
    + explicit(0x00080018, "UI", b"1.2.3.4\0")
    + explicit(0x0020000D, "UI", b"1.2.3\0")
    + explicit(0x0020000E, "UI", b"1.2.3.1\0")
)


def code_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(StudyError) as caught:
        call(*arguments)
    return caught.value.code


class TestScan:
    @pytest.mark.parametrize("syntax", [*SYNTAXES, JPEG_2000])
    def test_finds_the_uids_in_every_layout(self, syntax: str) -> None:
        dataset = sample()
        if syntax == JPEG_2000:
            dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51"])
        header = scan_header(encode_dataset(dataset, syntax), syntax, LIMITS)
        assert (header.sop_class_uid, header.sop_instance_uid) == (CT, "1.2.3.4")
        assert (header.study_instance_uid, header.series_instance_uid) == ("1.2.3", "1.2.3.1")
        assert header.modality == "CT"

    def test_skips_undefined_lengths_and_group_lengths_before_the_uids(self) -> None:
        sequence = explicit(0x00081140, "SQ", b"", UNDEFINED)
        sequence += item(explicit(0x0020000D, "UI", b"9.9\0") + ITEM_END, UNDEFINED) + SEQUENCE_END
        cut = UIDS.index(struct.pack("<HH", 0x20, 0x0D))
        encoded = explicit(0x00080000, "UL", b"\0\0\0\0") + UIDS[:cut] + sequence + UIDS[cut:]
        header = scan_header(encoded, EXPLICIT, LIMITS)
        assert header.study_instance_uid == "1.2.3"
        assert (header.series_instance_uid, header.modality) == ("1.2.3.1", "")

    def test_stops_where_the_uids_are_passed(self) -> None:
        encoded = UIDS + explicit(0x00280010, "US", b"\1\0") + b"\xff" * 100
        assert scan_header(encoded, EXPLICIT, LIMITS).sop_instance_uid == "1.2.3.4"

    def test_does_not_look_beyond_its_bytes(self) -> None:
        encoded = explicit(0x00080001, "UN", b"\0" * 5000) + UIDS
        assert scan_header(encoded, EXPLICIT, LIMITS).study_instance_uid == "1.2.3"
        assert code_of(scan_header, encoded, EXPLICIT, Limits(header_scan_bytes=4096)) == "object-without-uids"

    def test_ends_in_the_middle_of_a_header(self) -> None:
        encoded = explicit(0x00090010, "UN", b"\0" * 20)[:14] + b"\0" * 30
        for count in range(1, 14):
            assert code_of(scan_header, encoded, EXPLICIT, Limits(header_scan_bytes=count)) == "object-without-uids"

    def test_a_deflated_one_is_inflated_no_further(self) -> None:
        encoded = encode_dataset(sample(), DEFLATED)
        assert code_of(scan_header, encoded, DEFLATED, Limits(header_scan_bytes=60)) == "object-without-uids"
        assert code_of(scan_header, b"\xff\xff\xff", DEFLATED, LIMITS) == "object-malformed"

    @pytest.mark.parametrize("syntax", SYNTAXES)
    @pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
    def test_wants_four_uids(self, missing: str, syntax: str) -> None:
        dataset = sample()
        delattr(dataset, missing)
        assert code_of(scan_header, encode_dataset(dataset, syntax), syntax, LIMITS) == "object-without-uids"
        dataset = sample()
        for nothing in ("", "\0\0", "  "):
            dataset.add(DataElement(Tag(missing), "UI", nothing, already_converted=True))
            assert code_of(scan_header, encode_dataset(dataset, syntax), syntax, LIMITS) == "object-without-uids"

    def test_a_series_uid_out_of_order_is_found(self) -> None:
        cut = UIDS.index(struct.pack("<HH", 0x20, 0x0E))
        encoded = UIDS[:cut] + explicit(0x00280010, "US", b"\1\0") + UIDS[cut:]
        assert scan_header(encoded, EXPLICIT, LIMITS).series_instance_uid == "1.2.3.1"
        assert scan_header(encoded + b"\0" * 8, EXPLICIT, LIMITS, whole=False).series_instance_uid == "1.2.3.1"
        with pytest.raises(StudyError, match="object-without-uids"):  # it may still come
            scan_header(encoded[: cut + 10], EXPLICIT, LIMITS, whole=False)

    def test_a_series_uid_that_is_none_by_the_standard_stands(self) -> None:
        cut = UIDS.index(struct.pack("<HH", 0x20, 0x0E))
        encoded = UIDS[:cut] + explicit(0x0020000E, "UI", b"1.02.003")
        assert scan_header(encoded, EXPLICIT, LIMITS).series_instance_uid == "1.02.003"

    @pytest.mark.parametrize("value", [b"1.2.a\0", b"1..2", b"../../etc", b"1." * 33, b"1.2\0\0\x001"])
    def test_refuses_what_is_no_uid(self, value: bytes) -> None:
        assert code_of(scan_header, explicit(0x00080018, "UI", value), EXPLICIT, LIMITS) == "object-malformed"

    @pytest.mark.parametrize("value", [b"1.2.3.4 ", b" 1.2.3.4", b"1.2.3.4\0\0\0", b"1.02.003"])
    def test_takes_padding_and_leading_zeros(self, value: bytes) -> None:
        cut = UIDS.index(struct.pack("<HH", 0x08, 0x18))
        rest = UIDS.index(struct.pack("<HH", 0x20, 0x0D))
        encoded = UIDS[:cut] + explicit(0x00080018, "UI", value) + UIDS[rest:]
        assert scan_header(encoded, EXPLICIT, LIMITS).sop_instance_uid == value.strip(b" \0").decode()

    @pytest.mark.parametrize(("value", "modality"), [(b"CT\\PT ", "CT"), (b"\xff\xff", ""), (b"seg ", "")])
    def test_a_modality_that_is_no_code_is_absent(self, value: bytes, modality: str) -> None:
        cut = UIDS.index(struct.pack("<HH", 0x20, 0x0D))
        encoded = UIDS[:cut] + explicit(0x00080060, "CS", value) + UIDS[cut:]
        assert scan_header(encoded, EXPLICIT, LIMITS).modality == modality

    def test_a_lie_about_the_syntax_is_seen_through(self) -> None:
        assert scan_header(encode_dataset(sample(), IMPLICIT), EXPLICIT, LIMITS).sop_instance_uid == "1.2.3.4"
        assert scan_header(encode_dataset(sample(), EXPLICIT), IMPLICIT, LIMITS).sop_instance_uid == "1.2.3.4"


class TestBudget:
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_a_plain_object_passes(self, syntax: str) -> None:
        check_budget(encode_dataset(sample(), syntax), syntax, LIMITS)

    def test_counts_elements_items_and_fragments(self) -> None:
        items = explicit(0x00081140, "SQ", item() * 10)
        fragments = explicit(0x7FE00010, "OB", b"", UNDEFINED) + item(b"ab") * 10 + SEQUENCE_END
        check_budget(items, EXPLICIT, Limits(maximum_items=11))
        assert code_of(check_budget, items, EXPLICIT, Limits(maximum_items=10)) == "object-too-complex"
        assert code_of(check_budget, fragments, EXPLICIT, Limits(maximum_items=10)) == "object-too-complex"
        assert code_of(check_budget, UIDS, EXPLICIT, Limits(maximum_items=2)) == "object-too-complex"

    def test_counts_depth(self) -> None:
        encoded = explicit(0x00081140, "SQ", item(explicit(0x00081140, "SQ", item())))
        check_budget(encoded, EXPLICIT, Limits(maximum_nesting=2))
        assert code_of(check_budget, encoded, EXPLICIT, Limits(maximum_nesting=1)) == "object-too-complex"

    def test_counts_in_private_values_that_look_like_sequences(self) -> None:
        encoded = implicit(0x00091001, item() * 10)
        assert code_of(check_budget, encoded, IMPLICIT, Limits(maximum_items=10)) == "object-too-complex"
        undefined = implicit(0x00091001, item() * 10 + SEQUENCE_END, UNDEFINED)
        assert code_of(check_budget, undefined, IMPLICIT, Limits(maximum_items=10)) == "object-too-complex"

    def test_what_only_looks_like_a_sequence_is_skipped(self) -> None:
        nested = item(explicit(0x00081140, "SQ", b"", UNDEFINED) + item(b"", UNDEFINED))
        encoded = explicit(0x00091001, "UN", nested) + UIDS
        check_budget(encoded, EXPLICIT, LIMITS)
        check_budget(explicit(0x00091001, "UN", item(b"", 999)) + UIDS, EXPLICIT, LIMITS)

    def test_inflation_is_bounded(self) -> None:
        encoded = encode_dataset(sample(), DEFLATED)
        whole = len(encode_dataset(sample(), EXPLICIT))
        check_budget(encoded, DEFLATED, Limits(maximum_inflated_bytes=whole))
        too_small = Limits(maximum_inflated_bytes=whole - 1)
        assert code_of(check_budget, encoded, DEFLATED, too_small) == "object-too-complex"
        assert code_of(check_budget, encoded[:-10], DEFLATED, LIMITS) == "object-malformed"

    @pytest.mark.parametrize(
        "encoded",
        [
            explicit(0x00080018, "UI", b"1.2", 400),
            explicit(0x7FE00010, "OW", b"12", 0xFFFFFFF0),
            explicit(0x7FE00010, "OW", b"")[:10],
            explicit(0x00081140, "SQ", item(b"", 100)),
            explicit(0x00081140, "SQ", item(b"123")),
            explicit(0x00081140, "SQ", b"12345678"),
            explicit(0x00081140, "SQ", b"123"),
            explicit(0x00081140, "SQ", SEQUENCE_END),
            explicit(0x00081140, "SQ", item(explicit(0x00100010, "PN", b"", 50))),
            explicit(0x00081140, "SQ", item(ITEM_END)),
            explicit(0x00081140, "SQ", b"", UNDEFINED),
            explicit(0x00081140, "SQ", item(b"", UNDEFINED)),
            explicit(0x7FE00010, "OB", item(b"", UNDEFINED), UNDEFINED),
            ITEM_END + UIDS,
        ],
    )
    def test_wrong_lengths_and_delimiters_are_malformed(self, encoded: bytes) -> None:
        assert code_of(check_budget, encoded, EXPLICIT, LIMITS) == "object-malformed"

    def test_padding_at_the_end_is_nothing(self) -> None:
        check_budget(UIDS + b"\0\0\0", EXPLICIT, LIMITS)
        check_budget(b"", EXPLICIT, LIMITS)


class TestReading:
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_gives_back_what_was_written(self, syntax: str) -> None:
        dataset = read_dataset(encode_dataset(sample(), syntax), syntax, LIMITS)
        expected = sample()
        if syntax == GE_PRIVATE:
            expected["PixelData"].VR = dataset["PixelData"].VR
        assert dataset == expected
        assert dataset.PatientName == "Müller^Jörg"
        named = EXPLICIT if syntax == DEFLATED else syntax
        assert named == dataset.file_meta.TransferSyntaxUID

    def test_names_the_syntax_that_the_bytes_have(self) -> None:
        read = read_dataset(encode_dataset(sample(), IMPLICIT), EXPLICIT, LIMITS)
        assert read.file_meta.TransferSyntaxUID == IMPLICIT
        read = read_dataset(encode_dataset(sample(), EXPLICIT), IMPLICIT, LIMITS)
        assert read.file_meta.TransferSyntaxUID == EXPLICIT

    def test_an_implicit_item_in_an_explicit_data_set_is_read(self) -> None:
        encoded = explicit(0x00081140, "SQ", item(implicit(0x00081155, b"9.9\0"))) + UIDS
        dataset = read_dataset(encoded, EXPLICIT, LIMITS)
        assert dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "9.9"

    def test_an_element_without_a_vr_is_read(self) -> None:
        encoded = UIDS + implicit(0x00280010, b"\1\0") + explicit(0x00280011, "US", b"\2\0")
        dataset = read_dataset(encoded, EXPLICIT, LIMITS)
        assert (dataset.Rows, dataset.Columns) == (1, 2)

    @pytest.mark.parametrize(
        ("tag", "vr", "value", "expected"),
        [
            (0x00180050, "DS", b"thick ", "thick"),
            (0x00200013, "IS", b"1.5.7 ", "1.5.7"),
            (0x00281050, "DS", b"1\\x\\3", ["1", "x", "3"]),
            (0x00280010, "US", b"\1\0\2", b"\1\0\2"),
            (0x00081140, "SQ", b"", []),
        ],
    )
    def test_a_value_that_cannot_be_stays_as_it_came(self, tag: int, vr: str, value: bytes, expected: object) -> None:
        dataset = read_dataset(UIDS + explicit(tag, vr, value), EXPLICIT, LIMITS)
        assert dataset[tag].value == expected
        assert dataset.SOPInstanceUID == "1.2.3.4"

    def test_stray_delimiters_and_zero_padding_are_dropped(self) -> None:
        encoded = UIDS + SEQUENCE_END + b"\0" * 64
        assert len(read_dataset(encoded, EXPLICIT, LIMITS)) == 4

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_a_private_value_is_parsed_only_if_it_is_a_sequence(self, order: str) -> None:
        creator = b"AGFA-AG_HPState "  # pydicom knows (0071,xx18) of it as a sequence

        def element(tag: int, vr: bytes, value: bytes) -> bytes:
            head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr
            if vr == b"UN":
                return head + struct.pack(order + "HL", 0, len(value)) + value
            return head + struct.pack(order + "H", len(value)) + value

        marker = struct.pack(order + "HHL", 0xFFFE, 0xE000, 0)
        broken = struct.pack(order + "HHL", 0xFFFE, 0xE000, 999) + b"12345678"
        syntax = EXPLICIT if order == "<" else BIG
        head = element(0x00710010, b"LO", creator)
        good = read_dataset(head + element(0x00711018, b"UN", marker), syntax, LIMITS)
        assert good[0x00711018].value == [Dataset()]
        bad = read_dataset(head + element(0x00711018, b"UN", broken), syntax, LIMITS)
        assert (bad[0x00711018].VR, bad[0x00711018].value) == ("UN", broken)

    def test_nothing_is_said_whatever_the_text(self, caplog: pytest.LogCaptureFixture) -> None:
        encoded = (
            explicit(0x00080005, "CS", b"ISO_IR 9999 ")
            + UIDS
            + explicit(0x00100010, "PN", b"\xff\xfe\x1b$B\x00\x00")
            + explicit(0x00100020, "LO", b"P" * 70)
            + explicit(0x00100030, "DA", b"not a date")
        )
        with warnings.catch_warnings(), caplog.at_level(logging.DEBUG, "pydicom"):
            warnings.simplefilter("error")
            dataset = read_dataset(encoded, EXPLICIT, LIMITS)
            assert [str(element.value) for element in dataset.iterall()]
        assert caplog.records == []

    def test_threads_are_hushed_one_by_one(self) -> None:
        encoded = UIDS + explicit(0x00100020, "LO", b"P" * 70)

        def read(_: int) -> int:
            return len(read_dataset(encoded, EXPLICIT, LIMITS))

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with ThreadPoolExecutor(4) as pool:
                assert set(pool.map(read, range(40))) == {5}
            with pytest.raises(UserWarning, match="said"):
                pydicom.misc.warn_and_log("said")
            with hushed():
                pydicom.misc.warn_and_log("not said")

    def test_what_pydicom_cannot_take_is_malformed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fault(*_: object) -> Dataset:
            raise RuntimeError("Doe^Jane")

        monkeypatch.setattr("dicomnode.encoded.reading.pydicom_read_dataset", fault)
        with pytest.raises(StudyError) as caught:
            read_dataset(UIDS, EXPLICIT, LIMITS)
        assert caught.value.code == "object-malformed"
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


class TestFiles:
    @pytest.mark.parametrize("syntax", SYNTAXES)
    def test_a_file_reads_back(self, syntax: str, tmp_path: Path) -> None:
        path = tmp_path / "one"
        path.write_bytes(encode_part10(sample(), transfer_syntax_uid=syntax))
        assert read_file(path, LIMITS).SOPInstanceUID == "1.2.3.4"
        read = pydicom.dcmread(path) if syntax != GE_PRIVATE else None
        if read is not None:
            assert read.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
            assert read.file_meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
            assert read.file_meta.FileMetaInformationGroupLength > 0
            assert read.StudyInstanceUID == "1.2.3"

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
    def test_a_bare_data_set_is_recognised(self, syntax: str) -> None:
        encoded = encode_dataset(sample(), syntax)
        assert split_part10(encoded) == (syntax, encoded)

    @pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, JPEG_2000])
    def test_preamble_and_prefix_may_be_missing(self, syntax: str) -> None:
        dataset = sample()
        if syntax == JPEG_2000:
            dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f"])
        encoded = encode_dataset(dataset, syntax)
        data = wrap_part10(encoded, sop_class_uid=CT, sop_instance_uid="1.2.3.4", transfer_syntax_uid=syntax)
        for start in (0, 128, 132):
            assert split_part10(data[start:]) == (syntax, encoded)

    @pytest.mark.parametrize("actual", [IMPLICIT, EXPLICIT, BIG])
    @pytest.mark.parametrize("named", [IMPLICIT, EXPLICIT, BIG])
    def test_the_meta_may_lie_about_a_native_syntax(self, actual: str, named: str) -> None:
        encoded = encode_dataset(sample(), actual)
        data = wrap_part10(encoded, sop_class_uid=CT, sop_instance_uid="1.2.3.4", transfer_syntax_uid=named)
        assert split_part10(data)[0] == actual
        assert read_part10(data, LIMITS).StudyInstanceUID == "1.2.3"

    def test_a_high_first_group_is_believed_to_the_meta(self) -> None:
        for syntax in (EXPLICIT, BIG):
            dataset = Dataset()
            dataset.add_new(0x30020002, "SH", "label")
            encoded = encode_dataset(dataset, syntax)
            data = wrap_part10(encoded, sop_class_uid=CT, sop_instance_uid="1.2", transfer_syntax_uid=syntax)
            assert split_part10(data)[0] == syntax

    @pytest.mark.parametrize(
        "data", [b"", b"x", b"DICM", b"\0" * 128 + b"DICM", b"hello, this is no DICOM", b"<?xml version"]
    )
    def test_what_is_no_dicom_is_malformed(self, data: bytes) -> None:
        assert code_of(read_part10, data, LIMITS) == "object-malformed"

    def test_a_file_that_is_not_there_is_malformed(self, tmp_path: Path) -> None:
        assert code_of(read_file, tmp_path / "none", LIMITS) == "object-malformed"
        (tmp_path / "empty").write_bytes(b"\0" * 16)
        assert code_of(read_file, tmp_path / "empty", LIMITS) == "object-malformed"

    def test_meta_that_runs_out_is_malformed(self) -> None:
        data = wrap_part10(b"", sop_class_uid=CT, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT)
        for count in range(0, len(data), 7):
            assert code_of(read_part10, data[:count], LIMITS) == "object-malformed"


class TestWriting:
    def test_groups_of_commands_and_meta_are_left_out(self) -> None:
        dataset = sample()
        dataset.add_new(0x00000002, "UI", "1.2")
        dataset.add_new(0x00020010, "UI", EXPLICIT)
        assert encode_dataset(dataset, EXPLICIT) == encode_dataset(sample(), EXPLICIT)

    def test_deflated_is_even_and_inflates(self) -> None:
        encoded = encode_dataset(sample(), DEFLATED)
        assert len(encoded) % 2 == 0
        assert zlib.decompress(encoded, -15) == encode_dataset(sample(), EXPLICIT)

    def test_text_outside_its_character_set_is_no_question_mark(self) -> None:
        dataset = sample()
        dataset.PatientName = "漢字"
        assert code_of(encode_dataset, dataset, EXPLICIT) == "object-malformed"

    def test_odd_values_of_others_are_written_without_a_word(self) -> None:
        dataset = read_dataset(UIDS + explicit(0x00100020, "LO", b"P" * 70), EXPLICIT, LIMITS)
        again = read_dataset(encode_dataset(dataset, EXPLICIT), EXPLICIT, LIMITS)
        assert again.PatientID == "P" * 70

    @pytest.mark.parametrize("missing", ["SOPClassUID", "SOPInstanceUID"])
    def test_a_file_needs_the_uids(self, missing: str) -> None:
        dataset = sample()
        delattr(dataset, missing)
        with pytest.raises(StudyError) as caught:
            encode_part10(dataset, transfer_syntax_uid=EXPLICIT)
        assert caught.value.code == "object-without-uids"

    def test_the_version_name_fits_its_vr(self) -> None:
        assert len(IMPLEMENTATION_VERSION_NAME) <= 16
        assert IMPLEMENTATION_VERSION_NAME.startswith("DICOMNODE_")


def test_no_real_file_gives_anything_but_a_result_or_a_code(shared_data: Callable[[str], Path]) -> None:
    read = refused = files = 0
    for name in ("pydicom_testfiles", "codecs_cornerstone", "pynetdicom_testfiles", "dcmqi_seg_sr", "highdicom_seg_sr"):
        for path in sorted(shared_data(name).rglob("*")):
            if not path.is_file():
                continue
            files += 1
            try:
                dataset = read_file(path, LIMITS)
            except StudyError as error:
                refused += error.code == "object-malformed"
                continue
            read += 1
            assert [str(element) for element in dataset]
            syntax = str(dataset.file_meta.TransferSyntaxUID)
            again = read_dataset(encode_dataset(dataset, syntax), syntax, LIMITS)
            assert [element.tag for element in again.iterall()] == [
                element.tag for element in dataset.iterall() if element.tag.element and element.tag.group > 2
            ]
    assert read > 140
    assert read + refused == files
    assert refused < 10


def _file(**changes: str) -> bytes:
    named = {"sop_class_uid": "1.2.3", "sop_instance_uid": "1.2.4", "transfer_syntax_uid": EXPLICIT, **changes}
    return wrap_part10(b"\x08\x00\x16\x00UI\x06\x001.2.3\x00", **named)


def test_the_head_of_a_file_that_is_still_coming() -> None:
    data = _file()
    start = len(data) - 14
    expected = FileHead("1.2.3", "1.2.4", EXPLICIT, start)
    for end in range(len(data) + 1):
        assert file_head(data[:end], whole=False) == (expected if end >= start + 8 else None)
    assert file_head(data, whole=True) == expected


def test_the_bytes_decide_between_native_syntaxes_of_a_head() -> None:
    head = file_head(_file(transfer_syntax_uid="1.2.840.10008.1.2"), whole=True)
    assert head is not None
    assert head.transfer_syntax_uid == EXPLICIT


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(200),
        _file()[:-8],
        _file()[128:],
        _file(transfer_syntax_uid=""),
        _file(sop_instance_uid="1.2.x"),
        _file()[:140] + b"\xff\xff\x01\x00" + bytes(200),
        _file()[:144] + b"\x02\x00\x10\x00UI\xff\xff" + _file()[152:],
    ],
    ids=["nothing", "zeros", "cut", "no-preamble", "no-syntax", "uid", "length", "element"],
)
def test_what_is_no_head_of_a_file(data: bytes) -> None:
    assert code_of(lambda: file_head(data, whole=True)) == "object-malformed"


def test_a_file_that_memory_does_not_hold_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(path: Path) -> bytes:
        raise MemoryError

    (tmp_path / "huge.dcm").write_bytes(_file())
    monkeypatch.setattr(Path, "read_bytes", too_much)
    assert code_of(lambda: read_file(tmp_path / "huge.dcm", Limits())) == "object-too-large"
