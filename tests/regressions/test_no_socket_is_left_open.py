"""An association that was stopped before its first event, or whose reactor failed, left its socket to the garbage."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from dicomnode.config import Destination
from dicomnode.errors import PeerError
from dicomnode.network.requestor import Requestor
from tests.neighbours import HOST
from tests.network.foreign import Connection, Server
from tests.network.nodes import node


def test_an_acceptor_that_is_stopped_before_its_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    sockets: list[socket.socket] = []
    start = Association.start

    def kill(association: Association) -> None:
        if association.is_acceptor:
            sockets.append(association.dul.socket.socket)
            association.dul._kill_thread = True
            association._kill = True
        start(association)
        if association.is_acceptor:
            association.dul.join(10)
            stopped.set()

    monkeypatch.setattr(Association, "start", kill)
    server = AE("NODE").make_server(
        (HOST, 0), contexts=[build_context(Verification)], server_class=Server, request_handler=Connection
    )
    server.ae._servers.append(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with socket.create_connection(server.server_address, 10) as peer:
            assert stopped.wait(10)
            assert peer.recv(1) == b""
    finally:
        server.shutdown()
        thread.join(10)
    assert [one.fileno() for one in sockets] == [-1]


def test_a_requestor_whose_reactor_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets: list[socket.socket] = []

    def fail(provider: DULServiceProvider) -> Any:
        if provider.assoc.is_requestor and provider.socket and provider.socket.socket:
            sockets.append(provider.socket.socket)
            raise RuntimeError("a fault of pynetdicom")
        return process(provider)

    process = DULServiceProvider._is_transport_event
    monkeypatch.setattr(DULServiceProvider, "_is_transport_event", fail)
    with node() as running, pytest.raises(PeerError):
        Requestor(
            Destination(name="x", ae_title="DICOMNODE", host=running.host, port=running.port, timeout_seconds=2), "A"
        ).echo()
    assert sockets
    assert {one.fileno() for one in sockets} == {-1}
