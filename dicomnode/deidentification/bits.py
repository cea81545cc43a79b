"""Bits of stored values that nothing shows, in which older overlays stand (PS3.5 8.1.1): whether there are any, and values without.

Pure, for native words and for compressed streams. Which pixels are looked at is decided elsewhere (pixels).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.deidentification.stored import number_of
from dicomnode.errors import StudyError

_ALLOCATED: Final = (1, 8, 16, 32, 64)
_BYTE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """Bits Allocated, Bits Stored, High Bit, and whether values have a sign."""

    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def has_unused(self) -> bool:
        """Whether a word has more bits than the value."""
        return self.stored != self.allocated

    def holds(self, precision: int) -> bool:
        """Whether a stream of so many bits a sample has none that the value has not."""
        return precision <= self.stored

    def are_true(self) -> bool:
        """Whether they can be so at all."""
        return self.allocated in _ALLOCATED and 0 < self.stored <= self.high + 1 <= self.allocated

    def cleaned(self, words: NDArray[Any]) -> NDArray[Any]:
        """Words, of any integer type and byte order, without their unused bits; signs stay extended."""
        if not self.has_unused:
            return words
        order, size = words.dtype.byteorder.replace("|", "="), words.dtype.itemsize
        plain = words.view(f"{order}u{size}")
        unsigned = plain.dtype.type
        clean = plain & unsigned(((1 << self.stored) - 1) << (self.high + 1 - self.stored))
        if self.signed:
            above = unsigned(((1 << (_BYTE * size)) - 1) ^ ((1 << (self.high + 1)) - 1))
            clean = np.where(plain & unsigned(1 << self.high), clean | above, clean)
        return words if np.array_equal(clean, plain) else clean.astype(plain.dtype).view(words.dtype)

    def fits(self, highest: frozenset[int]) -> bool:
        """Whether words have no unused bits set whose most significant byte has these values alone.

        False where that byte does not tell.
        """
        of_byte = self.stored - (self.allocated - _BYTE)  # bits of the value in that byte
        if self.high + 1 != self.stored or of_byte < int(self.signed):
            return False
        if self.signed:
            return all(value >> (of_byte - 1) in (0, (1 << (_BYTE + 1 - of_byte)) - 1) for value in highest)
        return all(not value >> of_byte for value in highest)


def bits_of(dataset: Dataset) -> Bits:
    """Bits of an image, each by the one before where it is missing (PS3.3 C.7.6.3)."""
    allocated = number_of(dataset, 0x00280100, 16)
    stored = number_of(dataset, 0x00280101, allocated)
    return Bits(
        allocated=allocated,
        stored=stored,
        high=number_of(dataset, 0x00280102, stored - 1),
        signed=number_of(dataset, 0x00280103) == 1,
    )


def checked_bits_of(dataset: Dataset) -> Bits:
    """Bits of an image of which somebody can tell the bits that are shown from others, where text would hide.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where nobody can (PS3.5 8.1.1).
    """
    bits = bits_of(dataset)
    if not bits.are_true():
        raise StudyError("withheld-pixels", because="bits")
    return bits
