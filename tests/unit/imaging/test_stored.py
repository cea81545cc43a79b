"""Native pixel data: byte orders, bits, signs, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomnode.errors import StudyError
from dicomnode.imaging.stored import PixelFormat, clamped, native, pixel_bytes, pixel_format, stored_values
from tests.unit.imaging.slices import slice_of


def form(
    rows: Any = 2, columns: Any = 3, *, allocated: Any = 16, stored: Any = None, high: Any = None, signed: Any = False
) -> Any:
    stored = stored or allocated
    return PixelFormat(
        rows=rows,
        columns=columns,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high is None else high,
        signed=signed,
        photometric_interpretation="MONOCHROME2",
    )


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_whole_cells_are_read_as_they_are(kind: Any) -> None:
    limits = np.iinfo(kind)
    pixels = np.array([[limits.min, 0, 1], [2, limits.max - 1, limits.max]], kind)
    found = native(pixels.tobytes(), form(allocated=limits.bits, signed=kind[0] == "i"))
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_big_endian_words(kind: Any) -> None:
    pixels = np.array([[1, 2, 300], [4, 5, 60]], kind)
    found = native(pixels.astype(f">{kind}").tobytes(), form(signed=kind == "i2"), big_endian=True)
    np.testing.assert_array_equal(found, pixels)
    assert found.dtype.isnative


def test_big_endian_words_of_two_8_bit_cells() -> None:
    pixels = np.arange(9, dtype=np.uint8).reshape(3, 3)
    data = pixels.tobytes() + b"\0"
    swapped = np.frombuffer(data, "u1").reshape(-1, 2)[:, ::-1].tobytes()
    eight = form(3, 3, allocated=8)
    np.testing.assert_array_equal(native(swapped, eight, big_endian=True, words=True), pixels)
    np.testing.assert_array_equal(native(data, eight, big_endian=True, words=False), pixels)
    with pytest.raises(StudyError, match="pixel-missing"):
        native(swapped[:9], eight, big_endian=True, words=True)


def test_overlays_in_unused_bits_are_masked() -> None:
    cells = np.array([[0xF001, 0x1FFF, 0x8000], [0x0FFF, 0x7ABC, 0]], np.uint16)
    np.testing.assert_array_equal(native(cells.tobytes(), form(stored=12)), cells & 0x0FFF)


def test_twelve_signed_bits_are_sign_extended() -> None:
    cells = np.array([[0x0800, 0x0FFF, 0x07FF], [0xF800, 0xF001, 0]], np.uint16)
    found = native(cells.tobytes(), form(stored=12, signed=True))
    np.testing.assert_array_equal(found, [[-2048, -1, 2047], [-2048, 1, 0]])


@pytest.mark.parametrize(("signed", "values"), [(False, [0, 5, 4095]), (True, [-2048, -1, 2047])])
def test_values_without_other_bits_are_not_copied(signed: bool, values: list[int]) -> None:
    data = np.array([values, values], np.int16).tobytes()
    found = native(data, form(stored=12, signed=signed))
    assert found.tolist() == [values, values]
    assert np.shares_memory(found, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("signed", [False, True])
def test_bits_stored_at_the_top_of_the_cell(signed: Any) -> None:
    cells = np.array([[0xFFF5, 0x8003, 0x0010], [0x7FFF, 0, 0x00F0]], np.uint16)
    expected = cells.view(np.int16 if signed else np.uint16) >> 4
    np.testing.assert_array_equal(native(cells.tobytes(), form(stored=12, high=15, signed=signed)), expected)


def test_a_lossy_overshoot_is_held_not_wrapped() -> None:
    values = np.array([[4097, 5, 0]], np.int32)
    assert clamped(values, form(1, 3, stored=12)).tolist() == [[4095, 5, 0]]
    assert clamped(values - 4000, form(1, 3, stored=12, signed=True)).tolist() == [[97, -2048, -2048]]
    assert stored_values(values.astype(np.uint16), form(1, 3, stored=12)).tolist() == [[1, 5, 0]]


def test_too_few_bytes() -> None:
    with pytest.raises(StudyError) as caught:
        native(b"\0" * 11, form())
    assert caught.value.code == "pixel-missing"
    assert caught.value.facts == {"bytes": 11, "expected": 12}


def test_readers_disagree_on_32_bits_in_big_endian() -> None:
    with pytest.raises(StudyError, match="pixel-unsupported"):
        native(b"\0" * 24, form(allocated=32), big_endian=True)


def test_format_of_a_data_set() -> None:
    found = pixel_format(slice_of(np.zeros((2, 3), np.int16), BitsStored=12, HighBit=11))
    assert found == form(stored=12, signed=True)
    assert found.pixels == 6
    assert PixelFormat(**found.to_json()) == found


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Rows": None}, "pixel-missing"),
        ({"Columns": 0}, "pixel-missing"),
        ({"SamplesPerPixel": 3}, "pixel-unsupported"),
        ({"PhotometricInterpretation": "RGB"}, "pixel-unsupported"),
        ({"NumberOfFrames": 2}, "pixel-unsupported"),
        ({"BitsAllocated": 12}, "pixel-unsupported"),
        ({"BitsStored": 17}, "pixel-unsupported"),
        ({"HighBit": 16}, "pixel-unsupported"),
        ({"HighBit": 10}, "pixel-unsupported"),
        ({"BitsStored": [16, 16]}, "pixel-unsupported"),
    ],
)
def test_formats_that_are_refused(changes: Any, code: Any) -> None:
    with pytest.raises(StudyError) as caught:
        pixel_format(slice_of(np.zeros((2, 3), np.int16), **changes))
    assert caught.value.code == code


@pytest.mark.filterwarnings("ignore")
def test_a_number_that_is_none() -> None:
    dataset = slice_of(np.zeros((2, 3), np.int16))
    dataset.add_new("NumberOfFrames", "DS", "nan")
    with pytest.raises(StudyError, match="pixel-unsupported"):
        pixel_format(dataset)


def test_a_damaged_element() -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = slice_of(np.zeros((2, 3), np.int16))
    tag = Tag("BitsStored")
    dataset._dict[tag] = RawDataElement(tag, "US", 3, b"\1\2\3", 0, False, True)
    with pytest.raises(StudyError, match="pixel-unsupported"):
        pixel_format(dataset)


def test_pixel_data_must_be_there() -> None:
    dataset = slice_of(np.zeros((2, 3), np.int16))
    assert pixel_bytes(dataset) == bytes(12)
    dataset.PixelData = b""
    with pytest.raises(StudyError, match="pixel-missing"):
        pixel_bytes(dataset)
    del dataset.PixelData
    with pytest.raises(StudyError, match="pixel-missing"):
        pixel_bytes(dataset)
    dataset.FloatPixelData = b"\0" * 24
    with pytest.raises(StudyError, match="pixel-unsupported"):
        pixel_bytes(dataset)
