"""Numbers and bulk data: text that hides where numbers belong, and numbers that are somebody's.

Pure. A run of words is text where numbers would not give it: in the bytes, in every second byte (UTF-16, lookup tables of
16 bits), in bytes that are written twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.values import Element

_RUN: Final = re.compile(rb"[A-Za-z0-9 ^,.'_/\\\\:=\r\n\-]{5,}")
#: Words in one way of capitals and digits, with a mark between them.
_WORDS: Final = re.compile(rb"(?:(?:[A-Z]?[a-z]{2,}|[A-Z]{2,}|[0-9]{2,})(?:[ ^,.'_/\\\\:=\r\n\-]{1,2}|$)?)+")
_WIDE: Final = re.compile(rb"(?:[ -~]\0){5,}|(?:\0[ -~]){5,}")
#: Letters that words have at least, by the bytes that there are: chance makes shorter ones.
_LEAST: Final = ((64, 5), (1024, 8), (65536, 9))
_LEAST_OF_MANY: Final = 12
_LEAST_OF_FLOATS: Final = 8
_FLOATS: Final = frozenset({"FL", "FD", "OF", "OD"})
_NAME: Final = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+")
_TRIPLED: Final = re.compile(rb"([A-Za-z])\1\1")  # no word has that, and many floats
_PAIRS: Final = 8  # bytes from which on chance makes no pairs that only rise
_SHORTEST_TEXT: Final = 4
_TWICE: Final = 0.9  # of the bytes: then a table of 8 bits is written as one of 16
_FEW: Final = 8  # more values than an identifier has
_DTYPES: Final = MappingProxyType(
    {"AT": "u4", "US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8", "OL": "u4", "OV": "u8", "OF": "f4", "OD": "f8", "OW": "u2"}
)  # fmt: skip
_GREATEST: Final = 1e15


def is_text(data: bytes, vr: str = "") -> bool:
    """Whether bytes that should be numbers hold words.

    Parameters
    ----------
    vr
        Of floats: printable bytes are ordinary ones.
    """
    plain = data.rstrip(b"\0 \r\n\t")
    if len(plain) < _SHORTEST_TEXT:
        return False
    if vr in _FLOATS:  # whose bytes are printable for many a decimal: 10.2 is "ffffff$@"
        whole = len(data) == _SHORTEST_TEXT and _NAME.fullmatch(plain) is not None and not _TRIPLED.search(plain)
    else:
        whole = plain.isascii() and plain.translate(None, b"\r\n\t").decode("ascii").isprintable()
    if whole:
        return True
    least = next((fewest for size, fewest in _LEAST if len(data) <= size), _LEAST_OF_MANY)
    least = max(least, _LEAST_OF_FLOATS) if vr in _FLOATS else least
    return any(_has_words(view, least) for view in _views(data))


def _views(data: bytes) -> Iterator[bytes]:
    pairs = np.frombuffer(data[: len(data) // 2 * 2], np.uint8).reshape(-1, 2)
    pairs = pairs[pairs.any(axis=1)]
    if len(pairs) > _SHORTEST_TEXT and (pairs[:, 0] == pairs[:, 1]).mean() >= _TWICE:
        yield data[::2]
        return
    yield data
    yield from (match[0].replace(b"\0", b"") for match in _WIDE.finditer(data))


def _has_words(data: bytes, least: int) -> bool:
    for run in _RUN.finditer(data):
        for words in _WORDS.finditer(run[0]):
            letters = sum(map(bytes.isalpha, _each(words[0])))
            if letters >= least and not _is_smooth(words[0]) and not _TRIPLED.search(words[0]):
                return True
    return False


def _each(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 1] for place in range(len(data)))


def _is_smooth(run: bytes) -> bool:
    """Whether a run goes up or down all the way, as the steps of a table do, of 8 or of 16 bits."""
    values = np.frombuffer(run, np.uint8).astype(np.int16)
    return _is_monotone(values) or (len(run) >= _PAIRS and _is_monotone(values[::2]) and _is_monotone(values[1::2]))


def _is_monotone(values: NDArray[np.int16]) -> bool:
    steps = np.diff(values)
    return bool((steps >= 0).all() or (steps <= 0).all())


def holds_text(element: Element, vr: str) -> bool:
    """Whether a binary element, raw or parsed, holds words in the bytes of either order."""
    value = element.value
    if isinstance(value, bytes):
        return is_text(value, vr)
    numbers = _array(element, vr)
    return numbers is not None and any(is_text(one.tobytes(), vr) for one in (numbers, numbers.byteswap()))


def is_identifier(element: Element, vr: str, known: Identifiers) -> bool:
    """Whether one of few binary numbers is an identifier of the source."""
    numbers = _array(element, vr)
    if numbers is None or numbers.size > _FEW:
        return False
    return any(known.is_number(number) for value in numbers for number in _written(value, known))


def _array(element: Element, vr: str) -> NDArray[Any] | None:
    """Numbers of a binary element, in little endian where it was parsed; None where they are none."""
    value: Any = element.value
    dtype = _DTYPES.get(vr.split(" or ", maxsplit=1)[0] if element.VR in (None, "UN") else str(element.VR))
    if dtype is None:
        return None
    if isinstance(value, bytes):
        order = "<" if getattr(element, "is_little_endian", True) else ">"
        return np.frombuffer(value, order + dtype) if len(value) % int(dtype[1]) == 0 else None
    values = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    if not all(isinstance(one, int | float) for one in values):
        return None
    if dtype == "u4" and vr == "AT":
        return np.array([part for one in values for part in divmod(int(one), 1 << 16)], "<u2")
    try:
        return np.array(values, "<" + dtype)
    except OverflowError:
        return None


def _written(value: Any, known: Identifiers) -> Iterator[str]:
    """How a number is written where it is a whole one; a float of 32 bits stands for every number that it rounds."""
    if not np.isfinite(value) or abs(value) > _GREATEST:
        return
    if isinstance(value, np.float32):
        yield from (number for number in known.spellings.numbers if np.float32(number) == abs(value))
    elif float(value).is_integer():
        yield str(abs(int(value)))


_LUT_DATA: Final = 0x00283006
_LUT_DESCRIPTOR: Final = 0x00283002
_MODALITY_LUT_TYPE: Final = 0x00283004
_PALETTES: Final = frozenset(range(0x00281201, 0x00281205))


def length_of_table(dataset: Dataset, tag: int) -> int:
    """Bytes of a lookup table by its descriptor (PS3.3 C.7.6.3.1.5, C.11.1.1); 0 where it does not say.

    A table of entries of 8 bits may be stored in words of 16.
    """
    descriptor = _LUT_DESCRIPTOR if tag == _LUT_DATA else tag - 0x100 if tag in _PALETTES else 0
    try:
        entries, _, bits = dataset[descriptor].value
        return 2 * (int(entries) % 65536 or 65536) if 8 <= int(bits) <= 16 else 0
    except (KeyError, TypeError, ValueError):
        return 0


def is_needed_table(dataset: Dataset, tag: int) -> bool:
    """Whether stored values mean nothing without a lookup table: a palette of PALETTE COLOR, a Modality LUT."""
    if tag == _LUT_DATA:
        return _MODALITY_LUT_TYPE in dataset
    return str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR"
