"""Ordinary association requests, read and answered as bytes (PS3.8 9.3.2, 9.3.3, D; PS3.7 D.3.3). Pure.

pynetdicom makes an object of every item and looks at each UID several times: 128 contexts cost it a dozen milliseconds.
What is not ordinary (roles, names that are no UIDs, items that nobody knows) is left to it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from dicomnode.network.pdu import HEADER_BYTES

_VARIABLE: Final = HEADER_BYTES + 68  # PS3.8 Table 9-11: where the variable items begin
_CALLED: Final = slice(HEADER_BYTES + 4, HEADER_BYTES + 20)
_CALLING: Final = slice(HEADER_BYTES + 20, HEADER_BYTES + 36)
_ITEM: Final = struct.Struct(">BxH")
_UID: Final = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+")  # PS3.5 9.1
_LONGEST_UID: Final = 64
_TITLE: Final = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e])?")
_ASSOCIATE_AC: Final = 2
_APPLICATION_CONTEXT, _ASKED, _ANSWERED, _ABSTRACT, _TRANSFER, _USER = 0x10, 0x20, 0x21, 0x30, 0x40, 0x50
_MAXIMUM, _IMPLEMENTATION, _WINDOW, _VERSION, _EXTENDED = 0x51, 0x52, 0x53, 0x55, 0x56
_IGNORED: Final = frozenset({_IMPLEMENTATION, _VERSION})
_ACCEPTED, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 3, 4  # PS3.8 Table 9-18


class Proposed(NamedTuple):
    """A presentation context as it is asked for."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


class Chosen(NamedTuple):
    """What is answered to it: of a refused one, its first transfer syntax."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int


class Supported(Protocol):
    """A context that the acceptor takes."""

    @property
    def transfer_syntax(self) -> Sequence[str]:
        """Transfer syntaxes, best first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordinary:
    """An A-ASSOCIATE-RQ in which everything is as most senders write it."""

    titles: bytes
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[Proposed, ...]
    longest_pdu: int
    extended: tuple[str, ...]
    asks_window: bool

    def choose(self, supported: Mapping[str, Supported]) -> list[Chosen]:
        """The acceptor's choice for each context, in the order of their ids: the best transfer syntax that is proposed."""
        chosen = []
        for asked in sorted(self.contexts):
            ours = supported.get(asked.abstract_syntax)
            result, syntax = _NO_ABSTRACT_SYNTAX, asked.transfer_syntaxes[0]
            if ours is not None:
                best = next((one for one in ours.transfer_syntax if one in asked.transfer_syntaxes), None)
                result, syntax = (_NO_TRANSFER_SYNTAX, syntax) if best is None else (_ACCEPTED, str(best))
            chosen.append(Chosen(asked.context_id, asked.abstract_syntax, syntax, result))
        return chosen

    def answer(self, chosen: Iterable[Chosen], user_items: Iterable[tuple[int, bytes]]) -> bytes:
        """A-ASSOCIATE-AC (PS3.8 9.3.3)."""
        body = b"".join(
            (
                b"\0\1\0\0",
                self.titles,
                bytes(32),
                _item(_APPLICATION_CONTEXT, self.application_context.encode()),
                *(
                    _item(
                        _ANSWERED,
                        bytes((one.context_id, 0, one.result, 0)) + _item(_TRANSFER, one.transfer_syntax.encode()),
                    )
                    for one in chosen
                ),
                _item(_USER, b"".join(_item(kind, value) for kind, value in user_items)),
            )
        )
        return struct.pack(">BxL", _ASSOCIATE_AC, len(body)) + body


def user_items(
    maximum_pdu_bytes: int, class_uid: str, version: str, extended: Iterable[tuple[str, bytes]], *, window: bool
) -> list[tuple[int, bytes]]:
    """Types and values of the acceptor's user information: length, implementation, extended negotiation, window."""
    items = [
        (_MAXIMUM, struct.pack(">L", maximum_pdu_bytes)),
        (_IMPLEMENTATION, class_uid.encode()),
        (_VERSION, version.encode()),
    ]
    items += [(_EXTENDED, struct.pack(">H", len(uid)) + uid.encode() + value) for uid, value in extended]
    if window:
        items.append((_WINDOW, b"\0\1\0\1"))  # PS3.7 D.3.3.3: one operation at a time
    return items


def read_ordinary(encoded: bytes) -> Ordinary | None:
    """A request whose structure was checked; None where it is not ordinary."""
    called, calling = (encoded[place].decode("latin-1").strip(" \0") for place in (_CALLED, _CALLING))
    if not (_TITLE.fullmatch(called) and _TITLE.fullmatch(calling)):
        return None
    application, contexts, user = "", [], b""
    for kind, value in _items(encoded, _VARIABLE):
        if kind == _APPLICATION_CONTEXT:
            application = _uid(value)
        elif kind == _ASKED:
            contexts.append(_context(value))
        elif kind == _USER:
            user = value
        else:
            return None
    longest, extended, window = 0, [], False
    for kind, value in _items(user, 0):
        if kind == _MAXIMUM and len(value) == 4:
            longest = int.from_bytes(value, "big")
        elif kind == _EXTENDED and len(value) > 2:
            size = int.from_bytes(value[:2], "big")
            extended.append(_uid(value[2 : 2 + size]))
        elif kind == _WINDOW and len(value) == 4:
            window = True
        elif kind not in _IGNORED:
            return None
    if not application or None in contexts or not all(extended):
        return None
    return Ordinary(
        titles=encoded[_CALLED] + encoded[_CALLING],
        called_ae_title=called,
        calling_ae_title=calling,
        application_context=application,
        contexts=tuple(one for one in contexts if one is not None),
        longest_pdu=longest,
        extended=tuple(extended),
        asks_window=window,
    )


def _context(value: bytes) -> Proposed | None:
    abstract, transfer = "", []
    for kind, name in _items(value, 4):
        uid = _uid(name)
        if not uid or kind not in {_ABSTRACT, _TRANSFER}:
            return None
        if kind == _TRANSFER:
            transfer.append(uid)
        else:
            abstract = uid
    return Proposed(value[0], abstract, tuple(transfer)) if abstract and transfer else None


def _uid(value: bytes) -> str:
    """UID without its padding; empty where it is none."""
    value = value.removesuffix(b"\0")
    return value.decode("ascii") if len(value) <= _LONGEST_UID and _UID.fullmatch(value) else ""


def _items(data: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    while start + _ITEM.size <= len(data):
        kind, length = _ITEM.unpack_from(data, start)
        start += _ITEM.size
        yield kind, data[start : start + length]
        start += length


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value
