"""A foreign SCP: pynetdicom's own server, with its sockets closed, so that no test leaves one behind."""

from __future__ import annotations

import socket
from functools import partial

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicomnode.network.transport import run_and_shut, shut


class Connection(RequestHandler):  # type: ignore[misc]
    """One connection that was accepted."""

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _create_association(self) -> Association:
        association = super()._create_association()
        transport = association.dul.socket
        transport._shutdown_socket = partial(shut, transport)
        association.dul.run = partial(run_and_shut, association.dul.run, transport)
        return association


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """The listening socket."""

    daemon_threads = True
    block_on_close = False
