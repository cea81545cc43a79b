"""Destinations that stall inside a PDU, stop reading, trickle or lie: every call ends in time, and leaves nothing behind."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import PeerError
from dicomnode.network import dimse, pdu
from dicomnode.network.commitment import CommitmentReport, CommitmentRequest, Reference
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.network.requestor import OutgoingObject, Requestor, StoreOutcome
from dicomnode.sections import Destination
from tests.descriptors import descriptors
from tests.network.certificates import make_tls
from tests.network.raw import SECONDS, Peer, command_set, data_pdu, fragment, item, whole
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE

TIMEOUT = 0.5
#: Timeouts until a call has ended, whatever the destination does, and time for a loaded machine.
BOUND = 6 * TIMEOUT + 4
Script = Callable[["Stalling"], object]


class Stalling(Peer):
    """The destination's end of a connection."""

    ended: threading.Event

    def accepted(self) -> bytes:
        """Read an A-ASSOCIATE-RQ; the A-ASSOCIATE-AC that takes every context in its first transfer syntax."""
        request = self.pdu()
        assert request is not None
        body, position, items = request[1], 68, b""
        while position < len(body):
            kind, length = struct.unpack_from(">BxH", body, position)
            value = body[position + 4 : position + 4 + length]
            if kind == 0x10:
                items += item(0x10, value)
            elif kind == 0x20:
                start = 8 + struct.unpack_from(">H", value, 6)[0]
                syntax = value[start + 4 : start + 4 + struct.unpack_from(">H", value, start + 2)[0]]
                items += item(0x21, bytes((value[0], 0, 0, 0)) + item(0x40, syntax))
            position += 4 + length
        items += item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4"))
        return whole(pdu.A_ASSOCIATE_AC, body[:68] + items)

    def accept(self) -> Stalling:
        """Accept an association."""
        self.send(self.accepted())
        return self

    def asked(self, *answer: bytes) -> Stalling:
        """Accept, read one PDU of the request, and send something."""
        self.accept().pdu()
        self.send(*answer)
        return self

    def drip(self, answer: bytes, seconds: float) -> None:
        """Send something again and again."""
        while not self.ended.wait(seconds) and self.send(answer):
            pass

    def swallow(self, bytes_per_second: int) -> None:
        """Read slowly until the last fragment of a Data Set has come, and answer the C-STORE."""
        while True:
            time.sleep(16384 / bytes_per_second)
            found = self.pdu()
            assert found is not None
            control = found[1][5]
            if control == 2:
                break
        self.send(STORED)


STORED = data_pdu(
    fragment(
        1,
        command_set(
            affected_sop_class_uid=SECONDARY_CAPTURE,
            command_field=dimse.C_STORE_RQ | dimse.RESPONSE,
            message_id_responded=1,
            data_set_type=dimse.NO_DATA_SET,
            status=0,
            affected_sop_instance_uid="1.2.3.1",
        ),
        command=True,
        last=True,
    )
)
SILENT: dict[str, Script] = {
    "says nothing": lambda _: None,
    "half an A-ASSOCIATE-AC": lambda peer: peer.send(peer.accepted()[:50]),
    "reads nothing": lambda peer: peer.accept(),
    "half a header": lambda peer: peer.asked(b"\4\0\0"),
    "half a body": lambda peer: peer.asked(b"\4\0\0\0\1\0" + b"\0\0\0\xfa"),
    "a byte now and then": lambda peer: peer.asked(b"\4\0\0\0\1\0").drip(b"\0", TIMEOUT / 2),
    "an endless response": lambda peer: peer.asked().drip(
        data_pdu(fragment(1, bytes(2), command=True, last=False)), TIMEOUT / 4
    ),
    "asks for a release": lambda peer: peer.asked(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))),
}
LYING: dict[str, Script] = {
    "a huge A-ASSOCIATE-AC": lambda peer: peer.send(b"\2\0\xff\xff\xff\xf0" + bytes(1000)),
    "a huge PDU": lambda peer: peer.asked(b"\4\0\xff\xff\xff\xff").drip(bytes(100_000), 0.001),
    "a command that cannot be read": lambda peer: peer.asked(
        data_pdu(fragment(1, b"\xff" * 10, command=True, last=True))
    ),
    "no DICOM": lambda peer: peer.send(b"\xff" * 500),
    "closes in the middle": lambda peer: peer.asked(b"\4\0\0").socket.shutdown(socket.SHUT_RDWR),
}


@contextmanager
def destination(script: Script) -> Iterator[int]:
    """A destination that does what a script says with each connection, and then holds it open, silently."""
    ended, peers, threads = threading.Event(), [], []

    def serve(connection: socket.socket) -> None:
        peer = Stalling(0, connection=connection)
        peer.ended = ended
        peers.append(peer)
        with suppress(OSError, AssertionError):
            script(peer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,), name="peer"))
                threads[-1].start()

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)  # as on a line, not on loopback
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threads.append(threading.Thread(target=accept, name="peer"))
        threads[0].start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            for peer in peers:
                with suppress(OSError):
                    peer.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(10)
            for peer in peers:
                peer.socket.close()


def requestor(port: int, timeout: float = TIMEOUT) -> CommitmentRequestor:
    target = Destination(name="x", ae_title="DEST", host="127.0.0.1", port=port, timeout_seconds=timeout)
    return CommitmentRequestor(target, "DICOMNODE")


def outgoing(number: int, size: int = 16_000_000) -> OutgoingObject:
    return OutgoingObject(
        result_id=f"r{number}",
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=bytes(size),
    )


def ours() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name != "peer"]


def in_time(call: Callable[[], Any]) -> Any:
    """What a call gives or raises; it must end in time, with every thread that it started."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except PeerError as error:
            results.append(error)

    before = set(ours())
    thread = threading.Thread(target=run, name="caller", daemon=True)
    thread.start()
    thread.join(BOUND)
    assert not thread.is_alive(), "the call does not end"
    deadline = time.monotonic() + BOUND
    while (left := set(ours()) - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left
    return results[0]


def codes(outcomes: tuple[StoreOutcome, ...]) -> list[str | None]:
    return [one.error and one.error.code for one in outcomes]


@pytest.mark.parametrize("what", SILENT)
def test_a_store_to_a_destination_that_stalls(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = descriptors("socket:")
    with destination(SILENT[what]) as port:
        outcomes = in_time(lambda: requestor(port).store([outgoing(1), outgoing(2, 100)]))
    assert codes(outcomes) == ["timeout", "timeout"]
    assert descriptors("socket:") <= before
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("what", LYING)
def test_a_store_to_a_destination_that_lies(what: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = descriptors("socket:")
    with destination(LYING[what]) as port:
        begun = time.monotonic()
        outcomes = in_time(lambda: requestor(port, 60).store([outgoing(1, 100), outgoing(2, 100)]))
    assert codes(outcomes) == ["peer-aborted", "peer-aborted"]
    assert time.monotonic() - begun < 20
    assert descriptors("socket:") <= before
    assert capfd.readouterr().err == ""


CALLS: dict[str, Callable[[CommitmentRequestor], object]] = {
    "echo": lambda one: one.echo(),
    "find": lambda one: one.find("STUDY", {"StudyInstanceUID": ""}),
    "request": lambda one: one.request(CommitmentRequest(transaction_uid="1.2.3", references=REFERENCES), 1),
}
REFERENCES = (Reference(SECONDARY_CAPTURE, "1.2.3.4"),)


@pytest.mark.parametrize("what", ["says nothing", "half an A-ASSOCIATE-AC", "half a header", "a byte now and then"])
@pytest.mark.parametrize("call", CALLS)
def test_every_other_call_to_a_destination_that_stalls(call: str, what: str) -> None:
    with destination(SILENT[what]) as port:
        error = in_time(lambda: CALLS[call](requestor(port)))
    assert error.code == "timeout"


@pytest.mark.parametrize("what", ["says nothing", "half an A-ASSOCIATE-AC"])
def test_a_probe_and_a_report(what: str) -> None:
    report = CommitmentReport(transaction_uid="1.2.3", retrieve_ae_title=None, committed=REFERENCES, failed=())
    with destination(SILENT[what]) as port:
        assert in_time(lambda: requestor(port).probe([SECONDARY_CAPTURE])).code == "timeout"
        assert in_time(lambda: requestor(port).tell(report)).code == "timeout"


def test_a_release_that_is_not_answered_takes_nothing_back() -> None:
    with destination(lambda peer: peer.asked(b"\4\0\0")) as port:
        assert in_time(lambda: requestor(port).probe([SECONDARY_CAPTURE])) == {SECONDARY_CAPTURE}


def test_an_echo_to_a_destination_that_lies() -> None:
    with destination(LYING["a command that cannot be read"]) as port:
        assert in_time(lambda: requestor(port).echo()).code == "peer-aborted"


@pytest.mark.parametrize("what", ["says nothing", "half a header", "reads nothing", "a byte now and then"])
def test_a_store_under_tls_to_a_destination_that_stalls(what: str, tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.private_key)

    def script(peer: Stalling) -> None:
        peer.socket = context.wrap_socket(peer.socket, server_side=True)
        peer.socket.settimeout(SECONDS)
        SILENT[what](peer)

    with destination(script) as port:
        target = Destination(name="x", ae_title="DEST", host="127.0.0.1", port=port, timeout_seconds=TIMEOUT, tls=tls)
        outcomes = in_time(lambda: Requestor(target, "DICOMNODE").store([outgoing(1)]))
    assert codes(outcomes) == ["timeout"]


def test_matches_without_end() -> None:
    pending = command_set(
        affected_sop_class_uid="1.2.840.10008.5.1.4.1.2.2.1",
        command_field=0x8020,
        message_id_responded=1,
        data_set_type=1,
        status=0xFF00,
    )
    match = data_pdu(fragment(1, pending, command=True, last=True), fragment(1, b"", command=False, last=True))
    with destination(lambda peer: peer.asked().drip(match, 0.02)) as port:
        error = in_time(lambda: requestor(port, 0.2).find("STUDY", {"StudyInstanceUID": ""}))
    assert error.code == "timeout"


def test_a_slow_line_is_no_stall() -> None:
    """Many timeouts long, and after the last byte has left us the peer has long not read it."""
    size, rate = 3_000_000, 600_000
    with destination(lambda peer: peer.accept().swallow(rate)) as port:
        begun = time.monotonic()
        outcomes = requestor(port).store([outgoing(1, size)])
    assert [(one.status, one.error) for one in outcomes] == [(0, None)]
    assert time.monotonic() - begun > 6 * TIMEOUT
