from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.errors import StudyError
from dicomnode.workflow.sameness import Sameness, compare
from tests.unit.workflow.samples import EXPLICIT, IMPLICIT, tiny_series

BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"


def stored(dataset: Dataset) -> Any:
    """Stored values of a native 16-bit image."""
    order = ">u2" if dataset.file_meta.TransferSyntaxUID == BIG else "<u2"
    if len(dataset.PixelData) != dataset.Rows * dataset.Columns * 2:
        raise StudyError("pixel-missing")
    return np.frombuffer(dataset.PixelData, order).astype(np.uint16)


@pytest.fixture
def image() -> Dataset:
    return tiny_series(name="Müller^Jürgen")[0]


def again(image: Dataset, transfer_syntax_uid: str = EXPLICIT, pixels: str = "<u2") -> Dataset:
    """The image as a receiver reads it in a transfer syntax."""
    copy = deepcopy(image)
    copy.PixelData = np.frombuffer(image.PixelData, "<u2").astype(pixels).tobytes()
    copy["PixelData"].VR = "OW"
    return read_dataset(encode_dataset(copy, transfer_syntax_uid), transfer_syntax_uid, Limits())


def changed(image: Dataset, **values: Any) -> Dataset:
    copy = deepcopy(image)
    for keyword, value in values.items():
        setattr(copy, keyword, value)
    return again(copy)


@pytest.mark.parametrize("other", [EXPLICIT, IMPLICIT, DEFLATED])
def test_the_same_object_in_another_encoding_is_the_same(image: Dataset, other: str) -> None:
    assert compare(again(image), again(image, other), stored) is Sameness.SAME


def test_big_endian_pixels_are_the_same_when_their_values_are(image: Dataset) -> None:
    assert compare(again(image), again(image, BIG, ">u2"), stored) is Sameness.SAME


def test_attributes_of_the_encoding_do_not_count(image: Dataset) -> None:
    other = changed(image, DataSetTrailingPadding=b"\0\0", PlanarConfiguration=0)
    assert compare(again(image), other, stored) is Sameness.SAME


def test_another_header_over_the_same_pixels(image: Dataset) -> None:
    assert compare(again(image), changed(image, AccessionNumber="OTHER"), stored) is Sameness.OTHER_HEADER


def test_other_pixels_come_before_another_header(image: Dataset) -> None:
    pixels = bytearray(image.PixelData)
    pixels[0] ^= 1
    assert compare(again(image), changed(image, PixelData=bytes(pixels)), stored) is Sameness.OTHER_PIXELS
    both = changed(image, PixelData=bytes(pixels), AccessionNumber="OTHER")
    assert compare(again(image), both, stored) is Sameness.OTHER_PIXELS


def test_pixels_that_cannot_be_decoded_are_not_known_to_be_the_same(image: Dataset) -> None:
    assert compare(again(image), changed(image, PixelData=image.PixelData[:-2]), stored) is Sameness.OTHER_PIXELS


def test_objects_without_pixels_are_compared_by_their_headers(image: Dataset) -> None:
    bare = deepcopy(image)
    del bare.PixelData
    first = read_dataset(encode_dataset(bare, EXPLICIT), EXPLICIT, Limits())
    assert compare(first, deepcopy(first), stored) is Sameness.SAME
    other = deepcopy(first)
    other.PatientID = "OTHER"
    assert compare(first, other, stored) is Sameness.OTHER_HEADER
    assert compare(first, again(image), stored) is Sameness.OTHER_PIXELS


def private(image: Dataset, value: bytes) -> Dataset:
    copy = deepcopy(image)
    copy.private_block(0x0029, "VENDOR", create=True).add_new(0x10, "OB", value)
    return again(copy)


def test_private_elements_count(image: Dataset) -> None:
    assert compare(private(image, b"ab"), private(image, b"ab"), stored) is Sameness.SAME
    assert compare(private(image, b"ab"), private(image, b"ac"), stored) is Sameness.OTHER_HEADER
    assert compare(private(image, b"ab"), private(image, b"ab\0\0"), stored) is Sameness.SAME, "padding"


def nested(image: Dataset, *descriptions: str) -> Dataset:
    copy = deepcopy(image)
    items = []
    for text in descriptions:
        item = Dataset()
        item.RequestedProcedureDescription = text
        items.append(item)
    copy.RequestAttributesSequence = Sequence(items)
    return again(copy)


def test_sequences_count_item_by_item(image: Dataset) -> None:
    assert compare(nested(image, "a", "b"), nested(image, "a", "b"), stored) is Sameness.SAME
    assert compare(nested(image, "a", "b"), nested(image, "b", "a"), stored) is Sameness.OTHER_HEADER
    assert compare(nested(image, "a"), nested(image, "a", "b"), stored) is Sameness.OTHER_HEADER
    assert compare(again(image), nested(image), stored) is Sameness.OTHER_HEADER


def test_the_same_name_in_another_character_set_is_another_header(image: Dataset) -> None:
    other = changed(image, SpecificCharacterSet="ISO_IR 192")
    assert str(other.PatientName) == str(image.PatientName)
    assert compare(again(image), other, stored) is Sameness.OTHER_HEADER
