"""Bytes beside the picture: in every place of native and encapsulated pixel data that no decoder reads."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

TEXT = b"FUCHSBERGER^HILDEGARD "
COMMENT = b"\xff\xfe" + struct.pack(">H", 2 + len(TEXT)) + TEXT
JPEG, JPEG_LS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"  # fmt: skip
PICTURE = np.tile(np.arange(64, dtype=np.uint8), (64, 1)) * 2
FLOATS = np.linspace(-1, 1, 64 * 64).astype("<f4").tobytes()
ENGINE = Deidentifier(AI, Pseudonyms(bytes(range(32)), "project"))

pytestmark = pytest.mark.filterwarnings("ignore")


def picture(frames: int = 1) -> Dataset:
    ds = planted.slice_of_ct(64, 64)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData, ds["PixelData"].VR = PICTURE.tobytes() * frames, "OB"
    if frames > 1:
        ds.NumberOfFrames = frames
    return ds


def encoded(kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, kind, **how)
    return stream.getvalue()


def rle() -> bytes:
    return bytes(
        RLELosslessEncoder.encode(
            PICTURE, rows=64, columns=64, samples_per_pixel=1, number_of_frames=1, bits_allocated=8, bits_stored=8,
            pixel_representation=0, photometric_interpretation="MONOCHROME2",
        )
    )  # fmt: skip


def item(value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) + value


def file_of(syntax: str, fragments: list[bytes], table: bytes = b"", frames: int = 1) -> bytes:
    ds = picture(frames)
    ds.PixelData = item(table) + b"".join(map(item, fragments))
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return planted.encoded(ds, syntax)


def out_of(data: bytes) -> bytes:
    output = ENGINE.deidentify(read_part10(data, Limits())).dataset
    return encode_part10(output, transfer_syntax_uid=str(output.file_meta.TransferSyntaxUID))


def because(data: bytes) -> object:
    with pytest.raises(StudyError) as caught:
        out_of(data)
    assert caught.value.code == "withheld-pixels"
    return caught.value.facts["because"]


BASELINE, PROGRESSIVE = encoded("JPEG"), encoded("JPEG", progressive=True)
TABLES, LAST_SCAN = BASELINE.find(b"\xff\xdb"), PROGRESSIVE.rfind(b"\xff\xda")
STREAM_2000 = encoded("JPEG2000", no_jp2=True)
BOXES = encoded("JPEG2000")
TILE, DATA = STREAM_2000.find(b"\xff\x90"), STREAM_2000.find(b"\xff\x93")
COMMENT_2000 = b"\xff\x64" + struct.pack(">H", 4 + len(TEXT)) + b"\0\1" + TEXT
RUNS = rle()


def in_tile() -> bytes:
    """A comment in the header of the first tile-part, whose length grows by it."""
    length = int.from_bytes(STREAM_2000[TILE + 6 : TILE + 10], "big") + len(COMMENT_2000)
    head = STREAM_2000[: TILE + 6] + struct.pack(">L", length) + STREAM_2000[TILE + 10 : DATA]
    return head + COMMENT_2000 + STREAM_2000[DATA:]


def unending() -> bytes:
    """The last tile-part up to the end of the codestream (Psot 0), and text behind it."""
    return STREAM_2000[: TILE + 6] + bytes(4) + STREAM_2000[TILE + 10 :] + TEXT


@pytest.mark.parametrize(
    ("syntax", "fragments", "table"),
    [
        pytest.param(JPEG, [BASELINE[:2] + COMMENT + BASELINE[2:]], b"", id="comment"),
        pytest.param(JPEG, [BASELINE[:2] + b"\xff\xe0\0\x18" + TEXT + BASELINE[2:]], b"", id="no-jfif"),
        pytest.param(JPEG, [BASELINE[:2] + b"\xff\xec\0\x18" + TEXT + BASELINE[2:]], b"", id="unknown-segment"),
        pytest.param(JPEG, [BASELINE[:TABLES] + COMMENT[:10], COMMENT[10:] + BASELINE[TABLES:]], b"", id="two-fragments"),
        pytest.param(JPEG, [BASELINE + TEXT], b"", id="behind"),
        pytest.param(JPEG, [BASELINE + TEXT + b"\xff\xd9"], b"", id="behind-and-end"),
        pytest.param(JPEG, [BASELINE + BASELINE[:2] + COMMENT + BASELINE[2:]], b"", id="second-jpeg"),
        pytest.param(JPEG, [PROGRESSIVE[:LAST_SCAN] + COMMENT + PROGRESSIVE[LAST_SCAN:]], b"", id="between-scans"),
        pytest.param(JPEG, [BASELINE[:-2] + COMMENT + BASELINE[-2:]], b"", id="before-end"),
        pytest.param(JPEG, [BASELINE, TEXT], b"", id="extra-fragment"),
        pytest.param(JPEG, [BASELINE], bytes(4) + TEXT + b"  ", id="table"),
        pytest.param(JPEG, [BASELINE], bytes(4) + TEXT[:20], id="table-of-fours"),
        pytest.param(JPEG_2000, [STREAM_2000[:TILE] + COMMENT_2000 + STREAM_2000[TILE:]], b"", id="2000-comment"),
        pytest.param(JPEG_2000, [STREAM_2000 + TEXT], b"", id="2000-behind"),
        pytest.param(JPEG_2000, [in_tile()], b"", id="2000-tile"),
        pytest.param(JPEG_2000, [unending()], b"", id="2000-unending"),
        pytest.param(JPEG_2000, [BOXES + struct.pack(">L", 8 + len(TEXT)) + b"xml " + TEXT], b"", id="2000-xml"),
        pytest.param(JPEG_2000, [BOXES + struct.pack(">L", 1) + b"xml " + struct.pack(">Q", 16 + len(TEXT)) + TEXT], b"", id="2000-long-box"),
        pytest.param(JPEG_2000, [BOXES + TEXT], b"", id="2000-no-box"),
        pytest.param(RLE, [RUNS + TEXT], b"", id="rle-behind"),
        pytest.param(RLE, [RUNS[:32] + TEXT + RUNS[32 + len(TEXT) :]], b"", id="rle-header"),
        pytest.param(RLE, [RUNS, TEXT], b"", id="rle-extra-fragment"),
    ],
)  # fmt: skip
def test_what_hides_beside_a_picture_goes_and_the_picture_stays(
    syntax: str, fragments: list[bytes], table: bytes
) -> None:
    source = file_of(syntax, fragments, table)
    output = out_of(source)
    assert TEXT[11:20] in source
    assert TEXT[:11] not in output
    clean = {
        JPEG: BASELINE if fragments[0][:30] != PROGRESSIVE[:30] else PROGRESSIVE,
        JPEG_2000: STREAM_2000,
        RLE: RUNS,
    }
    if LAST_SCAN > 0 and COMMENT in fragments[0] and fragments[0].startswith(PROGRESSIVE[: LAST_SCAN - 2]):
        clean[JPEG] = PROGRESSIVE
    wanted = dcmread(io.BytesIO(file_of(syntax, [clean[syntax]]))).pixel_array
    assert np.array_equal(dcmread(io.BytesIO(output)).pixel_array, wanted)


@pytest.mark.parametrize("syntax", [JPEG, JPEG_2000, RLE])
@pytest.mark.parametrize("split", ["table", "one-each", "beginnings"])
def test_frames_of_several_fragments(syntax: str, split: str) -> None:
    frame = {JPEG: BASELINE, JPEG_2000: STREAM_2000, RLE: RUNS}[syntax]
    frame += b"\0" * (len(frame) % 2)
    half = len(frame) // 4 * 2
    parts = [frame + TEXT] if split == "one-each" else [frame[:half], frame[half:] + TEXT]
    table = struct.pack("<LL", 0, sum(len(part) + 8 for part in parts)) if split == "table" else b""
    source = file_of(syntax, parts * 2, table, frames=2)
    if syntax == RLE and split == "beginnings":
        assert because(source) == "fragments"
        return
    output = out_of(source)
    assert TEXT[:11] not in output
    if split == "beginnings":  # decoders look for the end of each frame
        return
    found = dcmread(io.BytesIO(output)).pixel_array
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], dcmread(io.BytesIO(file_of(syntax, [frame]))).pixel_array)


def test_a_clean_stream_stays_byte_for_byte() -> None:
    for syntax, frame in ((JPEG, BASELINE), (JPEG_2000, STREAM_2000), (RLE, RUNS)):
        once = out_of(file_of(syntax, [frame]))
        source, output = (dcmread(io.BytesIO(one)) for one in (once, out_of(once)))
        assert source.PixelData == output.PixelData
        assert np.array_equal(output.pixel_array, dcmread(io.BytesIO(file_of(syntax, [frame]))).pixel_array)


@pytest.mark.parametrize(
    ("syntax", "fragments", "reason"),
    [
        pytest.param(JPEG, [BASELINE[:-2] + TEXT], "stream", id="no-end"),
        pytest.param(JPEG, [BASELINE[: TABLES + 1]], "stream", id="cut-at-a-marker"),
        pytest.param(JPEG, [BASELINE[:TABLES] + b"xx" + BASELINE[TABLES:]], "stream", id="no-marker"),
        pytest.param(JPEG, [BASELINE[:TABLES] + b"\xff\xfe\xff\xff"], "stream", id="too-long"),
        pytest.param(JPEG, [TEXT], "stream", id="no-jpeg"),
        pytest.param(JPEG, [], "fragments", id="none"),
        pytest.param(JPEG_2000, [STREAM_2000[:-2] + TEXT], "stream", id="2000-no-end"),
        pytest.param(JPEG_2000, [STREAM_2000[: TILE + 6] + b"\xff\xff\xff\xff" + STREAM_2000[TILE + 10 :]], "stream", id="2000-too-long"),
        pytest.param(JPEG_2000, [STREAM_2000[: TILE + 3] + b"\x0c" + STREAM_2000[TILE + 4 :]], "stream", id="2000-tile-part"),
        pytest.param(JPEG_2000, [STREAM_2000[:TILE] + b"xx" + STREAM_2000[TILE:]], "stream", id="2000-no-marker"),
        pytest.param(JPEG_2000, [STREAM_2000[: TILE + 1]], "stream", id="2000-cut"),
        pytest.param(JPEG_2000, [TEXT], "stream", id="2000-none"),
        pytest.param(JPEG_2000, [BOXES.replace(b"jp2c", b"xml ")], "stream", id="2000-no-codestream"),
        pytest.param(JPEG_2000, [BOXES.replace(b"colr", b"pclr")], "stream", id="2000-palette"),
        pytest.param(RLE, [RUNS[:100]], "stream", id="rle-short"),
        pytest.param(RLE, [RUNS[:66] + b"\x7f" + TEXT * 100], "stream", id="rle-too-much"),
        pytest.param(RLE, [b"\2" + RUNS[1:]], "stream", id="rle-segments"),
        pytest.param(RLE, [RUNS[:4] + b"\xff\xff" + RUNS[6:]], "stream", id="rle-offset"),
        pytest.param("1.2.840.10008.1.2.1.98", [TEXT], "syntax", id="unknown-syntax"),
    ],
)  # fmt: skip
def test_streams_that_nobody_understands_are_withheld(syntax: str, fragments: list[bytes], reason: str) -> None:
    assert because(file_of(syntax, fragments)) == reason


def native(**changes: object) -> Callable[[], Dataset]:
    def make() -> Dataset:
        ds = planted.slice_of_ct(64, 64)
        ds.PixelData = (TEXT * 400)[: 64 * 64 * 2]
        for keyword, value in changes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)
        return ds

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (native(Rows=None), "length"),
        (native(Columns=0), "length"),
        (native(PixelData=TEXT), "length"),
        (native(BitsStored=12, HighBit=10), "bits"),
        (native(BitsStored=0, HighBit=11), "bits"),
        (native(BitsStored=20, HighBit=19), "bits"),
        (native(BitsAllocated=24, BitsStored=24, HighBit=23), "bits"),
        (native(FloatPixelData=FLOATS), "several"),
        (native(PixelData=None, FloatPixelData=FLOATS[:4000]), "length"),
        (native(PixelData=None, FloatPixelData=FLOATS, DoubleFloatPixelData=FLOATS * 2), "several"),
    ],
)
def test_native_pixels_of_which_nobody_knows_the_picture_are_withheld(make: Callable[[], Dataset], reason: str) -> None:
    assert because(planted.encoded(make(), ExplicitVRLittleEndian)) == reason


@pytest.mark.parametrize(("keyword", "size"), [("FloatPixelData", 4), ("DoubleFloatPixelData", 8)])
def test_float_pixels_of_parametric_maps_stay_and_nothing_behind_them(keyword: str, size: int) -> None:
    ds = planted.slice_of_ct(64, 64)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    for one in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(ds, one)
    ds.BitsAllocated = 8 * size
    values = np.linspace(0, 1, 64 * 64).astype(f"<f{size}").tobytes()
    for hidden in (b"", TEXT + b"  "):
        setattr(ds, keyword, values + hidden)
        assert dcmread(io.BytesIO(out_of(planted.encoded(ds))))[keyword].value == values


def test_bits_that_the_header_leaves_out_are_those_that_are_allocated() -> None:
    ds = native(BitsStored=None, HighBit=None)()
    assert dcmread(io.BytesIO(out_of(planted.encoded(ds)))).PixelData == ds.PixelData


def with_table(identifier: int) -> bytes:
    """A quantisation table of one of the four identifiers that says something, before all others."""
    says = (TEXT * 3)[:64]
    return BASELINE[:2] + b"\xff\xdb\0\x43" + bytes([identifier]) + says + BASELINE[2:]


def test_a_table_that_no_component_uses_says_nothing() -> None:
    output = out_of(file_of(JPEG, [with_table(3)]))
    assert TEXT[:11] not in output
    wanted = dcmread(io.BytesIO(file_of(JPEG, [BASELINE]))).pixel_array
    assert np.array_equal(dcmread(io.BytesIO(output)).pixel_array, wanted)


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LS])
@pytest.mark.parametrize("text", [TEXT, b"somebody else, of whom no header tells"])
def test_a_text_behind_the_scan_withholds(syntax: str, text: bytes) -> None:
    """It stands where entropy-coded data would, up to the next marker."""
    assert because(file_of(syntax, [BASELINE[:-2] + text + BASELINE[-2:]])) == "stream"


def test_one_of_the_header_s_values_anywhere_in_a_stream_withholds() -> None:
    ds = picture()
    ds.PatientName = "Winklerova^Jitka"
    ds.PixelData = item(b"") + item(BASELINE[:-2] + b"\x80WINKLEROVA\x81" + BASELINE[-2:])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    assert because(planted.encoded(ds, JPEG)) == "stream"
