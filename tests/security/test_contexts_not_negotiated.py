"""Attack: messages under presentation contexts that were never proposed, were refused, or are for something else."""

from __future__ import annotations

import pytest

from dicomnode.network import pdu
from tests.network.raw import (
    APPLICATION_CONTEXT,
    ECHO_CONTEXT,
    STORE_CONTEXT,
    STUDY,
    associate_request,
    data_pdu,
    data_set,
    echo,
    echo_command,
    fragment,
    item,
    proposed,
    store_command,
    user_information,
)
from tests.security.siege import Siege, assert_aborted, broken
from tests.unit.network.samples import SECONDARY_CAPTURE

REFUSED = 5


@pytest.mark.parametrize("context_id", [0, 2, 7, 255])
@pytest.mark.parametrize("command", [True, False])
def test_a_context_that_was_never_proposed(siege: Siege, context_id: int, command: bool) -> None:
    with siege.attack(broken("item-context")), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(context_id, echo_command(), command=command, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_a_context_that_was_refused(siege: Siege) -> None:
    """JPIP Referenced is never accepted: its pixels are elsewhere."""
    request = associate_request(
        item(0x10, APPLICATION_CONTEXT.encode()),
        proposed(REFUSED, SECONDARY_CAPTURE, "1.2.840.10008.1.2.4.94"),
        user_information(),
    )
    with siege.attack(broken("item-context")), siege.peer() as peer:
        peer.associate(request)
        peer.send(data_pdu(fragment(REFUSED, store_command(f"{STUDY}.9"), command=True, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)


def test_an_object_under_the_context_of_verification(siege: Siege) -> None:
    """PS3.7 C.5.15: SOP class not supported; its bytes are taken and dropped."""
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(ECHO_CONTEXT, store_command(f"{STUDY}.9"), command=True, last=True)))
        peer.send(data_pdu(fragment(ECHO_CONTEXT, data_set(f"{STUDY}.9"), command=False, last=True)))
        assert peer.status() == 0x0122
        peer.send(echo())
        assert peer.status() == 0x0000
        peer.release()


def test_a_change_of_context_in_the_middle_of_a_command(siege: Siege) -> None:
    command = store_command(f"{STUDY}.9")
    with siege.attack(broken("command-in-message")), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, command[:30], command=True, last=False)))
        peer.send(data_pdu(fragment(ECHO_CONTEXT, command[30:], command=True, last=True)))
        assert_aborted(peer, pdu.UNEXPECTED_PARAMETER)
