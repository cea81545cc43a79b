"""Bytes of a connection, read ahead of where they are needed: a system call for each piece would cost more than it brings.

What is asked for is waited for, what lies behind it is taken along if it is there. Where pieces follow each other with
the same bytes between them, as the fragments of a long message do, several come with one call: these bytes are guessed,
and looked at when they are there. No PDU is known here.
"""

from __future__ import annotations

from typing import Final

from dicomnode.errors import PeerError
from dicomnode.network.wire import Wire

_FIRST_BYTES: Final = 4096  # of a connection that has no association yet
_WHOLE_BYTES: Final = 40 * 1024  # a small object comes at once, with its command
_BEHIND_BYTES: Final = 4096  # what is taken along behind a long piece, and copied then
_MARKS: Final = 32  # most that are guessed at a time
_CREDIT: Final = 4  # guesses that may fail one after the other; then this connection is not like that


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
        self._usual = self.view
        self._credit = 0
        self._marks: list[memoryview] = []

    def widen(self) -> None:
        """From now on messages come."""
        held = self.view[self.start : self.end]
        self.view = self._usual = memoryview(bytearray(_WHOLE_BYTES))
        self.view[: len(held)] = held
        self._credit = _CREDIT if self._wire.scatters else 0
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
        else:
            self.view = self._usual
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
        self.view = self._usual
        self.end = self._wire.read_ahead(place, self.view[:_BEHIND_BYTES])

    def fill_on(self, place: memoryview, left: int, between: bytes, again: int) -> tuple[int, int, int]:
        """Put the next bytes into a place, and go on behind them as far as others are there.

        Parameters
        ----------
        left
            Bytes that the piece has which is being read.
        between, again
            What may stand behind each piece, and bytes of each that follows then. It does not come into the place; where
            anything else stands, nothing is taken from there on.

        Returns
        -------
        tuple
            Bytes that were put, those that are left of the last piece that has begun, and how many have.

        Raises
        ------
        PeerError
            As `Wire.read`.
        """
        first, held = min(left, len(place)), self.end - self.start
        if held >= first or not self._credit:
            self.fill(place[:first])
            return first, left - first, 0
        if held:
            place[:held] = self.view[self.start : self.end]
        self._acknowledge()
        self.start = self.end = 0
        self.view = self._usual
        parts, room = self._parts(place[held:], left - held, len(between), again)
        came = self._wire.read_parts(parts) - len(parts[0])
        put, left, begun, part = held + len(parts[0]), left - held - len(parts[0]), 0, 1
        while not left and came >= len(between) and parts[part] == between:
            came, left, begun, part = came - len(between), again, begun + 1, part + 1
            if put < held + room:
                count = min(came, len(parts[part]))
                put, left, came, part = put + count, left - count, came - count, part + 1
        if begun:
            self._credit = _CREDIT
        elif not left and came >= len(between):
            self._credit -= 1
        if part < len(parts) - 1:
            self._hold(parts[part:], came)
        else:
            self.end = came
        return put, left, begun

    def _parts(self, place: memoryview, left: int, mark_bytes: int, again: int) -> tuple[list[memoryview], int]:
        """Pieces of a place, with room for a mark behind each that ends in it, and for what lies behind; bytes of the pieces."""
        while len(self._marks) < _MARKS:
            self._marks.append(memoryview(bytearray(mark_bytes)))
        parts: list[memoryview] = []
        at, size = 0, len(place)
        for mark in self._marks:
            end = min(at + left, size)
            parts.append(place[at:end])
            left -= end - at
            at = end
            if left:
                break
            parts.append(mark)
            left = again
            if at == size:
                break
        parts.append(self.view[:_BEHIND_BYTES])
        return parts, at

    def _hold(self, parts: list[memoryview], count: int) -> None:
        """So many bytes of these are what comes next."""
        held = b"".join(parts)[:count]
        if len(held) > len(self.view):
            self.view = memoryview(bytearray(held))  # once it is used up, the usual one again
        else:
            self.view[:count] = held
        self.end = count

    def _acknowledge(self) -> None:
        """Once for what the peer has begun: then the kernel acknowledges what is read until something is sent."""
        if not self._acknowledged:
            self._acknowledged = True
            self._wire.acknowledge_at_once()
