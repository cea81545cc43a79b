"""A part of `make bench-gpu` in a process of its own, and the other end of it: whatever one does to its device, the others go on.

A line of JSON each way: what is asked, and what came of it. ``python -m tests.benchmarks.gpu_worker PART TASK``.
The end that asks imports neither numpy nor the node.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

Facts = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
_END_SECONDS = 10.0


class PartError(Exception):
    """Why a part gave no answer, in one line."""


class Worker:
    """A part that waits to be asked.

    Parameters
    ----------
    task
        As `main` takes it.
    log
        File that its libraries talk into.
    seconds
        For it to open.

    Raises
    ------
    PartError
        It did not open.
    """

    def __init__(
        self,
        part: str,
        task: Mapping[str, Any],
        *,
        log: Path,
        seconds: float,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "tests.benchmarks.gpu_worker"),
    ) -> None:
        self.part, self._log = part, log
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [*program, part, json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": paths, **(environment or {})},
            )
        self._held = b""
        try:
            self.facts = self._answer(seconds)
        except PartError:
            self.close()
            raise

    def ask(self, act: str, *given: Any, seconds: float) -> Facts:
        """What came of it; after a `PartError` the part is closed."""
        try:
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it ended: the answer says how
                self._process.stdin.write(json.dumps([act, *given]).encode() + b"\n")
                self._process.stdin.flush()
            return self._answer(seconds)
        except PartError:
            self.close()
            raise

    def close(self) -> None:
        """End it; may be called again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # a driver that hangs keeps even a killed process
            self._process.wait(_END_SECONDS)
        self._process.stdout.close()

    def _answer(self, seconds: float) -> Facts:
        assert self._process.stdout is not None
        end, descriptor = time.monotonic() + seconds, self._process.stdout.fileno()
        while b"\n" not in self._held:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self._process.kill()
                raise PartError(f"no answer within {seconds:.0f} s")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise PartError(self._last_words())
            self._held += piece
        line, self._held = self._held.split(b"\n", 1)
        answer: Facts = json.loads(line)
        if "failed" in answer:
            raise PartError(answer["failed"])
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        status = self._process.returncode
        how = f"by signal {-status}" if status and status < 0 else f"with status {status}"
        said = self._log.read_text("utf-8", "replace").strip().splitlines()
        return f"its process ended {how}" + (f": {said[-1][:160]}" if said else "")


def serve(part: Any, source: TextIO, sink: TextIO) -> None:
    """Answer until nobody asks any more; the first failure is the last answer."""
    _say(sink, part.facts)
    for line in source:
        act, *given = json.loads(line)
        try:
            answer = getattr(part, act)(*given)
        except Exception as error:  # noqa: BLE001 - one line of the table, whatever it is
            _say(sink, {"failed": in_a_line(error)})
            return
        _say(sink, answer)


def in_a_line(error: BaseException) -> str:
    """What went wrong, also where a library says it in many lines."""
    facts = getattr(error, "facts", None)
    if isinstance(facts, Mapping) and "cause" in facts:
        return ", ".join([str(facts["cause"]), *(f"{name} {one}" for name, one in facts.items() if name != "cause")])
    said = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {said[0][:200]}" if said and kind != "Missing" else said[0] if said else kind


def _say(sink: TextIO, what: Mapping[str, Any]) -> None:
    sink.write(json.dumps(what) + "\n")
    sink.flush()


def main(part: str, task: Mapping[str, Any]) -> None:
    """Open a part and serve it; only it speaks on the standard output, whatever its libraries print there."""
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    opened: Any = None
    try:
        from tests.benchmarks.gpu_parts import PARTS, Task
        from tests.benchmarks.studies import Study

        study = Study(**{name: tuple(one) if isinstance(one, list) else one for name, one in task["study"].items()})
        opened = PARTS[part](Task(**{**task, "study": study, "folder": Path(task["folder"])}))
    except Exception as error:  # noqa: BLE001 - as above
        _say(sink, {"failed": in_a_line(error)})
        os._exit(1)
    serve(opened, sys.stdin, sink)
    getattr(opened, "close", lambda: None)()
    sys.stderr.flush()
    os._exit(0)  # libraries of drivers have crashed at the end of processes that were done


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
