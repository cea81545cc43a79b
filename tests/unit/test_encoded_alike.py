"""Elements that images of a series have in common: whoever takes one out gets the image's own."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.encoded import Limits, SeriesReader, encode_part10, series_of
from dicomnode.encoded.alike import Common
from dicomnode.imaging.phantom_series import ct_series

EXPLICIT = "1.2.840.10008.1.2.1"
KVP, THICKNESS, POSITION = Tag("KVP"), Tag("SliceThickness"), Tag("ImagePositionPatient")


def images(count: int = 4) -> list[Dataset]:
    values = np.random.default_rng(3).integers(-1000, 1000, (count, 8, 10))
    reader = SeriesReader(Limits())
    return [reader.read(encode_part10(image, transfer_syntax_uid=EXPLICIT)) for image in ct_series(values, (2, 1, 1))]


def by_attribute(image: Dataset) -> None:
    image.KVP = 90


def by_element(image: Dataset) -> None:
    image[KVP].value = 90


def by_iterating(image: Dataset) -> None:
    for element in image:
        if element.tag == KVP:
            element.value = 90


def by_values(image: Dataset) -> None:
    next(element for element in image.values() if element.tag == KVP).value = 90


def by_items(image: Dataset) -> None:
    dict(image.items())[KVP].value = 90


def by_item(image: Dataset) -> None:
    image.get_item(KVP).value = 90


def by_group(image: Dataset) -> None:
    image.group_dataset(KVP.group).KVP = 90


def by_slice(image: Dataset) -> None:
    image[KVP : KVP + 1].KVP = 90  # type: ignore[misc]


def by_default(image: Dataset) -> None:
    image.setdefault(KVP, 3).value = 90


def by_update(image: Dataset) -> None:
    another = Dataset()
    another.update(image)
    another.KVP = 90


def by_pop(image: Dataset) -> None:
    image.pop(KVP).value = 90


def by_copy(image: Dataset) -> None:
    image.pop("PixelData")
    copy.deepcopy(image).KVP = 90
    image.copy()[KVP].value = 90


def by_plain_dictionary(image: Dataset) -> None:
    image._dict.copy()[KVP].value = 90  # type: ignore[attr-defined]


def by_popitem(image: Dataset) -> None:
    image.pop("PixelData")
    while (found := image._dict.popitem())[0] != KVP:
        pass
    found[1].value = 90  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        by_attribute,
        by_element,
        by_iterating,
        by_values,
        by_items,
        by_item,
        by_group,
        by_slice,
        by_default,
        by_update,
        by_pop,
        by_copy,
        by_plain_dictionary,
        by_popitem,
    ],
)
def test_a_change_of_one_image_is_no_change_of_another(change: Callable[[Dataset], None]) -> None:
    first, second, third, fourth = images()
    change(second)
    assert (first.KVP, third.KVP, fourth.KVP) == (120, 120, 120)


def test_a_change_of_the_first_image_is_no_change_of_the_others() -> None:
    first, second, *_ = images()
    first[KVP].value = 90
    assert second.KVP == 120


def test_it_is_known_whether_images_say_the_same() -> None:
    first, second, third, fourth = images()
    tags = (KVP, THICKNESS, Tag("Rows"), Tag("PixelPaddingValue"))
    assert series_of(first, tags) is None  # it was read whole
    assert series_of(Dataset(), tags) is None
    common = series_of(second, tags)
    assert common is not None
    assert series_of(third, tags) is common
    assert series_of(third, (*tags, POSITION)) is None
    assert second.Rows == 8
    assert series_of(second, tags) is None  # somebody has an element of it now, and may change it
    third.PixelPaddingValue = 5
    assert series_of(third, tags) is None
    del fourth.KVP
    assert series_of(fourth, tags) is None


def test_what_is_taken_out_is_what_was_there() -> None:
    _, image, other, _ = images()
    elements = image._dict
    assert isinstance(elements, Common)
    assert elements.get(KVP) is elements[KVP] is image[KVP]
    assert elements.get(Tag("PatientComments")) is None
    assert elements.get(Tag("PatientComments"), 5) == 5
    assert elements.pop(Tag("PatientComments"), None) is None
    with pytest.raises(KeyError):
        elements.pop(Tag("PatientComments"))
    assert elements.setdefault(KVP, None) is image[KVP]
    assert "PatientComments" not in image
    added = copy.copy(image[KVP])
    assert elements.setdefault(Tag("PatientComments"), added) is added
    plain = other._dict.copy()
    assert list(plain) == list(other._dict)
    other.pop("PixelData")
    again = pickle.loads(pickle.dumps(other._dict))
    assert type(again) is dict
    assert again[KVP].value == 120
