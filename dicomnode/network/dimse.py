"""DIMSE command sets (PS3.7 6.3, E.1) as bytes. Pure: no socket, no association.

A command set is Implicit VR Little Endian and small; what is needed of it is read here, and responses are written.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from dicomnode.network.pdu import UNEXPECTED_PARAMETER, Buffer, Violation

C_STORE_RQ: Final = 0x0001
C_FIND_RQ: Final = 0x0020
C_ECHO_RQ: Final = 0x0030
N_EVENT_REPORT_RQ: Final = 0x0100
N_SET_RQ: Final = 0x0120
N_ACTION_RQ: Final = 0x0130
N_CREATE_RQ: Final = 0x0140
C_CANCEL_RQ: Final = 0x0FFF
RESPONSE: Final = 0x8000  # PS3.7 E.1: the bit that makes a response of a request
NO_DATA_SET: Final = 0x0101  # PS3.7 E.1

#: More than any command set needs: UIDs have 64 bytes (PS3.5 9.1), error comments too (PS3.7 C).
MAXIMUM_COMMAND_BYTES: Final = 16 * 1024
_HEAD: Final = struct.Struct("<HHL")
_GROUP_LENGTH: Final = struct.Struct("<HHLL")
_US: Final = struct.Struct("<H")
_NUMBERS_OF_RESPONSE: Final = struct.Struct("<" + "HHLH" * 4)

# PS3.7 Table E.1-1, elements of group 0000.
_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_REQUESTED_SOP_CLASS_UID: Final = 0x0003
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_RESPONDED: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
_REQUESTED_SOP_INSTANCE_UID: Final = 0x1001
_EVENT_TYPE_ID: Final = 0x1002
_ACTION_TYPE_ID: Final = 0x1008
_TEXTS: Final = {
    _AFFECTED_SOP_CLASS_UID: "affected_sop_class_uid",
    _REQUESTED_SOP_CLASS_UID: "requested_sop_class_uid",
    _AFFECTED_SOP_INSTANCE_UID: "affected_sop_instance_uid",
    _REQUESTED_SOP_INSTANCE_UID: "requested_sop_instance_uid",
}
_NUMBERS: Final = {
    _COMMAND_FIELD: "command_field",
    _MESSAGE_ID: "message_id",
    _MESSAGE_ID_RESPONDED: "message_id_responded",
    _DATA_SET_TYPE: "data_set_type",
    _STATUS: "status",
    _EVENT_TYPE_ID: "event_type_id",
    _ACTION_TYPE_ID: "action_type_id",
}
_LONGEST_UID: Final = 128  # twice what the standard allows: it is compared, and refused, later


@dataclass(slots=True, kw_only=True)
class Command:
    """What a command set says; a number that it lacks is -1, a text that it lacks is empty."""

    command_field: int = -1
    message_id: int = -1
    message_id_responded: int = -1
    data_set_type: int = -1
    status: int = -1
    event_type_id: int = -1
    action_type_id: int = -1
    affected_sop_class_uid: str = ""
    requested_sop_class_uid: str = ""
    affected_sop_instance_uid: str = ""
    requested_sop_instance_uid: str = field(default="", repr=False)

    @property
    def has_data_set(self) -> bool:
        """Whether a Data Set follows (PS3.7 E.1: any value but 0101H)."""
        return self.data_set_type != NO_DATA_SET


def parse_command(encoded: Buffer) -> Command:
    """Read a command set.

    Raises
    ------
    Violation
        If it cannot be read, or lacks Command Field, Command Data Set Type, or the Message ID of a request.
    """
    found: dict[str, Any] = {}
    position, size = 0, len(encoded)
    while position < size:
        if size - position < _HEAD.size:
            raise Violation(UNEXPECTED_PARAMETER, "command-cut")
        group, element, length = _HEAD.unpack_from(encoded, position)
        position += 8
        end = position + length
        if group != 0 or end > size:
            raise Violation(UNEXPECTED_PARAMETER, "command-element")
        if element in _NUMBERS:
            if length != _US.size:
                raise Violation(UNEXPECTED_PARAMETER, "command-number")
            found[_NUMBERS[element]] = encoded[position] | encoded[position + 1] << 8
        elif element == _AFFECTED_SOP_CLASS_UID:
            found["affected_sop_class_uid"] = _class_text(bytes(encoded[position:end]))
        elif element in _TEXTS:
            found[_TEXTS[element]] = _text(bytes(encoded[position:end]))
        position = end
    command = Command(**found)
    identified = command.message_id if command.command_field & RESPONSE == 0 else command.message_id_responded
    if command.command_field == C_CANCEL_RQ:
        identified = command.message_id_responded
    if command.command_field < 0 or command.data_set_type < 0 or identified < 0:
        raise Violation(UNEXPECTED_PARAMETER, "command-incomplete")
    return command


def _text(value: bytes) -> str:
    text = value.strip(b"\0 ")
    if len(text) > _LONGEST_UID or not text.isascii():
        raise Violation(UNEXPECTED_PARAMETER, "command-uid")
    return text.decode("ascii")


_class_text = lru_cache(256)(_text)  # a sender's are the same again and again


def response(request: Command, status: int, *, with_data_set: bool = False, sop_instance_uid: str = "") -> bytes:
    """Command set of the response to a request (PS3.7 9.3, 10.3).

    Parameters
    ----------
    status
        DIMSE status.
    with_data_set
        Whether a Data Set follows.
    sop_instance_uid
        Of the instance that was made, where the request named none (PS3.7 10.1.5.1.4).
    """
    parts = [
        _class_element(request.affected_sop_class_uid or request.requested_sop_class_uid),
        _NUMBERS_OF_RESPONSE.pack(
            *(0, _COMMAND_FIELD, 2, request.command_field | RESPONSE),
            *(0, _MESSAGE_ID_RESPONDED, 2, request.message_id),
            *(0, _DATA_SET_TYPE, 2, 0x0001 if with_data_set else NO_DATA_SET),
            *(0, _STATUS, 2, status),
        ),
    ]
    instance = request.affected_sop_instance_uid or request.requested_sop_instance_uid or sop_instance_uid
    if instance:
        parts.append(_element(_AFFECTED_SOP_INSTANCE_UID, _uid(instance)))
    if request.event_type_id >= 0:
        parts.append(_element(_EVENT_TYPE_ID, _US.pack(request.event_type_id)))
    if request.action_type_id >= 0:
        parts.append(_element(_ACTION_TYPE_ID, _US.pack(request.action_type_id)))
    return _command_set(parts)


def event_report(message_id: int, sop_class_uid: str, sop_instance_uid: str, event_type_id: int) -> bytes:
    """Command set of an N-EVENT-REPORT request with a Data Set (PS3.7 10.3.1.1)."""
    return _command_set(
        [
            _element(_AFFECTED_SOP_CLASS_UID, _uid(sop_class_uid)),
            _element(_COMMAND_FIELD, _US.pack(N_EVENT_REPORT_RQ)),
            _element(_MESSAGE_ID, _US.pack(message_id)),
            _element(_DATA_SET_TYPE, _US.pack(0x0001)),
            _element(_AFFECTED_SOP_INSTANCE_UID, _uid(sop_instance_uid)),
            _element(_EVENT_TYPE_ID, _US.pack(event_type_id)),
        ]
    )


def _command_set(parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _element(element: int, value: bytes) -> bytes:
    return _HEAD.pack(0, element, len(value)) + value


@lru_cache(256)
def _class_element(sop_class_uid: str) -> bytes:
    return _element(_AFFECTED_SOP_CLASS_UID, _uid(sop_class_uid))


def _uid(text: str) -> bytes:
    value = text.encode("ascii")
    return value + b"\0" if len(value) % 2 else value
