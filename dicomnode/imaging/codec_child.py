"""A child process that runs codecs, foreign code on foreign data: its start, its limits, its framing and its end.

May live here: what such a child and who asks it agree on, whatever is asked. May not: what is asked, what an answer means,
and who may be asked again; that is known to those who have children (`decode`, `deidentification.children`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, Protocol

import dicomnode
from dicomnode.heap import leave_no_core
from dicomnode.imaging.stored import Buffer

_LENGTH: Final = struct.Struct("<Q")
_TRIES: Final = 2
_TRIES_IF_KILLED: Final = 4  # for want of memory, mostly; it may be another's
_LAST_SECONDS: Final = 1.0  # within which a process is gone whose output has ended


class ChildGone(EOFError):
    """The child gave no answer; `late`: it was killed for the time that it took; `killed`: by somebody else (SIGKILL)."""

    def __init__(self, *, late: bool, killed: bool = False) -> None:
        super().__init__()
        self.late = late
        self.killed = killed

    def is_to_be_asked_again(self, tries: int) -> bool:
        """Whether another child is asked the same after so many. A codec that crashes twice crashes; a kill says nothing of it."""
        return not self.late and tries < (_TRIES_IF_KILLED if self.killed else _TRIES)


class Serve(Protocol):
    """What a child does from its start to its end."""

    def __call__(self, source: IO[bytes], sink: IO[bytes], *, seconds: float) -> None:
        """Answer what comes."""
        ...


def start(module: str, *, memory_bytes: int, seconds: float) -> subprocess.Popen[bytes]:
    """Child with an environment of its own: a codec gets no credential, one thread, and nobody's folder to import from.

    Parameters
    ----------
    module
        What is run; it ends with `run`.
    memory_bytes
        Its address space (RLIMIT_AS).
    seconds
        What it may take over one answer.

    Raises
    ------
    OSError
        When there can be no process.
    """
    root = Path(dicomnode.__file__).resolve().parent.parent
    command = [sys.executable, "-P", "-m", module, str(memory_bytes), str(seconds)]
    environment = {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=environment, cwd="/")  # noqa: S603


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill it, and leave nothing of it."""
    child.kill()
    with contextlib.suppress(OSError, ValueError):
        child.communicate()


@contextlib.contextmanager
def asked(child: subprocess.Popen[bytes], seconds: float) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Its input and output, for one question; it is killed when that takes too long.

    Raises
    ------
    ChildGone
        When it ended, said what it cannot say, or was late. Nothing is left of it then, nor where anything else is raised.
    """
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, stop)
    timer.name = "deadline"
    timer.start()
    try:
        yield _pipes(child)
        timer.cancel()
        _raise_where(late)  # it is dead then, whatever it said
    except (OSError, EOFError):
        timer.cancel()
        killed = not late.is_set() and _was_killed(child)
        end(child)
        raise ChildGone(late=late.is_set(), killed=killed) from None
    except BaseException:
        end(child)
        raise
    finally:
        timer.cancel()


def _pipes(child: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if child.stdin is None or child.stdout is None:
        raise EOFError
    return child.stdin, child.stdout


def _was_killed(child: subprocess.Popen[bytes]) -> bool:
    try:
        return child.wait(_LAST_SECONDS) == -signal.SIGKILL
    except subprocess.TimeoutExpired:  # it said what it cannot say
        return False


def _raise_where(late: threading.Event) -> None:
    if late.is_set():
        raise EOFError


def write(stream: IO[bytes], *contents: Buffer) -> None:
    """Send parts, each with its length before it."""
    for part in contents:
        stream.write(_LENGTH.pack(len(part)))
        stream.write(part)
    stream.flush()


def read(stream: IO[bytes], size: int) -> bytes:
    """So many bytes; EOFError where there are fewer."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError
    return data


def read_part(stream: IO[bytes], *, most: int = sys.maxsize) -> bytes:
    """A part with its length before it; EOFError where it is cut off, or longer than anybody believes."""
    size = _LENGTH.unpack(read(stream, _LENGTH.size))[0]
    if size > most:
        raise EOFError
    return read(stream, size)


# ---- the child ----


def parts(source: IO[bytes]) -> Iterator[bytes]:
    """What comes, until the input ends."""
    while len(length := source.read(_LENGTH.size)) == _LENGTH.size:
        yield read(source, _LENGTH.unpack(length)[0])


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """An alarm ends the process that takes longer, in case nobody is left to kill it; 0: none."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)


def run(serve: Serve, arguments: list[str]) -> None:  # pragma: no cover - runs in the child
    """Be the child that `start` started."""
    memory = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    leave_no_core()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # codecs print on standard output
    serve(sys.stdin.buffer, answers, seconds=2 * float(arguments[1]))
