"""The listening socket: accepts connections, caps them, and gives each a thread. Nothing of DICOM is known here."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dicomnode.events import Emit
from dicomnode.heap import give_back
from dicomnode.network.places import Place, Places
from dicomnode.network.tls import failure_kind
from dicomnode.network.wire import Wire
from dicomnode.pulses import NEAR_HARD_SECONDS, NEAR_SECONDS, Pulse

_BACKLOG: Final = 128
_POLL_SECONDS: Final = 0.1
#: Without a connection: what the C library keeps of them goes back then.
_REST_SECONDS: Final = 1.0
_POLITE_SECONDS: Final = 0.001  # to a process that has fewer connections: it may take this one
#: The host is short of descriptors or memory: connections wait until some are free.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A bound, listening socket, and what gives the TLS context of the next connection where it speaks TLS."""

    listener: socket.socket
    tls: Callable[[], ssl.SSLContext] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Address and port that are listened on."""
        name = self.listener.getsockname()
        return str(name[0]), int(name[1])


class Connection:
    """A connection that was accepted: its wire, once it has one, where it comes from, and its certificate in DER."""

    def __init__(
        self, address: str, raw: socket.socket, tls: Callable[[], ssl.SSLContext] | None, place: Place
    ) -> None:
        self.address = address
        self.raw = raw
        self.tls = tls
        self.place = place
        self.wire: Wire | None = None
        self.certificate: bytes | None = None


class Server:
    """Listens.

    Parameters
    ----------
    doors
        Where it listens; closed at the end. A handshake of TLS is the connection's own business.
    serve
        Called in a thread of its own with each connection; returns when it ended.
    seconds
        Silence that a handshake is given.
    waiting_per_address
        Connections of one address that have no association yet.
    places
        Of all connections, perhaps those of other processes too.
    emit
        Where events go.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        serve: Callable[[Connection, Wire], None],
        *,
        seconds: float,
        waiting_per_address: int,
        places: Places,
        emit: Emit,
    ) -> None:
        self._doors = tuple(doors)
        self._serve = serve
        self._seconds = seconds
        self._waiting_per_address = waiting_per_address
        self._places = places
        self._emit = emit
        self._lock = threading.Lock()
        self._connections: dict[Connection, threading.Thread] = {}
        self._entered: set[Connection] = set()
        self._ending, self._told = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._accept, name="acceptor", daemon=True)
        self.pulse = Pulse("acceptor", NEAR_SECONDS, NEAR_HARD_SECONDS)

    def begin(self) -> None:
        """Start to accept."""
        self._places.begin()
        self._thread.start()

    @property
    def accepting(self) -> bool:
        """Whether the thread that accepts is at work."""
        return self._thread.is_alive()

    def stop_listening(self) -> None:
        """Accept nothing more; returns when the listening sockets are closed."""
        if self._told >= 0:
            os.close(self._told)
            self._told = -1
            self._thread.join()
            os.close(self._ending)
            for door in self._doors:
                door.listener.close()

    def entered(self, connection: Connection) -> None:
        """A connection has its association: it waits no more."""
        with self._lock:
            self._entered.add(connection)
        connection.place.entered()

    def shut_waiting(self) -> None:
        """End the connections that have no association."""
        with self._lock:
            waiting = [one for one in self._connections if one not in self._entered]
        for connection in waiting:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.raw, socket.SHUT_RDWR)

    def join(self, seconds: float) -> None:
        """Wait for the connections' threads, each for so long."""
        with self._lock:
            threads = list(self._connections.values())
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(seconds)

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._ending, select.POLLIN | select.POLLHUP)
        doors = {door.listener.fileno(): door for door in self._doors}
        for descriptor, door in doors.items():
            door.listener.setblocking(False)
            poller.register(descriptor, select.POLLIN)
        disturbed = False
        while True:
            self.pulse.rest()
            ready = {descriptor for descriptor, _ in poller.poll(_REST_SECONDS * 1000 if disturbed else None)}
            self.pulse.work()
            if self._ending in ready:
                return
            if not ready:
                if not self._connections:
                    give_back()
                    disturbed = False
                continue
            disturbed = True
            if self._places.ahead() > 0 and self._ended_within(_POLITE_SECONDS):
                return
            for descriptor in ready:
                try:
                    raw, name = doors[descriptor].listener.accept()
                except OSError as error:
                    if error.errno in _EXHAUSTED and self._ended_within(_POLL_SECONDS):
                        return
                    continue
                self._take(raw, _plain(str(name[0])), doors[descriptor].tls)

    def _ended_within(self, seconds: float) -> bool:
        return bool(select.select([self._ending], [], [], seconds)[0])

    def _take(self, raw: socket.socket, address: str, tls: Callable[[], ssl.SSLContext] | None) -> None:
        place = self._places.take(address, waiting_per_address=self._waiting_per_address)
        if isinstance(place, int):
            raw.close()
            self._emit("connection.refused", level="warning", address=address, connections=place)
            return
        connection = Connection(address, raw, tls, place)
        thread = threading.Thread(target=self._run, args=(connection,), name="association", daemon=True)
        with self._lock:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # no thread can be had
            self._leave(connection)
            raw.close()
            self._emit("connection.refused", level="error", address=address)

    def _run(self, connection: Connection) -> None:
        try:
            connection.raw.setblocking(True)
            wire = self._shake_hands(connection)
            if wire is not None:
                connection.wire = wire
                self._serve(connection, wire)
        except Exception as error:  # noqa: BLE001 (nobody is there to hand it to)
            self._emit("internal", level="error", reason="internal", kind=type(error).__name__)
        finally:
            self._leave(connection)
            connection.raw.close()

    def _shake_hands(self, connection: Connection) -> Wire | None:
        try:
            if connection.tls is not None:
                connection.raw.settimeout(self._seconds)
                context = connection.tls()
                secured = context.wrap_socket(connection.raw, server_side=True, do_handshake_on_connect=False)
                connection.raw = secured  # so that a stop finds it
                secured.do_handshake()
                connection.certificate = secured.getpeercert(binary_form=True)
            return Wire(connection.raw, self._seconds)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            self._emit(
                "connection.failed",
                level="warning",
                address=connection.address,
                reason="tls-failed" if connection.tls else "peer-aborted",
                kind=failure_kind(error),
            )
        return None

    def _leave(self, connection: Connection) -> None:
        with self._lock:
            self._connections.pop(connection, None)
            self._entered.discard(connection)
        connection.place.leave()


def listen(host: str, port: int) -> socket.socket:
    """Listening socket.

    Raises
    ------
    OSError
        If the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _plain(address: str) -> str:
    """Address without zone, and of IPv4 where it is one in IPv6's clothes."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
