"""A device that opens, fails and opens again; and whose turn it is on which of several.

May live here: when a GPU process is started and tried anew, and that one study at a time is on a device. May not: what a
study does that failed there (`gpu_guard`), processes, CUDA.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dicomnode.errors import NodeError
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, EngineInfo
from dicomnode.inference.segment import Seen

Tell = Callable[[str, dict[str, str | int]], None]


class Remote(Protocol):
    """What is asked of an engine in a process of its own."""

    @property
    def info(self) -> EngineInfo:
        """Description."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it may be asked."""
        ...

    def run(self, batch: Batch) -> Batch:
        """As `Engine.run`."""
        ...

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """As `segment.VolumeEngine.see`."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited, seconds.

    Attributes
    ----------
    again_seconds
        Between two tries to open a device that did not, at least.
    reopening_seconds
        By a study whose process failed, for the next one to open.
    """

    again_seconds: float = 300.0
    reopening_seconds: float = 120.0


class Turns:
    """One study at a time on each device, and one on the CPU behind them, whichever model it is for.

    Parameters
    ----------
    devices
        Their number.
    """

    def __init__(self, devices: int) -> None:
        self.devices = devices
        self.changed = threading.Condition()
        self.busy: set[int] = set()
        self.cpu = threading.Lock()


class Seat:
    """One model's engine on one device. It opens in a thread of its own, perhaps for minutes: it may have to be built.

    Parameters
    ----------
    number
        Of the device, from 0; what is told names it.
    start
        Opens the engine; a `NodeError` where it cannot be.
    tell
        Told ``ready`` and ``failed``, with tokens.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self, number: int, start: Callable[[], Remote], *, tell: Tell, clock: Callable[[], float], patience: Patience
    ) -> None:
        self.number = number
        self.start, self.patience = start, patience
        self._tell, self._clock = tell, clock
        self._state, self._beginning = threading.Lock(), threading.Lock()
        self._remote: Remote | None = None
        self._opening: threading.Thread | None = None
        self._next_try = clock()
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether there is an engine, as far as anybody has noticed."""
        return self._remote is not None

    def ready(self) -> Remote | None:
        """The engine, where there is one that may be asked; for whoever has the device's turn."""
        with self._state:
            remote = self._remote
        if remote is None or remote.alive:
            return remote
        self.failed(remote, "gpu-process-ended")
        return None

    def failed(self, remote: Remote, cause: str) -> None:
        """End an engine that failed."""
        with self._state:
            if self._remote is remote:
                self._remote = None
        remote.close()
        self._tell("failed", {"cause": cause, "device": self.number})

    def open_meanwhile(self, *, now: bool = False) -> None:
        """Open in a thread, unless it is open, somebody is at it, or the last failure is too near.

        Parameters
        ----------
        now
            It was open before, and is worth a try at once.
        """
        with self._beginning:  # several studies may find it gone at once
            if now:
                self._next_try = self._clock()
            busy = self._opening is not None and self._opening.is_alive()
            if self._closed or self.open or busy or self._clock() < self._next_try:
                return
            opening = threading.Thread(target=self._open, name=f"gpu-opening-{self.number}", daemon=True)
            opening.start()
            self._opening = opening

    def wait_until_open(self, seconds: float) -> bool:
        """Wait for the opening that is under way; whether the device serves then."""
        opening = self._opening
        if opening is not None:
            opening.join(seconds)
        return self.open

    def reopened(self) -> bool:
        """Open another engine and wait a while: not for as long as one may take to be built."""
        self.open_meanwhile(now=True)
        return self.wait_until_open(self.patience.reopening_seconds)

    def close(self) -> None:
        """End the engine; may be called again."""
        with self._state:
            self._closed = True
            remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()

    def _open(self) -> None:
        """Open the engine; a while goes by until the next try where that fails."""
        try:
            remote = self.start()
        except NodeError as error:
            self._next_try = self._clock() + self.patience.again_seconds
            self._tell("failed", {"cause": str(error.facts.get("cause", error.code)), "device": self.number})
            return
        with self._state:
            if not self._closed:
                self._remote = remote
                engine = f"{remote.info.name}-{remote.info.precision}"
                self._tell("ready", {"engine": engine, "device": self.number})
                return
        remote.close()


def take(seats: Sequence[Seat], turns: Turns, *, but: Seat | None = None) -> Seat | None:
    """A device whose turn is the caller's until `give`: the first that is free and serves.

    Where all that serve have a study, one is waited for: any of them is done sooner than the CPU would be.

    Parameters
    ----------
    but
        One that is not to be taken; then nobody is waited for.

    Returns
    -------
    Seat or None
        None: no device serves.
    """
    with turns.changed:
        while True:
            for seat in seats:
                if seat is not but and seat.number not in turns.busy and seat.ready() is not None:
                    turns.busy.add(seat.number)
                    return seat
            if but is not None or not any(seat.open and seat.number in turns.busy for seat in seats):
                return None
            turns.changed.wait()


def give(seat: Seat, turns: Turns) -> None:
    """Let others have a device."""
    with turns.changed:
        turns.busy.discard(seat.number)
        turns.changed.notify_all()
