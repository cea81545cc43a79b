"""Attack: presentation data values whose length is a lie (PS3.8 9.3.5.1), before and in the middle of a Data Set."""

from __future__ import annotations

import struct

import pytest

from dicomnode.network import pdu
from tests.network.raw import STORE_CONTEXT, STUDY, Peer, data_pdu, data_set, fragment, store_command, whole
from tests.security.siege import Siege, assert_aborted, broken


def begun(peer: Peer) -> None:
    """An association in the middle of a Data Set."""
    peer.associate()
    peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.2"), command=True, last=True)))
    peer.send(data_pdu(fragment(STORE_CONTEXT, data_set(f"{STUDY}.2")[:200], command=False, last=False)))


@pytest.mark.parametrize("length", [0, 1, 101, 102, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFF])
@pytest.mark.parametrize("stage", ["first", "data"])
def test_an_item_that_does_not_fit_its_pdu(siege: Siege, length: int, stage: str) -> None:
    """The item has 100 bytes; 102 with context and control header would be right: that one is told as 101 of 100."""
    with siege.attack(broken("item-length")), siege.peer() as peer:
        begun(peer) if stage == "data" else peer.associate()
        claimed = length + 1 if length == 102 else length
        if claimed == 101:
            claimed = 104
        body = struct.pack(">LBB", claimed, STORE_CONTEXT, 0 if stage == "data" else 1) + bytes(100)
        peer.send(whole(pdu.P_DATA_TF, body))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


@pytest.mark.parametrize("rest", range(1, 6))
def test_bytes_behind_the_last_item(siege: Siege, rest: int) -> None:
    with siege.attack(broken("item-cut")), siege.peer() as peer:
        begun(peer)
        peer.send(whole(pdu.P_DATA_TF, fragment(STORE_CONTEXT, bytes(100), command=False, last=False) + bytes(rest)))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


def test_a_pdu_longer_than_what_is_sent_of_it(siege: Siege) -> None:
    """The end of the connection in the middle of an item: nothing of the object is kept."""
    with siege.attack(broken(None, "peer-aborted")), siege.peer() as peer:
        begun(peer)
        peer.send(data_pdu(fragment(STORE_CONTEXT, bytes(5000), command=False, last=True))[:-1])
