"""From Explicit to Implicit VR Little Endian (PS3.5 A.1, A.2): element headers change, values stay as they are.

Pure, and one function of the bytes. Long values are not copied: what comes out is parts, some of which lie in what
came in.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from dicomnode.encoded.walk import LONG_VRS, UNDEFINED, Buffer
from dicomnode.errors import StudyError

_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_TAG: Final = struct.Struct("<HH").unpack_from
_SHORT: Final = struct.Struct("<H").unpack_from
_LENGTH: Final = struct.Struct("<L")
_HEADER: Final = struct.Struct("<HHL")
#: Bytes from which a value stays where it is.
_LONG_VALUE: Final = 65536


class _Open(NamedTuple):
    """A sequence or an item that the walk is inside of."""

    is_sequence: bool
    end: int  # no byte beyond belongs to it
    undefined: bool  # ends with a delimiter
    length_at: int  # where its length was written


def implicit_parts(encoded: Buffer) -> tuple[Buffer, ...]:
    """A Data Set of Explicit VR Little Endian in Implicit VR Little Endian, as parts that follow each other.

    Lengths of sequences and items stay defined or undefined, as they were; Group Lengths (PS3.5 7.2, retired) are left
    out, since they would be wrong.

    Raises
    ------
    StudyError
        ``object-malformed`` where it is not what it is said to be, or holds what only an explicit syntax can:
        encapsulated pixel data, or a sequence of VR UN that has no length.
    """
    transcoder = _Transcoder(memoryview(encoded).cast("B"))
    try:
        return transcoder.run()
    except struct.error:
        raise StudyError("object-malformed") from None


class _Transcoder:
    """One walk over one Data Set."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._size = len(data)
        self._position = 0
        self._parts: list[Buffer] = []
        self._written = bytearray()
        self._stack: list[_Open] = []

    def run(self) -> tuple[Buffer, ...]:
        """Walk to the end."""
        while True:
            while self._stack and self._position >= self._stack[-1].end and not self._stack[-1].undefined:
                self._close()
            if self._position >= self._size:
                break
            group, number = _TAG(self._data, self._position)
            if self._stack and self._stack[-1].is_sequence:
                self._item(group << 16 | number)
            else:
                self._element(group, number)
        if self._stack:
            raise StudyError("object-malformed")
        self._parts.append(self._written)
        return tuple(part for part in self._parts if len(part))

    def _item(self, tag: int) -> None:
        (length,) = _LENGTH.unpack_from(self._data, self._position + 4)
        if tag == _SEQUENCE_END and self._stack[-1].undefined:
            self._end()
        elif tag == _ITEM:
            self._open(length, self._position + 8, is_sequence=False)
        else:
            raise StudyError("object-malformed")

    def _element(self, group: int, number: int) -> None:
        data, position = self._data, self._position
        if group << 16 | number == _ITEM_END and self._stack and self._stack[-1].undefined:
            self._end()
            return
        vr = bytes(data[position + 4 : position + 6])
        if vr in LONG_VRS:
            (length,), start = _LENGTH.unpack_from(data, position + 8), position + 12
        elif vr.isalpha() and vr.isupper():
            (length,), start = _SHORT(data, position + 6), position + 8
        else:
            raise StudyError("object-malformed")
        if vr == b"SQ":
            self._open(length, start, is_sequence=True)
            return
        end = start + length
        if length == UNDEFINED or end > (self._stack[-1].end if self._stack else self._size):
            raise StudyError("object-malformed")
        self._position = end
        if number == 0:
            return
        self._written += _HEADER.pack(group, number, length)
        if length >= _LONG_VALUE and not self._stack:
            self._parts += [self._written, data[start:end]]
            self._written = bytearray()
        else:
            self._written += data[start:end]

    def _open(self, length: int, start: int, *, is_sequence: bool) -> None:
        undefined = length == UNDEFINED
        limit = self._stack[-1].end if self._stack else self._size
        end = limit if undefined else start + length
        if end > limit:
            raise StudyError("object-malformed")
        self._written += self._data[self._position : self._position + 4]
        self._stack.append(_Open(is_sequence, end, undefined, len(self._written)))
        self._written += _LENGTH.pack(length)
        self._position = start

    def _close(self) -> None:
        """Leave what has a length, and write the length that it has now."""
        one = self._stack.pop()
        _LENGTH.pack_into(self._written, one.length_at, len(self._written) - one.length_at - 4)

    def _end(self) -> None:
        """Leave what ends with a delimiter."""
        self._written += self._data[self._position : self._position + 8]
        self._position += 8
        self._stack.pop()
