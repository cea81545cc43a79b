"""The walk over an encoded Data Set: element by element, with a stack of its own, never recursive, never decoding.

Pure. It reads headers and skips values; what it counts (depth, elements, items, inflated bytes) has limits. It takes
the same turns as pydicom where writers stray from PS3.5 7.1 (an implicit item in an explicit Data Set, a VR that is
none), so that what passed here is what pydicom will meet.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydicom._dicom_dict import DicomDictionary

from dicomnode.errors import StudyError

Buffer = bytes | bytearray | memoryview

UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
#: PS3.5 7.1.2: VRs whose length has four bytes.
LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SEQUENCE_TAGS: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ")
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_BINARY_TAGS: Final = frozenset(tag for tag, entry in DicomDictionary.items() if entry[0] in {"OB", "OW", "OB or OW"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Budgets for what strangers encoded; the fields of the same names in `config`.

    Parameters
    ----------
    header_scan_bytes
        Bytes of a Data Set that `scan_header` looks at (after inflating).
    maximum_nesting
        Depth of sequences.
    maximum_items
        Elements, items and fragments of one Data Set, all together.
    maximum_inflated_bytes
        Bytes of a deflated Data Set after inflating.
    """

    header_scan_bytes: int = 1024 * 1024
    maximum_nesting: int = 32
    maximum_items: int = 100_000
    maximum_inflated_bytes: int = 1024 * 1024 * 1024


class Layout(NamedTuple):
    """How a Data Set is laid out."""

    implicit: bool
    big_endian: bool
    deflated: bool


_EXPLICIT: Final = Layout(implicit=False, big_endian=False, deflated=False)
_DEFLATED: Final = Layout(implicit=False, big_endian=False, deflated=True)
_IMPLICIT: Final = Layout(implicit=True, big_endian=False, deflated=False)
#: PS3.5 A: every transfer syntax that is not here, private ones too, is Explicit VR Little Endian.
_LAYOUTS: Final = {
    "1.2.840.10008.1.2": _IMPLICIT,
    "1.2.840.10008.1.2.2": Layout(implicit=False, big_endian=True, deflated=False),
    "1.2.840.10008.1.2.1.99": _DEFLATED,
    "1.2.840.10008.1.2.4.95": _DEFLATED,  # JPIP Referenced Deflate
    "1.2.840.10008.1.2.4.205": _DEFLATED,  # JPIP HTJ2K Referenced Deflate
    "1.2.840.10008.1.20": _IMPLICIT,  # Papyrus 3, retired
    "1.2.840.113619.5.2": _IMPLICIT,  # GE private: little endian headers, big endian pixels
}
#: Transfer syntaxes whose pixel data has a length; all others encapsulate it (PS3.5 A.4).
NATIVE: Final = frozenset((*_LAYOUTS, "1.2.840.10008.1.2.1")) - {"1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}


def layout_of(transfer_syntax_uid: str) -> Layout:
    """Layout of a transfer syntax, known or private."""
    return _LAYOUTS.get(transfer_syntax_uid, _EXPLICIT)


class Element(NamedTuple):
    """A top-level element: its tag and where its value lies (length 0xFFFFFFFF: undefined)."""

    tag: int
    start: int
    length: int


def inflate(encoded: Buffer, most: int) -> tuple[bytes, bool]:
    """At most so many bytes of a deflated Data Set (PS3.5 A.5), and whether there are more.

    Raises
    ------
    StudyError
        ``object-malformed``: the stream is damaged.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        head = stream.decompress(encoded, most)
    except zlib.error:
        raise StudyError("object-malformed") from None
    return head, not stream.eof


def inflate_whole(encoded: Buffer, limits: Limits) -> bytes:
    """A deflated Data Set, inflated.

    Raises
    ------
    StudyError
        ``object-too-complex`` beyond the limit, ``object-malformed`` for a damaged or cut stream.
    """
    most = limits.maximum_inflated_bytes
    data, more = inflate(encoded, most + 1)
    if len(data) > most:
        raise StudyError("object-too-complex", limit_inflated_bytes=most)
    if more:
        raise StudyError("object-malformed")
    return data


def looks_implicit(data: memoryview, position: int, assumed: bool) -> bool:
    """Whether the element at a position has no VR: two capital letters where a length would stand say that it has."""
    vr = data[position + 4 : position + 6]
    if len(vr) < 2:
        return assumed
    return not (0x40 < vr[0] < 0x5B and 0x40 < vr[1] < 0x5B)


def check_budget(encoded: Buffer, transfer_syntax_uid: str, limits: Limits) -> None:
    """Look through a whole Data Set for what would take a parser too far.

    Raises
    ------
    StudyError
        ``object-too-complex`` beyond a limit, ``object-malformed`` where a length or a delimiter is wrong.
    """
    layout = layout_of(transfer_syntax_uid)
    data = inflate_whole(encoded, limits) if layout.deflated else encoded
    for _ in Walk(data, layout, limits).elements():
        pass


def is_cut(encoded: Buffer, transfer_syntax_uid: str, limits: Limits) -> bool:
    """Whether a Data Set ends within the header of an element: a few bytes are left, and they are not all zero.

    Raises
    ------
    StudyError
        As `check_budget`.
    """
    layout = layout_of(transfer_syntax_uid)
    data = inflate_whole(encoded, limits) if layout.deflated else encoded
    walk = Walk(data, layout, limits)
    for _ in walk.elements():
        pass
    return any(walk.rest)


def end_of(data: Buffer, layout: Layout, limits: Limits) -> int:
    """Where a Data Set ends with bytes behind it that are none of it: behind its pixels, where tags no longer rise or nothing reads as an element.

    Raises
    ------
    StudyError
        As `check_budget`, where that is before its pixels or within them.
    """
    walk = Walk(data, layout, limits)
    last = pixels = -1
    try:
        for element in walk.elements():
            if pixels >= 0 and element.tag <= last:
                return walk.begun
            if element.tag in _PIXELS:
                pixels = walk.begun
            last = element.tag
    except StudyError as error:
        tag, start = walk.tried
        cut = start == pixels or (tag in _PIXELS and tag > last)
        if pixels < 0 or cut or error.code != "object-malformed":
            raise
        return start
    return len(data)


class _Frame(NamedTuple):
    """A Data Set, sequence or run of fragments that the walk is inside of."""

    kind: str  # "dataset", "sequence" or "fragments"
    end: int  # no byte beyond belongs to it
    undefined: bool  # ends with a delimiter
    implicit: bool
    doubtful: bool  # only looks like a sequence: where it proves to be none, it is skipped
    depth: int


class _Broken(Exception):
    """The bytes are not what the walk took them for."""


class Walk:
    """One walk over one Data Set that is not deflated.

    Parameters
    ----------
    data
        The bytes.
    layout
        How they are laid out; whether VRs are there is checked against the bytes.
    limits
        What may be met.
    total
        Bytes of the whole Data Set where ``data`` is only its beginning (then the walk ends silently with the data).
    """

    def __init__(self, data: Buffer, layout: Layout, limits: Limits, *, total: int | None = None) -> None:
        self._data = memoryview(data).cast("B")
        self._size = len(self._data)
        self._cut = total is not None and total > self._size
        self._limits = limits
        order = ">" if layout.big_endian else "<"
        self._tag = struct.Struct(order + "HH").unpack_from
        self._short = struct.Struct(order + "H").unpack_from
        self._long = struct.Struct(order + "L").unpack_from
        self._implicit = looks_implicit(self._data, 0, layout.implicit)
        end = self._size if total is None else total
        self._stack: list[_Frame] = [_Frame("dataset", end, False, self._implicit, False, 0)]
        self._position = 0
        self._begun = 0
        self._tried = (0, 0)
        self._count = 0

    @property
    def implicit(self) -> bool:
        """Whether the top level has no VRs, as found."""
        return self._implicit

    @property
    def begun(self) -> int:
        """Where the top-level element begins that was met last; everything before it was walked whole."""
        return self._begun

    @property
    def tried(self) -> tuple[int, int]:
        """Tag of the top-level element that was met last, and where it begins, though it may be none that can be read."""
        return self._tried

    @property
    def rest(self) -> bytes:
        """What has not been walked: at the end, fewer bytes than an element has."""
        return bytes(self._data[self._position :])

    def elements(self) -> Iterator[Element]:
        """Top-level elements in their order; what they hold is walked in between.

        Raises
        ------
        StudyError
            ``object-too-complex`` or ``object-malformed``.
        """
        while True:
            try:
                self._close()
                if self._position + 8 > self._size and (self._cut or len(self._stack) == 1):
                    return  # the end, or fewer bytes than an element has: padding
                element = self._step()
            except struct.error:
                if self._cut:
                    return
                self._give_up()
            except _Broken:
                self._give_up()
            else:
                if element is not None:
                    yield element

    def _close(self) -> None:
        """Leave what has ended."""
        while len(self._stack) > 1 and self._position >= self._stack[-1].end:
            if self._stack[-1].undefined:
                raise _Broken
            self._stack.pop()

    def _give_up(self) -> None:
        """Skip what only looked like a sequence; without doubt it is malformed."""
        if not self._stack[-1].doubtful:
            raise StudyError("object-malformed") from None
        while self._stack[-1].doubtful:
            self._position = self._stack.pop().end

    def _step(self) -> Element | None:
        """One element, item, fragment or delimiter."""
        self._count += 1
        if self._count > self._limits.maximum_items:
            raise StudyError("object-too-complex", limit_items=self._limits.maximum_items)
        frame = self._stack[-1]
        if self._position + 8 > frame.end:
            raise _Broken
        group, number = self._tag(self._data, self._position)
        tag = group << 16 | number
        if frame.kind == "dataset":
            return self._element(frame, tag)
        self._item(frame, tag)
        return None

    def _item(self, frame: _Frame, tag: int) -> None:
        length = self._long(self._data, self._position + 4)[0]
        self._position += 8
        if tag == _SEQUENCE_END and frame.undefined:
            self._stack.pop()
            return
        if tag != _ITEM:
            raise _Broken
        undefined = length == UNDEFINED
        end = frame.end if undefined else self._position + length
        if end > frame.end or (undefined and frame.kind == "fragments"):
            raise _Broken
        if frame.kind == "fragments":
            self._position = end
            return
        implicit = frame.implicit or looks_implicit(self._data, self._position, False)
        self._stack.append(_Frame("dataset", end, undefined, implicit, frame.doubtful, frame.depth))

    def _element(self, frame: _Frame, tag: int) -> Element | None:
        if frame.depth == 0:
            self._tried = (tag, self._position)
        if tag == _ITEM_END:
            if not frame.undefined:
                raise _Broken
            self._position += 8
            self._stack.pop()
            return None
        vr, length, start = self._header(frame)
        if frame.depth == 0:
            self._begun = self._position
        self._position = start
        known = length != UNDEFINED
        kind = self._kind(tag, vr, start, length)
        end = start + length if known else frame.end
        if end > frame.end:
            raise _Broken
        if kind is None:
            self._position = end
        else:
            depth = frame.depth + 1
            if depth > self._limits.maximum_nesting:
                raise StudyError("object-too-complex", limit_nesting=self._limits.maximum_nesting)
            guessed = known and vr in {None, b"UN"} and tag not in _SEQUENCE_TAGS
            doubtful = frame.doubtful or guessed
            self._stack.append(_Frame(kind, end, not known, frame.implicit, doubtful, depth))
        return Element(tag, start, length) if frame.depth == 0 else None

    def _header(self, frame: _Frame) -> tuple[bytes | None, int, int]:
        """VR (None: there is none), length, and where the value starts (PS3.5 7.1.2, 7.1.3)."""
        position = self._position
        if not frame.implicit:
            vr = bytes(self._data[position + 4 : position + 6])
            if vr in LONG_VRS:
                return vr, self._long(self._data, position + 8)[0], position + 12
            if b"AA" <= vr <= b"ZZ":
                return vr, self._short(self._data, position + 6)[0], position + 8
        return None, self._long(self._data, position + 4)[0], position + 8

    def _kind(self, tag: int, vr: bytes | None, start: int, length: int) -> str | None:
        """What the value holds: a sequence, fragments, or None for plain bytes."""
        if vr == b"SQ" or (vr in {None, b"UN"} and tag in _SEQUENCE_TAGS):
            return "sequence"
        if length == UNDEFINED:
            return "sequence" if vr == b"UN" or (vr is None and tag not in _BINARY_TAGS) else "fragments"
        if vr in {None, b"UN"} and length >= 8 and tag not in _BINARY_TAGS:
            group, number = self._tag(self._data, start)
            return "sequence" if group << 16 | number == _ITEM else None
        return None
