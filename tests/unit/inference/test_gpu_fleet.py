"""Several devices share the work: whoever is free takes it, and one that dies leaves the others working."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.imaging.volume import Volume
from dicomnode.inference import segment
from dicomnode.inference.engine import Batch, EngineInfo
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_remote import RemoteEngine, Times
from dicomnode.inference.gpu_seat import Patience, Remote, Turns
from dicomnode.inference.standin import StandInEngine
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.gpu_program import manifest

MANIFEST = manifest()
VOLUME = chest(geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing=(6.0, 3.0, 4.0)))
PATIENCE = Patience(again_seconds=100, reopening_seconds=5)


class Gate:
    """A GPU's engine that tells when a study is on it, and keeps it until it is let go."""

    def __init__(self, name: str, failure: str = "") -> None:
        self.name, self.failure = name, failure
        self.entered, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.inside, self.most = 0, 0
        self.alive = True
        self.engine = StandInEngine(MANIFEST)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(name=self.name, precision="fp16", version="11")

    def run(self, batch: Batch) -> Batch:
        return self.engine.run(batch)

    def see(self, volume: Volume, progress: Callable[[float], None]) -> segment.Seen:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.release()
        assert self.go.acquire(timeout=60)
        self.inside -= 1
        if self.failure:
            raise ModelError("inference-failed", cause=self.failure)
        seen = segment.compute(volume, MANIFEST, self.engine, progress)
        return segment.Seen(labels=seen.labels, probability=seen.probability, engine=self.info)

    def close(self) -> None:
        self.alive = False


class Fleet:
    """A guarded engine on some gates, and what it told."""

    def __init__(self, *gates: Gate | None, turns: Turns | None = None) -> None:
        self.told: list[tuple[str, Any, Any]] = []
        self.starts = [self._start_of(gate) for gate in gates]
        self.engine = GuardedEngine(
            self.starts,
            StandInEngine(MANIFEST),
            MANIFEST,
            tell=lambda event, facts: self.told.append((event, facts.get("device"), facts.get("cause"))),
            clock=lambda: 0.0,
            patience=PATIENCE,
            turns=turns,
        )
        self.engine.wait_until_open(60)

    @staticmethod
    def _start_of(gate: Gate | None) -> Callable[[], Remote]:
        given = [gate]

        def start() -> Remote:
            found = given.pop() if given else None
            if found is None:
                raise ModelError("inference-failed", cause="device-failed")
            return found

        return start

    def see(self) -> segment.Seen:
        return self.engine.see(VOLUME, lambda _: None)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def test_studies_go_to_whoever_is_free_and_one_to_each(pool: ThreadPoolExecutor) -> None:
    gates = [Gate("zero"), Gate("one"), Gate("two")]
    fleet = Fleet(*gates)
    assert fleet.engine.places == 3
    seen = [pool.submit(fleet.see) for _ in range(6)]
    for gate in gates:
        assert gate.entered.acquire(timeout=60)
    assert not any(one.done() for one in seen)
    for _ in range(4):  # device one is quick: all that wait go there
        gates[1].go.release()
    for _ in range(3):
        assert gates[1].entered.acquire(timeout=60)
    gates[0].go.release()
    gates[2].go.release()
    names = sorted(one.result(60).engine.name for one in seen)
    assert names == ["one", "one", "one", "one", "two", "zero"]
    assert [gate.most for gate in gates] == [1, 1, 1]
    expected = segment.compute(VOLUME, MANIFEST, StandInEngine(MANIFEST), lambda _: None)
    assert all(np.array_equal(one.result().labels, expected.labels) for one in seen)


def test_a_device_that_fails_hands_its_study_to_another(pool: ThreadPoolExecutor) -> None:
    bad, good = Gate("bad", "device-failed"), Gate("good")
    bad.go.release()
    good.go.release(3)
    fleet = Fleet(bad, good)
    seen = fleet.see()
    assert (seen.engine.name, seen.engine.note) == ("good", "")
    assert not bad.alive
    assert ("failed", 0, "device-failed") in fleet.told
    assert [fleet.see().engine.name for _ in range(2)] == ["good", "good"]
    assert not any(event == "fell-back" for event, *_ in fleet.told)


def test_a_study_that_ends_two_devices_ends_on_the_cpu_and_no_third_is_tried() -> None:
    gates = [Gate("zero", "gpu-process-ended"), Gate("one", "device-failed"), Gate("two")]
    for gate in gates:
        gate.go.release()
    fleet = Fleet(*gates)
    seen = fleet.see()
    assert str(seen.engine) == "stand-in fp32 (GPU failed: device-failed)"
    assert gates[2].alive
    assert fleet.see().engine.name == "two"


def test_a_device_that_does_not_open_leaves_the_others_working() -> None:
    good = Gate("good")
    good.go.release(2)
    fleet = Fleet(None, good)
    assert fleet.engine.info.name == "good"
    assert [fleet.see().engine.name for _ in range(2)] == ["good", "good"]
    assert ("failed", 0, "device-failed") in fleet.told


def test_while_none_serves_the_cpu_takes_one_study_at_a_time(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet(None, None)
    inside: list[int] = []
    most: list[int] = []
    compute = segment.compute

    def counted(*given: Any) -> segment.Seen:
        inside.append(1)
        most.append(len(inside))
        try:
            return compute(*given)
        finally:
            inside.pop()

    monkeypatch.setattr("dicomnode.inference.gpu_guard.compute", counted)
    seen = [pool.submit(fleet.see).result(60) for _ in range(1)] + list(pool.map(lambda _: fleet.see(), range(4)))
    assert {str(one.engine) for one in seen} == {"stand-in fp32"}
    assert max(most) == 1
    fleet.engine.rest()
    with fleet.engine._turns.cpu:  # a study is on it: it keeps its memory
        fleet.engine.rest()


def test_models_share_the_devices(pool: ThreadPoolExecutor) -> None:
    """The second model's engine on a device waits while the first one's has a study there."""
    turns = Turns(1)
    first, second = Gate("first"), Gate("second")
    fleets = [Fleet(first, turns=turns), Fleet(second, turns=turns)]
    one = pool.submit(fleets[0].see)
    assert first.entered.acquire(timeout=60)
    other = pool.submit(fleets[1].see)
    second.go.release()
    assert not second.entered.acquire(timeout=0.2)
    assert fleets[1].engine.info.name == "stand-in"  # as things stand
    first.go.release()
    assert one.result(60).engine.name == "first"
    assert other.result(60).engine.name == "second"


def test_who_waits_for_a_device_that_dies_goes_to_the_cpu(pool: ThreadPoolExecutor) -> None:
    bad = Gate("bad", "device-failed")
    fleet = Fleet(bad)
    one = pool.submit(fleet.see)
    assert bad.entered.acquire(timeout=60)
    other = pool.submit(fleet.see)
    bad.go.release()
    assert one.result(60).engine.note == "GPU failed: device-failed"
    assert str(other.result(60).engine) == "stand-in fp32"


def test_a_closed_fleet_takes_nothing() -> None:
    gates = [Gate("zero"), Gate("one")]
    fleet = Fleet(*gates)
    fleet.engine.close()
    assert [gate.alive for gate in gates] == [False, False]
    with pytest.raises(ModelError, match="inference-failed"):
        fleet.see()


def test_processes_of_several_devices_work_while_one_is_killed(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """Real processes over stand-in devices: one crashes in the middle of its first study."""
    command = (sys.executable, "-m", "tests.unit.inference.gpu_program")
    times = Times(opening=60, silence=10, study=60)
    remotes: list[RemoteEngine] = []

    def start_of(number: int, how: str) -> Callable[[], Remote]:
        first = {"how": how, "marker": str(tmp_path / f"marker{number}"), "times": 1}

        def start() -> Remote:
            remotes.append(RemoteEngine(MANIFEST, first, environment={}, times=times, command=command))
            return remotes[-1]

        return start

    told: list[tuple[str, Any]] = []
    engine = GuardedEngine(
        [start_of(0, "crash"), start_of(1, "good")],
        StandInEngine(MANIFEST),
        MANIFEST,
        tell=lambda event, facts: told.append((event, facts.get("device"))),
        clock=time.monotonic,
    )
    try:
        assert engine.wait_until_open(60)
        assert all(seat.open for seat in engine.seats)
        seen = list(pool.map(lambda _: engine.see(VOLUME, lambda _: None), range(5)))
        expected = segment.compute(VOLUME, MANIFEST, StandInEngine(MANIFEST), lambda _: None)
        assert all(np.array_equal(one.labels, expected.labels) for one in seen)
        assert {one.engine.note for one in seen} == {""}
        assert ("failed", 0) in told
        assert not any(event == "fell-back" for event, _ in told)
    finally:
        engine.close()
        for remote in remotes:
            remote.close()
