"""The requestor's side of pynetdicom 3.0.4: sockets that are closed when they end, with as little overriding as possible."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from pynetdicom.ae import ApplicationEntity
from pynetdicom.transport import AssociationSocket


class Entity(ApplicationEntity):  # type: ignore[misc]
    """An application entity whose sockets are closed when they end."""

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        transport = super()._create_socket(*arguments)
        transport._shutdown_socket = partial(shut, transport)
        transport.assoc.dul.run = partial(run_and_shut, transport.assoc.dul.run, transport)
        return transport


def shut(transport: AssociationSocket) -> None:
    """Shut the socket down and close it; pynetdicom leaves it open where the peer was gone already."""
    connection = transport.socket  # another thread may take it away
    if connection is None:
        return
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def run_and_shut(run: Callable[[], None], transport: AssociationSocket) -> None:
    """Run the thread that owns a socket, and shut the socket when the thread ends.

    pynetdicom ends that thread with the socket open where it is stopped in its first state, before it has looked at its
    first event, or by a fault of its own.
    """
    try:
        run()
    finally:
        shut(transport)
