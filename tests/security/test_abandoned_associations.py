"""Attack: associations that are left in the middle of anything, thousands of them. None leaves anything behind."""

from __future__ import annotations

import os
import random
import socket

import pytest

from tests.network.raw import STORE_CONTEXT, STUDY, Peer, data_pdu, data_set, fragment, store_command
from tests.security.siege import Siege, broken

ROUNDS = int(os.environ.get("DICOMNODE_ABANDONED", "2000"))
#: A stage of the receiver has 0.7 MB: one that leaked in each round would be a hundred times the limit.
OBJECT_BYTES = 300_000


def abandon(peer: Peer, chance: random.Random, number: int) -> bool:
    """Send a part of an object and vanish; whether by a reset."""
    peer.associate()
    data = data_set(f"{STUDY}.6.{number}", bytes(OBJECT_BYTES))
    message = [data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.6.{number}"), command=True, last=True))]
    for start in range(0, len(data), 50_000):
        message.append(data_pdu(fragment(STORE_CONTEXT, data[start : start + 50_000], command=False, last=False)))
    whole = b"".join(message)
    peer.send(whole[: chance.choice((0, 5, 40, 130, 4_000, 60_000, 280_000, len(whole)))])
    reset = chance.random() < 0.5
    if reset:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    return reset


@pytest.mark.timeout(600)
def test_thousands_that_vanish(siege: Siege) -> None:
    chance = random.Random(5)
    with siege.attack(broken(None, "peer-aborted", ROUNDS)):
        for number in range(ROUNDS):
            with siege.peer(f"127.0.0.{number % 50 + 2}") as peer:
                abandon(peer, chance, number)
