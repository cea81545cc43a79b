"""The server's side of pynetdicom 3.0.4: what stands between a socket and it, by overriding as little as possible.

The socket fast path will replace this file; nothing else knows how bytes reach pynetdicom. Guards: connections that
have not yet asked for an association are capped per address, a PDU length beyond the cap ends the connection before a
byte of it is read, silence ends it too, and the TLS handshake runs off the accept loop, under a time limit.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

#: PS3.8 9.3.2: an A-ASSOCIATE-RQ with 128 contexts of 60 transfer syntaxes is below 300 KB.
_LONGEST_REQUEST: Final = 1024 * 1024
_BACKLOG: Final = 128
_HEADER: Final = 6  # PS3.8 9.3.1: type, reserved, length


class Entity(ApplicationEntity):  # type: ignore[misc]
    """An application entity whose sockets are closed when they end."""

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        transport = super()._create_socket(*arguments)
        transport._shutdown_socket = partial(shut, transport)
        return transport


class Connection(RequestHandler):  # type: ignore[misc]
    """One connection that was accepted."""

    server: Server

    def setup(self) -> None:
        """Prepare the socket; the TLS handshake happens here, in the connection's own thread."""
        self.request.settimeout(self.server.silence_seconds)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(self.request, ssl.SSLSocket):
            self.request.do_handshake()

    def _create_association(self) -> Association:
        association = super()._create_association()
        transport = association.dul.socket
        transport._shutdown_socket = partial(shut, transport)
        transport.recv = partial(receive, transport, max(_LONGEST_REQUEST, self.server.maximum_pdu_bytes))
        return association


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """The listening socket."""

    request_queue_size = _BACKLOG
    daemon_threads = True
    block_on_close = False
    silence_seconds: float = 60.0
    maximum_pdu_bytes: int = 131072
    #: Asked before a connection is taken, with its address.
    may_connect: Callable[[str], bool] = staticmethod(lambda _address: True)
    #: Called twice a second.
    sweep: Callable[[], None] = staticmethod(lambda: None)
    #: Told the class of the error that ended a connection before its association.
    failed: Callable[[str], None] = staticmethod(lambda _kind: None)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; TLS is only prepared."""
        connection, address = socket.socket.accept(self.socket)
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection is let in."""
        return self.may_connect(str(client_address[0]))

    def service_actions(self) -> None:
        """Twice a second, and after each connection."""
        super().service_actions()
        self.sweep()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed; the default prints a traceback."""
        import sys

        self.failed(type(sys.exc_info()[1]).__name__)


def shut(transport: AssociationSocket) -> None:
    """Shut the socket down and close it; pynetdicom leaves it open where the peer was gone already."""
    if transport.socket is None:
        return
    with suppress(OSError):
        transport.socket.shutdown(socket.SHUT_RDWR)
    transport.socket.close()


def receive(transport: AssociationSocket, longest: int, count: int) -> bytearray:
    """Exactly so many bytes, fewer only when the peer closed.

    Raises
    ------
    OSError
        If a PDU claims to be longer than the cap; pynetdicom then closes the connection.
    """
    if count > longest + _HEADER:
        raise OSError("PDU too long")
    data = bytearray(count)
    view = memoryview(data)
    filled = 0
    while filled < count:
        got = transport.socket.recv_into(view[filled:])
        if not got:
            break
        filled += got
    view.release()
    del data[filled:]
    return data
