"""Attack: peers that stall or trickle, at every stage. Each is cut off in bounded time while others are served."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dicomnode.network import pdu
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination, Tls
from tests.network.certificates import make_tls
from tests.network.raw import (
    STORE_CONTEXT,
    STUDY,
    Peer,
    associate_request,
    data_pdu,
    data_set,
    fragment,
    store_command,
)
from tests.network.receiver import Receiver
from tests.security.siege import SERVICE_SECONDS, Siege, assert_aborted, broken, failed
from tests.unit.storage.samples import disk_folder

PATIENCE = {"network_timeout_seconds": 2.0, "acse_timeout_seconds": 2.0}


@pytest.fixture(scope="module")
def impatient() -> Iterator[Siege]:
    """A receiver that bears two seconds of silence."""
    with disk_folder() as folder, Receiver(folder / "state", listen=PATIENCE) as receiver:
        yield Siege(receiver)


def associated(peer: Peer) -> bytes:
    peer.associate()
    return b""


def in_command(peer: Peer) -> bytes:
    peer.associate()
    return data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.8"), command=True, last=True))[:30]


def in_data_set(peer: Peer) -> bytes:
    peer.associate()
    peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.8"), command=True, last=True)))
    return data_pdu(fragment(STORE_CONTEXT, data_set(f"{STUDY}.8", bytes(10_000)), command=False, last=True))[:6000]


STALLS: list[Callable[[Peer], bytes]] = [
    lambda peer: b"",
    lambda peer: associate_request()[:1],
    lambda peer: associate_request()[:5],
    lambda peer: associate_request()[:80],
    associated,
    in_command,
    in_data_set,
]


def test_peers_that_fall_silent_at_every_stage(impatient: Siege) -> None:
    """With nothing, one byte, half a header, half a request, an association, half a command, half a Data Set."""
    with impatient.attack({**failed(None, "timeout", 4), **broken(None, "timeout", 3)}), ExitStack() as stack:
        peers = [stack.enter_context(impatient.peer()) for _ in STALLS]
        for peer, begin in zip(peers, STALLS, strict=True):
            peer.send(begin(peer))
        impatient.serve_a_friend()
        for peer in peers:
            assert_aborted(peer, pdu.NOT_SPECIFIED)


def trickle(connection: socket.socket, data: Iterator[bytes]) -> None:
    """A piece every tenth of a second, until the other side ends it."""
    connection.settimeout(0.1)
    for piece in data:
        try:
            connection.sendall(piece)
            if not connection.recv(64):
                return
        except TimeoutError:
            continue
        except OSError:
            return
    pytest.fail("it was let on")


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


@pytest.mark.parametrize("stage", ["request", "pdu"])
def test_a_pdu_that_trickles_byte_by_byte(impatient: Siege, stage: str) -> None:
    expected = failed(None, "timeout") if stage == "request" else broken(None, "timeout")
    with impatient.attack(expected), impatient.peer() as peer:
        if stage == "request":
            trickle(peer.socket, bytewise(associate_request() + bytes(1000)))
        else:
            peer.associate()
            peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.8"), command=True, last=True)))
            trickle(peer.socket, bytewise(data_pdu(fragment(STORE_CONTEXT, bytes(16000), command=False, last=True))))


@pytest.mark.parametrize("whole_pdus", [True, False])
def test_an_object_that_trickles_in_fragments(impatient: Siege, whole_pdus: bool) -> None:
    """Each fragment in time, alone or many in one PDU, and the object would take days."""
    tiny = fragment(STORE_CONTEXT, b"ab", command=False, last=False)
    with impatient.attack(broken("message-too-slow", "timeout")), impatient.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.8"), command=True, last=True)))
        if whole_pdus:
            trickle(peer.socket, (data_pdu(tiny) for _ in range(1000)))
        else:
            peer.send(struct.pack(">BxL", pdu.P_DATA_TF, 1000 * len(tiny)))
            trickle(peer.socket, (tiny for _ in range(1000)))


def test_many_at_once_hold_up_nobody(impatient: Siege) -> None:
    with impatient.attack(failed(None, "timeout", 24)), ExitStack() as stack:
        peers = [stack.enter_context(impatient.peer()) for _ in range(24)]
        for number, peer in enumerate(peers):
            peer.send(associate_request()[: number * 3])
        impatient.serve_a_friend()
        for peer in peers:
            assert_aborted(peer, pdu.NOT_SPECIFIED)


@pytest.mark.parametrize("hello", ["none", "half", "trickled"])
def test_a_tls_handshake_that_is_not_finished(tmp_path: Path, hello: str) -> None:
    tls = make_tls(tmp_path)
    listen = {**PATIENCE, "tls_port": 0, "tls": tls.model_dump(mode="json")}
    with disk_folder() as folder, Receiver(folder / "state", listen=listen) as receiver:
        since = len(receiver.lines)
        with Peer(receiver.port) as peer:
            if hello == "half":
                peer.send(client_hello()[:40])
            elif hello == "trickled":
                trickle(peer.socket, bytewise(client_hello()))
            begun = time.monotonic()
            echo_over_tls(receiver, tls)
            assert time.monotonic() - begun <= SERVICE_SECONDS
            assert peer.pdu() is None
            (event,) = receiver.wait_for(
                lambda events: [one for one in events if one["level"] == "warning"], since=since
            )
            assert (event["event"], event["reason"]) == ("connection.failed", "tls-failed")
        receiver.wait_for(lambda events: [one for one in events if one["event"] == "association.closed"])


def client_hello() -> bytes:
    """What a client sends first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def echo_over_tls(receiver: Receiver, tls: Tls) -> None:
    peer = Destination(
        name="node", ae_title="DICOMNODE", host="127.0.0.1", port=receiver.port, timeout_seconds=20, tls=tls
    )
    Requestor(peer, "SENDER").echo()
