"""A volume out of images that still come is the volume that is built of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from dicomnode.encoded import Limits, SeriesReader, encode_part10, read_part10
from dicomnode.errors import StudyError
from dicomnode.imaging import gathering
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.gathering import Gathering, planes_of
from dicomnode.imaging.plane import plane_of
from dicomnode.imaging.volume import Volume, build
from tests.unit.imaging.slices import slice_of
from tests.unit.imaging.test_decode import MEMORY, compressed


@pytest.fixture(scope="module")
def decoder() -> Iterator[DecodingAhead]:
    with DecodingAhead(children=2, timeout_seconds=60, memory_bytes=MEMORY) as it:
        yield it


def image(number: int, *, values: Any = None, syntax: Any = None, **changes: Any) -> Any:
    given = np.random.default_rng(number).integers(0, 900, (6, 5)).astype(np.int16) if values is None else values
    lying = {
        "SOPInstanceUID": f"1.2.3.{number}",
        "ImagePositionPatient": [0, 0, 2 * number],
        "Modality": "CT",
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    if syntax is None:
        return slice_of(given, **{**lying, **changes})
    return compressed(syntax, given, **{**lying, **changes})


def gathered(decoder: DecodingAhead, images: list[Any], expected: int = 0) -> tuple[Volume, list[Any]]:
    gathering = Gathering(decoder, expected)
    for one in images:
        gathering.add(one)
    return gathering.finish()


ORDERS = {"in order": list(range(9)), "backwards": list(range(8, -1, -1)), "mixed": [3, 0, 8, 1, 7, 2, 5, 4, 6]}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "compressed": {"syntax": RLELossless},
    "padded": {"PixelPaddingValue": 7},
    "fractions": {"RescaleSlope": 1.5},
    "wide": {"RescaleIntercept": 40000},
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("expected", [0, 2, 9, 30])
def test_it_is_the_volume_that_is_built(
    decoder: DecodingAhead, order: list[int], kind: dict[str, Any], expected: int
) -> None:
    """Every third image is of the kind, so that what changes the array comes in the middle."""
    images = [image(number, **(kind if number % 3 == 1 else {})) for number in order]
    again = [image(number, **(kind if number % 3 == 1 else {})) for number in order]
    built = build(again, decoder=decoder)
    volume, ordered = gathered(decoder, images, expected)
    np.testing.assert_array_equal(volume.values, built.values)
    assert volume.values.dtype == built.values.dtype
    assert volume.values.flags.c_contiguous
    assert (volume.padding is None) == (built.padding is None)
    if built.padding is not None:
        np.testing.assert_array_equal(volume.padding, built.padding)
    assert (volume.geometry, volume.sop_instance_uids) == (built.geometry, built.sop_instance_uids)
    assert [one.SOPInstanceUID for one in ordered] == list(built.sop_instance_uids)
    assert not any("PixelData" in one for one in images)


def test_more_images_than_were_expected_find_room(decoder: DecodingAhead) -> None:
    images = [image(number, PixelPaddingValue=7) for number in range(40)]
    volume, _ = gathered(decoder, images)
    np.testing.assert_array_equal(
        volume.values, build([image(n, PixelPaddingValue=7) for n in range(40)], decoder=decoder).values
    )


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"PixelData": b"12"}, "pixel-missing"),
        ({"RescaleSlope": 0}, "rescale-attribute-missing"),
        ({"values": np.zeros((6, 4), np.int16)}, "geometry-mixed-size"),
        ({"ImagePositionPatient": [0, 0, 6]}, "geometry-duplicate-position"),
        ({"ImagePositionPatient": ""}, "geometry-attribute-missing"),
    ],
)
def test_what_is_wrong_is_told_as_when_it_is_built(decoder: DecodingAhead, wrong: dict[str, Any], code: str) -> None:
    def images() -> list[Any]:
        return [image(number, **(wrong if number == 1 else {})) for number in range(6)]

    for act in (lambda: build(images(), decoder=decoder), lambda: gathered(decoder, images())):
        with pytest.raises(StudyError) as caught:
            act()
        assert caught.value.code == code


def test_the_geometry_comes_before_the_pixels(decoder: DecodingAhead) -> None:
    images = [image(0, PixelData=b"12"), image(1), image(2, ImagePositionPatient=[0, 0, 2])]
    with pytest.raises(StudyError, match="geometry-duplicate-position"):
        gathered(decoder, images)


def test_a_bad_image_among_compressed_ones_is_one_coded_error(decoder: DecodingAhead) -> None:
    images = [image(number, syntax=RLELossless) for number in range(5)]
    images[2].PixelData = images[2].PixelData[:20]
    with pytest.raises(StudyError, match="pixel-undecodable"):
        gathered(decoder, images)
    assert gathered(decoder, [image(number, syntax=RLELossless) for number in range(5)])[0].values.shape == (5, 6, 5)


def test_pixels_of_another_size_than_the_header_says_are_refused() -> None:
    class Lying:
        def pixels(self, dataset: Any) -> Any:
            return np.zeros((6, 4), np.int16)

    with pytest.raises(StudyError) as caught:
        gathered(Lying(), [image(0), image(1)])  # type: ignore[arg-type]
    assert (caught.value.code, caught.value.facts) == ("pixel-undecodable", {"rows": 6, "columns": 4})


def test_no_images_are_no_volume(decoder: DecodingAhead) -> None:
    with pytest.raises(StudyError, match="geometry-too-few-slices"):
        gathered(decoder, [])


class Watched(dict[Any, Any]):
    """Elements, and the tags of those that were looked at."""

    def __init__(self, elements: Any) -> None:
        super().__init__(elements)
        self.seen: set[int] = set()

    def __getitem__(self, tag: Any) -> Any:
        self.seen.add(int(tag))
        return super().__getitem__(tag)

    def __contains__(self, tag: Any) -> bool:
        self.seen.add(int(tag))
        return super().__contains__(tag)

    def get(self, tag: Any, default: Any = None) -> Any:
        self.seen.add(int(tag))
        return super().get(tag, default)


def test_what_slices_have_in_common_is_all_that_is_looked_at(decoder: DecodingAhead) -> None:
    watched = image(1, PixelPaddingValue=7, PixelPaddingRangeLimit=9, SliceThickness=2)
    watched._dict = elements = Watched(watched._dict)
    Gathering(decoder, 1).add(watched)
    own = {Tag(name) for name in ("ImagePositionPatient", "SOPInstanceUID", "PixelData")}
    assert elements.seen - own <= set(gathering.DECIDING)
    assert set(gathering.DECIDING) <= elements.seen


CT = "1.2.840.10008.5.1.4.1.1.2"
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "slope": {"RescaleSlope": 2},
    "intercept": {"RescaleIntercept": -1000},
    "no intercept": {"RescaleIntercept": None},
    "padding": {"PixelPaddingValue": 7},
    "bits": {"BitsStored": 8, "HighBit": 7},
    "high bit": {"BitsStored": 12, "HighBit": 13},
    "unsigned": {"PixelRepresentation": 0},
    "modality": {"Modality": "MR"},
    "rows": {"Rows": 5},
    "columns": {"Columns": 6, "Rows": 5},
    "spacing": {"PixelSpacing": [3, 3]},
    "tilted": {"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]},
    "another frame": {"FrameOfReferenceUID": "1.2.9"},
    "colour": {"SamplesPerPixel": 3},
    "inverted": {"PhotometricInterpretation": "MONOCHROME1"},
    "frames": {"NumberOfFrames": 2},
    "floats": {"FloatPixelData": b"1234"},
    "thickness": {"SliceThickness": 9},
    "no position": {"ImagePositionPatient": None},
    "few pixels": {"PixelData": b"12"},
    "no pixels": {"PixelData": None},
}


def result(decoder: DecodingAhead, images: list[Any]) -> Any:
    try:
        volume, ordered = gathered(decoder, images)
    except StudyError as error:
        return error.code, dict(error.facts)
    padding = None if volume.padding is None else volume.padding.tolist()
    return volume.values.tolist(), volume.values.dtype, padding, volume.geometry, volume.sop_instance_uids, ordered


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_slices_read_by_what_differs_make_the_volume_of_slices_read_alone(
    decoder: DecodingAhead, change: dict[str, Any], syntax: str
) -> None:
    """One slice in the middle is of another kind; those behind it are as those before."""
    files = []
    for number in range(7):
        one = image(number, SOPClassUID=CT)
        for name, value in change.items() if number == 3 else ():
            if value is None:
                del one[name]
            else:
                setattr(one, name, value)
        files.append(encode_part10(one, transfer_syntax_uid=syntax))
    reader = SeriesReader(Limits())
    together = result(decoder, [reader.read(file) for file in files])
    assert together == result(decoder, [read_part10(file, Limits()) for file in files])


def test_slices_that_say_the_same_are_looked_at_once(decoder: DecodingAhead, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def counted(dataset: Any) -> Any:
        looked.append(str(dataset.SOPInstanceUID))
        return plane_of(dataset)

    monkeypatch.setattr(gathering, "plane_of", counted)
    reader = SeriesReader(Limits())
    files = [
        encode_part10(image(number, SOPClassUID=CT), transfer_syntax_uid="1.2.840.10008.1.2.1") for number in range(9)
    ]
    volume, _ = gathered(decoder, [reader.read(file) for file in files])
    assert volume.values.shape[0] == 9
    assert looked == ["1.2.3.0", "1.2.3.1"]  # the first was read whole, the second stands for the others


def test_planes_of_a_series_are_those_of_each_image_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SeriesReader(Limits())
    images = [image(number, **({"SliceThickness": 3} if number in (5, 6) else {})) for number in range(12)]
    for one in images:
        one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    files = [encode_part10(one, transfer_syntax_uid="1.2.840.10008.1.2.1") for one in images]
    made, others = [reader.read(file) for file in files], [read_part10(file, Limits()) for file in files]
    made[8].PixelSpacing = others[8].PixelSpacing = [2, 2]
    alone, looked = [plane_of(one) for one in others], list[Any]()
    monkeypatch.setattr(gathering, "plane_of", lambda one: looked.append(one) or plane_of(one))  # type: ignore[func-returns-value]
    assert planes_of(made) == alone
    assert len(looked) < len(made)
    assert planes_of([]) == []
