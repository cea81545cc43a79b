"""Attack: C-CANCEL for nothing, and commands that no table knows. Answered as PS3.7 says, and the association lives."""

from __future__ import annotations

import pytest

from dicomnode.network import dimse, pdu
from tests.network.raw import (
    ECHO_CONTEXT,
    STORE_CONTEXT,
    STUDY,
    VERIFICATION,
    command_set,
    data_pdu,
    echo,
    fragment,
    store,
)
from tests.security.siege import Siege, assert_aborted, broken


def cancel(message_id: int, data_set_type: int = dimse.NO_DATA_SET) -> bytes:
    command = command_set(command_field=dimse.C_CANCEL_RQ, message_id_responded=message_id, data_set_type=data_set_type)
    return data_pdu(fragment(STORE_CONTEXT, command, command=True, last=True))


def test_cancels_of_nothing_between_objects(siege: Siege) -> None:
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        for number in range(20):
            peer.send(*[cancel(one) for one in range(50)])
            peer.send(*store(f"{STUDY}.3.{number}"), cancel(1))
            assert peer.status() == 0x0000
        peer.release()


def test_a_cancel_with_a_data_set(siege: Siege) -> None:
    with siege.attack(broken("data-before-command")), siege.peer() as peer:
        peer.associate()
        peer.send(cancel(1, 1), data_pdu(fragment(STORE_CONTEXT, bytes(100), command=False, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


@pytest.mark.parametrize("field", [0x0000, 0x0002, 0x0010, 0x0021, 0x0100, 0x0150, 0x4242, 0x7FFF])
@pytest.mark.parametrize("with_data_set", [False, True])
def test_a_command_that_nobody_serves(siege: Siege, field: int, with_data_set: bool) -> None:
    """PS3.7 C.5.14: unrecognised operation."""
    command = command_set(
        affected_sop_class_uid=VERIFICATION,
        command_field=field,
        message_id=7,
        data_set_type=1 if with_data_set else dimse.NO_DATA_SET,
    )
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, command, command=True, last=True)))
        if with_data_set:
            peer.send(data_pdu(fragment(ECHO_CONTEXT, bytes(5000), command=False, last=True)))
        assert peer.status() == 0x0211
        peer.send(echo())
        assert peer.status() == 0x0000
        peer.release()


def test_a_data_set_without_an_end_for_nobody(siege: Siege) -> None:
    """What no service streams is collected, within a bound."""
    command = command_set(affected_sop_class_uid=VERIFICATION, command_field=0x0020, message_id=7, data_set_type=1)
    with siege.attack(broken("data-set-length")), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, command, command=True, last=True)))
        peer.send(*[data_pdu(fragment(ECHO_CONTEXT, bytes(60_000), command=False, last=False))] * 30)
        assert_aborted(peer, pdu.INVALID_PARAMETER)
