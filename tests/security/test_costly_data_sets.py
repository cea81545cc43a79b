"""Attack: Data Sets that are made to cost the header scan, by many associations at once. Others are served meanwhile."""

from __future__ import annotations

import select
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.network.raw import STUDY, Peer, store
from tests.security.siege import Siege, refused

SEQUENCE = b"\x08\x00\x40\x11SQ\0\0"
ITEM = b"\xfe\xff\x00\xe0"
PEERS = 24
PATIENCE_SECONDS = 240.0  # the last of them waits for all others; it is the friend who is to be served at once


def many_items() -> bytes:
    items = (ITEM + b"\0\0\0\0") * 60_000
    return SEQUENCE + struct.pack("<L", len(items)) + items


def deep() -> bytes:
    return (SEQUENCE + b"\xff\xff\xff\xff" + ITEM + b"\xff\xff\xff\xff") * 40_000


def answered(peers: list[Peer]) -> Iterator[Peer]:
    """Each peer when its answer has come, in whatever order: one that was left without a word would be ended."""
    waiting = {peer.socket: peer for peer in peers}
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], PATIENCE_SECONDS)
        assert ready, f"{len(waiting)} of {len(peers)} were not answered"
        for connection in ready:
            yield waiting.pop(connection)


@pytest.mark.parametrize(
    ("encoded", "code"),
    [(many_items(), "object-without-uids"), (deep(), "object-too-complex")],
    ids=["items", "deep"],
)
def test_many_at_once(siege: Siege, encoded: bytes, code: str) -> None:
    with siege.attack(refused(code, PEERS)), ExitStack() as stack:
        peers = [stack.enter_context(siege.peer()).associate() for _ in range(PEERS)]
        for number, peer in enumerate(peers):
            peer.send(*store(f"{STUDY}.8.{number}", encoded))
        siege.serve_a_friend()
        for peer in answered(peers):
            assert peer.status() == 0xC000
            peer.release()
