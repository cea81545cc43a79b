"""Structure of an A-ASSOCIATE-RQ (PS3.8 9.3.2), looked through before anybody decodes it. Pure: bytes in, a verdict out.

A request of half a megabyte can hold a hundred thousand items; decoding them costs seconds. None that is meant well
has more than the standard has room for.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final

from dicomnode.network.pdu import A_ASSOCIATE_RQ, HEADER_BYTES, INVALID_PARAMETER, Violation, header

_FIXED_BYTES: Final = HEADER_BYTES + 68  # PS3.8 Table 9-11: up to the variable items
_TITLES: Final = (slice(HEADER_BYTES + 4, HEADER_BYTES + 20), slice(HEADER_BYTES + 20, HEADER_BYTES + 36))
_TITLE: Final = re.compile(rb"[\x20-\x5b\x5d-\x7e]+")  # PS3.5 6.2, AE: no control character, no backslash
_ITEM: Final = struct.Struct(">BxH")
_APPLICATION_CONTEXT: Final = 0x10
_PRESENTATION_CONTEXT: Final = 0x20
_ABSTRACT_SYNTAX: Final = 0x30
_TRANSFER_SYNTAX: Final = 0x40
_USER_INFORMATION: Final = 0x50
#: Items that are looked at, and what is looked at within each (PS3.8 9.3.2, PS3.7 D.3.3).
_KNOWN: Final = MappingProxyType(
    {
        _APPLICATION_CONTEXT: frozenset[int](),
        _PRESENTATION_CONTEXT: frozenset({_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX}),
        _USER_INFORMATION: frozenset(range(0x51, 0x57)),
    }
)
_CONTEXT_HEAD_BYTES: Final = 4  # PS3.8 Table 9-13: id and three reserved
_MOST_CONTEXTS: Final = 128  # PS3.8 Table 9-13: ids are odd and below 256
_MOST_ITEMS_OF_CONTEXT: Final = 80  # PS3.6 A knows some sixty transfer syntaxes
_MOST_USER_ITEMS: Final = 1024  # a role and an extended negotiation for every context leave room
_LONGEST_NAME: Final = 128  # twice what a UID may have: what is too long is refused by whoever compares it


def check_structure(encoded: bytes) -> None:
    """Raise a `Violation` if an AE title is none, or the items do not fit in or are more than can be meant."""
    if len(encoded) < _FIXED_BYTES:
        raise _violation("request-cut")
    if not all(_TITLE.fullmatch(encoded[place].rstrip(b" \0")) for place in _TITLES):
        raise _violation("ae-title")
    ids: set[int] = set()
    once: set[int] = set()
    for kind, start, end in _items(encoded, _FIXED_BYTES, len(encoded)):
        if kind == _PRESENTATION_CONTEXT:
            ids.add(_context(encoded, start, end, ids))
            continue
        if kind in once:
            raise _violation("request-item-twice")
        once.add(kind)
        if kind == _USER_INFORMATION:
            _count(encoded, start, end, _MOST_USER_ITEMS)
    if not ids or not {_APPLICATION_CONTEXT, _USER_INFORMATION} <= once:
        raise _violation("request-item-missing")


def understood(encoded: bytes) -> bytes:
    """A request whose structure was checked, without the items that are skipped: what is not known is no fault (PS3.8 9.3, D.2).

    Nor is what nobody looks at here, however it is written: who the user is, and common extended negotiation (PS3.7 D.3.3.6, D.3.3.7).
    """
    body = encoded[HEADER_BYTES:_FIXED_BYTES] + b"".join(
        _item(kind, _understood(kind, encoded[start:end]))
        for kind, start, end in _items(encoded, _FIXED_BYTES, len(encoded))
        if kind in _KNOWN
    )
    return header(A_ASSOCIATE_RQ, len(body)) + body


def _understood(kind: int, value: bytes) -> bytes:
    known = _KNOWN[kind]
    start = _CONTEXT_HEAD_BYTES if kind == _PRESENTATION_CONTEXT else 0
    if not known:
        return value
    return value[:start] + b"".join(
        _item(inner, value[begin:stop]) for inner, begin, stop in _items(value, start, len(value)) if inner in known
    )


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _context(encoded: bytes, start: int, end: int, taken: set[int]) -> int:
    if end - start < _CONTEXT_HEAD_BYTES:
        raise _violation("request-item-length")
    context_id = encoded[start]
    if not context_id % 2 or context_id in taken or len(taken) >= _MOST_CONTEXTS:
        raise _violation("request-context-id")
    _count(encoded, start + _CONTEXT_HEAD_BYTES, end, _MOST_ITEMS_OF_CONTEXT)
    kinds: Counter[int] = Counter()
    for kind, begin, stop in _items(encoded, start + _CONTEXT_HEAD_BYTES, end):
        kinds[kind] += 1
        if stop - begin > _LONGEST_NAME:
            raise _violation("request-item-length")
    if kinds[_ABSTRACT_SYNTAX] != 1 or not kinds[_TRANSFER_SYNTAX]:
        raise _violation("request-context")
    return context_id


def _count(encoded: bytes, start: int, end: int, most: int) -> None:
    for number, _ in enumerate(_items(encoded, start, end)):
        if number >= most:
            raise _violation("request-items")


def _items(encoded: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, first byte and end of the value of each item."""
    while start < end:
        if end - start < _ITEM.size:
            raise _violation("request-item-cut")
        kind, length = _ITEM.unpack_from(encoded, start)
        start += _ITEM.size
        if length > end - start:
            raise _violation("request-item-length")
        yield kind, start, start + length
        start += length


def _violation(what: str) -> Violation:
    return Violation(INVALID_PARAMETER, what)
