"""Attack: commands and Data Sets out of order (PS3.7 6.3.1, PS3.8 E.2). The association is aborted, nothing is stored."""

from __future__ import annotations

from dicomnode.network import dimse, pdu
from tests.network.raw import (
    ECHO_CONTEXT,
    STORE_CONTEXT,
    STUDY,
    command_set,
    data_pdu,
    data_set,
    echo_command,
    fragment,
    store,
    store_command,
)
from tests.security.siege import Siege, assert_aborted, broken

COMMAND = fragment(STORE_CONTEXT, store_command(f"{STUDY}.4"), command=True, last=True)
HALF = fragment(STORE_CONTEXT, data_set(f"{STUDY}.4")[:200], command=False, last=False)
ECHO = fragment(ECHO_CONTEXT, echo_command(), command=True, last=True)
CANCEL = command_set(command_field=dimse.C_CANCEL_RQ, message_id_responded=1, data_set_type=dimse.NO_DATA_SET)


def attack(siege: Siege, kind: str, *fragments: bytes) -> None:
    """In one PDU, and in one each: the same."""
    with siege.attack(broken(kind, times=2)):
        for pdus in ([data_pdu(*fragments)], [data_pdu(one) for one in fragments]):
            with siege.peer() as peer:
                peer.associate()
                peer.send(*pdus)
                assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_data_before_the_command(siege: Siege) -> None:
    attack(siege, "data-before-command", HALF)


def test_data_behind_a_message(siege: Siege) -> None:
    with siege.attack(broken("data-before-command")), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.4.1"))
        assert peer.status() == 0x0000
        peer.send(data_pdu(HALF))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_a_command_in_the_middle_of_a_data_set(siege: Siege) -> None:
    attack(siege, "command-in-message", COMMAND, HALF, ECHO)


def test_a_second_store_in_the_middle_of_a_data_set(siege: Siege) -> None:
    attack(siege, "command-in-message", COMMAND, HALF, COMMAND)


def test_a_cancel_in_the_middle_of_a_data_set(siege: Siege) -> None:
    attack(siege, "command-in-message", COMMAND, HALF, fragment(STORE_CONTEXT, CANCEL, command=True, last=True))


def test_a_data_set_under_another_context_than_its_command(siege: Siege) -> None:
    attack(
        siege,
        "data-before-command",
        COMMAND,
        fragment(ECHO_CONTEXT, data_set(f"{STUDY}.4"), command=False, last=True),
    )


def test_two_commands_that_are_interleaved(siege: Siege) -> None:
    attack(
        siege,
        "command-in-message",
        fragment(STORE_CONTEXT, store_command(f"{STUDY}.4")[:40], command=True, last=False),
        ECHO,
    )


def test_a_response_that_nobody_asked_for(siege: Siege) -> None:
    answer = command_set(
        command_field=dimse.C_STORE_RQ | dimse.RESPONSE,
        message_id_responded=1,
        data_set_type=dimse.NO_DATA_SET,
        status=0,
    )
    attack(siege, "response-unasked", fragment(STORE_CONTEXT, answer, command=True, last=True))
