"""The turns of `make bench-gpu` over scripted parts: their order, and what is left of a part that ends on its way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import gpu
from tests.benchmarks.gpu import Session, differing
from tests.benchmarks.gpu_worker import PartError

ALL = ("course", "node", "course-torch", "torch", "torch-contiguous", "roofline", "cpu")


class Scripted:
    """Answers as a part would; from one of its acts on it fails."""

    def __init__(self, part: str, said: list[tuple[str, str]], fails: tuple[str, int] | None) -> None:
        self.part, self._said, self._fails = part, said, fails
        self._acts: dict[str, int] = {}
        self.facts: dict[str, Any] = {"manifests": ["plain", "shipped"], "precision": "fp16"}
        self.closed = False

    def ask(self, act: str, *given: Any, seconds: float) -> dict[str, Any]:
        self._said.append((self.part, act))
        self._acts[act] = self._acts.get(act, 0) + 1
        if self._fails == (act, self._acts[act]):
            raise PartError("it ended")
        answers: Mapping[str, dict[str, Any]] = {"peaks": {"fp16": 1.0, "bytes": 2.0}, "keep": {"found": [0, 1]}}
        return answers.get(act, {"seconds": float(self._acts[act])})

    def close(self) -> None:
        self.closed = True


def session(
    fails: Mapping[str, tuple[str, int]], absent: tuple[str, ...] = (), parts: tuple[str, ...] = ALL, all_: bool = False
) -> tuple[Session, list[tuple[str, str]]]:
    said: list[tuple[str, str]] = []

    def opened(part: str) -> Any:
        if part in absent:
            raise PartError("it is not there")
        return Scripted(part, said, fails.get(part))

    made = Session(opened, seconds=1)
    made.open(parts, all_=all_)
    return made, said


def test_turns_go_round_and_the_first_are_left_out(tmp_path: Path) -> None:
    made, said = session({})
    made.run(3, tmp_path)
    turns = [part for part, act in said if act == "turn"]
    order = ["course", "node", "torch", "torch-contiguous"]
    assert turns == [*(order + order[::-1]) * 2, *order, "cpu"]
    assert made.found["seconds"]["torch"] == [3.0, 4.0, 5.0]
    assert made.found["seconds"]["cpu"] == [1.0]
    assert len(made.found["peaks"]) == len(made.found["network"]["torch"]) == len(made.found["shipped"]["course"]) == 3
    assert set(made.found["spent"]) == {"course/plain", "course/shipped"}
    assert made.found["failed"] == {}
    assert made.found["labels"].keys() == {*order, "cpu"}


def test_torch_lends_its_network_where_the_nodes_own_is_missing(tmp_path: Path) -> None:
    made, _ = session({}, absent=("course", "node"))
    made.run(1, tmp_path)
    assert made.found["failed"] == dict.fromkeys(["course", "node"], "it is not there")
    assert set(made.found["spent"]) == {"course-torch/plain", "course-torch/shipped"}
    assert "course-torch" in session({}, parts=("course", "course-torch"), all_=True)[0].workers


@pytest.mark.parametrize(
    ("act", "at", "lost"),
    [("turn", 4, ("seconds", "network")), ("network", 5, ("network",)), ("memory", 1, ()), ("keep", 1, ())],
)
def test_what_ends_on_its_way_is_paired_with_nothing_and_what_it_did_whole_stays(
    tmp_path: Path, act: str, at: int, lost: tuple[str, ...]
) -> None:
    made, said = session({"torch": (act, at)})
    made.run(3, tmp_path)
    assert made.found["failed"] == {"torch": f"{act}: it ended"}
    for what in ("seconds", "network"):
        assert ("torch" in made.found[what]) == (what not in lost)
        assert len(made.found[what]["course"]) == 3
    assert said.index(("torch", act)) < len(said) - 1
    assert said[-1][0] == "torch-contiguous"  # the others went on to their end


def test_peaks_of_some_rounds_are_none(tmp_path: Path) -> None:
    made, _ = session({"roofline": ("peaks", 5)})
    made.run(3, tmp_path)
    assert made.found["peaks"] == []
    assert made.found["network"]["course"] == [3.0, 4.0, 5.0]


def test_labels_are_compared_in_pairs(tmp_path: Path) -> None:
    labels = np.zeros((2, 5), np.uint8)
    for number, part in enumerate(("course", "cpu", "torch")):
        other = labels.copy()
        other[0, :number] = 1
        np.save(tmp_path / f"{part}.npy", other)
    course, cpu, torch = (gpu.gpu_table.NAMES[part] for part in ("course", "cpu", "torch"))
    assert differing(tmp_path) == {f"{course}, {cpu}": 0.1, f"{course}, {torch}": 0.2, f"{torch}, {cpu}": 0.1}
