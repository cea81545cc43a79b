"""Images of a series read by what differs: always what reading each alone gives, value for value, error for error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomnode.encoded import Limits, SeriesReader, encode_part10, read_part10, series
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.imaging.phantom_series import ct_series
from tests import pace

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
LIMITS = Limits()
Change = Callable[[Dataset], object]


def images(count: int = 3) -> list[Dataset]:
    """Slices with a private block, a sequence and text."""
    values = np.random.default_rng(3).integers(-1000, 1000, (count, 8, 10))
    found = list(ct_series(values, (2.0, 1.0, 1.0)))
    for number, image in enumerate(found):
        block = image.private_block(0x0019, "MAKER 1", create=True)
        block.add_new(0x01, "DS", "1.5")
        block.add_new(0x02, "UN", b"\x01\x02")
        item = Dataset()
        item.CodeValue = "T-1"
        image.AnatomicRegionSequence = Sequence([item])
        image.ImageComments = f"slice {number}"
    return found


def files(*changes: Change, syntax: str = EXPLICIT) -> list[bytes]:
    """A first image, then one for each change."""
    given = images(len(changes) + 1)
    for image, change in zip(given[1:], changes, strict=True):
        change(image)
    return [encode_part10(image, transfer_syntax_uid=syntax) for image in given]


def outcome(read: Callable[[bytes], Dataset], file: bytes) -> tuple[Any, ...]:
    """All that can be seen of what was read."""
    try:
        found = read(file)
    except StudyError as error:
        return error.code, dict(error.facts)
    return (
        found,
        [(element.tag, element.VR, element.value) for element in found],
        found.file_meta,
        found.original_encoding,
        found.original_character_set,
    )


def alone(file: bytes) -> Dataset:
    return read_part10(file, LIMITS)


def nothing(_image: Dataset) -> None: ...


CHANGES: dict[str, Change] = {
    "nothing": nothing,
    "longer text": lambda image: setattr(image, "ImageComments", "much longer than before"),
    "no text": lambda image: setattr(image, "ImageComments", ""),
    "umlaut": lambda image: setattr(image, "ImageComments", "Grüße"),
    "another character set": lambda image: (
        setattr(image, "SpecificCharacterSet", "ISO_IR 192"),
        setattr(image, "ImageComments", "Grüße"),
    ),
    "an element more": lambda image: setattr(image, "PatientComments", "x"),
    "an element less": lambda image: image.pop("ImageComments"),
    "signed": lambda image: setattr(image, "PixelRepresentation", 1),
    "another sequence": lambda image: setattr(image.AnatomicRegionSequence[0], "CodeValue", "T-22"),
    "another maker": lambda image: setattr(image[0x00190010], "value", "MAKER 22"),
    "a private number": lambda image: setattr(image[0x00191001], "value", "2.25"),
    "private bytes": lambda image: setattr(image[0x00191002], "value", b"\xfe\xff\x00\xe0\x00\x00\x00\x00"),
    "no number": lambda image: setattr(image[0x00201041], "_value", "left"),
    "fewer pixels": lambda image: setattr(image, "PixelData", b"12"),
    "longer UID": lambda image: setattr(image, "SOPInstanceUID", "1.2.3.4.5.6.7.8.9"),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_it_is_what_each_file_alone_says(change: Change, syntax: str) -> None:
    reader = SeriesReader(LIMITS)
    for file in files(nothing, change, nothing, syntax=syntax):
        assert outcome(reader.read, file) == outcome(alone, file)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_slices_that_differ_in_values_are_not_read_anew(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: list[int] = []

    def counted(file: bytes, limits: Limits) -> Dataset:
        whole.append(len(file))
        return read_part10(file, limits)

    monkeypatch.setattr(series, "read_part10", counted)
    reader = SeriesReader(LIMITS)
    for file in files(nothing, CHANGES["longer text"], CHANGES["no text"], CHANGES["longer UID"], syntax=syntax):
        reader.read(file)
    assert len(whole) == 1


def test_what_is_changed_in_one_stays_there() -> None:
    reader = SeriesReader(LIMITS)
    first, second, third = (reader.read(file) for file in files(nothing, nothing))
    second.KVP = 90
    second.SliceThickness = 7
    assert (first.KVP, third.KVP, third.SliceThickness) == (120, 120, 2)
    assert isinstance(third.PixelData, memoryview)


@pytest.mark.parametrize("spoil", [lambda file: file[132:], lambda file: file + b"\0\0", lambda file: file[:200]])
def test_files_of_another_kind_are_read_each_alone(spoil: Callable[[bytes], bytes]) -> None:
    reader = SeriesReader(LIMITS)
    one, two, three = files(nothing, nothing)
    for file in (one, spoil(two), spoil(three), spoil(one), three):
        assert outcome(reader.read, file) == outcome(alone, file)


def test_padding_that_is_left_out_makes_no_pattern() -> None:
    padding = b"\xfc\xff\xfc\xffOB\0\0\x02\0\0\0\0\0"
    group_length = b"\xfe\xff\x01\x00UL\x04\0\0\0\0\0"
    reader = SeriesReader(LIMITS)
    for file in files(nothing, nothing):
        for odd in (file + padding, file + group_length):
            assert outcome(reader.read, odd) == outcome(alone, odd)


def test_a_file_with_more_meta_information_than_elements_are_allowed_is_read_alone() -> None:
    limits = Limits(maximum_items=4)
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID, image.PatientID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1"
    file = encode_part10(image, transfer_syntax_uid=EXPLICIT)
    reader = SeriesReader(limits)
    assert reader.read(file) == reader.read(file) == read_part10(file, limits)


def test_a_value_that_cannot_be_converted_at_all_is_one_coded_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SeriesReader(LIMITS)
    one, two = files(nothing)
    reader.read(one)

    def fail(*_given: Any) -> None:
        raise RecursionError

    monkeypatch.setattr(series, "convert", fail)
    with pytest.raises(StudyError, match="object-malformed"):
        reader.read(two)


@settings(max_examples=pace.rounds(100, 300), deadline=None)
@given(st.data())
def test_damage_has_the_same_end_as_alone(data: st.DataObject) -> None:
    """A few bytes of the second file are others, or it is cut off; perhaps others were read that differ elsewhere."""
    names = data.draw(st.lists(st.sampled_from(sorted(CHANGES)), max_size=3))
    one, two, *others = files(
        nothing, *(CHANGES[name] for name in names), syntax=data.draw(st.sampled_from([EXPLICIT, IMPLICIT]))
    )
    damaged = bytearray(two)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(two) - 161))] = data.draw(st.integers(0, 255))
    if data.draw(st.integers(0, 4)) == 0:
        del damaged[data.draw(st.integers(100, len(damaged))) :]
    reader = SeriesReader(LIMITS)
    for file in (one, *others):
        assert outcome(reader.read, file) == outcome(alone, file)
    assert outcome(reader.read, bytes(damaged)) == outcome(alone, bytes(damaged))
    assert outcome(reader.read, two) == outcome(alone, two)


VALUES = {
    "SOPInstanceUID": ["1.2.3", "2.25.329800735698586629295641978511506172918", "1.02.3", "1.2.", "1" * 70, "a.b"],
    "InstanceNumber": ["7", " -12", "1.5", "99999999999", "", "x", "+3"],
    "ImagePositionPatient": [
        "0\\0\\5.25",
        " -1.5\\2 \\3",
        "1\\2\\",
        "1e3\\2\\3",
        "1\\\\3",
        "a\\b",
        "123456789.123456789\\0\\0",
    ],
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(("keyword", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_a_value_that_waits_for_who_asks_is_what_it_is_alone(keyword: str, value: str, syntax: str) -> None:
    """Whether it is plain, and waits, or might fail or warn, and does not; warnings are errors here."""

    def changed(image: Dataset) -> None:
        tag = Tag(keyword)
        image[tag] = RawDataElement(
            tag, image[tag].VR, len(value), value.encode() + b" " * (len(value) % 2), 0, False, True
        )

    with hushed():
        found = files(nothing, changed, nothing, changed, syntax=syntax)
    assert value.replace(" ", "").encode() in found[2].replace(b" ", b"")
    reader = SeriesReader(LIMITS)
    for file in found:
        assert outcome(reader.read, file) == outcome(alone, file)
