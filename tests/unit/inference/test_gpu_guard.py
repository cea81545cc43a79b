"""An engine on a GPU that fails, and the CPU behind it: once again, then the CPU, and the result says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.imaging.volume import Volume
from dicomnode.inference import segment
from dicomnode.inference.engine import Batch, EngineInfo
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_seat import Patience, Remote
from dicomnode.inference.standin import StandInEngine
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.gpu_program import manifest

MANIFEST = manifest()
VOLUME = chest(geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing=(6.0, 3.0, 4.0)))
BATCH = np.zeros((1, 1, 16, 16, 16), np.float32)


def cause(error: pytest.ExceptionInfo[ModelError]) -> Any:
    return error.value.facts["cause"]


class Scripted:
    """A GPU's engine that does what its script says: ``good``, or the cause of a failure after a third of a study."""

    def __init__(self, how: str) -> None:
        self.how, self.closed, self.dead = how, False, False
        self.engine = StandInEngine(MANIFEST)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(name="tensorrt", precision="fp16", version="11")

    @property
    def alive(self) -> bool:
        return not self.closed and not self.dead

    def run(self, batch: Batch) -> Batch:
        return self.engine.run(batch)

    def see(self, volume: Volume, progress: Callable[[float], None]) -> segment.Seen:
        def told(share: float) -> None:
            progress(share)
            if share > 0.3 and self.how != "good":
                self.dead = self.how == "gpu-process-ended"
                raise ModelError("inference-failed", cause=self.how)

        seen = segment.compute(volume, MANIFEST, self.engine, told)
        return segment.Seen(labels=seen.labels, probability=seen.probability, engine=self.info)

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Guarded:
    """A guarded engine, what it started and what it told."""

    def __init__(self, *script: str, start: Callable[[], Remote] | None = None) -> None:
        self.script, self.remotes = list(script), list[Scripted]()
        self.told: list[tuple[str, ...]] = []
        self.clock = Clock()
        self.engine = GuardedEngine(
            [start or self._start],
            StandInEngine(MANIFEST),
            MANIFEST,
            tell=lambda event, facts: self.told.append(
                (event, *(str(fact) for name, fact in facts.items() if name != "device"))
            ),
            clock=self.clock,
            patience=Patience(again_seconds=100),
        )

    def _start(self) -> Scripted:
        self.remotes.append(Scripted(self.script.pop(0)))
        return self.remotes[-1]

    def see(self, shares: list[float] | None = None) -> segment.Seen:
        seen = self.engine.see(VOLUME, (shares if shares is not None else []).append)
        assert seen.labels.any()
        return seen


def opened(*script: str) -> Guarded:
    one = Guarded(*script)
    assert one.engine.wait_until_open(60)
    return one


def test_the_gpu_answers_where_it_does() -> None:
    one = opened("good")
    assert str(one.see().engine) == "tensorrt fp16"
    assert one.engine.info.name == "tensorrt"
    assert one.told == [("ready", "tensorrt-fp16")]
    one.engine.rest()
    one.engine.close()
    assert one.remotes[0].closed


@pytest.mark.parametrize("how", ["gpu-process-ended", "device-failed", "device-out-of-memory"])
def test_a_failure_costs_one_more_try(how: str) -> None:
    one, shares = opened(how, "good"), list[float]()
    assert one.see(shares).engine.note == ""
    assert one.told == [("ready", "tensorrt-fp16"), ("failed", how), ("ready", "tensorrt-fp16")]
    assert shares == sorted(shares)
    assert one.remotes[0].closed


def test_two_failures_end_on_the_cpu_and_the_result_says_so() -> None:
    one = opened("gpu-process-ended", "device-failed", "good")
    seen = one.see()
    assert str(seen.engine) == "stand-in fp32 (GPU failed: device-failed)"
    assert "GPU failed" in seen.engine.fingerprint
    expected = segment.compute(VOLUME, MANIFEST, StandInEngine(MANIFEST), lambda _: None)
    assert np.array_equal(seen.labels, expected.labels)
    assert [event for event, *_ in one.told[:5]] == ["ready", "failed", "ready", "failed", "fell-back"]
    assert one.engine.wait_until_open(60)  # the next study finds it again
    assert one.see().engine.name == "tensorrt"


def test_where_the_second_does_not_open_the_cpu_does_it() -> None:
    one = opened("gpu-process-ended", "good")

    def refuse() -> Remote:
        raise ModelError("inference-failed", cause="device-failed")

    one.engine.seats[0].start = refuse
    assert one.see().engine.note == "GPU failed: gpu-process-ended"
    assert one.told[1:] == [
        ("failed", "gpu-process-ended"),
        ("failed", "device-failed"),
        ("fell-back", "gpu-process-ended"),
    ]


def test_a_study_does_not_wait_for_an_engine_to_be_built() -> None:
    one, go = opened("gpu-process-ended"), threading.Event()

    def building() -> Remote:
        assert go.wait(60)
        return Scripted("good")

    one.engine.seats[0].start = building
    one.engine.seats[0].patience = Patience(reopening_seconds=0.05)
    assert one.see().engine.note == "GPU failed: gpu-process-ended"
    go.set()
    assert one.engine.wait_until_open(60)
    assert one.see().engine.name == "tensorrt"


def test_what_does_not_fit_goes_to_the_cpu_at_once() -> None:
    one = opened("device-too-small")
    assert one.see().engine.note == "GPU failed: device-too-small"
    assert [event for event, *_ in one.told] == ["ready", "fell-back"]
    assert one.remotes[0].alive


def test_the_cpu_serves_while_the_gpu_opens() -> None:
    go = threading.Event()

    def slow() -> Remote:
        assert go.wait(60)
        raise ModelError("inference-failed", cause="tensorrt-build")

    one = Guarded(start=slow)
    assert str(one.see().engine) == "stand-in fp32"
    assert one.told == []
    go.set()
    assert not one.engine.wait_until_open(60)
    assert one.told == [("failed", "tensorrt-build")]


def test_a_gpu_that_does_not_open_is_tried_again_later() -> None:
    tries: list[int] = []

    def never() -> Remote:
        tries.append(1)
        raise ModelError("inference-failed", cause="device-failed")

    one = Guarded(start=never)
    one.engine.wait_until_open(60)
    for now, expected in ((0, 1), (99, 1), (101, 2), (150, 2), (202, 3)):
        one.clock.now = now
        one.engine.run(BATCH)
        one.engine.wait_until_open(60)
        assert len(tries) == expected
    assert one.engine.info.name == "stand-in"


def test_a_process_that_ends_between_studies_is_noticed() -> None:
    one = opened("good", "good")
    one.remotes[0].dead = True
    assert one.engine.info.name == "stand-in"
    assert one.told[-1] == ("failed", "gpu-process-ended")
    assert one.see().engine.name == "stand-in"
    assert one.engine.wait_until_open(60)
    assert one.see().engine.name == "tensorrt"


def test_the_callers_own_faults_are_the_callers() -> None:
    one = opened("good")
    with pytest.raises(ModelError) as caught:
        one.engine.run(np.zeros((1, 1, 15, 16, 16), np.float32))
    assert cause(caught) == "input-not-a-multiple"
    assert one.remotes[0].alive
    one.engine.close()
    one.engine.close()
    for ask in (lambda: one.engine.run(BATCH), one.see):
        with pytest.raises(ModelError) as caught:
            ask()
        assert cause(caught) == "engine-closed"


def test_a_gpu_that_opens_after_the_end_is_ended() -> None:
    go, remotes = threading.Event(), list[Scripted]()

    def late() -> Remote:
        assert go.wait(60)
        remotes.append(Scripted("good"))
        return remotes[-1]

    one = Guarded(start=late)
    one.engine.close()
    go.set()
    assert not one.engine.wait_until_open(60)
    assert remotes[0].closed
    assert one.told == []
