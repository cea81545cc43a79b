"""Where the processes of journeys come from: forked from one that has imported everything, so that none imports it again.

An import of the node costs more than two seconds of a processor, and the journeys start hundreds of nodes and commands.
What is forked does what `python -m dicomnode` does from there on, and can be killed like it. Run as a module it is the
process that forks: ``python -m tests.journey.nursery DESCRIPTOR``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_LONGEST = 1 << 20
_DESCRIPTORS = 3  # standard output, standard error, where its process id and its exit status are told
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """A process of the nursery; as of `subprocess.Popen`, as far as journeys ask. Any thread may ask.

    Parameters
    ----------
    told
        Descriptor from which its process id and its exit status can be read, a line each.
    """

    def __init__(self, told: int) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._said = b""
        self._status: int | None = None
        while b"\n" not in self._said and self._status is None:
            self._read()
        self.pid = int(self._said.partition(b"\n")[0])

    def __del__(self) -> None:
        """Close the descriptor, which other threads may wait at until then."""
        os.close(self._told)

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it runs."""
        with self._lock:
            while self._status is None and select.select([self._told], [], [], 0)[0]:
                self._read()
            return self._status

    def wait(self, timeout: float) -> int:
        """Its exit status; raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("dicomnode", timeout)
            select.select([self._told], [], [], left)
        return status

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> None:
        part = os.read(self._told, 100)
        self._said += part
        if not part:
            self._status = int(self._said.split(b"\n")[1])


class Nursery:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._nothing = os.open(os.devnull, os.O_RDWR)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.journey.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=self._nothing,
                stdout=self._nothing,
                env={name: value for name, value in os.environ.items() if name != "DICOMNODE_MEASURED"},
                cwd=ROOT,
            )
        atexit.register(self._end)

    def start(
        self, words: list[str], environment: Mapping[str, str], *, stdout: int | None = None, stderr: int | None = None
    ) -> Child:
        """`python -m dicomnode` with these words; its output goes into these descriptors, or nowhere."""
        told, tells = os.pipe()
        request = json.dumps({"words": words, "environment": dict(environment)}).encode()
        outputs = [self._nothing if one is None else one for one in (stdout, stderr)]
        try:
            socket.send_fds(self._link, [request], [*outputs, tells])
        finally:
            os.close(tells)
        return Child(told)

    def run(
        self, words: list[str], *, environment: Mapping[str, str] | None = None, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; as of `subprocess.run`. It gets `environment` beside this process's."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            child = self.start(
                words, {**os.environ, **(environment or {})}, stdout=output.fileno(), stderr=errors.fileno()
            )
            try:
                status = child.wait(seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                raise
            for one in (output, errors):
                one.seek(0)
            return subprocess.CompletedProcess(words, status, output.read(), errors.read())

    def _end(self) -> None:
        self._link.close()
        self._process.wait(60)


@cache
def nursery() -> Nursery:
    """That of this process."""
    return Nursery()


# ---- the process that forks ----


def _serve(link: socket.socket) -> list[str] | None:
    """Fork until nobody asks any more; in a child: its words."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(link, _LONGEST, _DESCRIPTORS)
        if not request:
            return None
        if os.fork() == 0:
            link.close()
            return _born(request, descriptors)
        for one in descriptors:
            os.close(one)


def _born(request: bytes, descriptors: list[int]) -> list[str]:
    """The words of a grandchild; its parent lives on to tell its process id and its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdout, stderr, tells = descriptors
    child = os.fork()
    if child:
        os.close(stdout)
        os.close(stderr)
        os.write(tells, b"%d\n" % child)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(tells, b"%d\n" % status)
        os._exit(0)
    os.close(tells)
    for number, one in ((1, stdout), (2, stderr)):
        os.dup2(one, number)
        os.close(one)
    asked = json.loads(request)
    os.environ.clear()
    os.environ.update(asked["environment"])
    return list(asked["words"])


def _main() -> None:
    from dicomnode.cli.main import main
    from tests.pace import import_everything

    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those between leave nothing behind
    words = _serve(socket.socket(fileno=int(sys.argv[1])))
    if words is not None:
        sys.argv = ["dicomnode", *words]
        main()


if __name__ == "__main__":
    _main()
