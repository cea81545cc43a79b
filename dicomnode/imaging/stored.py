"""Stored values of native pixel data, and what an Image Pixel module says of them (PS3.3 C.7.6.3, PS3.5 8.1, Annex D).

May live here: pure reading of grayscale single-frame pixels. May not: codecs, processes, rescaling.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError

Integers = npt.NDArray[np.integer[Any]]
Buffer = bytes | bytearray | memoryview

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
#: Transfer syntaxes whose pixel data is native (PS3.5 A.1 to A.3, A.5); deflated ones come inflated.
NATIVE: Final = frozenset({IMPLICIT_LITTLE, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", EXPLICIT_BIG})
#: Transfer syntaxes that lose information, so that a decoded value may overshoot Bits Stored.
LOSSY: Final = frozenset(f"1.2.840.10008.1.2.4.{last}" for last in (50, 51, 81, 91, 203))


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelFormat:
    """Image Pixel module of a grayscale single-frame image (PS3.3 C.7.6.3.1)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric_interpretation: str

    @property
    def pixels(self) -> int:
        """Pixels of the image."""
        return self.rows * self.columns

    @property
    def dtype(self) -> np.dtype[np.integer[Any]]:
        """Type of the stored values once read."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest value that Bits Stored bits can hold."""
        low = -(1 << (self.bits_stored - 1)) if self.signed else 0
        return low, low + (1 << self.bits_stored) - 1

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the decoding child."""
        return asdict(self)


def pixel_format(dataset: Dataset) -> PixelFormat:
    """Pixel format of a Data Set.

    Raises
    ------
    StudyError
        ``pixel-unsupported`` for colour, several frames and impossible bits; ``pixel-missing`` for an absent or
        empty size.
    """
    form = PixelFormat(
        rows=_number(dataset, "Rows", 0),
        columns=_number(dataset, "Columns", 0),
        bits_allocated=_number(dataset, "BitsAllocated", 16),
        bits_stored=_number(dataset, "BitsStored", _number(dataset, "BitsAllocated", 16)),
        high_bit=_number(dataset, "HighBit", _number(dataset, "BitsStored", 16) - 1),
        signed=_number(dataset, "PixelRepresentation", 0) == 1,
        photometric_interpretation=str(_value(dataset, "PhotometricInterpretation", "MONOCHROME2")),
    )
    if form.rows < 1 or form.columns < 1:
        raise StudyError("pixel-missing", rows=form.rows, columns=form.columns)
    grayscale = form.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    if not grayscale or _number(dataset, "SamplesPerPixel", 1) != 1:
        raise StudyError("pixel-unsupported", cause="colour")
    if _number(dataset, "NumberOfFrames", 1) > 1:
        raise StudyError("pixel-unsupported", cause="multi-frame")
    if form.bits_allocated not in (8, 16, 32) or not 1 <= form.bits_stored <= form.high_bit + 1 <= form.bits_allocated:
        raise StudyError("pixel-unsupported", allocated=form.bits_allocated, stored=form.bits_stored)
    return form


def pixel_bytes(dataset: Dataset) -> Buffer:
    """Bytes of Pixel Data as they came, not copied.

    Raises
    ------
    StudyError
        ``pixel-missing``; ``pixel-unsupported`` for Float and Double Float Pixel Data.
    """
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        if keyword in dataset:
            raise StudyError("pixel-unsupported", cause="float")
    element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    value = None if element is None else element.value
    if not isinstance(value, bytes | bytearray | memoryview) or not value:
        raise StudyError("pixel-missing", bytes=0)
    return value


def native(data: Buffer, form: PixelFormat, *, big_endian: bool = False, words: bool = True) -> Integers:
    """Stored values of native pixel data.

    Parameters
    ----------
    big_endian
        Explicit VR Big Endian (PS3.5 A.3).
    words
        Whether Pixel Data has the VR OW: its 16-bit words are swapped in big endian even where cells have 8 bits
        (PS3.5 Annex D.3).

    Returns
    -------
    ndarray
        (rows, columns), of `PixelFormat.dtype`; read-only where no bit had to be changed.

    Raises
    ------
    StudyError
        ``pixel-missing`` when there are fewer bytes than pixels; ``pixel-unsupported`` for 32 bits in big endian,
        on whose word order readers disagree.
    """
    size = form.bits_allocated // 8
    if len(data) < form.pixels * size:
        raise StudyError("pixel-missing", bytes=len(data), expected=form.pixels * size)
    if big_endian and size == 4:
        raise StudyError("pixel-unsupported", cause="big-endian-32")
    if big_endian and size == 1 and words:
        even = form.pixels + form.pixels % 2
        if len(data) < even:
            raise StudyError("pixel-missing", bytes=len(data), expected=even)
        cells = np.frombuffer(data, dtype="u1", count=even).reshape(-1, 2)[:, ::-1].reshape(-1)[: form.pixels]
    else:
        cells = np.frombuffer(data, dtype=f"{'>' if big_endian else '<'}u{size}", count=form.pixels)
    return stored_values(cells.reshape(form.rows, form.columns), form)


def stored_values(cells: Integers, form: PixelFormat) -> Integers:
    """Values of Bits Stored bits ending at High Bit: other bits masked (old overlays hide there), sign extended."""
    unsigned = np.dtype(f"u{form.bits_allocated // 8}")
    cells = cells.astype(unsigned.newbyteorder("="), copy=False)
    shift = form.high_bit + 1 - form.bits_stored
    if form.bits_stored == form.bits_allocated or (not shift and _holds(cells.view(form.dtype), form)):
        return cells.view(form.dtype)
    if not form.signed:
        return cast(Integers, (cells >> unsigned.type(shift)) & unsigned.type((1 << form.bits_stored) - 1))
    left = form.bits_allocated - 1 - form.high_bit
    lifted = (cells << unsigned.type(left)).view(form.dtype)
    return cast(Integers, lifted >> form.dtype.type(form.bits_allocated - form.bits_stored))


def _holds(values: Integers, form: PixelFormat) -> bool:
    """Whether values lie within Bits Stored as they are: then no other bits are set, or those of the sign alone."""
    low, high = form.bounds
    if not form.signed:  # one look instead of two: no value lies below 0
        return bool(values.max() <= high)
    return bool(values.min() >= low and values.max() <= high)


def clamped(values: Integers, form: PixelFormat) -> Integers:
    """Values of a lossy codec, held within Bits Stored: masking would turn an overshoot into its opposite."""
    low, high = form.bounds
    return np.clip(values.astype(np.int64), low, high).astype(form.dtype)


def _value(dataset: Dataset, keyword: str, default: Any) -> Any:
    try:
        value = dataset.get(keyword, default)
    except Exception:  # noqa: BLE001 - pydicom raises many kinds on a damaged element
        raise StudyError("pixel-unsupported", attribute=keyword) from None
    return default if value is None or value == "" else value


def _number(dataset: Dataset, keyword: str, default: int) -> int:
    try:
        number = float(_value(dataset, keyword, default))
    except (TypeError, ValueError):
        raise StudyError("pixel-unsupported", attribute=keyword) from None
    if not math.isfinite(number):
        raise StudyError("pixel-unsupported", attribute=keyword)
    return int(number)
