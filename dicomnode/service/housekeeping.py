"""What a node does every so often, on a thread of its own: neither the watchdog nor SIGTERM waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.service.telemetry import report_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Something to do every so many seconds; `name` stands in the log when it fails."""

    name: str
    act: Callable[[], object]
    every_seconds: float


class Households:
    """Several threads that do chores, begun and ended as one: none waits for the others."""

    def __init__(self, *several: Housekeeping) -> None:
        self._several = several

    @property
    def pulses(self) -> Iterator[Pulse]:
        """Of the threads."""
        return (one.pulse for one in self._several)

    def begin(self) -> None:
        """Start the threads."""
        for one in self._several:
            one.begin()

    def end(self, timeout: float) -> None:
        """Stop after the chores that run, and wait up to `timeout` seconds for all."""
        until = time.monotonic() + timeout
        for one in self._several:
            one.end(0)
        for one in self._several:
            one.end(max(until - time.monotonic(), 0))


class Housekeeping:
    """Thread that does chores: each at once, then at its interval; a chore that fails is told and done again.

    Parameters
    ----------
    chores
        What to do.
    monotonic
        Clock in seconds.
    emit
        Where events go.
    name
        Of the thread.
    pulse
        Of the thread; None: one that each chore is a step for.
    """

    def __init__(
        self,
        chores: Sequence[Chore],
        *,
        monotonic: Callable[[], float],
        emit: Emit,
        name: str = "housekeeping",
        pulse: Pulse | None = None,
    ) -> None:
        self.pulse = pulse or Pulse(name, FAR_SECONDS)
        self._chores = tuple(chores)
        self._monotonic = monotonic
        self._emit = emit
        self._due = {chore.name: monotonic() for chore in self._chores}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self, timeout: float) -> None:
        """Stop after the chore that runs, and wait up to `timeout` seconds for it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def look(self) -> float:
        """Do what is due; returns the seconds until something is again."""
        for chore in self._chores:
            if not self._ended.is_set() and self._monotonic() >= self._due[chore.name]:
                with self.pulse:
                    self._do(chore)
                self._due[chore.name] = self._monotonic() + chore.every_seconds
        return max(min(self._due.values()) - self._monotonic(), 0.0)

    def _do(self, chore: Chore) -> None:
        try:
            chore.act()
        except NodeError as error:
            self._emit("node.fault", level="error", stage=chore.name, reason=error.code)
        except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
            report_fault(self._emit, chore.name, error)

    def _run(self) -> None:
        while not self._ended.wait(self.look()):
            pass
