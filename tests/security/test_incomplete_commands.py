"""Attack: command sets that lack what they need, or cannot be read (PS3.7 6.3). One abort, or one status."""

from __future__ import annotations

import struct

import pytest

from dicomnode.network import dimse, pdu
from tests.network.raw import (
    ECHO_CONTEXT,
    STORE_CONTEXT,
    STUDY,
    VERIFICATION,
    command_set,
    data_pdu,
    data_set,
    echo_command,
    fragment,
    store_command,
)
from tests.security.siege import Expected, Siege, assert_aborted, broken, refused

ECHO = {
    "affected_sop_class_uid": VERIFICATION,
    "command_field": dimse.C_ECHO_RQ,
    "message_id": 1,
    "data_set_type": dimse.NO_DATA_SET,
}


@pytest.mark.parametrize("missing", ["command_field", "message_id", "data_set_type"])
def test_a_field_that_is_missing(siege: Siege, missing: str) -> None:
    fields = {name: value for name, value in ECHO.items() if name != missing}
    with siege.attack(broken("command-incomplete")), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, command_set(**fields), command=True, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


@pytest.mark.parametrize(
    ("missing", "status", "expected"),
    [
        ("affected_sop_class_uid", 0x0122, {}),  # another class than its context is for: answered, no alarm
        ("affected_sop_instance_uid", 0xC000, refused("object-without-uids")),
    ],
)
def test_an_object_without_a_name_is_refused_and_the_association_goes_on(
    siege: Siege, missing: str, status: int, expected: Expected
) -> None:
    command = store_command(f"{STUDY}.5", **{missing: b""})
    with siege.attack(expected), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, command, command=True, last=True)))
        peer.send(data_pdu(fragment(STORE_CONTEXT, data_set(f"{STUDY}.5"), command=False, last=True)))
        assert peer.status() == status
        peer.release()


def test_a_store_without_a_data_set(siege: Siege) -> None:
    command = store_command(f"{STUDY}.5", data_set_type=dimse.NO_DATA_SET)
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, command, command=True, last=True)))
        assert peer.status() == 0xC000
        peer.release()


GARBAGE = {
    "command-incomplete": b"",
    "command-cut": echo_command() + b"\0" * 7,
    "command-element": echo_command() + struct.pack("<HHL", 0, 0x0110, 0xFFFFFFFE),
    "command-number": command_set(**{**ECHO, "message_id": b"12345678"}),
    "command-uid": command_set(**{**ECHO, "affected_sop_class_uid": b"\xff" * 20}),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_command_that_cannot_be_read(siege: Siege, kind: str) -> None:
    with siege.attack(broken(kind)), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, GARBAGE[kind], command=True, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_a_command_of_another_group(siege: Siege) -> None:
    with siege.attack(broken("command-element")), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, data_set(f"{STUDY}.5"), command=True, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_a_command_without_an_end(siege: Siege) -> None:
    with siege.attack(broken("command-length")), siege.peer() as peer:
        peer.associate()
        piece = data_pdu(fragment(ECHO_CONTEXT, bytes(4096), command=True, last=False))
        peer.send(*[piece] * 200)
        assert_aborted(peer, pdu.INVALID_PARAMETER)
