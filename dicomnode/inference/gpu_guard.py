"""An engine on a GPU that may fail, with one on the CPU behind it: once again, then the CPU, and the result says so.

May live here: when a GPU process is started, asked again, given up for a study and tried anew. May not: processes,
CUDA, or how anything is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from dicomnode.errors import ModelError, NodeError
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, Engine, EngineInfo
from dicomnode.inference.segment import Seen, compute
from dicomnode.manifest import Manifest

Tell = Callable[[str, dict[str, str]], None]
T = TypeVar("T")

#: The study's or the caller's own: no device would do better.
_NOT_THE_DEVICES: Final = ("input-", "engine-closed")
#: Trying again on the same device would fail the same way.
_FOR_GOOD: Final = frozenset({"device-too-small"})


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


class GuardedEngine:
    """See `Engine` and `segment.VolumeEngine`: the GPU's answer where there is one, else the CPU's.

    The GPU's engine opens in a thread of its own, perhaps for minutes, since it may have to be built; meanwhile the CPU
    serves.

    Parameters
    ----------
    start
        Opens the GPU's engine; a `NodeError` where it cannot be.
    cpu
        Closed with this one.
    tell
        Told ``ready``, ``failed`` and ``fell-back``, with tokens.
    clock
        Monotonic, seconds.
    """

    def __init__(
        self,
        start: Callable[[], Remote],
        cpu: Engine,
        manifest: Manifest,
        *,
        tell: Tell,
        clock: Callable[[], float],
        patience: Patience | None = None,
    ) -> None:
        self._start, self._cpu, self._manifest, self._tell, self._clock = start, cpu, manifest, tell, clock
        self._patience = patience or Patience()
        self._state = threading.Lock()
        self._remote: Remote | None = None
        self._opening: threading.Thread | None = None
        self._next_try = clock()
        self._closed = False
        self._open_meanwhile()

    @property
    def info(self) -> EngineInfo:
        """Of the engine that the next study goes to, as things stand."""
        remote = self._ready()
        return self._cpu.info if remote is None else remote.info

    def wait_until_open(self, seconds: float) -> bool:
        """Wait for the opening that is under way; whether the GPU serves then."""
        opening = self._opening
        if opening is not None:
            opening.join(seconds)
        return self._ready() is not None

    def run(self, batch: Batch) -> Batch:
        """Run the network; see `Engine.run`."""
        self._require_open()
        result, _ = self._tried(lambda remote: remote.run(batch), lambda: self._cpu.run(batch))
        return result

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """What the network sees in an even, straight volume; `Seen.engine` says where it was computed, and why there."""
        self._require_open()
        said = _Growing(progress)
        seen, cause = self._tried(
            lambda remote: remote.see(volume, said),
            lambda: compute(volume, self._manifest, self._cpu, said),
        )
        if cause is None:
            return seen
        return replace(seen, engine=replace(seen.engine, note=f"GPU failed: {cause}"))

    def rest(self) -> None:
        """Give back what the CPU's engine holds for a study."""
        self._cpu.rest()

    def close(self) -> None:
        """End the GPU's engine and close the CPU's; may be called again."""
        with self._state:
            self._closed = True
            remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()
        self._cpu.close()

    def _tried(self, ask: Callable[[Remote], T], otherwise: Callable[[], T]) -> tuple[T, str | None]:
        """The GPU's answer, at the second try if need be; else the CPU's and why."""
        remote = self._ready()
        if remote is None:
            self._open_meanwhile()
            return otherwise(), None
        cause = "gpu-process-ended"
        for last in (False, True):
            try:
                return ask(remote), None
            except ModelError as error:
                cause = str(error.facts.get("cause", error.code))
                if cause.startswith(_NOT_THE_DEVICES):
                    raise
            if cause in _FOR_GOOD:
                break
            self._end(remote)
            self._tell("failed", {"cause": cause})
            again = None if last else self._reopened()
            if again is None:
                break
            remote = again
        self._tell("fell-back", {"cause": cause})
        if self._ready() is None:
            self._open_meanwhile()
        return otherwise(), cause

    def _ready(self) -> Remote | None:
        with self._state:
            remote = self._remote
        if remote is None or remote.alive:
            return remote
        self._end(remote)
        self._tell("failed", {"cause": "gpu-process-ended"})
        return None

    def _end(self, remote: Remote) -> None:
        with self._state:
            if self._remote is remote:
                self._remote = None
        remote.close()

    def _open(self) -> None:
        """Open the GPU's engine; a while goes by until the next try where that fails."""
        try:
            remote = self._start()
        except NodeError as error:
            self._next_try = self._clock() + self._patience.again_seconds
            self._tell("failed", {"cause": str(error.facts.get("cause", error.code))})
            return
        with self._state:
            if not self._closed:
                self._remote = remote
                self._tell("ready", {"engine": f"{remote.info.name}-{remote.info.precision}"})
                return
        remote.close()

    def _reopened(self) -> Remote | None:
        """Open another one, and wait for it a while: not for as long as an engine may take to be built."""
        self._next_try = self._clock()
        self._open_meanwhile()
        self.wait_until_open(self._patience.reopening_seconds)
        return self._ready()

    def _open_meanwhile(self) -> None:
        """Open in a thread, unless one is at it or the last failure is too near."""
        busy = self._opening is not None and self._opening.is_alive()
        if self._closed or busy or self._clock() < self._next_try:
            return
        self._opening = threading.Thread(target=self._open, name="gpu-opening", daemon=True)
        self._opening.start()

    def _require_open(self) -> None:
        if self._closed:
            raise ModelError("inference-failed", cause="engine-closed")


class _Growing:
    """Progress that never goes back, though a study begins anew."""

    def __init__(self, progress: Callable[[float], None]) -> None:
        self._progress, self._most = progress, 0.0

    def __call__(self, share: float) -> None:
        self._most = max(self._most, share)
        self._progress(self._most)
