"""Programs for tests that are killed before or after the n-th of some calls, time and again; one interpreter serves them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Gives a program `counted`, which wraps a function whose calls count, and `serve`, to which it hands what it does.
_PREAMBLE: Final = """
import os, signal, sys, traceback
left = 0
def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def counted(function):
    def wrapper(*args, **kwargs):
        step()
        result = function(*args, **kwargs)
        step()
        return result
    return wrapper
def act_until(number, act, words):
    global left
    left = number
    try:
        act(*words)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
def serve(act):
    for line in sys.stdin:
        number, *words = line.rstrip("\\n").split("\\t")
        child = os.fork()
        if child == 0:
            act_until(int(number), act, words)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class KilledAtSteps:
    """A program whose attempts are processes of their own, each forked from one that has imported everything.

    Parameters
    ----------
    program
        Python; it wraps what counts by `counted` and ends with `serve(act)`.
    """

    def __init__(self, program: str) -> None:
        # Not measured: what is killed writes no measurements.
        environment = {name: value for name, value in os.environ.items() if name != "DICOMNODE_MEASURED"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PREAMBLE + program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def attempt(self, step: int, *words: str | Path) -> int:
        """Let it act with these words and kill it at a step; its exit status: `-SIGKILL`, or 0 where it has fewer steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\t".join(map(str, (step, *words))) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())
