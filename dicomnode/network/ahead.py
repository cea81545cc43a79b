"""Bytes of a connection, read ahead of where they are needed: a system call for each piece would cost more than it brings.

What is asked for is waited for, what lies behind it is taken along if it is there. No PDU is known here.
"""

from __future__ import annotations

from typing import Final

from dicomnode.errors import PeerError
from dicomnode.network.wire import Wire

_FIRST_BYTES: Final = 4096  # of a connection that has no association yet
_WHOLE_BYTES: Final = 40 * 1024  # a small object comes at once, with its command
_BEHIND_BYTES: Final = 4096  # what is taken along behind a long piece, and copied then


class Ahead:
    """What has come over a wire and is not used yet; one user.

    Parameters
    ----------
    wire
        The connection.

    Attributes
    ----------
    view
        The bytes, from `start` to `end`; `need` sees to it that there are enough.
    """

    def __init__(self, wire: Wire) -> None:
        self.view = memoryview(bytearray(_FIRST_BYTES))
        self.start = 0
        self.end = 0
        self._acknowledged = False
        self._wire = wire

    def widen(self) -> None:
        """From now on messages come."""
        held = self.view[self.start : self.end]
        self.view = memoryview(bytearray(_WHOLE_BYTES))
        self.view[: len(held)] = held
        self.start, self.end = 0, len(held)

    def need(self, count: int, *, owed: bool = False) -> None:
        """Wait until so many bytes are there, a few at most.

        Parameters
        ----------
        owed
            The peer has begun something and may wait for an acknowledgement before it goes on.

        Raises
        ------
        PeerError
            As `Wire.read`.
        """
        held = self.end - self.start
        if held >= count:
            return
        if held:
            self.view[:held] = bytes(self.view[self.start : self.end])
        self.start, self.end = 0, held
        if owed:
            self._acknowledge()
        else:
            self._acknowledged = False
        came = self._wire.read_some(self.view[held:], count - held)
        if not came:
            raise PeerError("peer-aborted")
        self.end = held + came

    def fill(self, place: memoryview) -> None:
        """Put the next bytes into a place.

        Raises
        ------
        PeerError
            As `Wire.read`.
        """
        wanted = len(place)
        held = self.end - self.start
        if held >= wanted:
            place[:] = self.view[self.start : self.start + wanted]
            self.start += wanted
            return
        if held:
            place[:held] = self.view[self.start : self.end]
            place = place[held:]
        self._acknowledge()
        self.start = 0
        self.end = 0
        self.end = self._wire.read_ahead(place, self.view[:_BEHIND_BYTES])

    def _acknowledge(self) -> None:
        """Once for what the peer has begun: then the kernel acknowledges what is read until something is sent."""
        if not self._acknowledged:
            self._acknowledged = True
            self._wire.acknowledge_at_once()
