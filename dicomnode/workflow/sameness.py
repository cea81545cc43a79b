"""The same SOP Instance UID again with other bytes: the same object encoded otherwise, or another one.

A pure comparison of two Data Sets (design section 4, "The same UID again").
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import numpy as np
from pydicom import Dataset
from pydicom.dataelem import DataElement

from dicomnode.errors import StudyError


class Sameness(Enum):
    """How two objects with one UID relate."""

    SAME = "same"
    OTHER_HEADER = "other-header"
    OTHER_PIXELS = "other-pixels"


#: Attributes that tell how pixels are encoded, not what they are (PS3.3 C.7.6.3), and what senders rewrite.
_ENCODING: Final = frozenset(
    {
        "PixelData",
        "PhotometricInterpretation",
        "PlanarConfiguration",
        "DataSetTrailingPadding",
        "DerivationDescription",
        "DerivationCodeSequence",
        "LossyImageCompression",
    }
)


def compare(first: Dataset, second: Dataset, pixels: Callable[[Dataset], Any]) -> Sameness:
    """Relation of two objects that carry the same SOP Instance UID.

    Parameters
    ----------
    pixels
        Decodes the stored values of an image.
    """
    same_pixels = _same_pixels(first, second, pixels)
    if not same_pixels:
        return Sameness.OTHER_PIXELS
    return Sameness.OTHER_HEADER if headers_differ(first, second) else Sameness.SAME


def headers_differ(first: Dataset, second: Dataset) -> bool:
    """Whether two objects are not the same, whatever their pixels are."""
    return _plain(first) != _plain(second)


def _same_pixels(first: Dataset, second: Dataset, pixels: Callable[[Dataset], Any]) -> bool:
    have = ["PixelData" in first, "PixelData" in second]
    if not all(have):
        return have[0] == have[1]
    if bytes(first.PixelData) == bytes(second.PixelData):
        return True
    try:
        return bool(np.array_equal(pixels(first), pixels(second)))
    except StudyError:
        return False  # what cannot be decoded cannot be shown to be the same


def _plain(dataset: Dataset) -> list[tuple[int, Any]]:
    return [
        (int(element.tag), _value(element))
        for element in dataset
        if element.tag.element != 0 and element.keyword not in _ENCODING
    ]


def _value(element: DataElement) -> Any:
    if element.VR == "SQ":
        return [_plain(item) for item in element.value]
    if isinstance(element.value, bytes):
        return element.value.rstrip(b"\0 ")
    return str(element.value)
