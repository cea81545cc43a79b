"""The requestor's side of pynetdicom 3.0.4: sockets that do not wait for ever and are closed when they end.

As little overriding as possible. pynetdicom's own timeouts do not reach a thread that stands in `recv` or `send`, and
end a large object that goes over a slow line; so how long a destination is waited for is decided here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from functools import partial
from queue import Empty
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from dicomnode.errors import PeerError
from dicomnode.network.inflow import Inflow
from dicomnode.network.pace import Pace
from dicomnode.network.reactor import Gate

#: No PDU of ours is to be answered with a longer one: we offer 128 KiB (PS3.8 D.1), and 128 contexts need less.
_LONGEST_PDU: Final = 1024 * 1024
_READ_BYTES: Final = 65536
#: What a destination must take or give, over a timeout in which it is waited for in the middle of a PDU.
_LEAST_BYTES_PER_SECOND: Final = 256
_IDLE: Final = "Sta1"  # PS3.8 Table 9-10
_ABORTED: Final = "Sta13"  # of the same table: the end of the connection is awaited
_LOOKS: Final = 4  # at what the peer took, within a timeout


class _Way:
    """One direction of a connection: its pace, and the seconds spent waiting for the peer."""

    def __init__(self, seconds: float) -> None:
        self.waited = 0.0
        self.pace = Pace(
            fragment_bytes=0,
            bytes_per_second=_LEAST_BYTES_PER_SECOND,
            seconds=seconds,
            longest_bytes=sys.maxsize,
        )


class Line(AssociationSocket):  # type: ignore[misc]
    """The connection to a destination, with bounded patience.

    Parameters
    ----------
    association
        Whose it is.
    address
        Where it is bound.
    seconds
        How long the destination may be silent.

    Attributes
    ----------
    silent
        It was silent for longer, or so slow that this is the same.
    inflow
        How much may come that nobody has read; whoever asks for more, or for what is kept, sets another.
    """

    def __init__(self, association: Association, address: AddressInformation, seconds: float) -> None:
        super().__init__(association, address=address)
        self.silent = False
        self.inflow = Inflow()
        self.seconds = seconds
        self._reading, self._writing = _Way(seconds), _Way(seconds)
        self._held = 0
        self._moved_at = time.monotonic()

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect; from then on the socket gives up by itself."""
        super().connect(primitive)
        if self.socket is not None:
            with suppress(OSError):  # it was closed by then
                self.socket.settimeout(self.seconds)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; a peer that sent too much, and goes on after the abort, is not read to its end."""
        if self.inflow.is_over and self.assoc.dul.state_machine.current_state == _ABORTED:
            return False
        return bool(super().ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes, or what comes before the end.

        Raises
        ------
        OSError
            If they do not come in time, or are more than any PDU has.
        """
        if nr_bytes > _LONGEST_PDU:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        data, connection = bytearray(), self.socket
        while connection is not None and len(data) < nr_bytes:
            with self._waiting(self._reading):
                more = connection.recv(min(nr_bytes - len(data), _READ_BYTES))
            if not more:
                break
            data += more
            self._keep_pace(self._reading, len(more))
            if self.silent:  # nobody waits for the rest any more
                raise TimeoutError
        return data

    def send(self, bytestream: bytes) -> None:
        """Send all of it; the state machine is told where that cannot be."""
        left, connection = memoryview(bytestream), self.socket
        try:
            while left:
                if connection is None:
                    raise ConnectionAbortedError
                try:
                    with self._waiting(self._writing, self._still_taking):
                        count = connection.send(left)
                except TimeoutError:
                    if self.silent:
                        raise
                    continue
                left = left[count:]
                self._held, self._moved_at = held(connection), time.monotonic()
                self._keep_pace(self._writing, count)
            evt.trigger(self.assoc, evt.EVT_DATA_SENT, {"data": bytestream})
        except OSError:
            self.event_queue.put("Evt17")

    def begin(self) -> None:
        """An answer is waited for from now on."""
        self._moved_at = time.monotonic()

    def patience(self) -> float:
        """Seconds that are left for an answer: they begin when the last byte was sent, and taken by the peer."""
        return self._moved_at + self.seconds - time.monotonic()

    def look(self) -> None:
        """See what the peer took of that which the kernel holds: while it takes, it is not silent."""
        connection = self.socket
        holds = held(connection) if connection is not None else self._held
        taken = self._held - holds
        if taken >= self.seconds / _LOOKS * _LEAST_BYTES_PER_SECOND or (taken > 0 and not holds):
            self._held, self._moved_at = holds, time.monotonic()

    def _still_taking(self) -> bool:
        self.look()
        return self.patience() > 0

    @contextmanager
    def _waiting(self, way: _Way, living: Callable[[], bool] = bool) -> Iterator[None]:
        """While the peer is waited for; it is silent where that takes too long and nothing says that it lives."""
        begun = time.monotonic()
        try:
            yield
        except TimeoutError:
            self.silent = self.silent or not living()
            raise
        finally:
            way.waited += time.monotonic() - begun

    def _keep_pace(self, way: _Way, count: int) -> None:
        try:
            way.pace.fragment(count, way.waited)
        except PeerError:
            self.silent = True
            raise TimeoutError from None


class Entity(ApplicationEntity):  # type: ignore[misc]
    """An application entity whose associations end and drop no response, and whose sockets are closed when they do."""

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        transport = Line(assoc, address, self.network_timeout)
        transport.tls_args = tls_args
        transport._shutdown_socket = partial(shut, transport)
        assoc._reactor_checkpoint = Gate(assoc)
        provider = assoc.dul
        provider.daemon = True
        provider.run = partial(run_and_shut, provider.run, transport)
        provider.receive_pdu = partial(_receive_pdu, transport, provider.receive_pdu)
        assoc.dimse.get_msg = partial(_get_msg, transport, assoc.dimse.get_msg)
        assoc.dimse.receive_primitive = partial(_receive_primitive, transport, assoc.dimse.receive_primitive)
        return transport


def broken(association: Association) -> PeerError:
    """Why no answer came: the peer sent too much, was silent, broke the association off, or made it impossible."""
    line = association.dul.socket
    if line.inflow.is_over:
        return PeerError("peer-too-much")
    return PeerError("timeout" if line.silent else "peer-aborted")


@contextmanager
def shut_after(association: Association, seconds: float) -> Iterator[None]:
    """What is done must end within so many seconds: the connection is shut down then, and whoever waits on it wakes."""
    timer = threading.Timer(seconds, _give_up, (association.dul.socket,))
    timer.daemon, timer.name = True, "deadline"
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def bound(association: Association, inflow: Inflow) -> None:
    """Say how much may come over an association from now on."""
    association.dul.socket.inflow = inflow


def cut(association: Association) -> None:
    """End a connection under whoever still waits on it; the thread that owns it closes it."""
    connection = association.dul.socket.socket
    if connection is not None:
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # TLS too: nobody is there to say goodbye to


def held(connection: socket.socket) -> int:
    """Bytes that the kernel holds for the peer: not sent, or not acknowledged (tcp(7), SIOCOUTQ)."""
    try:
        (count,) = struct.unpack("i", ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # it is closed
        return 0
    return int(count)


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
    first event, or by a fault of its own. What a peer sent may cause such a fault, and its text quote what was sent: it
    goes no further, and whoever waits for an answer learns that none comes.
    """
    orderly = False
    try:
        run()
        orderly = transport._ready.is_set() and transport.assoc.dul.state_machine.current_state == _IDLE
    except Exception:  # noqa: BLE001 (the border: it is told as `broken` by the thread that waits)
        orderly = False
    finally:
        shut(transport)  # before anybody is woken: who learns of the end finds it closed
        if not orderly:
            _fail(transport)


def _fail(transport: AssociationSocket) -> None:
    """Wake whoever waits for something that cannot come any more."""
    association = transport.assoc
    association.is_aborted, association.is_established = True, False
    association._kill = True
    transport._ready.set()
    association.dul.to_user_queue.put(A_P_ABORT())
    association.dimse.msg_queue.put((None, None))


def _give_up(line: Line) -> None:
    line.silent = True
    cut(line.assoc)


def _receive_pdu(
    line: Line, receive: Callable[..., Any], wait: bool = False, timeout: float | None = None
) -> Any | None:
    """`DULServiceProvider.receive_pdu`: what comes in answer to a request for an association, or for its end."""
    primitive = receive(wait, timeout)
    if wait and primitive is None:
        line.silent = True
    return primitive


def _receive_primitive(line: Line, receive: Callable[[Any], None], primitive: Any) -> None:
    """`DIMSEServiceProvider.receive_primitive`, for as long as what comes may be kept; whoever waits learns when it may not."""
    dimse, inflow = line.assoc.dimse, line.inflow
    if inflow.is_over:
        return
    fragments = [data for _, data in primitive.presentation_data_value_list]
    if inflow.came(fragments, all_read=dimse.msg_queue.empty()):
        receive(primitive)
        if dimse.message is None:
            inflow.ended()
        return
    dimse.message = None
    dimse.msg_queue.put((None, None))


def _get_msg(line: Line, get: Callable[..., Any], block: bool = False) -> tuple[int | None, Any | None]:
    """`DIMSEServiceProvider.get_msg`, whose patience begins when the request has gone out."""
    if not block:
        return get(False)  # type: ignore[no-any-return]
    line.begin()
    waiting = line.assoc.dimse.msg_queue
    while (left := line.patience()) > 0:
        try:
            return waiting.get(timeout=min(left, line.seconds / _LOOKS))  # type: ignore[no-any-return]
        except Empty:
            line.look()
    line.silent = True
    return None, None
