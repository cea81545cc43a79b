"""An association whose reactor failed left its socket to the garbage collector."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pynetdicom.dul import DULServiceProvider

from dicomnode.errors import PeerError
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from tests.network.nodes import node


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
