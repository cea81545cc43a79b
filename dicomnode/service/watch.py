"""The watch over the receivers: one that lives and says nothing hangs, and is killed, so that another takes its seat.

A receiver says again and again that it lives. Whoever attends its seat sees the death and does the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dicomnode.events import Emit
from dicomnode.pulses import NEAR_SECONDS, Pulse
from dicomnode.service.seat import Seat
from dicomnode.workflow.ports import Monotonic

#: Silence after which a receiver hangs: longer than a host under load keeps a thread waiting.
SILENT_SECONDS: Final = 30.0
#: Silence that one is given that has said nothing yet: it reads its program from a cold disk.
FIRST_SECONDS: Final = 120.0
_LOOKS: Final = 6


@dataclass(slots=True)
class _Heard:
    """What a seat's channel had read at a look, since when it has read nothing more, and the looks since then."""

    reads: int
    since: float
    looks: int = 0


class Watch:
    """Looks again and again.

    Silence is counted in looks as well as in seconds: where the node itself was stopped for long, all receivers seem
    silent at its first look, and their words wait to be read. And it counts only while the node reads: where it is busy
    with what one said before (the index may be full, its ledger refusing), nobody knows whether that one is silent.

    Parameters
    ----------
    seats
        Gives those to look at.
    monotonic
        Clock.
    emit
        Where events go.
    silent_seconds
        Silence after which a receiver hangs.
    """

    def __init__(
        self,
        seats: Callable[[], Iterable[Seat]],
        monotonic: Monotonic,
        emit: Emit,
        *,
        silent_seconds: float | None = None,
    ) -> None:
        self._seats = seats
        self._monotonic = monotonic
        self._emit = emit
        self._silent_seconds = SILENT_SECONDS if silent_seconds is None else silent_seconds
        self._heard: dict[Seat, _Heard] = {}
        self.pulse = Pulse("watch", NEAR_SECONDS)

    def run(self, ending: threading.Event) -> None:
        """Look until the end."""
        while not ending.wait(self._silent_seconds / _LOOKS):
            with self.pulse:
                self.look()

    def look(self) -> None:
        """Kill every receiver that has been silent for too long."""
        seats, now = tuple(self._seats()), self._monotonic()
        before, self._heard = self._heard, {}
        for seat in seats:
            reads = seat.channel.reads
            heard = before.get(seat)
            if heard is None or heard.reads != reads or not seat.channel.reading:
                heard = _Heard(reads, now)
            heard.looks += 1
            self._heard[seat] = heard
            allowed = self._silent_seconds if reads else max(FIRST_SECONDS, self._silent_seconds)
            if now - heard.since >= allowed and heard.looks > _LOOKS:
                self._emit(
                    "receiver.silent", level="error", receiver=seat.number, seconds=round(now - heard.since, 1),
                    reason="receiver-failed",
                )  # fmt: skip
                seat.process.kill()
                heard.since = now  # one that cannot even die is told of again
