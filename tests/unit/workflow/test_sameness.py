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
    if "PixelData" in image:
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


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("MONOCHROME1", "MONOCHROME2", Sameness.OTHER_HEADER),
        ("MONOCHROME2", "MONOCHROME1", Sameness.OTHER_HEADER),
        ("MONOCHROME2", "PALETTE COLOR", Sameness.OTHER_HEADER),
        ("PALETTE COLOR", "RGB", Sameness.OTHER_HEADER),
        ("MONOCHROME2", "MONOCHROME2", Sameness.SAME),
        ("RGB", "YBR_FULL_422", Sameness.SAME),
        ("YBR_RCT", "RGB", Sameness.SAME),
    ],
)
def test_of_photometric_interpretations_only_colours_are_made_of_each_other(
    image: Dataset, first: str, second: str, expected: Sameness
) -> None:
    """Pixels are encoded otherwise (here: in big endian)."""
    image.PhotometricInterpretation = first
    other = deepcopy(image)
    other.PhotometricInterpretation = second
    assert compare(again(image), again(other, BIG, ">u2"), stored) is expected


@pytest.mark.parametrize(("first", "second"), [("MONOCHROME1", "MONOCHROME2"), ("RGB", "YBR_FULL")])
def test_another_photometric_interpretation_of_the_same_bytes_is_a_correction(
    image: Dataset, first: str, second: str
) -> None:
    image.PhotometricInterpretation = first
    assert compare(again(image), changed(image, PhotometricInterpretation=second), stored) is Sameness.OTHER_HEADER


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


# A private element of a creator that nobody knows has no VR in an implicit syntax: it comes as UN (PS3.5 6.2.2).


def unknown(image: Dataset, vr: str, value: Any) -> Dataset:
    copy = deepcopy(image)
    copy.private_block(0x0029, "A SCANNER OF TODAY", create=True).add_new(0x10, vr, value)
    return copy


def item(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def inner(text: str) -> Dataset:
    """An item with a private sequence in it, whose item has a text beyond ASCII and a private number."""
    deepest = item(PatientName="Müller^Jürgen", StudyDescription=text)
    deepest.private_block(0x0029, "A SCANNER OF TODAY", create=True).add_new(0x11, "FD", 2.5)
    middle = item(PatientPosition="HFS")
    middle.private_block(0x0029, "A SCANNER OF TODAY", create=True).add_new(0x10, "SQ", [deepest, item()])
    return middle


VALUES: list[tuple[str, Any, Any]] = [
    ("LO", "KERNEL 3", "KERNEL 4"),
    ("LO", ["a", "é"], ["a", "è"]),
    ("LO", "Müller", "Muller"),
    ("UT", "a\\b ", "a\\c "),
    ("PN", "Müller^Jürgen", "Müller^Jurgen"),
    ("DS", "1.5", "1.50"),
    ("DS", ["1.5", "2"], ["1.5", "3"]),
    ("IS", "12", "13"),
    ("UI", "1.2.3", "1.2.4"),
    ("DA", "20260101", "20260102"),
    ("US", 32, 0),
    ("UL", [5], [5, 0]),
    ("SS", -1, -2),
    ("FD", [1.5, 2.0], [1.5, 2.5]),
    ("AT", 0x00100010, 0x00100020),
    ("OB", b"abc", b"abd"),
    ("UN", b" \0", b"\0\0"),
    ("UN", b"abcd", b"abcd\0\0"),
    ("SQ", [inner("a")], [inner("b")]),
    ("SQ", [inner("a")], [inner("a"), inner("a")]),
    ("SQ", [], [item()]),
    ("LO", "", "x"),
]


@pytest.mark.parametrize(("vr", "value", "other"), VALUES)
@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG])
def test_private_elements_are_the_same_in_every_syntax_and_only_those(
    image: Dataset, vr: str, value: Any, other: Any, syntax: str
) -> None:
    first = again(unknown(image, vr, value))
    pixels = ">u2" if syntax == BIG else "<u2"
    same, differs = (again(unknown(image, vr, one), syntax, pixels) for one in (value, other))
    assert compare(first, same, stored) is Sameness.SAME
    assert compare(same, first, stored) is Sameness.SAME
    assert compare(first, differs, stored) is Sameness.OTHER_HEADER
    assert compare(differs, first, stored) is Sameness.OTHER_HEADER


@pytest.mark.parametrize(("vr", "value", "other"), [one for one in VALUES if one[0] != "DS"])
def test_two_that_both_lost_the_vr_differ_where_their_values_do(
    image: Dataset, vr: str, value: Any, other: Any
) -> None:
    first, same, differs = (again(unknown(image, vr, one), IMPLICIT) for one in (value, value, other))
    assert compare(first, same, stored) is Sameness.SAME
    assert compare(first, differs, stored) is Sameness.OTHER_HEADER


@pytest.mark.parametrize("first", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("second", [EXPLICIT, IMPLICIT])
def test_a_private_sequence_is_the_same_with_a_length_and_without_one(image: Dataset, first: str, second: str) -> None:
    known = unknown(image, "SQ", [inner("a")])
    for text, expected in (("a", Sameness.SAME), ("b", Sameness.OTHER_HEADER)):
        other = unknown(image, "SQ", [inner(text)])
        deep = other[0x00291010].value[0][0x00291010]
        for element in (other[0x00291010], deep):
            element.is_undefined_length = True
            for one in element.value:
                one.is_undefined_length_sequence_item = True
        assert compare(again(known, first), again(other, second), stored) is expected


def test_words_of_a_private_element_are_the_same_in_either_byte_order(image: Dataset) -> None:
    little, big = unknown(image, "OW", b"\1\2\3\4"), unknown(image, "OW", b"\2\1\4\3")
    assert compare(again(little), again(big, BIG, ">u2"), stored) is Sameness.SAME
    assert compare(again(little), again(little, BIG, ">u2"), stored) is Sameness.OTHER_HEADER
    assert compare(again(little, IMPLICIT), again(big, BIG, ">u2"), stored) is Sameness.SAME


@pytest.mark.parametrize(
    "value", [b"\xfe\xff\x00\xe0\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\x00abcd", b"no items"]
)
def test_what_only_looks_like_a_sequence_is_none(image: Dataset, value: bytes) -> None:
    first = again(unknown(image, "SQ", [inner("a")]))
    second = again(unknown(image, "UN", value), IMPLICIT)
    assert compare(first, second, stored) is Sameness.OTHER_HEADER
    assert compare(second, again(unknown(image, "UN", value)), stored) is Sameness.SAME


@pytest.mark.parametrize(("vr", "value"), [("FD", 1.5), ("LO", "abc")])
def test_bytes_that_the_vr_of_the_other_does_not_allow_are_another_value(image: Dataset, vr: str, value: Any) -> None:
    first = again(unknown(image, vr, value))
    for other in (b"\0\0\0\0\0\0", b"x" * 70_000):
        assert compare(first, again(unknown(image, "UN", other), IMPLICIT), stored) is Sameness.OTHER_HEADER


@pytest.mark.parametrize("name", ["ISO_IR 192", "\\ISO 2022 IR 87", "ISO_IR 13"])
def test_private_text_is_read_in_the_character_set_of_its_object(image: Dataset, name: str) -> None:
    image.PatientName = "Yamada^Tarou"
    image.SpecificCharacterSet = name.split("\\")
    text = {"ISO_IR 192": "山田 é", "\\ISO 2022 IR 87": "山田", "ISO_IR 13": "ﾔﾏﾀﾞ"}[name]
    first, second = again(unknown(image, "LO", text)), again(unknown(image, "LO", text), IMPLICIT)
    assert compare(first, second, stored) is Sameness.SAME


def test_the_same_bytes_in_another_byte_order_are_other_pixels(image: Dataset) -> None:
    assert compare(again(image), again(image, BIG), stored) is Sameness.OTHER_PIXELS


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_pixels_that_are_no_whole_numbers_are_pixels(image: Dataset, keyword: str, kind: str) -> None:
    del image.PixelData

    def of(value: float, transfer_syntax_uid: str = EXPLICIT, order: str = "<", **attributes: str) -> Dataset:
        copy = deepcopy(image)
        setattr(copy, keyword, np.full(16, value, order + kind).tobytes())
        for name, text in attributes.items():
            setattr(copy, name, text)
        return read_dataset(encode_dataset(copy, transfer_syntax_uid), transfer_syntax_uid, Limits())

    assert compare(of(1.5), of(2.5), stored) is Sameness.OTHER_PIXELS
    assert compare(of(1.5), again(image), stored) is Sameness.OTHER_PIXELS
    assert compare(of(1.5), of(1.5, ImageComments="corrected"), stored) is Sameness.OTHER_HEADER
    for syntax, order in ((EXPLICIT, "<"), (IMPLICIT, "<"), (BIG, ">")):
        assert compare(of(1.5), of(1.5, syntax, order), stored) is Sameness.SAME


def test_a_table_of_frames_is_none_of_the_object(image: Dataset) -> None:
    """Extended Offset Table (PS3.5 A.4): who compresses an object adds it."""
    table = changed(image, ExtendedOffsetTable=bytes(8), ExtendedOffsetTableLengths=b"\x10" + bytes(7))
    assert compare(again(image), table, stored) is Sameness.SAME
