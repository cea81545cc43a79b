"""Processes that decode frames: they have limits on memory and time, may die, and stay a while for the next object.

Run as a module it is one of them: ``python -m dicomnode.deidentification.children MEMORY_BYTES SECONDS``. What is asked
and answered are bytes with their length before them; an answer of no bytes says that it could not be decoded.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import dicomnode

_LENGTH: Final = struct.Struct("<Q")
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
            Where it has none: undecodable, late, or the end of the child, twice.
        """
        child = self._take(limits)
        try:
            answer = _ask(child, data, limits)
        except EOFError:  # it may have been killed for memory that another took
            _end(child)
            child = _start(limits)
            try:
                answer = _ask(child, data, limits)
            except (EOFError, OSError):
                _end(child)
                raise OSError("no answer") from None
        except BaseException:
            _end(child)
            raise
        self._bring_back(limits, child)
        if not answer:
            raise OSError("undecodable")
        return answer

    def end(self) -> None:
        """End those that nobody asks."""
        with self._lock:
            ended, self._idle = self._idle, []
        for _, child in ended:
            _end(child)

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
            self._timer.daemon = True
            self._timer.start()
        if not kept:
            _end(child)


def _start(limits: DecodingLimits) -> subprocess.Popen[bytes]:
    """A child with an environment of its own: a codec gets no credential, one thread, and nobody's folder to import from."""
    root = Path(dicomnode.__file__).resolve().parent.parent
    numbers = [str(limits.memory_bytes), str(limits.timeout_seconds)]
    command = [sys.executable, "-P", "-m", "dicomnode.deidentification.children", *numbers]
    environment = {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=environment, cwd="/")  # noqa: S603


def _ask(child: subprocess.Popen[bytes], data: bytes, limits: DecodingLimits) -> bytes:
    """Its answer; EOFError where it ended or says what it cannot say, OSError where it was ended for being late."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limits.timeout_seconds, stop)
    timer.start()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(_LENGTH.pack(len(data)))
        child.stdin.write(data)
        child.stdin.flush()
        size = _LENGTH.unpack(_read(child.stdout, _LENGTH.size))[0]
        return _read(child.stdout, size, most=limits.memory_bytes)
    except (OSError, EOFError):
        if late.is_set():
            raise OSError("late") from None
        raise EOFError from None
    finally:
        timer.cancel()


def _read(stream: IO[bytes], size: int, *, most: int = sys.maxsize) -> bytes:
    data = stream.read(size) if size <= most else b""
    if len(data) != size:
        raise EOFError
    return data


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    with contextlib.suppress(OSError, ValueError):
        child.communicate()


# ---- the child ----


def serve(source: IO[bytes], sink: IO[bytes], decoded: Callable[[bytes], bytes], *, seconds: float = 0.0) -> None:
    """Answer objects until the input ends.

    Parameters
    ----------
    seconds
        An alarm ends the process that takes longer over one, in case nobody is left to kill it; 0: none.
    """
    while len(length := source.read(_LENGTH.size)) == _LENGTH.size:
        data = _read(source, _LENGTH.unpack(length)[0])
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            answer = decoded(data)
        except Exception:  # noqa: BLE001 - a codec may raise anything
            answer = b""
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        sink.write(_LENGTH.pack(len(answer)))
        sink.write(answer)
        sink.flush()


def _main(arguments: list[str]) -> None:  # pragma: no cover - runs in the child
    import os

    from dicomnode.deidentification.frames import decoded

    memory = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # codecs print on standard output
    serve(sys.stdin.buffer, answers, decoded, seconds=2 * float(arguments[1]))


if __name__ == "__main__":  # pragma: no cover - runs in the child
    _main(sys.argv[1:])
