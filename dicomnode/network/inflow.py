"""How much a peer may send that nobody has read yet, or that is kept: pure, no socket.

May live here: that one account. `transport.Line` keeps it while messages come; who asks a peer for more or less sets its
limits. pynetdicom itself collects every message whole, however long, and any number of them (3.0.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

#: What fits any answer of which nothing else is said: a C-STORE's, a C-MOVE's, a storage commitment of 100,000 instances.
USUAL_BYTES: Final = 64 * 1024 * 1024
USUAL_MESSAGES: Final = 4096


class Inflow:
    """What came over one association (PS3.8 9.3.5: fragments of messages).

    Parameters
    ----------
    most_bytes
        How many bytes may be there; asked anew for each part, since what may still come changes.
    most_messages
        How many whole messages may be there.
    keeps
        Whether what was read still counts: whoever asks keeps it.

    Attributes
    ----------
    is_over
        Whether more came; it stays so.
    """

    def __init__(
        self,
        most_bytes: Callable[[], int] = lambda: USUAL_BYTES,
        most_messages: int = USUAL_MESSAGES,
        *,
        keeps: bool = False,
    ) -> None:
        self.is_over = False
        self._most_bytes = most_bytes
        self._most_messages = most_messages
        self._keeps = keeps
        self._here = 0  # of messages that are whole
        self._messages = 0
        self._part = 0  # of the one that comes

    def came(self, fragments: Sequence[bytes], *, all_read: bool) -> bool:
        """Count fragments, each with its control header (PS3.8 E.2); whether they may be kept.

        Parameters
        ----------
        all_read
            Whether every message that was whole before has been read.
        """
        if all_read and not self._keeps:
            self._here = self._messages = 0
        self._part += sum(map(len, fragments))
        beyond = self._here + self._part > self._most_bytes() or self._messages >= self._most_messages
        self.is_over = self.is_over or beyond
        return not self.is_over

    def ended(self) -> None:
        """A message is whole."""
        self._messages += 1
        self._here += self._part
        self._part = 0
