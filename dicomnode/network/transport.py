"""The server's side of pynetdicom 3.0.4: what stands between a socket and it, by overriding as little as possible.

The socket fast path will replace this file; nothing else knows how bytes reach pynetdicom. Guards: connections that
have not yet asked for an association are capped per address, a PDU length beyond the cap ends the connection before a
byte of it is read, silence ends it too, and the TLS handshake runs off the accept loop, under a time limit.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicomnode.events import Emit, silent

#: PS3.8 9.3.2: an A-ASSOCIATE-RQ with 128 contexts of 60 transfer syntaxes is below 300 KB.
_LONGEST_REQUEST: Final = 1024 * 1024
_BACKLOG: Final = 128
_HEADER: Final = 6  # PS3.8 9.3.1: type, reserved, length
_UNRECOGNISED_PDU: Final = 1  # PS3.8 Table 9-26
_INVALID_PARAMETER: Final = 6
_WAITING_CONNECTIONS: Final = 32  # of one address, without an association yet


class Entity(ApplicationEntity):  # type: ignore[misc]
    """An application entity whose sockets are closed when they end."""

    def _create_socket(self, *arguments: Any) -> AssociationSocket:
        transport = super()._create_socket(*arguments)
        transport._shutdown_socket = partial(shut, transport)
        transport.assoc.dul.run = partial(run_and_shut, transport.assoc.dul.run, transport)
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
        association.dul.run = partial(run_and_shut, association.dul.run, transport)
        longest = max(_LONGEST_REQUEST, self.server.maximum_pdu_bytes)
        transport.recv = partial(receive, transport, longest, self.server.silence_seconds)
        self.server.known(self.request, association)
        return association


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """The listening socket."""

    request_queue_size = _BACKLOG
    daemon_threads = True
    block_on_close = False
    silence_seconds: float = 60.0
    maximum_pdu_bytes: int = 131072
    #: Whether an association was asked for on a connection; what has none yet is capped.
    is_open: Callable[[Association], bool] = staticmethod(lambda _association: False)
    #: Called several times a second.
    sweep: Callable[[], None] = staticmethod(lambda: None)
    #: Told what became of a connection that had no association: an event's name and facts.
    emit: Emit = staticmethod(silent)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._waiting: dict[socket.socket, tuple[str, Association | None]] = {}
        self._lock = threading.Lock()
        super().__init__(*arguments, **named)

    def known(self, request: socket.socket, association: Association) -> None:
        """A connection has its association object now."""
        with self._lock:
            self._waiting[request] = (self._waiting[request][0], association)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; TLS is only prepared."""
        connection, address = socket.socket.accept(self.socket)
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether the connection is let in: not beyond the cap of its address."""
        address = str(client_address[0])
        with self._lock:
            self._waiting = {one: entry for one, entry in self._waiting.items() if self._is_waiting(entry[1])}
            count = sum(entry[0] == address for entry in self._waiting.values())
            if count < _WAITING_CONNECTIONS:
                self._waiting[request] = (address, None)
                return True
        self.emit("connection.refused", level="warning", address=address, connections=count)
        return False

    def shut_waiting(self) -> None:
        """End the connections that have no association object yet; what they become finds its socket closed."""
        with self._lock:
            waiting = [request for request, entry in self._waiting.items() if entry[1] is None]
        for request in waiting:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def _is_waiting(self, association: Association | None) -> bool:
        if association is None or association.ident is None:
            return True
        return association.is_alive() and not self.is_open(association)

    def service_actions(self) -> None:
        """Several times a second, and after each connection."""
        super().service_actions()
        self.sweep()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say that a connection failed; the default prints a traceback."""
        with self._lock:
            self._waiting.pop(request, None)
        self.emit("connection.failed", level="warning", kind=type(sys.exception()).__name__)


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


def receive(transport: AssociationSocket, longest: int, seconds: float, count: int) -> bytearray:
    """Exactly so many bytes, fewer only when the peer closed.

    Raises
    ------
    OSError
        If the first byte is of no PDU, a PDU claims to be longer than the cap, or its bytes trickle in for longer than
        it may take; pynetdicom then closes the connection. The peer is told by an A-ABORT.
    """
    connection = transport.socket
    if connection is None:
        raise OSError("closed by another thread")
    if count > longest:
        _abort(connection, _INVALID_PARAMETER)
        raise OSError("PDU too long")
    data = bytearray(count)
    view = memoryview(data)
    filled = 0
    deadline = time.monotonic() + seconds
    while filled < count:
        got = connection.recv_into(view[filled:])
        if not got:
            break
        if count == _HEADER and not 1 <= data[0] <= 7:
            _abort(connection, _UNRECOGNISED_PDU)
            raise OSError("no PDU")
        filled += got
        if time.monotonic() > deadline:
            raise TimeoutError("PDU too slow")
    view.release()
    del data[filled:]
    return data


def _abort(connection: socket.socket, reason: int) -> None:
    """A-ABORT of the service provider (PS3.8 9.3.8)."""
    with suppress(OSError):
        connection.sendall(bytes((0x07, 0, 0, 0, 0, 4, 0, 0, 2, reason)))
