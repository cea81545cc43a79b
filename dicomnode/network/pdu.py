"""Protocol data units of the DICOM upper layer (PS3.8 9.3) as bytes. Pure: no socket, no clock, no association.

Whatever bytes come in, a function here gives a result or raises one `Violation`.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from dicomnode.errors import PeerError
from dicomnode.network.status import Rejection

Buffer = bytes | bytearray | memoryview

A_ASSOCIATE_RQ: Final = 0x01
A_ASSOCIATE_AC: Final = 0x02
A_ASSOCIATE_RJ: Final = 0x03
P_DATA_TF: Final = 0x04
A_RELEASE_RQ: Final = 0x05
A_RELEASE_RP: Final = 0x06
A_ABORT: Final = 0x07

HEADER_BYTES: Final = 6  # PS3.8 9.3.1: type, reserved, length
ITEM_BYTES: Final = 6  # PS3.8 9.3.5.1: length, context id, message control header
_HEADER: Final = struct.Struct(">BxL")
_ITEM: Final = struct.Struct(">LBB")
_PDATA: Final = struct.Struct(">BxLLBB")
_ITEM_LEAST: Final = 2  # PS3.8 E.2: an item's length counts context id and control header
#: PS3.8 9.3.4, 9.3.6 to 9.3.8: these have one length.
_SHORT: Final = frozenset({A_ASSOCIATE_RJ, A_RELEASE_RQ, A_RELEASE_RP, A_ABORT})
_SHORT_BYTES: Final = 4

#: Reasons of an A-ABORT by the service provider (PS3.8 Table 9-26).
NOT_SPECIFIED: Final = 0
UNRECOGNISED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNEXPECTED_PARAMETER: Final = 5
INVALID_PARAMETER: Final = 6

COMMAND: Final = 0x01  # PS3.8 E.2: bits of the message control header
LAST: Final = 0x02

RELEASE_RESPONSE: Final = bytes((A_RELEASE_RP, 0, 0, 0, 0, 4, 0, 0, 0, 0))


class Violation(PeerError):
    """A peer broke the rules of the upper layer or of DIMSE; `abort_reason` is what it is told (PS3.8 Table 9-26)."""

    retryable = False

    def __init__(self, abort_reason: int, what: str) -> None:
        super().__init__("peer-protocol", what=what)
        self.abort_reason = abort_reason


class Item(NamedTuple):
    """Header of a presentation data value: bytes of its fragment, context, and what the control header says."""

    length: int
    context_id: int
    is_command: bool
    is_last: bool


def header(kind: int, length: int) -> bytes:
    """Header of a PDU (PS3.8 9.3.1)."""
    return _HEADER.pack(kind, length)


def parse_header(data: Buffer, offset: int, longest: int) -> tuple[int, int]:
    """Type and length of the PDU that begins at an offset.

    Raises
    ------
    Violation
        For a type that is none, a length beyond the longest, or another than the type has.
    """
    kind, length = _HEADER.unpack_from(data, offset)
    if not A_ASSOCIATE_RQ <= kind <= A_ABORT:
        raise Violation(UNRECOGNISED_PDU, "pdu-type")
    if length > longest or (kind in _SHORT and length != _SHORT_BYTES):
        raise Violation(INVALID_PARAMETER, "pdu-length")
    if kind == P_DATA_TF and length < ITEM_BYTES:
        raise Violation(INVALID_PARAMETER, "pdu-empty")
    return kind, length


def data_header(length: int, context_id: int) -> bytes:
    """Headers of a P-DATA-TF and of its only item, a fragment of so many bytes of a Data Set that is not its last."""
    return _PDATA.pack(P_DATA_TF, length + ITEM_BYTES, length + _ITEM_LEAST, context_id, 0)


def parse_item(data: Buffer, offset: int, remaining: int) -> Item:
    """Header of an item that lies in the `remaining` bytes of its PDU.

    Raises
    ------
    Violation
        If the item does not fit in.
    """
    length, context_id, control = _ITEM.unpack_from(data, offset)
    if length < _ITEM_LEAST or length + 4 > remaining:
        raise Violation(INVALID_PARAMETER, "item-length")
    return Item(length - _ITEM_LEAST, context_id, bool(control & COMMAND), bool(control & LAST))


def abort(source: int, reason: int) -> bytes:
    """A-ABORT (PS3.8 9.3.8); source 0 is the user, 2 the provider."""
    return bytes((A_ABORT, 0, 0, 0, 0, 4, 0, 0, source, reason if source else 0))


def reject(rejection: Rejection) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return bytes((A_ASSOCIATE_RJ, 0, 0, 0, 0, 4, 0, *rejection))


def data_pdus(context_id: int, message: bytes, *, command: bool, longest: int) -> bytes:
    """Part of a message (command set or Data Set) as P-DATA-TF, one after the other.

    Parameters
    ----------
    longest
        Bytes that the peer takes in one PDU, its header apart; 0: any number (PS3.8 D.1).
    """
    size = max(longest - ITEM_BYTES, 1) if longest else max(len(message), 1)
    control = COMMAND if command else 0
    if len(message) <= size:
        head = _PDATA.pack(P_DATA_TF, len(message) + ITEM_BYTES, len(message) + _ITEM_LEAST, context_id, control | LAST)
        return head + message
    pieces = []
    for start in range(0, len(message), size):
        piece = message[start : start + size]
        last = LAST if start + size >= len(message) else 0
        pieces.append(
            _PDATA.pack(P_DATA_TF, len(piece) + ITEM_BYTES, len(piece) + _ITEM_LEAST, context_id, control | last)
        )
        pieces.append(piece)
    return b"".join(pieces)
