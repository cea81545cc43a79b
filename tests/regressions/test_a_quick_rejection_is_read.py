"""A peer that rejected and closed before pynetdicom looked whether it was connected was taken for one that broke off."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pynetdicom.transport import AssociationSocket

from dicomnode.errors import PeerError
from tests.network.nodes import node


def test_a_rejection_that_came_and_went_before_anybody_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()
    close, create = AssociationSocket.close, AssociationSocket.__init__

    def and_tell(transport: AssociationSocket) -> None:
        close(transport)
        if transport.assoc.is_requestor:
            closed.set()

    def waiting(transport: AssociationSocket, *arguments: Any, **named: Any) -> None:
        create(transport, *arguments, **named)
        if transport.assoc.is_requestor:  # whoever waits for the connection looks when all is over
            transport._ready.wait = lambda timeout=None: closed.wait(20)  # type: ignore[method-assign]

    monkeypatch.setattr(AssociationSocket, "close", and_tell)
    monkeypatch.setattr(AssociationSocket, "__init__", waiting)
    with node(peers=[{"name": "ct1", "ae_title": "CT1"}]) as target, pytest.raises(PeerError) as caught:
        target.requestor(calling="CT2").echo()
    assert closed.is_set()
    assert (caught.value.code, caught.value.facts["rejection_reason"]) == ("peer-rejected", 3)
