"""Attack: one address opens whatever it can. What it may hold is capped, and another address gets in meanwhile."""

from __future__ import annotations

import time
from contextlib import ExitStack

from dicomnode.network import pdu
from tests.network.raw import Peer, associate_request
from tests.security.siege import Siege

ATTACKER = "127.0.0.66"


def rejected(peer: Peer) -> tuple[int, bytes] | None:
    peer.send(associate_request())
    return peer.pdu()


def test_connections_that_wait(siege: Siege) -> None:
    """Three times as many as one address may have waiting; the surplus is closed at once."""
    allowed = siege.receiver.tree.listen.waiting_per_address
    surplus = 2 * allowed
    expected = {("connection.refused", "", None): surplus, ("connection.failed", "peer-aborted", None): allowed}
    with siege.attack(expected), ExitStack() as stack:
        peers = [stack.enter_context(siege.peer(ATTACKER)) for _ in range(allowed + surplus)]
        for peer in peers[allowed:]:
            assert peer.pdu() is None
        siege.serve_a_friend()


def test_associations_that_stay_open(siege: Siege) -> None:
    """As many as one address may have; the next is rejected as transient (PS3.8 9.3.4), and another address gets in."""
    allowed = siege.receiver.tree.listen.associations_per_address
    expected = {("association.rejected", "", None): 3}
    with siege.attack(expected), ExitStack() as stack:
        peers = [stack.enter_context(siege.peer(ATTACKER)).associate() for _ in range(allowed)]
        for _ in range(3):
            with siege.peer(ATTACKER) as one_too_many:
                assert rejected(one_too_many) == (pdu.A_ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
                assert one_too_many.pdu() is None
        siege.serve_a_friend()
        for peer in peers:
            peer.release()


def test_connections_one_after_the_other(siege: Siege) -> None:
    """Opened and closed, a thousand times: none of them is left, and the log is no flood either."""
    since, begun = len(siege.receiver.lines), time.monotonic()
    with siege.attack({("connection.failed", "peer-aborted", None): 1000}):
        for number in range(1000):
            with siege.peer(ATTACKER) as peer:
                if number % 2:
                    peer.socket.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER 0: a reset
                peer.socket.shutdown(1)
                assert peer.pdu() is None
        siege.serve_a_friend()
    lines = [one for one in siege.receiver.events(since) if one["event"] == "connection.failed"]
    intervals = (time.monotonic() - begun) / siege.receiver.tree.logging.summary_seconds
    assert len(lines) <= 2 * (intervals + 2)  # there are two kinds, since half of the connections are reset
