"""Marker segments of JPEG and JPEG 2000 that decoders read over: what they say goes, and the picture stays the same."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.pixels.decoders import base as decoders

from dicomnode.deidentification.compressed import Picture, scrub
from dicomnode.deidentification.streams import scrub_jpeg, scrub_jpeg_2000
from dicomnode.errors import StudyError

TEXT = b"SMITH ADAM 617-555-0134 b.1951 "
PICTURE = np.tile(np.arange(64, dtype=np.uint8) * 3, (64, 1))
COUNTS = bytes([0] * 7 + [len(TEXT) - 1] + [0] * 8)  # of a Huffman table with as many symbols


def encoded(kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PICTURE).save(stream, kind, **how)
    return stream.getvalue()


JPEG, PROGRESSIVE = encoded("JPEG", quality=90), encoded("JPEG", progressive=True)
STREAM = encoded("JPEG2000", irreversible=False, no_jp2=True)
FRAME, SCAN, END = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda"), len(JPEG) - 2
TILE, DATA = STREAM.index(b"\xff\x90"), STREAM.index(b"\xff\x93")


def segment(marker: int, payload: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(payload) + 2) + payload


def within(stream: bytes, position: int, marker: int, payload: bytes) -> bytes:
    return stream[:position] + segment(marker, payload) + stream[position:]


def in_tile(marker: int, payload: bytes) -> bytes:
    """A segment in the header of the only tile-part."""
    added = segment(marker, payload)
    length = struct.pack(">L", len(STREAM) - 2 - TILE + len(added))
    return STREAM[: TILE + 6] + length + STREAM[TILE + 10 : DATA] + added + STREAM[DATA:]


def pixels_of(stream: bytes) -> object:
    return np.asarray(Image.open(io.BytesIO(stream))).tolist()


@pytest.mark.parametrize(
    "stream",
    [
        within(JPEG, SCAN, 0xC4, b"\x03" + COUNTS + TEXT[:-1]),  # no component uses it
        within(JPEG, 2, 0xC4, b"\x00" + COUNTS + TEXT[:-1]),  # defined anew before the scan
        within(JPEG, END, 0xC4, b"\x00" + COUNTS + TEXT[:-1]),  # behind the last scan
        within(JPEG, 2, 0xDB, b"\x00" + (TEXT * 3)[:64]),
        within(JPEG, END, 0xDD, TEXT[:2]),
        within(PROGRESSIVE, 2, 0xDB, b"\x00" + (TEXT * 3)[:64]),
    ],
)
def test_tables_that_no_scan_uses(stream: bytes) -> None:
    data = bytearray(stream)
    scrub_jpeg(data)
    assert TEXT[:2] not in data or stream.count(TEXT[:2]) > data.count(TEXT[:2])
    assert TEXT[:10] not in data
    assert len(data) == len(stream)
    assert pixels_of(bytes(data)) == pixels_of(stream)


def test_conditions_of_arithmetic_coding_where_there_is_none() -> None:
    data = bytearray(within(JPEG, SCAN, 0xCC, (TEXT * 2)[:60]))
    scrub_jpeg(data)
    assert TEXT[:2] not in data
    arithmetic = within(JPEG, SCAN, 0xCC, b"\x00\x10\x11\x05").replace(b"\xff\xc0", b"\xff\xc9")
    data = bytearray(arithmetic)
    scrub_jpeg(data)
    assert b"\x00\x10\x11\x05" in data


@pytest.mark.parametrize("stream", [JPEG, PROGRESSIVE, encoded("JPEG", optimize=True)])
def test_tables_that_are_used_stay(stream: bytes) -> None:
    data = bytearray(stream)
    scrub_jpeg(data)
    assert pixels_of(bytes(data)) == pixels_of(stream)


@pytest.mark.parametrize(
    "stream",
    [
        within(JPEG, SCAN, 0xDC, TEXT * 2),
        within(within(JPEG, SCAN, 0xDC, b"SM"), SCAN, 0xDC, b"IT"),
        within(JPEG, FRAME, 0xDE, TEXT),
        within(JPEG, FRAME, 0xDF, TEXT),
        within(JPEG, FRAME, 0xC8, TEXT),
        within(JPEG, FRAME, 0xF8, b"\x02" + TEXT),
        within(JPEG, SCAN, 0xC0, JPEG[FRAME + 4 : FRAME + 13]),  # a second frame
        within(JPEG[:FRAME] + JPEG[SCAN:], FRAME, 0xC0, JPEG[FRAME + 4 : FRAME + 13] + TEXT),
        JPEG[:SCAN] + segment(0xDA, b"\1\1\0\0\x3f\0" + TEXT) + JPEG[SCAN + 10 :],
        within(JPEG, SCAN, 0xC4, b"\x03" + b"SMITH ADAM 617-5" + TEXT),
        within(JPEG, SCAN, 0xDB, b"\x03" + TEXT),  # shorter than a table
        b"\xff\xd8" + segment(0xDA, TEXT) + b"ab\xff\xd9",
    ],
)
def test_segments_that_no_stream_of_dicom_has(stream: bytes) -> None:
    with pytest.raises(StudyError, match="withheld-pixels"):
        scrub_jpeg(bytearray(stream))


@pytest.mark.parametrize(
    "stream",
    [within(STREAM, TILE, marker, b"\0\0" + TEXT) for marker in (0x55, 0x57, 0x58, 0x59, 0x63, 0x64)]
    + [in_tile(0x58, b"\0" + TEXT), in_tile(0x64, b"\0\1" + TEXT)],
)
def test_pointers_and_registrations_become_empty_comments(stream: bytes) -> None:
    data = bytearray(stream)
    scrub_jpeg_2000(data)
    assert TEXT[:6] not in data
    assert len(data) == len(stream)
    assert pixels_of(bytes(data)) == pixels_of(STREAM)


@pytest.mark.parametrize("sizes", [b"\x50", b"\x40", b"\x60"])
def test_lengths_of_tile_parts_stay_where_they_are_true(sizes: bytes) -> None:
    length = struct.pack(">L", len(STREAM) - 2 - TILE)
    index = {b"\x50": b"\0", b"\x40": b"", b"\x60": b"\0\0"}[sizes]
    data = bytearray(within(STREAM, TILE, 0x55, b"\0" + sizes + index + length))
    scrub_jpeg_2000(data)
    assert b"\xff\x55" in data
    data = bytearray(within(STREAM, TILE, 0x55, b"\0" + sizes + index + b"JANE"))
    scrub_jpeg_2000(data)
    assert b"JANE" not in data


@pytest.mark.parametrize(
    "stream",
    [
        within(STREAM, TILE, 0x50, b"\0\x02\0\0" + TEXT),
        within(STREAM, TILE, 0x51, TEXT),
        within(STREAM, TILE, 0x5C, TEXT),  # a second one
        within(STREAM, TILE, 0x5E, b"\x07\0\0"),  # of a component that is none
        within(STREAM, TILE, 0x5E, b"\x00\0" + TEXT),
        within(STREAM, TILE, 0x60, TEXT),
        within(STREAM, TILE, 0x30, TEXT),
        in_tile(0x61, b"\0" + TEXT),
    ],
)
def test_segments_of_jpeg_2000_that_say_what_nothing_reads(stream: bytes) -> None:
    with pytest.raises(StudyError, match="withheld-pixels"):
        scrub_jpeg_2000(bytearray(stream))


def test_high_throughput_says_so() -> None:
    data = bytearray(within(STREAM, TILE, 0x50, b"\0\x02\0\0\0\0"))
    scrub_jpeg_2000(data)
    assert b"\xff\x50" in data


@pytest.mark.filterwarnings("ignore")
def test_pictures_of_real_files_stay_the_same(shared_data: Callable[[str], Path]) -> None:
    seen = set()
    for path in sorted(shared_data("codecs_cornerstone").iterdir()):
        if path.suffix not in (".dcm", ""):
            continue
        ds = dcmread(path)
        syntax = ds.file_meta.TransferSyntaxUID
        if "PixelData" not in ds or not syntax.is_compressed or syntax.name.startswith("RLE"):
            continue
        try:
            before, _ = decoders.get_decoder(syntax).as_array(ds)
        except (RuntimeError, NotImplementedError):  # two that nothing decodes
            continue
        ds.PixelData = scrub(ds.PixelData, str(syntax), Picture())
        after, _ = decoders.get_decoder(syntax).as_array(ds)
        assert np.array_equal(before, after), path.name
        seen.add(str(syntax))
    assert len(seen) > 6
