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
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.needles import hold_foreign
from dicomnode.deidentification.values import BINARY_VRS, BULK_VRS, Element
from dicomnode.errors import StudyError

_RUN: Final = re.compile(rb"[A-Za-z0-9 ^,.'_/\\\\:=\r\n\-]{5,}")
#: Words in one way of capitals and digits, with a mark between them.
_WORDS: Final = re.compile(rb"(?:(?:[A-Z]?[a-z]{2,}|[A-Z]{2,}|[0-9]{2,})(?:[ ^,.'_/\\\\:=\r\n\-]{1,2}|$)?)+")
_WIDE: Final = re.compile(rb"(?:[ -~]\0){5,}|(?:\0[ -~]){5,}")
#: Letters that words have at least, by the bytes that there are: chance makes shorter ones.
_LEAST: Final = ((64, 5), (1024, 8), (65536, 9))
_LEAST_OF_MANY: Final = 12
_LEAST_OF_FLOATS: Final = 8
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FEW_OTHERS: Final = 4
_FLOATS: Final = frozenset({"FL", "FD", "OF", "OD"})
_NAME: Final = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+")
_TRIPLED: Final = re.compile(rb"([A-Za-z])\1\1")  # no word has that, and many floats
_PAIRS: Final = 8  # bytes from which on chance makes no pairs that only rise
_SHORTEST_TEXT: Final = 4
_TWICE: Final = 0.9  # of the bytes: then a table of 8 bits is written as one of 16
_FEW: Final = 8  # more values than an identifier has
_TABLES: Final = frozenset({"US", "SS", "OW", "US or OW"})
_DTYPES: Final = MappingProxyType(
    {"AT": "u4", "US": "u2", "SS": "i2", "UL": "u4", "SL": "i4", "UV": "u8", "SV": "i8", "FL": "f4", "FD": "f8", "OL": "u4", "OV": "u8", "OF": "f4", "OD": "f8", "OW": "u2"}
)  # fmt: skip
_GREATEST: Final = 1e15
_SMALLEST: Final = 1e-25
#: Sizes beyond which a float of 32 bits that is printable is seldom a measurement.
_SELDOM_SMALLER: Final = 1e-5
_SELDOM_GREATER: Final = 1e6
_FEW_FLOATS: Final = 16
_TOGETHER: Final = 2
_TOGETHER_OF_MANY: Final = 4
_WINDOW: Final = 8  # samples
#: Of the variance of samples beside one another: letters come to two, what follows a curve to a few hundredths.
_ROUGH: Final = 0.7
_LEAST_JUMP: Final = 20.0  # mean square, in steps: letters of words differ by more, the noise of a flat line by less


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


def _implausible(numbers: NDArray[Any]) -> bool:
    """Whether one of the floats is printable in its bytes, and of a size that nothing has which is measured."""
    rows = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, numbers.dtype.itemsize)
    printable = (((rows >= 0x20) & (rows < 0x7F)) | (rows == 0)).all(axis=1) & rows.any(axis=1)
    found = np.abs(numbers[printable].astype(np.float64))
    return bool(((found > _GREATEST) | (found < _SMALLEST)).any())


def _spells(numbers: NDArray[Any]) -> bool:
    """Whether floats of 32 bits that stand together are printable in all of their bytes, and one of them measures hardly anything.

    Four printable bytes are a number by chance, often a decimal between 2 and 100; so are several that are alike.
    """
    if numbers.dtype.itemsize != _SHORTEST_TEXT or not numbers.size:
        return False
    rows = np.ascontiguousarray(numbers).view(np.uint8).reshape(-1, _SHORTEST_TEXT)
    plain = (((rows >= 0x20) & (rows < 0x7F)) | (rows == 0)).all(axis=1) & (rows != 0).any(axis=1)
    sizes = np.abs(numbers.astype(np.float64))
    odd = (sizes < _SELDOM_SMALLER) | (sizes > _SELDOM_GREATER)
    least = _TOGETHER if numbers.size <= _FEW_FLOATS else _TOGETHER_OF_MANY
    edges = np.flatnonzero(np.diff(np.concatenate(([False], plain, [False])).astype(np.int8)))
    runs = zip(edges[::2], edges[1::2], strict=True)
    return any(end - start >= least and odd[start:end].any() for start, end in runs)


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


def is_text_in_signal(data: bytes, allocated: int, channels: int) -> bool:
    """Whether the samples of a waveform, channel by channel in turn (PS3.3 C.10.9.1.4), hold words.

    Samples of a signal follow one another; letters of words do not. Only where samples jump about is text looked for.
    """
    size = max(channels, 1) * (allocated // 8)
    if allocated not in (8, 16, 32) or len(data) < size * _WINDOW:
        return is_text(data)
    samples = np.frombuffer(data[: len(data) // size * size], f"<i{allocated // 8}" if allocated > 8 else "u1")
    rows = samples.reshape(-1, max(channels, 1)).astype(np.float64)
    jumps = np.zeros_like(rows)
    jumps[1:] = np.diff(rows, axis=0) ** 2
    jumps = _windowed(jumps)
    spread = _windowed(rows**2) - _windowed(rows) ** 2
    rough = ((jumps >= _ROUGH * spread) & (jumps >= _LEAST_JUMP)).max(axis=1)[:, np.newaxis]
    bytes_of_rows = np.frombuffer(data[: len(rows) * size], np.uint8).reshape(-1, size)
    left = np.where(rough, bytes_of_rows, 0).tobytes() + data[len(rows) * size :]
    return is_text(_TRIPLED.sub(b"\0\0\0", left))


def _windowed(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over as many samples as a short word has, around each."""
    whole = np.cumsum(np.pad(rows, ((_WINDOW // 2 + 1, _WINDOW // 2), (0, 0)), mode="edge"), axis=0)
    return (whole[_WINDOW:] - whole[:-_WINDOW])[: len(rows)] / _WINDOW


def holds_text(element: Element, vr: str) -> bool:
    """Whether a binary element, raw or parsed, holds words in the bytes of either order."""
    value = element.value
    numbers = _array(element, vr)
    if numbers is not None and numbers.dtype.kind == "f" and (_implausible(numbers) or _spells(numbers)):
        return True
    if isinstance(value, bytes) and (numbers is None or vr[:1] == "O"):
        return is_text(value, vr) or (vr == "OB" and _is_nearly_ascii(value))
    return numbers is not None and any(is_text(one.tobytes(), vr) for one in (numbers, numbers.byteswap()))


def _is_nearly_ascii(data: bytes) -> bool:
    """Whether bytes are a text with letters of another alphabet among those of ASCII: no control characters, few other bytes."""
    plain = data.rstrip(b"\0 ")
    others = len(plain.translate(None, _PRINTABLE))
    return len(plain) >= _SHORTEST_TEXT and others * _FEW_OTHERS <= len(plain) and not _CONTROLS.search(plain)


def is_identifier(element: Element, vr: str, tag: int, known: Identifiers) -> bool:
    """Whether one of few binary numbers of an attribute is an identifier of the source, or bytes are a name of other letters."""
    if isinstance(element.value, bytes) and hold_foreign(element.value, known.names):
        return True
    numbers = _array(element, vr)
    if numbers is None or numbers.size > _FEW:
        return False
    return any(known.is_number(number, tag) for value in numbers for number in _written(value, known))


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
        yield from (number for number in known.spellings.telling if np.float32(number) == abs(value))
    if float(value).is_integer():
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


def is_unused_palette(dataset: Dataset, tag: int) -> bool:
    """Whether an image has a palette that none of its pixels goes through (PS3.3 C.7.6.3, C.8.12.4.1, C.8.13.3.1)."""
    if tag not in _PALETTES or "PixelData" not in dataset:
        return False
    presented = str(dataset.get("PixelPresentation", ""))
    return str(dataset.get("PhotometricInterpretation", "")) != "PALETTE COLOR" and presented not in ("COLOR", "MIXED")


def written_as(element: Element, vr: str) -> str:
    """VR that the value of an element was written with: the one that it came with, `vr` of the dictionary where none is said.

    By the dictionary's are judged bulk data, of whatever kind it came as, and floats where it has whole numbers: their
    bytes may be letters by chance, those of whole numbers are none.
    """
    wire = str(element.VR)
    misplaced = wire in _FLOATS and vr in BINARY_VRS and vr not in _FLOATS
    return vr if element.VR in (None, "UN") or vr in BULK_VRS or misplaced else wire


def table_of(element: Element, vr: str, tag: BaseTag, dataset: Dataset) -> Element | None:
    """A lookup table without what stands behind its last entry; None where no pixel goes through it, or it is none.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where one that is needed holds text: without it the pixels say something else.
    """
    if is_unused_palette(dataset, int(tag)):
        return None
    value, length = element.value, length_of_table(dataset, int(tag))
    size = length if isinstance(value, bytes) else length // 2
    if isinstance(value, bytes | MultiValue | list) and size and len(value) > size:
        element = DataElement(tag, str(element.VR or "OW"), value[:size])
    if vr in _TABLES and not holds_text(element, vr):
        return element
    if is_needed_table(dataset, int(tag)):
        raise StudyError("withheld-pixels", because="lookup-table")
    return None


def is_needed_table(dataset: Dataset, tag: int) -> bool:
    """Whether stored values mean nothing without a lookup table: a palette of PALETTE COLOR, a Modality LUT."""
    if tag == _LUT_DATA:
        return _MODALITY_LUT_TYPE in dataset
    return str(dataset.get("PhotometricInterpretation", "")) == "PALETTE COLOR"


def format_of_wave(item: Dataset) -> tuple[int, int]:
    """Waveform Bits Allocated and Number of Waveform Channels of a multiplex group (PS3.3 C.10.9)."""
    try:
        return int(item["WaveformBitsAllocated"].value), int(item["NumberOfWaveformChannels"].value)
    except (KeyError, TypeError, ValueError):
        return 0, 1
