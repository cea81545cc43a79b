"""The node's end of a GPU process: it starts it, asks it, and ends it when it is silent for too long.

Nothing that the process says is believed beyond its shape: it runs native code of others.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dicomnode
from dicomnode.errors import ModelError
from dicomnode.heap import give_back
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, EngineInfo, check_batch, checked_logits
from dicomnode.inference.gpu_wire import Ended, Message, Shared, geometry_message, info_of, receive, send
from dicomnode.inference.segment import Seen
from dicomnode.manifest import Manifest

_END_SECONDS: Final = 10.0
COMMAND: Final = (sys.executable, "-P", "-m", "dicomnode.inference.gpu_child")


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long is waited, seconds.

    Attributes
    ----------
    opening
        For a process to open its engine: also to build it, where there is none yet.
    silence
        Between two words of one that works on a study.
    study
        For a study in all.
    """

    opening: float = 3600.0
    silence: float = 120.0
    study: float = 900.0


class RemoteEngine:
    """An engine in a process of its own; see `Engine` and `segment.VolumeEngine`.

    Parameters
    ----------
    first
        What the process is told to open.
    environment
        Of the process: nothing else of the node's.
    command
        Starts the process; the descriptor of its socket is added.

    Raises
    ------
    ModelError
        ``inference-failed``, with what the process said; ``gpu-process-ended`` where it said nothing.
    """

    def __init__(
        self,
        manifest: Manifest,
        first: Message,
        *,
        environment: Mapping[str, str],
        times: Times | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._manifest = manifest
        self._times = times or Times()
        self._link, theirs = socket.socketpair()
        root = Path(dicomnode.__file__).resolve().parent.parent
        with theirs:
            nothing, number = subprocess.DEVNULL, theirs.fileno()
            self._process = subprocess.Popen(  # noqa: S603
                [*command, str(number)],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                cwd="/",
                env={"PYTHONPATH": str(root), **environment},
                pass_fds=[number],
            )
        self._closed = False
        try:
            self._link.settimeout(self._times.opening)
            send(self._link, first)
            self._info = info_of(self._next(self._times.opening)["info"])
        except (Ended, KeyError):
            self.close()
            raise _ended() from None
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """Description, as the process gave it."""
        return self._info

    @property
    def alive(self) -> bool:
        """Whether the process may be asked."""
        return not self._closed and self._process.poll() is None

    def run(self, batch: Batch) -> Batch:
        """Run the network; see `Engine.run`."""
        check_batch(batch, self._manifest)
        shape = (len(batch), self._manifest.channels, *batch.shape[2:])
        shared = self._shared([("float32", batch.shape), ("float32", shape)])
        try:
            shared.arrays[0][:] = batch
            self._ask({"ask": "run"}, shared, lambda _: None)
            return checked_logits(shared.arrays[1].copy(), batch, self._manifest)
        finally:
            shared.close()

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """What the network sees in an even, straight volume."""
        shape, shares = volume.values.shape, self._manifest.results.parametric_map
        layout: list[tuple[str, Sequence[int]]] = [(volume.values.dtype.name, shape), ("uint8", shape)]
        shared = self._shared([*layout, *([("uint16", shape)] if shares else [])])
        try:
            shared.arrays[0][:] = volume.values
            question = {"ask": "see", "geometry": geometry_message(volume.geometry)}
            info = self._ask(question, shared, progress)
            labels = shared.arrays[1].copy()
            probability = shared.arrays[2].copy() if shares else None
        finally:
            shared.close()
        if int(labels.max(initial=0)) >= self._manifest.channels:
            self.close()
            raise ModelError("inference-failed", cause="output-labels")
        return Seen(labels=labels, probability=probability, engine=info)

    def rest(self) -> None:
        """Give back what the last study took here; its own memory went back with it."""
        give_back()

    def close(self) -> None:
        """End the process; may be called again."""
        if self._closed:
            return
        self._closed = True
        self._link.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs keeps even a killed process
            self._process.wait(_END_SECONDS)

    def _shared(self, layout: Sequence[tuple[str, Sequence[int]]]) -> Shared:
        if not self.alive:
            self.close()
            raise _ended()
        try:
            return Shared(layout)
        except Ended:
            raise MemoryError from None

    def _ask(self, question: Message, shared: Shared, progress: Callable[[float], None]) -> EngineInfo:
        """Ask, and follow the answer to its end; whatever goes wrong with the process ends it."""
        end = time.monotonic() + self._times.study
        try:
            self._link.settimeout(self._times.silence)
            seconds = 2 * self._times.study
            send(self._link, {**question, "layout": shared.layout, "seconds": seconds}, shared.descriptor)
            while True:
                answer = self._next(min(self._times.silence, end - time.monotonic()))
                if answer["state"] == "done":
                    return info_of(answer["info"])
                progress(float(answer["share"]))
        except (Ended, KeyError, TypeError, ValueError):
            self.close()
            raise _ended() from None

    def _next(self, seconds: float) -> Message:
        """The next word of the process."""
        if seconds <= 0:
            raise Ended
        self._link.settimeout(seconds)
        answer, descriptor = receive(self._link)
        if descriptor is not None:
            raise Ended
        if answer.get("state") == "failed":
            raise _told(answer.get("cause"))
        return answer


def _told(cause: Any) -> ModelError:
    """What the process said of its failure, where that is a token."""
    with contextlib.suppress(ValueError):
        return ModelError("inference-failed", cause=str(cause))
    return _ended()


def _ended() -> ModelError:
    return ModelError("inference-failed", cause="gpu-process-ended")
