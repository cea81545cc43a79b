"""Attack: messages in fragments of nothing. Each costs us more than the peer, so their mean size has a floor."""

from __future__ import annotations

import pytest

from dicomnode.network import pdu
from tests.network.raw import STORE_CONTEXT, STUDY, data_pdu, data_set, fragment, store, store_command
from tests.security.siege import Siege, assert_aborted, broken


@pytest.mark.parametrize("size", [0, 1, 2, 16])
@pytest.mark.parametrize("command", [False, True])
@pytest.mark.parametrize("in_one_pdu", [False, True])
def test_fragments_of_nothing_for_ever(siege: Siege, size: int, command: bool, in_one_pdu: bool) -> None:
    """At most 1025 of them are looked at."""
    tiny = fragment(STORE_CONTEXT, bytes(size), command=command, last=False)
    with siege.attack(broken("fragments-tiny")), siege.peer() as peer:
        peer.associate()
        if not command:
            peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.1"), command=True, last=True)))
        peer.send(*([data_pdu(*[tiny] * 1025)] * 5 if in_one_pdu else [data_pdu(tiny)] * 5000))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


def test_an_object_in_a_thousand_pieces_is_no_attack(siege: Siege) -> None:
    data = data_set(f"{STUDY}.1.1", bytes(600))
    pieces = [
        fragment(STORE_CONTEXT, data[start : start + 1], command=False, last=start + 1 == len(data))
        for start in range(len(data))
    ]
    assert 700 < len(pieces) < 1024
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.1.1"), command=True, last=True)))
        peer.send(*[data_pdu(piece) for piece in pieces])
        assert peer.status() == 0x0000
        peer.release()


def test_an_object_of_many_ordinary_fragments_with_an_empty_last_one(siege: Siege) -> None:
    """Senders that notice the end only when it has come."""
    data = data_set(f"{STUDY}.1.2", bytes(1_000_000))
    message = [data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.1.2"), command=True, last=True))]
    for start in range(0, len(data), 256):
        message.append(data_pdu(fragment(STORE_CONTEXT, data[start : start + 256], command=False, last=False)))
    message.append(data_pdu(fragment(STORE_CONTEXT, b"", command=False, last=True)))
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(*message, *store(f"{STUDY}.1.3", message_id=2))
        assert (peer.status(), peer.status()) == (0x0000, 0x0000)
        peer.release()
