"""A volume out of images that still come is the volume that is built of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydicom.uid import RLELossless

from dicomnode.errors import StudyError
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.gathering import Gathering
from dicomnode.imaging.volume import Volume, build
from tests.unit.imaging.slices import slice_of
from tests.unit.imaging.test_decode import MEMORY, compressed


@pytest.fixture
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
