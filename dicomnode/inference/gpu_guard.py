"""Engines on GPUs that may fail, with one on the CPU behind them: once again, then the CPU, and the result says so.

May live here: which device a study goes to, when it is asked again, and when it is given up for the CPU. May not:
processes, CUDA, or how anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from dicomnode.errors import ModelError
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, Engine, EngineInfo
from dicomnode.inference.foresight import fitting
from dicomnode.inference.gpu_seat import Patience, Remote, Seat, Tell, Turns, give, take
from dicomnode.inference.segment import Seen, compute
from dicomnode.manifest import Manifest

T = TypeVar("T")

#: The study's or the caller's own: no device would do better.
_NOT_THE_DEVICES: Final = ("input-", "engine-closed")
#: Trying again on the same device would fail the same way.
_FOR_GOOD: Final = frozenset({"device-too-small"})


class GuardedEngine:
    """See `Engine` and `segment.VolumeEngine`: a GPU's answer where there is one, else the CPU's.

    Unlike other engines it may be asked by as many threads at once as there are devices; whichever device is free
    takes the next study. While none serves, the CPU does, one study at a time.

    Parameters
    ----------
    starts
        Opens the engine on each device; a `NodeError` where it cannot be.
    cpu
        Closed with this one.
    tell
        Told ``ready``, ``failed`` and ``fell-back``, with tokens and the number of the device.
    clock
        Monotonic, seconds.
    turns
        Of the devices, for all models together; None: this is the only one.
    rooms
        Memory of each device, bytes; 0: nobody knows.
    """

    def __init__(
        self,
        starts: Sequence[Callable[[], Remote]],
        cpu: Engine,
        manifest: Manifest,
        *,
        tell: Tell,
        clock: Callable[[], float],
        patience: Patience | None = None,
        turns: Turns | None = None,
        rooms: Sequence[int] = (),
    ) -> None:
        self.rooms = tuple(rooms) or (0,) * len(starts)
        self._cpu, self._manifest, self._tell = cpu, manifest, tell
        self._turns = turns or Turns(len(starts))
        self._closed = False
        self.seats = tuple(
            Seat(number, start, tell=tell, clock=clock, patience=patience or Patience())
            for number, start in enumerate(starts)
        )
        self._open_meanwhile()

    @property
    def places(self) -> int:
        """How many studies it takes at once."""
        return len(self.seats)

    @property
    def info(self) -> EngineInfo:
        """Of the engine that the next study goes to, as things stand."""
        for seat in self.seats:
            with self._turns.changed:
                remote = None if seat.number in self._turns.busy else seat.ready()
            if remote is not None:
                return remote.info
        return self._cpu.info

    def wait_until_open(self, seconds: float) -> bool:
        """Wait for the openings that are under way; whether any GPU serves then."""
        return sum(seat.wait_until_open(seconds) for seat in self.seats) > 0

    def run(self, batch: Batch) -> Batch:
        """Run the network; see `Engine.run`."""
        self._require_open()
        result, _ = self._tried(self.seats, lambda remote: remote.run(batch), lambda: self._cpu.run(batch))
        return result

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """What the network sees in an even, straight volume; `Seen.engine` says where it was computed, and why there."""
        self._require_open()
        said = _Growing(progress)
        seen, cause = self._tried(
            self._fitting(volume),
            lambda remote: remote.see(volume, said),
            lambda: compute(volume, self._manifest, self._cpu, said),
        )
        if cause is None:
            return seen
        return replace(seen, engine=replace(seen.engine, note=f"GPU failed: {cause}"))

    def rest(self) -> None:
        """Give back what the CPU's engine holds for a study, unless another one is on it."""
        if self._turns.cpu.acquire(blocking=False):
            try:
                self._cpu.rest()
            finally:
                self._turns.cpu.release()

    def close(self) -> None:
        """End the GPUs' engines and close the CPU's; may be called again."""
        self._closed = True
        for seat in self.seats:
            seat.close()
        self._cpu.close()

    def _fitting(self, volume: Volume) -> tuple[Seat, ...]:
        """Devices that a study fits, be they empty."""
        itemsize = volume.values.dtype.itemsize
        found = fitting(volume.geometry, self._manifest, self.rooms, itemsize=itemsize)
        return tuple(seat for seat, fits in zip(self.seats, found, strict=True) if fits is not None)

    def _tried(
        self, seats: Sequence[Seat], ask: Callable[[Remote], T], otherwise: Callable[[], T]
    ) -> tuple[T, str | None]:
        """The answer of one of some GPUs, at the second try if need be; else the CPU's and why."""
        seat = take(seats, self._turns)
        if not seats:
            self._tell("fell-back", {"cause": "device-too-small", "device": self._largest})
            return self._on_cpu(otherwise), "device-too-small"
        if seat is None:
            self._open_meanwhile()
            return self._on_cpu(otherwise), None
        cause = "gpu-process-ended"
        for last in (False, True):
            try:
                found = self._asked(seat, ask)
            finally:
                give(seat, self._turns)
            if not isinstance(found, _Failed):
                return found, None
            cause = found.cause
            again = None if last or cause in _FOR_GOOD else self._second(seats, seat)
            if again is None:
                break
            seat = again
        self._tell("fell-back", {"cause": cause, "device": seat.number})
        self._open_meanwhile()
        return self._on_cpu(otherwise), cause

    def _asked(self, seat: Seat, ask: Callable[[Remote], T]) -> T | _Failed:
        """The answer of a device; the cause where it failed, and its engine ended with it if that may help."""
        remote = seat.ready()
        if remote is None:
            return _Failed("gpu-process-ended")
        try:
            return ask(remote)
        except ModelError as error:
            cause = str(error.facts.get("cause", error.code))
            if cause.startswith(_NOT_THE_DEVICES):
                raise
        if cause not in _FOR_GOOD:
            seat.failed(remote, cause)
        return _Failed(cause)

    @property
    def _largest(self) -> int:
        return self.rooms.index(max(self.rooms))

    def _second(self, seats: Sequence[Seat], failed: Seat) -> Seat | None:
        """Where a study is tried again: on another device that is free, else on the same, opened anew."""
        other = take(seats, self._turns, but=failed)
        if other is not None:
            failed.open_meanwhile(now=True)
            return other
        return take(seats, self._turns) if failed.reopened() else None

    def _on_cpu(self, otherwise: Callable[[], T]) -> T:
        with self._turns.cpu:
            return otherwise()

    def _open_meanwhile(self) -> None:
        if not self._closed:
            for seat in self.seats:
                seat.open_meanwhile()

    def _require_open(self) -> None:
        if self._closed:
            raise ModelError("inference-failed", cause="engine-closed")


class _Failed:
    """That a device failed, and of what."""

    def __init__(self, cause: str) -> None:
        self.cause = cause


class _Growing:
    """Progress that never goes back, though a study begins anew."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self._progress, self._most = progress, 0.0

    def __call__(self, share: float) -> None:
        self._most = max(self._most, share)
        self._progress(self._most)
