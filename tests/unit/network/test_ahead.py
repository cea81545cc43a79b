"""Bytes that are read ahead come in their order, once, however they came and however they are asked for."""

from __future__ import annotations

import itertools
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
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

    scatters = True

    def read_parts(self, parts: Sequence[memoryview]) -> int:
        """As a socket: what has come fills one place after the other; the first is waited for."""
        count = self.read_some(parts[0], len(parts[0]))
        if count < len(parts[0]):
            raise PeerError("peer-aborted")
        for part in parts[1:]:
            came = self.read_some(part, 0) if self.pieces else 0
            count += came
            if came < len(part):
                break
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


def fragments(lengths: list[int], marked: list[bool]) -> tuple[bytes, bytes]:
    """A stream of fragments, each behind 12 bytes that say its length, some of them otherwise; and what they hold."""
    stream, whole = bytearray(), bytearray()
    for number, (length, odd) in enumerate(zip(lengths, marked, strict=False)):
        payload = random.Random(number).randbytes(length)
        stream += struct.pack(">LLL", 4, length, odd) + payload
        whole += payload
    return bytes(stream), bytes(whole)


def taken(ahead: Ahead, total: int, windows: Iterator[int]) -> tuple[bytes, int]:
    """What the fragments hold, read as a session does; and how many were begun by a guess."""
    found, guessed = bytearray(), 0
    while len(found) < total:
        ahead.need(12)
        _, left, _ = struct.unpack_from(">LLL", ahead.view, ahead.start)
        between, again = bytes(ahead.view[ahead.start : ahead.start + 8]) + bytes(4), left
        ahead.start += 12
        while left:
            window = memoryview(bytearray(next(windows)))
            put, left, begun = ahead.fill_on(window, left, between, again)
            assert 0 < put <= len(window)
            found += window[:put]
            guessed += begun
    return bytes(found), guessed


@given(
    st.lists(st.sampled_from([1, 5, 100, 5000, 60_000, 60_000, 60_000]), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.lists(st.integers(2000, 150_000), min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 4095, 100_000]), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_fragments_come_whole_however_well_they_are_guessed(
    lengths: list[int], odd: list[bool], cuts: list[int], windows: list[int]
) -> None:
    stream, whole = fragments(lengths, odd)
    pieces, rest = [], stream
    for cut in itertools.cycle(cuts):
        pieces.append(rest[:cut])
        rest = rest[cut:]
        if not rest:
            break
    ahead = Ahead(Pieces(pieces))  # type: ignore[arg-type]
    ahead.widen()
    limited = itertools.chain(windows * 3, itertools.repeat(100_000))
    found, guessed = taken(ahead, len(whole), limited)
    assert found == whole
    assert guessed <= len(lengths)
    with pytest.raises(PeerError, match="peer-aborted"):
        ahead.need(1)


def test_fragments_of_one_length_come_whole_over_a_socket(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    stream, whole = fragments([16_000] * 40 + [77], [False] * 41)
    sender = threading.Thread(target=peer.sendall, args=(stream,))
    sender.start()
    ahead = Ahead(wire)
    ahead.widen()
    assert taken(ahead, len(whole), itertools.repeat(262_144))[0] == whole
    sender.join()


def test_fragments_of_one_length_that_have_come_take_few_calls() -> None:
    stream, whole = fragments([16_000] * 40 + [77], [False] * 41)
    wire, calls = Pieces([stream]), []
    read_parts = wire.read_parts
    wire.read_parts = lambda parts: calls.append(len(parts)) or read_parts(parts)  # type: ignore[method-assign,func-returns-value]
    ahead = Ahead(wire)  # type: ignore[arg-type]
    ahead.widen()
    found, guessed = taken(ahead, len(whole), itertools.repeat(262_144))
    assert found == whole
    assert guessed >= 36  # the first came with what was asked for, and before the last one something else stands
    assert 0 < len(calls) <= 8


def test_a_sender_whose_fragments_differ_is_not_guessed_for_ever() -> None:
    stream, whole = fragments([9000 + number for number in range(40)], [False] * 40)
    pieces = Pieces([stream])
    calls = []
    read_parts = pieces.read_parts
    pieces.read_parts = lambda parts: calls.append(1) or read_parts(parts)  # type: ignore[method-assign,func-returns-value]
    ahead = Ahead(pieces)  # type: ignore[arg-type]
    ahead.widen()
    found, guessed = taken(ahead, len(whole), itertools.repeat(100_000))
    assert (found, guessed) == (whole, 0)
    assert len(calls) == 4
    assert len(ahead.view) < 50_000, "what was moved takes no memory any more"


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
