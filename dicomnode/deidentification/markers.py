"""Marker segments that a decoder of JPEG or JPEG 2000 reads and no picture needs: tables that no scan uses, lengths, registrations.

Pure, in place, and of the same length; what a stream may not have so is refused. The walk over a stream is in `streams`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from dicomnode.errors import StudyError

#: Markers of JPEG (ISO/IEC 10918-1 Table B.1) and JPEG-LS (ISO/IEC 14495-1).
_HUFFMAN, _ARITHMETIC, _QUANTISATION, _LINES, _RESTART, _PRESETS = 0xC4, 0xCC, 0xDB, 0xDC, 0xDD, 0xF8
FRAME_OF_LS: Final = 0xF7
#: Frame headers but those of Huffman tables, extensions and arithmetic conditioning.
FRAMES: Final = frozenset({*range(0xC0, 0xD0), FRAME_OF_LS}) - {_HUFFMAN, 0xC8, _ARITHMETIC}
#: Segments that decoders read or stumble over; all others are passed over.
READ: Final = FRAMES | {_HUFFMAN, 0xC8, _ARITHMETIC, _QUANTISATION, _LINES, _RESTART, 0xDE, 0xDF, _PRESETS}
_WITHOUT_QUANTISATION: Final = frozenset({0xC3, 0xC7, 0xCB, 0xCF, FRAME_OF_LS})
_WITH_ARITHMETIC: Final = frozenset({0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_WITHOUT_HUFFMAN: Final = _WITH_ARITHMETIC | {FRAME_OF_LS}
_MOST_SYMBOLS: Final = 256
#: Of JPEG 2000 (ISO/IEC 15444-1 Table A.2): pointers and registrations, which become empty comments; what may stand once,
#: and once for each component; packed headers and others are refused.
_CAPABILITIES, LENGTHS, _COMMENT = 0x50, 0x55, 0x64
_BESIDE: Final = frozenset({LENGTHS, 0x57, 0x58, 0x59, 0x63})
_ONCE: Final = frozenset({_CAPABILITIES, 0x51, 0x52, 0x5C, 0x5F})
_PER_COMPONENT: Final = frozenset({0x53, 0x5D, 0x5E})
_HIGH_THROUGHPUT: Final = b"\0\x02\0\0"  # ISO/IEC 15444-15 A.3
_MANY_COMPONENTS: Final = 257
_PRINTED: Final = re.compile(rb"[A-Za-z0-9 ^.,/:_=\-]{20,}")
_DIFFERENT: Final = 6


def withheld() -> StudyError:
    """Of a stream in which nothing tells the picture from other bytes."""
    return StudyError("withheld-pixels", because="stream")


def is_written(data: bytes | bytearray) -> bool:
    """Whether bytes hold a text: twenty printable characters in a row, several of them different."""
    return any(len(set(run[0])) >= _DIFFERENT for run in _PRINTED.finditer(data))


@dataclass(slots=True)
class Tables:
    """Tables of a JPEG stream: each is kept where it is the last of its name before a scan that refers to it."""

    _defined: list[tuple[int, int, int]] = field(default_factory=list)  # start, end, and what stands for it
    _current: dict[tuple[int, int], int] = field(default_factory=dict)
    _used: set[int] = field(default_factory=set)
    _frame: int = 0
    _quantisations: frozenset[int] = frozenset()
    _lines: int = 0

    def take(self, data: bytearray, marker: int, start: int, stop: int) -> None:
        """Take a segment of those that are read, from behind its length on.

        Raises
        ------
        StudyError
            ``withheld-pixels`` for one that is not as long as what it holds, and for those of hierarchical streams.
        """
        if marker in FRAMES:
            self._begin(data, marker, start, stop)
        elif marker in (_QUANTISATION, _HUFFMAN):
            for name, first, last in _tables(data, marker, start, stop):
                self._define((marker, name), first, last, 1 if marker == _QUANTISATION else 0)
        elif marker == _ARITHMETIC:
            if any(data[place] & 0xEC for place in range(start, stop, 2)):
                self._define((marker, len(self._defined)), start, stop, 0)
            else:
                self._define((marker, 0), start, stop, 0)
        elif marker == _RESTART and stop - start == 2:
            self._define((marker, 0), start, stop, 0)
        elif marker == _PRESETS and stop - start == 11 and data[start] == 1:  # ISO/IEC 14495-1 C.2.4.1.1
            self._define((marker, 0), start + 1, stop, 0)
        elif marker == _LINES and stop - start == 2 and not self._lines:
            self._lines = 1
        else:
            raise withheld()

    def _define(self, name: tuple[int, int], start: int, end: int, plain: int) -> None:
        self._current[name] = len(self._defined)
        self._defined.append((start, end, plain))

    def _begin(self, data: bytearray, marker: int, start: int, stop: int) -> None:
        if self._frame or stop - start != 6 + 3 * data[start + 5]:
            raise withheld()
        self._frame = marker
        if marker not in _WITHOUT_QUANTISATION:
            self._quantisations = frozenset(data[start + 8 : stop : 3])

    def scan(self, data: bytearray, start: int, stop: int) -> None:
        """Take the header of a scan: what it refers to is used."""
        if stop - start != 4 + 2 * data[start] if self._frame else is_written(data[start:stop]):
            raise withheld()
        wanted = {(_QUANTISATION, name) for name in self._quantisations} | {(_RESTART, 0), (_PRESETS, 0)}
        if self._frame not in _WITHOUT_HUFFMAN:
            selectors = data[start + 2 : stop - 3 : 2]
            wanted |= {(_HUFFMAN, one >> 4) for one in selectors} | {(_HUFFMAN, 16 + (one & 15)) for one in selectors}
        if self._frame in _WITH_ARITHMETIC:
            wanted.add((_ARITHMETIC, 0))
        self._used |= {self._current[name] for name in wanted if name in self._current}

    def blank(self, data: bytearray) -> None:
        """Let those that no scan uses say nothing."""
        for number, (start, end, plain) in enumerate(self._defined):
            if number not in self._used:
                data[start:end] = bytes([plain]) * (end - start)


def _tables(data: bytearray, marker: int, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Name, start and end of the values of each table of a segment (ISO/IEC 10918-1 B.2.4.1, B.2.4.2)."""
    while position < stop:
        name, start = data[position], position + 1
        if marker == _QUANTISATION:
            position = start + 64 * (2 if name >> 4 else 1)
            name &= 15
        else:
            start += 16
            symbols = sum(data[position + 1 : start])
            if symbols > _MOST_SYMBOLS:
                raise withheld()
            position = start + symbols
        if position > stop:
            raise withheld()
        yield name, start, position


class Segments:
    """Segments of the headers of a JPEG 2000 codestream.

    Parameters
    ----------
    data
        The codestream.
    """

    def __init__(self, data: bytearray) -> None:
        self._data = data
        self._components = int.from_bytes(data[40:42], "big")  # ISO/IEC 15444-1 A.5.1
        self._seen: Counter[tuple[int, int]] = Counter()
        self._header = 0
        self._lengths: list[tuple[int, int]] = []

    def begin(self) -> None:
        """Begin a header: of the codestream, of a tile-part."""
        self._header += 1

    def take(self, marker: int, position: int, stop: int) -> None:
        """Take a segment, from its marker on: an empty comment takes the place of what no picture needs.

        Raises
        ------
        StudyError
            ``withheld-pixels`` where one stands once too many, says what decoders do not read, or is written text.
        """
        data = self._data
        if marker == LENGTHS:
            self._lengths.append((position, stop))
        elif marker in _BESIDE:
            self._comment(position, stop)
        elif marker == _COMMENT:
            data[position + 6 : stop] = bytes(max(stop - position - 6, 0))  # it says whether it is text
        elif not self._fits(marker, position, stop) or is_written(data[position:stop]):
            raise withheld()

    def _fits(self, marker: int, position: int, stop: int) -> bool:
        data = self._data
        self._seen[self._header, marker] += 1
        most = 1 if marker in _ONCE else self._components if marker in _PER_COMPONENT else 0
        if marker == _CAPABILITIES and data[position + 4 : stop - 2] != _HIGH_THROUGHPUT:
            return False
        if marker in _PER_COMPONENT:
            size = 1 if self._components < _MANY_COMPONENTS else 2
            if int.from_bytes(data[position + 4 : position + 4 + size], "big") >= self._components:
                return False
        return self._seen[self._header, marker] <= most

    def _comment(self, position: int, stop: int) -> None:
        self._data[position + 1] = _COMMENT
        self._data[position + 4 : stop] = bytes(stop - position - 4)

    def end(self, parts: list[tuple[int, int]]) -> None:
        """Keep lengths of tile-parts where they are true (A.7.1).

        Parameters
        ----------
        parts
            Index of the tile and length of each tile-part.
        """
        said = [
            entry
            for position, stop in sorted(self._lengths, key=lambda one: self._data[one[0] + 4])
            for entry in _entries(self._data, position, stop)
        ]
        true = len(said) == len(parts) and all(
            length == part[1] and index in (-1, part[0]) for (index, length), part in zip(said, parts, strict=False)
        )
        for position, stop in () if true else self._lengths:
            self._comment(position, stop)


def _entries(data: bytearray, position: int, stop: int) -> Iterator[tuple[int, int]]:
    """Index of the tile, -1 where none is said, and length of each entry of a TLM segment."""
    sizes = data[position + 5]
    index, length = sizes >> 4 & 3, 4 if sizes & 0x40 else 2
    for at in range(position + 6, stop, index + length):
        of = int.from_bytes(data[at : at + index], "big") if index else -1
        yield of, int.from_bytes(data[at + index : min(at + index + length, stop)], "big")
