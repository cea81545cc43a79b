"""Processes that decode frames: they have limits on memory and time, may die, and stay a while for the next object.

Run as a module it is one of them: ``python -m dicomnode.deidentification.children MEMORY_BYTES SECONDS``. What is asked
and answered are bytes with their length before them; an answer of no bytes says that it could not be decoded.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Final

from dicomnode.imaging.codec_child import ChildGone, alarm, asked, end, parts, read_part, run, start, write

#: Until those that nobody asks are ended; then no codec's memory is held.
IDLE_SECONDS: Final = 5.0
_KEPT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingLimits:
    """What decoding all frames of one object may take."""

    timeout_seconds: float = 120.0
    memory_bytes: int = 8 << 30


class Children:
    """Such processes; safe to use from many threads, each of which has one for itself while it asks.

    Parameters
    ----------
    idle_seconds
        Until those that nobody asks are ended.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: list[tuple[DecodingLimits, subprocess.Popen[bytes]]] = []
        self._timer: threading.Timer | None = None

    def ask(self, data: bytes, limits: DecodingLimits) -> bytes:
        """Answer to an object, of a child of these limits.

        Raises
        ------
        OSError
            Where it has none: undecodable; `TimeoutError` where it is late, `ChildProcessError` where the child ended, again
            and again.
        """
        child, answer = self._take(limits), None
        for tries in itertools.count(1):
            try:
                answer = _ask(child, data, limits)
                break
            except ChildGone as gone:
                if gone.late:
                    raise TimeoutError("late") from None
                if not gone.is_to_be_asked_again(tries):
                    raise ChildProcessError("no answer") from None
            child = _start(limits)
        self._bring_back(limits, child)
        if not answer:
            raise OSError("undecodable")
        return answer

    def end(self) -> None:
        """End those that nobody asks."""
        with self._lock:
            ended, self._idle = self._idle, []
        for _, child in ended:
            end(child)

    def _take(self, limits: DecodingLimits) -> subprocess.Popen[bytes]:
        with self._lock:
            for place, (of, child) in enumerate(self._idle):
                if of == limits:
                    del self._idle[place]
                    return child
        return _start(limits)

    def _bring_back(self, limits: DecodingLimits, child: subprocess.Popen[bytes]) -> None:
        with self._lock:
            kept = len(self._idle) < _KEPT
            if kept:
                self._idle.append((limits, child))
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(self._idle_seconds, self.end)
            self._timer.daemon, self._timer.name = True, "idle"
            self._timer.start()
        if not kept:
            end(child)


def _start(limits: DecodingLimits) -> subprocess.Popen[bytes]:
    return start(
        "dicomnode.deidentification.children", memory_bytes=limits.memory_bytes, seconds=limits.timeout_seconds
    )


def _ask(child: subprocess.Popen[bytes], data: bytes, limits: DecodingLimits) -> bytes:
    with asked(child, limits.timeout_seconds) as (question, answer):
        write(question, data)
        return read_part(answer, most=limits.memory_bytes)


# ---- the child ----


def serve(source: IO[bytes], sink: IO[bytes], *, decoded: Callable[[bytes], bytes], seconds: float = 0.0) -> None:
    """Answer objects until the input ends.

    Parameters
    ----------
    seconds
        An alarm ends the process that takes longer over one, in case nobody is left to kill it; 0: none.
    """
    for data in parts(source):
        with alarm(seconds):
            try:
                answer = decoded(data)
            except Exception:  # noqa: BLE001 - a codec may raise anything
                answer = b""
        write(sink, answer)


if __name__ == "__main__":  # pragma: no cover - runs in the child
    from dicomnode.deidentification.frames import decoded

    run(partial(serve, decoded=decoded), sys.argv[1:])
