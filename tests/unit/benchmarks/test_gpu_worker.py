"""Parts in processes of their own: whatever one does, its end is one line, and comes in time."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import ModelError
from tests.benchmarks.gpu_parts import Missing
from tests.benchmarks.gpu_worker import PartError, Worker, in_a_line, serve

ANSWERING = """
import json, sys, os, signal
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    act, *given = json.loads(line)
    if act == "die":
        print("a driver said goodbye", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "leave":
        sys.exit(3)
    if act == "hang":
        signal.pause()
    print(json.dumps({"failed": "badly"} if act == "fail" else {"act": act, "given": given}), flush=True)
"""


def worker(tmp_path: Path, script: str = ANSWERING, *, seconds: float = 30.0) -> Worker:
    return Worker("part", {}, log=tmp_path / "log", seconds=seconds, program=(sys.executable, "-c", script))


def test_what_is_asked_is_answered(tmp_path: Path) -> None:
    one = worker(tmp_path)
    assert one.facts == {"ready": True}
    assert one.ask("turn", 1, "two", seconds=30) == {"act": "turn", "given": [1, "two"]}
    one.close()
    one.close()
    assert one._process.returncode == 0


@pytest.mark.parametrize(
    ("act", "seconds", "said"),
    [
        ("die", 30, "its process ended by signal 11: a driver said goodbye"),
        ("leave", 30, "its process ended with status 3"),
        ("hang", 0.2, "no answer within 0 s"),
        ("fail", 30, "badly"),
    ],
)
def test_each_end_is_one_line_and_the_process_is_gone(tmp_path: Path, act: str, seconds: float, said: str) -> None:
    one = worker(tmp_path)
    with pytest.raises(PartError) as caught:
        one.ask(act, seconds=seconds)
    assert str(caught.value) == said
    assert one._process.returncode is not None
    with pytest.raises((PartError, ValueError)):
        one.ask("turn", seconds=30)


def test_a_part_that_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"status 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"):
        worker(tmp_path, "import nothing_of_this_name")
    with pytest.raises(PartError, match="no answer within"):
        worker(tmp_path, "import signal; signal.pause()", seconds=0.2)


class Part:
    def __init__(self) -> None:
        self.facts = {"name": "part"}

    def twice(self, value: int) -> dict[str, Any]:
        return {"twice": 2 * value}

    def fail(self) -> dict[str, Any]:
        raise RuntimeError("CUDA error: an illegal memory access\nin many lines")


def test_the_first_failure_is_the_last_answer() -> None:
    sink = io.StringIO()
    serve(Part(), io.StringIO('["twice", 4]\n["fail"]\n["twice", 5]\n'), sink)
    said = [json.loads(line) for line in sink.getvalue().splitlines()]
    assert said == [{"name": "part"}, {"twice": 8}, {"failed": "RuntimeError: CUDA error: an illegal memory access"}]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModelError("inference-failed", cause="device-too-small", needed=5), "device-too-small, needed 5"),
        (Missing("torch is not installed"), "torch is not installed"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 500), "ValueError: " + "x" * 200),
    ],
)
def test_errors_in_a_line(error: Exception, said: str) -> None:
    assert in_a_line(error) == said
