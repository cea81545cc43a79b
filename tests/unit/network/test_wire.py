"""Sockets read in exact pieces, under time limits."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from dicomnode.errors import PeerError
from dicomnode.network.wire import Wire


@pytest.fixture
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname(), 5)
        ours, _ = listener.accept()
    wire = Wire(ours, 5)
    yield wire, peer
    wire.end()
    peer.close()


def send_for_ever(wire: Wire, data: bytes) -> None:
    for _ in range(1000):
        wire.send(data)


def test_a_place_is_filled_however_the_bytes_come(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    place = memoryview(bytearray(6))
    sender = threading.Thread(target=lambda: [peer.sendall(one) for one in (b"ab", b"c", b"def")])
    sender.start()
    wire.read(place)
    sender.join()
    assert bytes(place) == b"abcdef"


def test_some_is_what_is_there_and_the_least_is_waited_for(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    place = memoryview(bytearray(12))
    peer.sendall(b"0123456789")
    assert wire.read_some(place, 6) == 10
    sender = threading.Thread(target=lambda: [peer.sendall(one) for one in (b"ab", b"cdef")])
    sender.start()
    assert wire.read_some(place, 6) >= 6
    sender.join()
    peer.close()
    assert wire.read_some(place, 1) == 0


@pytest.mark.parametrize("first", [b"", b"ab"])
def test_an_end_in_the_middle_is_an_abort(pair: tuple[Wire, socket.socket], first: bytes) -> None:
    wire, peer = pair
    peer.sendall(first)
    peer.close()
    with pytest.raises(PeerError, match="peer-aborted"):
        wire.read(memoryview(bytearray(6)))


@pytest.mark.parametrize("first", [b"", b"ab"])
def test_silence_ends(pair: tuple[Wire, socket.socket], first: bytes) -> None:
    wire, peer = pair
    wire.wait_at_most(0.05)
    peer.sendall(first)
    with pytest.raises(PeerError, match="timeout"):
        wire.read(memoryview(bytearray(6)))


def test_a_peer_that_takes_nothing_is_not_waited_for_for_ever(pair: tuple[Wire, socket.socket]) -> None:
    wire, _peer = pair
    wire.wait_at_most(0.05)
    with pytest.raises(PeerError, match="timeout"):
        send_for_ever(wire, bytes(1 << 20))


def test_a_peer_that_went_cannot_be_told(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    with pytest.raises(PeerError, match="peer-aborted"):
        send_for_ever(wire, b"x" * 65536)


def test_another_thread_ends_it_with_a_farewell(pair: tuple[Wire, socket.socket]) -> None:
    wire, peer = pair
    ended: list[str] = []

    def read() -> None:
        try:
            wire.read(memoryview(bytearray(6)))
        except PeerError as error:
            ended.append(error.code)

    reader = threading.Thread(target=read)
    reader.start()
    wire.interrupt(b"bye")
    reader.join(10)
    assert ended == ["peer-aborted"]
    assert peer.recv(10) == b"bye"


def test_what_is_closed_stays_closed(pair: tuple[Wire, socket.socket]) -> None:
    wire, _peer = pair
    wire.end()
    wire.end()
    wire.interrupt()
    wire.acknowledge_at_once()
    with pytest.raises(PeerError, match="peer-aborted"):
        wire.read(memoryview(bytearray(1)))


def test_nothing_follows_what_was_sent_in_part(pair: tuple[Wire, socket.socket]) -> None:
    """A report that stalled in the middle: an answer of the association's own thread behind it would be taken for its rest."""
    wire, peer = pair
    wire.wait_at_most(0.1)
    with pytest.raises(PeerError, match="timeout"):
        send_for_ever(wire, b"1" * (1 << 20))
    came = bytearray()
    peer.settimeout(0.2)
    with contextlib.suppress(OSError):
        while data := peer.recv(1 << 20):
            came += data
    with pytest.raises(PeerError, match="peer-aborted"):
        wire.send(b"2")
    wire.part(b"3")
    with contextlib.suppress(OSError):
        while data := peer.recv(1 << 20):
            came += data
    assert set(came) == {ord("1")}
    with pytest.raises(PeerError, match="peer-aborted"):  # whoever reads learns of it, too
        wire.read(memoryview(bytearray(1)))
