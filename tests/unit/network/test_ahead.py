"""Bytes that are read ahead come in their order, once, however they came and however they are asked for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import PeerError
from dicomnode.network.ahead import Ahead
from dicomnode.network.wire import Wire


class Pieces:
    """A wire whose bytes come in pieces: no read gives more than the next one."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces
        self.acknowledged = 0

    def acknowledge_at_once(self) -> None:
        self.acknowledged += 1

    def read_some(self, place: memoryview, least: int) -> int:
        count = 0
        while self.pieces and (not count or count < least):
            wanted = len(place) if not count else least
            piece = self.pieces[0][: wanted - count]
            place[count : count + len(piece)] = piece
            count += len(piece)
            self.pieces[0] = self.pieces[0][len(piece) :]
            if not self.pieces[0]:
                del self.pieces[0]
        return count

    def read_ahead(self, place: memoryview, behind: memoryview) -> int:
        if self.read_some(place, len(place)) != len(place):
            raise PeerError("peer-aborted")
        return self.read_some(behind, 0) if self.pieces else 0


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), 5)
        ours, _ = listener.accept()
    wire = Wire(ours, 5)
    yield wire, peer
    wire.end()
    peer.close()


@given(
    st.lists(st.binary(min_size=1, max_size=60_000), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["need", "fill"]), st.integers(1, 12), st.integers(1, 70_000)), max_size=12),
    st.integers(0, 3),
)
def test_what_comes_out_is_what_came(pieces: list[bytes], asked: list[tuple[str, int, int]], widened: int) -> None:
    whole = b"".join(pieces)
    ahead = Ahead(Pieces(list(pieces)))  # type: ignore[arg-type]
    position = 0
    for number, (act, few, many) in enumerate(asked):
        if number == widened:
            ahead.widen()
        count = min(few if act == "need" else many, len(whole) - position)
        if act == "need" and count:
            ahead.need(count)
            assert bytes(ahead.view[ahead.start : ahead.start + count]) == whole[position : position + count]
            ahead.start += count
        elif count:
            place = bytearray(count)
            ahead.fill(memoryview(place))
            assert place == whole[position : position + count]
        position += count
    with pytest.raises(PeerError, match="peer-aborted"):
        ahead.fill(memoryview(bytearray(len(whole) - position + 1)))


def test_who_may_wait_for_an_acknowledgement_gets_one_for_each_message() -> None:
    wire = Pieces([b"abcdef", b"ghijkl", b"mnopqr", b"stuvwx", b"yz"])
    ahead = Ahead(wire)  # type: ignore[arg-type]
    for message in (1, 2):
        ahead.need(6)
        assert wire.acknowledged == message - 1
        ahead.need(6, owed=True)
        assert wire.acknowledged == message - 1, "nothing is waited for"
        ahead.start += 6
        ahead.need(6, owed=True)
        assert wire.acknowledged == message
        ahead.start += 6
        ahead.fill(memoryview(bytearray(1))) if message == 2 else None
        assert wire.acknowledged == message, "once is enough"


def test_a_sender_that_waits_for_acknowledgements_is_not_kept_waiting(pair: tuple[Wire, socket.socket]) -> None:
    """Nagle's algorithm holds back what is small until all before it is acknowledged; we would wait 40 ms with that."""
    wire, peer = pair
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    ahead = Ahead(wire)
    ahead.widen()

    def send() -> None:
        for _ in range(20):
            for piece in (b"head..", bytes(200), b"head..", bytes(30_000)):
                peer.sendall(piece)
            peer.recv(1)

    sender = threading.Thread(target=send)
    sender.start()
    took = []
    for _ in range(20):
        ahead.need(6)
        began = time.monotonic()
        ahead.start += 6
        ahead.fill(memoryview(bytearray(200)))
        ahead.need(6, owed=True)
        ahead.start += 6
        ahead.fill(memoryview(bytearray(30_000)))
        took.append(time.monotonic() - began)
        wire.send(b"!")
    sender.join()
    assert sorted(took)[10] < 0.035, took


def test_what_lies_behind_a_long_piece_comes_with_it(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    ahead = Ahead(wire)
    data = bytes(range(250)) * 800
    sender = threading.Thread(target=peer.sendall, args=(data + b"behind",))
    sender.start()
    place = memoryview(bytearray(len(data)))
    ahead.fill(place)
    assert place == data
    ahead.need(6)
    assert bytes(ahead.view[ahead.start : ahead.start + 6]) == b"behind"
    sender.join()
    peer.close()
    ahead.start += 6
    with pytest.raises(PeerError, match="peer-aborted"):
        ahead.need(1)


def test_an_end_and_silence_in_a_long_piece(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    wire.wait_at_most(0.05)
    ahead = Ahead(wire)
    for sent in (b"", b"some"):
        peer.sendall(sent)
        with pytest.raises(PeerError, match="timeout"):
            ahead.fill(memoryview(bytearray(10)))
    peer.sendall(b"some")
    peer.close()
    with pytest.raises(PeerError, match="peer-aborted"):
        ahead.fill(memoryview(bytearray(10)))
    with pytest.raises(PeerError, match="peer-aborted"):
        ahead.fill(memoryview(bytearray(10)))
