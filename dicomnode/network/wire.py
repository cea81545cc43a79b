"""A connected socket, read and written in exact pieces under time limits. No PDU is known here.

Plain sockets block with the kernel's own time limits, which costs no system call; TLS has Python's.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from typing import Final

from dicomnode.errors import PeerError

_TIMEVAL: Final = struct.Struct("@ll")
_SCRATCH_BYTES: Final = 64 * 1024


class Wire:
    """One connection.

    Parameters
    ----------
    connection
        Connected socket.
    seconds
        Silence after which reading or writing is given up.

    Attributes
    ----------
    waited
        Seconds that reading took so far: the peer's time, not ours.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.waited = 0.0
        self._connection = connection
        self._tls = isinstance(connection, ssl.SSLSocket)
        self._flags = 0 if self._tls else socket.MSG_WAITALL
        self._seconds = seconds
        self._sending = threading.Lock()
        self._torn = False  # something was sent in part: whatever followed would be taken for the rest of it
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.wait_at_most(seconds)

    def wait_at_most(self, seconds: float) -> None:
        """Set the silence after which reading or writing is given up."""
        self._seconds = seconds
        if self._tls:
            self._connection.settimeout(seconds)
            return
        self._connection.settimeout(None)
        limit = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1_000_000) or int(seconds < 1))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._connection.setsockopt(socket.SOL_SOCKET, option, limit)

    def read(self, place: memoryview) -> None:
        """Fill a place.

        Raises
        ------
        PeerError
            ``peer-aborted`` if the connection ended, ``timeout`` if it takes longer than it may.
        """
        if self._receive(place, self._flags) != len(place):
            raise PeerError("peer-aborted")

    def read_some(self, place: memoryview, least: int) -> int:
        """Fill a place as far as bytes are there, `least` at least; 0 if the connection ended before the first.

        Raises
        ------
        PeerError
            As `read`.
        """
        count = self._once(place, 0)
        if 0 < count < least:
            self.read(place[count:least])
            return least
        return count

    def read_ahead(self, place: memoryview, behind: memoryview) -> int:
        """Fill a place, and another as far as bytes are there by then; how many these are.

        Raises
        ------
        PeerError
            As `read`.
        """
        wanted = len(place)
        count = self._once(place, 0) if self._tls else self._parts((place, behind))
        if count >= wanted:
            return count - wanted
        if not count:
            raise PeerError("peer-aborted")
        self.read(place[count:])
        return 0

    @property
    def scatters(self) -> bool:
        """Whether `read_parts` can be."""
        return not self._tls

    def read_parts(self, parts: Sequence[memoryview]) -> int:
        """Fill places one after the other as far as bytes are there by then, the first one wholly; how many these are.

        Raises
        ------
        PeerError
            As `read`.
        """
        count = self._parts(parts)
        if not count:
            raise PeerError("peer-aborted")
        if count < len(parts[0]):
            self.read(parts[0][count:])
            return len(parts[0])
        return count

    def send(self, data: bytes) -> None:
        """Send all of it; where that cannot be, the connection has ended, for whoever reads as well.

        Raises
        ------
        PeerError
            ``peer-aborted``, ``timeout``.
        """
        try:
            with self._sending:
                self._send_whole(data)
        except (TimeoutError, BlockingIOError):
            raise PeerError("timeout") from None
        except (OSError, ValueError):
            raise PeerError("peer-aborted") from None

    def _send_whole(self, data: bytes) -> None:
        if self._torn:
            raise BrokenPipeError
        try:
            self._connection.sendall(data)
        except BaseException:
            self._torn = True
            with contextlib.suppress(OSError, ValueError):
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
            raise

    def acknowledge_at_once(self) -> None:
        """Ask the kernel to acknowledge what comes next at once: a sender with Nagle's algorithm waits for that."""
        with contextlib.suppress(OSError):
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def part(self, farewell: bytes) -> None:
        """Send some last bytes if that is possible without waiting for the peer."""
        if farewell and not self._torn and self._sending.acquire(timeout=0.2):
            try:
                with contextlib.suppress(OSError, ValueError):
                    self._connection.send(farewell, 0 if self._tls else socket.MSG_DONTWAIT)
            finally:
                self._sending.release()

    def interrupt(self, farewell: bytes = b"") -> None:
        """End the connection from another thread, which finds it closed; the farewell goes out if that is possible."""
        self.part(farewell)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def end(self, seconds: float = 0.0) -> None:
        """Close; before that, wait a little for the peer to close first.

        What it still sends is thrown away: a socket that is closed with unread bytes is reset, and a reset can take the
        last PDU from a peer that has not read it yet.
        """
        with contextlib.suppress(OSError, ValueError, PeerError):
            if seconds:
                socket.socket.shutdown(self._connection, socket.SHUT_WR)
                self._throw_away(time.monotonic() + seconds)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        self._connection.close()

    def _throw_away(self, deadline: float) -> None:
        scratch = memoryview(bytearray(_SCRATCH_BYTES))
        while (left := deadline - time.monotonic()) > 0:
            self.wait_at_most(left)
            if not self._once(scratch, 0):
                return

    def _receive(self, place: memoryview, flags: int) -> int:
        wanted = len(place)
        deadline = time.monotonic() + self._seconds
        count = self._once(place, flags)
        while 0 < count < wanted:
            if time.monotonic() > deadline:
                raise PeerError("timeout")
            more = self._once(place[count:], flags)
            if not more:
                break
            count += more
        return count

    def _parts(self, parts: Sequence[memoryview]) -> int:
        begun = time.monotonic()
        try:
            return self._connection.recvmsg_into(parts)[0]
        except BlockingIOError:
            raise PeerError("timeout") from None
        except (OSError, ValueError):
            raise PeerError("peer-aborted") from None
        finally:
            self.waited += time.monotonic() - begun

    def _once(self, place: memoryview, flags: int) -> int:
        begun = time.monotonic()
        try:
            return self._connection.recv_into(place, len(place), flags)
        except (TimeoutError, BlockingIOError, ssl.SSLWantReadError):
            raise PeerError("timeout") from None
        except (OSError, ValueError):
            raise PeerError("peer-aborted") from None
        finally:
            self.waited += time.monotonic() - begun
