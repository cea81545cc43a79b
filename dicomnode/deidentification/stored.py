"""Attributes that say how pixels are stored: read alike wherever pixels are judged. Pure."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.deidentification.values import ASCII, texts
from dicomnode.imaging.stored import EXPLICIT_BIG, NATIVE

__all__ = [
    "BIG_ENDIAN",
    "FLOATS",
    "NATIVE",
    "PIXEL_DATA",
    "RLE",
    "number_of",
    "swap_words",
    "syntax_of",
    "word_of",
    "words_of",
]

PIXEL_DATA: Final = 0x7FE00010
#: Float and Double Float Pixel Data, and bytes of a value.
FLOATS: Final = MappingProxyType({0x7FE00008: 4, 0x7FE00009: 8})
BIG_ENDIAN: Final = EXPLICIT_BIG
#: Value Representations of words, and bytes of one.
_WORDS: Final = MappingProxyType({"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8})
RLE: Final = "1.2.840.10008.1.2.5"


def syntax_of(dataset: Dataset) -> str:
    """Transfer Syntax UID; the default one where none is said."""
    return str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "1.2.840.10008.1.2"))


def words_of(dataset: Dataset, tag: int) -> list[str]:
    """Values of a Code String."""
    if tag not in dataset:
        return []
    return texts(dataset.get_item(tag), "CS", ASCII)


def word_of(dataset: Dataset, tag: int) -> str:
    """Its first value; empty where there is none."""
    words = words_of(dataset, tag)
    return words[0] if words else ""


def number_of(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Integer value of an element; the default where there is none."""
    if tag not in dataset:
        return default
    try:
        return int(dataset[tag].value)
    except (TypeError, ValueError):
        return default


def swap_words(dataset: Dataset, leaving: frozenset[int] = frozenset()) -> None:
    """Turn the words of a big endian Data Set round that pydicom writes as they are (PS3.5 7.3), nested ones too.

    Parameters
    ----------
    leaving
        Attributes of the Data Set itself that stay.
    """
    for tag in dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        element = dataset.get_item(tag)
        if element.VR == "SQ":
            for item in dataset[tag].value:
                swap_words(item)
        elif element.VR in _WORDS and isinstance(element.value, bytes) and tag not in leaving:
            size = _WORDS[element.VR]
            whole = len(element.value) // size * size
            words = np.frombuffer(element.value[:whole], f"u{size}").byteswap().tobytes()
            dataset[tag] = DataElement(tag, element.VR, words + element.value[whole:])
