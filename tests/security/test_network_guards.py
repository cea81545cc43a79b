"""Peers that mean harm: one attack, one test. The node goes on answering others, within a second."""

from __future__ import annotations

import io
import logging
import socket
import struct
import time
from contextlib import ExitStack, redirect_stderr
from pathlib import Path

import pytest

from tests.neighbours import wait_for
from tests.network.certificates import make_tls
from tests.network.nodes import Node, node
from tests.network.test_acceptor import outgoing
from tests.security.siege import SERVICE_SECONDS, assert_served
from tests.unit.network.samples import Recording


def connect(target: Node, address: str = "127.0.0.66") -> socket.socket:
    connection = socket.create_connection((target.host, target.port), 5, (address, 0))
    connection.settimeout(15)
    return connection


def closed_by_peer(connection: socket.socket) -> bool:
    try:
        while connection.recv(65536):
            continue
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize("kind", [0x01, 0x04])
def test_a_pdu_length_of_four_gigabytes_ends_the_connection(kind: int) -> None:
    """pynetdicom would buffer it all before it looks at an AE title."""
    with node() as target, connect(target) as connection:
        connection.sendall(struct.pack(">BBL", kind, 0, 0xFFFFFFF0) + b"\0" * 1000)
        assert closed_by_peer(connection)
        assert_served(target.port)


def test_a_partial_pdu_does_not_stay_open() -> None:
    with node(network_timeout_seconds=0.3) as target, connect(target) as connection:
        connection.sendall(b"\x01\x00\x00")
        assert closed_by_peer(connection)
        assert_served(target.port)


def test_a_pdu_that_trickles_in_does_not_stay_open() -> None:
    with node(network_timeout_seconds=0.5, acse_timeout_seconds=20) as target, connect(target) as connection:
        connection.sendall(b"\x01\x00\x00\x00\x01\x00")
        connection.settimeout(0.05)
        for _ in range(200):
            try:
                connection.sendall(b"\x00")
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it stayed open")
        assert_served(target.port)


def test_a_tls_handshake_that_never_comes_holds_up_nobody(tmp_path: Path) -> None:
    """pynetdicom shakes hands in the accept loop; and a stop ends what waits."""
    tls = make_tls(tmp_path)
    with node(tls=tls, network_timeout_seconds=20) as target, connect(target) as silent:
        begun = time.monotonic()
        target.requestor(tls=tls).echo()
        assert time.monotonic() - begun <= SERVICE_SECONDS
        target.acceptor.stop()
        assert closed_by_peer(silent)


def test_a_connection_that_says_nothing_does_not_stay_open() -> None:
    with node(acse_timeout_seconds=0.3) as target, connect(target) as connection:
        assert closed_by_peer(connection)
        assert_served(target.port)


def test_idle_connections_take_no_associations_from_others() -> None:
    """pynetdicom: fifteen of them block a legitimate peer."""
    with ExitStack() as stack:
        target = stack.enter_context(node(maximum_associations=2))
        for _ in range(20):
            stack.enter_context(connect(target))
        assert_served(target.port)


def test_idle_connections_of_one_address_are_capped() -> None:
    with ExitStack() as stack:
        target = stack.enter_context(node(waiting_per_address=3))
        for _ in range(3):
            stack.enter_context(connect(target))
        last = stack.enter_context(connect(target))
        assert closed_by_peer(last)
        wait_for(lambda: bool(target.events.named("connection.refused")), what="the event")
        assert_served(target.port)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 64, b"\x01\x00\x00\x00\x00\x04junk"]
)
def test_garbage_ends_the_connection_and_nothing_else(garbage: bytes) -> None:
    with node(acse_timeout_seconds=0.5) as target:
        with connect(target) as connection:
            connection.sendall(garbage)
            assert closed_by_peer(connection)
        assert_served(target.port)
        assert len(target.reception.named("opened")) == 1


def test_an_object_beyond_the_limit_is_not_stored() -> None:
    one = outgoing()
    big = type(one)(
        result_id="1",
        sop_class_uid=one.sop_class_uid,
        sop_instance_uid=one.sop_instance_uid,
        transfer_syntax_uid=one.transfer_syntax_uid,
        encoded=one.encoded + b"\x0a\x00\x10\x00OB\0\0" + struct.pack("<L", 1024 * 1024) + bytes(1024 * 1024),
    )
    with node(intake={"maximum_object_bytes": 1024 * 1024}) as target:
        (outcome,) = target.requestor().store([big])
        assert outcome.status == 0xC000
        assert target.reception.objects == []
        assert_served(target.port)


def test_no_name_reaches_a_log_or_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    """Not by pynetdicom's loggers, not by a traceback, not in an event."""
    errors = io.StringIO()
    reception = Recording(refuse_object=RuntimeError("Test^Äußerst"))
    with caplog.at_level(logging.DEBUG), redirect_stderr(errors), node(reception) as target:
        (outcome,) = target.requestor().store([outgoing(7)])
        assert outcome.status == 0x0110
        reception.wait_for_closed()
    everything = caplog.text + errors.getvalue() + repr(target.events.events)
    for secret in ("Test^", "1.2.3", "P-1", "Traceback"):
        assert secret not in everything
    assert target.events.named("internal")[0]["kind"] == "RuntimeError"
