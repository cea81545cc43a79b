"""What one message may cost us: fragments that are not all tiny, bytes that do not trickle, an end. Pure: no clock.

A peer can keep to every rule of the upper layer and still send a Data Set byte by byte, or never end it.
"""

from __future__ import annotations

from typing import Final

from dicomnode.errors import PeerError
from dicomnode.network.pdu import INVALID_PARAMETER, Violation

_FREE_FRAGMENTS: Final = 1024  # of any size: a command set in single elements, a few odd pieces


class Pace:
    """Counts the fragments of one message after the other.

    Parameters
    ----------
    fragment_bytes
        Mean size that fragments must have where there are many.
    bytes_per_second
        Mean that must come, over each `seconds` that were spent waiting for the peer.
    seconds
        Stretch over which the mean is taken.
    longest_bytes
        Bytes of a message beyond which nothing more is read.
    """

    def __init__(self, *, fragment_bytes: int, bytes_per_second: int, seconds: float, longest_bytes: int) -> None:
        self._fragment_bytes = fragment_bytes
        self._bytes_per_second = bytes_per_second
        self._seconds = seconds
        self._longest_bytes = longest_bytes
        self.next_message()

    def next_message(self) -> None:
        """What comes now belongs to another message."""
        self._fragments = 0
        self._bytes = 0
        self._stretch_bytes = 0
        self._stretch_from = 0.0

    def fragment(self, length: int, waited: float) -> None:
        """One more fragment is about to be read.

        Parameters
        ----------
        waited
            Seconds that were spent waiting for this peer so far.

        Raises
        ------
        Violation
            If the fragments are tiny, or the message does not end.
        PeerError
            ``timeout`` if the bytes trickle.
        """
        if not self._fragments:
            self._stretch_from = waited
        spent = waited - self._stretch_from
        if spent > self._seconds:
            if self._stretch_bytes < spent * self._bytes_per_second:
                raise PeerError("timeout", what="message-too-slow")
            self._stretch_from, self._stretch_bytes = waited, 0
        self._fragments += 1
        self._bytes += length
        self._stretch_bytes += length
        if self._fragments > _FREE_FRAGMENTS and self._bytes < self._fragments * self._fragment_bytes:
            raise Violation(INVALID_PARAMETER, "fragments-tiny")
        if self._bytes > self._longest_bytes:
            raise Violation(INVALID_PARAMETER, "message-length")
