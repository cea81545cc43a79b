"""Command sets as bytes, beside pynetdicom's own."""

from __future__ import annotations

import struct
from contextlib import suppress
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from dicomnode.network import dimse
from dicomnode.network.dimse import Command
from dicomnode.network.pdu import Violation

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded(**elements: object) -> bytes:
    """As pydicom writes it."""
    command = Dataset()
    for keyword, value in elements.items():
        setattr(command, keyword, value)
    target = DicomBytesIO()
    target.is_little_endian = target.is_implicit_VR = True
    write_dataset(target, command)
    return target.getvalue()


def element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def store(**changes: object) -> bytes:
    fields = {
        "AffectedSOPClassUID": CT,
        "CommandField": 1,
        "MessageID": 7,
        "Priority": 0,
        "CommandDataSetType": 1,
        "AffectedSOPInstanceUID": "1.2.3",
    }
    return encoded(**{**fields, **changes})


def test_a_request_is_read() -> None:
    command = dimse.parse_command(store())
    assert command == Command(
        command_field=dimse.C_STORE_RQ,
        message_id=7,
        data_set_type=1,
        affected_sop_class_uid=CT,
        affected_sop_instance_uid="1.2.3",
    )
    assert command.has_data_set
    assert not dimse.parse_command(store(CommandDataSetType=0x0101)).has_data_set


def test_a_cancel_names_what_it_cancels() -> None:
    command = dimse.parse_command(encoded(CommandField=0x0FFF, MessageIDBeingRespondedTo=4, CommandDataSetType=0x0101))
    assert command.message_id_responded == 4


@pytest.mark.parametrize(
    "data",
    [
        b"",
        store()[:-3],
        store() + b"\0\0\0",
        element(0x100, b"\1\0") + element(0x110, b"\1\0"),  # no Command Data Set Type
        element(0x110, b"\1\0") + element(0x800, b"\1\0"),  # no Command Field
        element(0x100, b"\1\0") + element(0x800, b"\1\0"),  # a request without Message ID
        element(0x100, b"\1\x80") + element(0x110, b"\1\0") + element(0x800, b"\1\1"),  # a response to nothing
        element(0x100, b"\1\0\0\0") + element(0x110, b"\1\0") + element(0x800, b"\1\0"),
        struct.pack("<HHL", 8, 0x100, 2) + b"\1\0",
        element(0x1000, b"1" * 200) + store(),
        element(0x1000, "1.2.ä".encode()) + store(),
    ],
)
def test_what_is_no_command_set_is_a_violation(data: bytes) -> None:
    with pytest.raises(Violation):
        dimse.parse_command(data)


def test_responses_are_what_others_read() -> None:
    command = dimse.parse_command(store())
    data = dimse.response(command, 0xA700, with_data_set=True)
    read = read_dataset(BytesIO(data), True, True)
    assert read.CommandGroupLength == len(data) - 12
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert (read.CommandField, read.MessageIDBeingRespondedTo, read.Status) == (0x8001, 7, 0xA700)
    assert read.CommandDataSetType != 0x0101


def test_a_response_of_normalised_services() -> None:
    command = dimse.parse_command(
        encoded(RequestedSOPClassUID="1.2", CommandField=0x0130, MessageID=1, CommandDataSetType=1, ActionTypeID=1)
    )
    read = read_dataset(BytesIO(dimse.response(command, 0, sop_instance_uid="1.2.9")), True, True)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID, read.ActionTypeID) == ("1.2", "1.2.9", 1)
    report = dimse.parse_command(
        encoded(AffectedSOPClassUID="1.2", CommandField=0x0100, MessageID=1, CommandDataSetType=1, EventTypeID=2)
    )
    assert read_dataset(BytesIO(dimse.response(report, 0)), True, True).EventTypeID == 2


@given(st.binary(max_size=80))
def test_any_bytes_give_a_command_or_a_violation(data: bytes) -> None:
    with suppress(Violation):
        dimse.parse_command(data)
