"""Bytes behind the Data Set: what is no element of it is dropped, whatever it says; a file that was cut is refused as before."""

from __future__ import annotations

import io
import random
import zlib
from dataclasses import replace

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, split_part10, wrap_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

NAME = b"Vandersloot"
RLE = "1.2.840.10008.1.2.5"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = [planted.EXPLICIT, planted.IMPLICIT, "1.2.840.10008.1.2.2", DEFLATED, RLE]
BEHIND = {
    "text": NAME * 3,
    "eight-letters": b"Vandersl",
    "lines": b"\r\n" * 4 + NAME,
    "spaces": b" " * 64 + NAME,
    "ones": b"\xff" * 64 + NAME,
    "zeros": bytes(64) + NAME * 3,
    "high-letters": "ÄÖÜ".encode() + NAME * 3,
    "many-zeros": bytes(1_000_000),
    "item-end": b"\xfe\xff\x0d\xe0\0\0\0\0" + NAME,
    "item-end-of-big-endian": b"\xff\xfe\xe0\x0d\0\0\0\0" + NAME,
    "sequence-end": b"\xfe\xff\xdd\xe0\0\0\0\0" + NAME * 3,
    "another-file": planted.encoded(planted.slice_of_ct())[128:900] + NAME,
    "cut-sequence": b"\xfa\xff\xfa\xffSQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0" + NAME,
}


def files_of(policy: str = "export") -> FileDeidentifier:
    chosen = {"ai": AI, "export": EXPORT, "closely": replace(EXPORT, closely=True)}[policy]
    return FileDeidentifier(Deidentifier(chosen, Pseudonyms(bytes(range(32)), "project")), Limits())


def slice_as(syntax: str) -> Dataset:
    ds = planted.slice_of_ct()
    if syntax == RLE:
        ds.file_meta.TransferSyntaxUID = planted.EXPLICIT
        ds.compress(RLE)
    return ds


def with_behind(ds: Dataset, syntax: str, behind: bytes) -> bytes:
    """A file whose Data Set, before it is deflated, goes on with some bytes."""
    if syntax != DEFLATED:
        return planted.encoded(ds, syntax) + behind
    _, encoded = split_part10(planted.encoded(ds, planted.EXPLICIT))
    return wrap_part10(
        deflated(bytes(encoded) + behind),
        sop_class_uid=ds.SOPClassUID,
        sop_instance_uid=ds.SOPInstanceUID,
        transfer_syntax_uid=DEFLATED,
    )


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
def test_bytes_behind_the_pixels_are_dropped(behind: bytes, syntax: str) -> None:
    ds = slice_as(syntax)
    done = files_of().deidentify(with_behind(ds, syntax, behind))
    assert done.data == files_of().deidentify(with_behind(ds, syntax, b"")).data
    assert NAME not in done.data


@pytest.mark.parametrize("policy", ["ai", "closely"])
def test_by_every_policy(policy: str) -> None:
    data = planted.encoded(planted.slice_of_ct())
    assert files_of(policy).deidentify(data + NAME * 3).data == files_of(policy).deidentify(data).data


def test_slices_of_a_series_with_bytes_behind_them_and_without() -> None:
    data = planted.encoded(planted.slice_of_ct(16, 16))
    files = files_of()
    first, second = files.deidentify(data), files.deidentify(data)
    third, fourth = files.deidentify(data + NAME * 3), files.deidentify(data + NAME * 3)
    assert [one.quick for one in (first, second, third, fourth)] == [False, True, False, False]
    assert first.data == second.data == third.data == fourth.data


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_that_is_cut_within_its_pixels_or_before_them_is_refused(syntax: str) -> None:
    ds = slice_as(syntax)
    data = with_behind(ds, syntax, b"")
    for end in (len(data) - 2, len(data) - 16, len(data) // 2):
        with pytest.raises(StudyError, match="object-malformed"):
            files_of().deidentify(data[:end])


def test_pixels_that_are_shorter_than_they_should_be_do_not_come_out() -> None:
    ds = planted.slice_of_ct()
    ds.PixelData = ds.PixelData[:-16]
    with pytest.raises(StudyError, match="withheld-pixels"):
        files_of().deidentify(planted.encoded(ds) + NAME * 3)


def test_an_object_without_pixels_has_nothing_behind_it() -> None:
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.11.1"
    with pytest.raises(StudyError, match="object-malformed"):
        files_of().deidentify(planted.encoded(ds) + NAME * 3)


def test_whatever_stands_behind_nothing_of_it_comes_out() -> None:
    ds = planted.slice_of_ct()
    data = planted.encoded(ds)
    chance = random.Random(7)
    heads = [b"", b"\xfa\xff\xfa\xff", b"\xfc\xff\xfc\xffOB\0\0", b"\xe1\x7f\x10\0LO", b"\x10\0\x10\0PN\x0b\0"]
    out = 0
    for _ in range(150):
        head = chance.choice(heads) + chance.randbytes(chance.randrange(12))
        behind = head + NAME + chance.randbytes(chance.randrange(40)) + NAME
        try:
            done = files_of().deidentify(data + behind).data
        except StudyError:  # what reads as an element counts as one
            continue
        out += 1
        assert NAME not in done
        assert pydicom.dcmread(io.BytesIO(done)).PixelData == ds.PixelData
    assert out > 140
