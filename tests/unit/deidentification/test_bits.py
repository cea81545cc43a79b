"""Bits that no viewer shows: cleaned in words of any kind, and found in compressed streams, which stay where there are none."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.pixels.decoders import base as decoders
from pydicom.uid import UID, JPEGLSLossless, RLELossless

from dicomnode.deidentification import pixels, streams
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.bits import Bits
from dicomnode.deidentification.frames import Frames
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
JPEG_2000, JPEG_2000_LOSSY = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"
RNG = np.random.default_rng(7)
PICTURE = RNG.integers(0, 2000, (64, 64)).astype("<u2")
WRITING = np.zeros((64, 64), "<u2")
WRITING[20:30, 5:50:7] = 1 << 13

pytestmark = pytest.mark.filterwarnings("ignore")


def compressed(
    words: np.ndarray[tuple[int, int], np.dtype[np.uint16]], syntax: str, *, signed: bool = False
) -> Dataset:
    """An image of 12 bits stored whose stream holds whole words."""
    ds = planted.slice_of_ct(64, 64)
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, int(signed)
    if syntax.startswith(JPEG_2000[:-2]) and syntax != JPEGLSLossless:
        stream = io.BytesIO()
        Image.fromarray(words.astype(np.uint16)).save(stream, "JPEG2000", no_jp2=True)
        value = stream.getvalue() + b"\0" * (len(stream.getvalue()) % 2)
        ds.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) + value
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = UID(syntax)
    else:
        ds.compress(syntax, words.view("<i2") if signed else words, generate_instance_uid=False)
    ds.BitsStored, ds.HighBit = 12, 11
    return ds


def words_of(ds: Dataset) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """Whole words of an output."""
    ds.BitsStored, ds.HighBit = 16, 15
    values, _ = decoders.get_decoder(ds.file_meta.TransferSyntaxUID).as_array(ds, raw=True)
    return values.view(np.uint16)


@pytest.mark.parametrize(
    ("syntax", "signed", "policy"),
    [(RLELossless, False, AI), (RLELossless, True, EXPORT), (JPEGLSLossless, True, AI), (JPEG_2000, False, AI)],
)
def test_what_is_written_into_unused_bits_of_a_stream_goes(syntax: str, signed: bool, policy: Policy) -> None:
    out = Deidentifier(policy, PSEUDONYMS).deidentify(compressed(PICTURE | WRITING, syntax, signed=signed)).dataset
    assert str(out.file_meta.TransferSyntaxUID) == planted.EXPLICIT
    assert np.array_equal(words_of(out), PICTURE)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG_2000, JPEG_2000_LOSSY])
def test_a_stream_that_hides_nothing_stays_as_it_is(syntax: str) -> None:
    out = Deidentifier(AI, PSEUDONYMS).deidentify(compressed(PICTURE, syntax)).dataset
    assert out.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(words_of(out), PICTURE)


def test_signs_are_no_writing() -> None:
    ds = compressed((PICTURE.astype("<i2") - 1000).view("<u2"), RLELossless, signed=True)
    assert Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset.PixelData == ds.PixelData


def test_lossy_values_above_their_bits_are_withheld() -> None:
    """Masked they would be other values."""
    with pytest.raises(StudyError) as caught:
        Deidentifier(AI, PSEUDONYMS).deidentify(compressed(PICTURE | WRITING, JPEG_2000_LOSSY))
    assert caught.value.facts["because"] == "bits"


def test_a_stream_whose_high_bit_lies_stays_where_it_hides_nothing() -> None:
    ds = compressed(PICTURE, JPEGLSLossless)
    ds.HighBit = 15
    assert Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset.PixelData == ds.PixelData
    ds = compressed(PICTURE | WRITING, JPEGLSLossless)
    ds.HighBit = 15
    with pytest.raises(StudyError) as caught:
        Deidentifier(AI, PSEUDONYMS).deidentify(ds)
    assert caught.value.facts["because"] == "bits"


@pytest.mark.parametrize("signed", [False, True])
def test_pictures_that_are_looked_at_have_no_hidden_bits_either(monkeypatch: pytest.MonkeyPatch, signed: bool) -> None:
    """Where something is blanked, and where nothing is."""
    for regions in (((0, 0, 63, 40),), None):
        ds = compressed(PICTURE | WRITING, RLELossless, signed=signed)
        monkeypatch.setattr(pixels, "plan", lambda *_, regions=regions, **__: pixels.Plan(regions=regions, read="kind"))
        monkeypatch.setattr(pixels.burned, "blank_text", lambda *_, **__: pixels.burned.Blanked(0, doubtful=False))
        engine = Deidentifier(AI, PSEUDONYMS, reader=object())  # type: ignore[arg-type]
        words = words_of(engine.deidentify(ds).dataset)
        assert np.array_equal(words[:41], PICTURE[:41])
        assert not (words & 0x2000).any()


@given(
    st.sampled_from(["<u2", ">u2", "<i2", ">i2", "u1", "<u4"]),
    st.data(),
)
def test_cleaned_words_keep_their_values(kind: str, data: st.DataObject) -> None:
    size = np.dtype(kind).itemsize * 8
    stored = data.draw(st.integers(1, size))
    high = data.draw(st.integers(stored - 1, size - 1))
    signed = data.draw(st.booleans())
    bits = Bits(allocated=size, stored=stored, high=high, signed=signed)
    numbers = data.draw(st.lists(st.integers(0, (1 << size) - 1), min_size=1, max_size=5))
    words = np.array(numbers, f"u{size // 8}").astype(f"{kind[0] if kind[0] in '<>' else ''}u{size // 8}").view(kind)
    clean = bits.cleaned(words)
    low = high + 1 - stored
    for number, after in zip(numbers, clean.astype(np.int64).tolist(), strict=True):
        value = (number >> low) & ((1 << stored) - 1)
        if signed and value >> (stored - 1):
            value -= 1 << stored
        assert (after - (value << low)) % (1 << size) == 0
    assert clean.dtype == words.dtype
    assert bits.cleaned(clean) is clean


@given(st.integers(1, 16), st.booleans(), st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=5))
def test_the_highest_byte_never_calls_clean_what_is_not(stored: int, signed: bool, numbers: list[int]) -> None:
    bits = Bits(allocated=16, stored=stored, high=stored - 1, signed=signed)
    words = np.array(numbers, "<u2")
    is_clean = bits.cleaned(words) is words
    fits = bits.fits(frozenset(number >> 8 for number in numbers))
    assert is_clean or not fits or not bits.has_unused
    if stored > 8:
        assert fits == is_clean


def test_what_a_stream_says_of_its_bits() -> None:
    frame = b"\xff\xd8\xff\xff\xdb\x00\x03\x00\xff\x01\xff\xf7\x00\x0b\x0c\0\1\0\1\1\1\x11\0\xff\xda\x00\x02"
    assert streams.precision_of(frame) == 12
    assert streams.precision_of(b"\xff\xd8\xff\xda\x00\x02") == 0
    assert streams.precision_of(b"\xff\xd8\xff\xd9") == 0
    assert streams.precision_of(b"\xff\x4f\xff\x51" + bytes(36) + b"\0\2\x8b\1\1\x0f\1\1") == 16
    assert streams.precision_of(b"\xff\x4f\xff\x51" + bytes(36) + b"\0\0") == 0
    header = struct.pack("<16L", 2, 64, 70, *[0] * 13)
    assert streams.highest_bytes_of_rle(header + b"\xfe\x07\x01\x08\x09\x80" + b"\x02\1\2\3", 2) == {7, 8, 9}


def test_frames_know_whether_something_was_hidden() -> None:
    assert not Frames(values=np.zeros((1, 1, 1, 1), np.uint8), photometric_interpretation="MONOCHROME2").hid
