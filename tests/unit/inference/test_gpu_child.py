"""What a GPU process answers, word by word, served in a thread."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import cuda_device, gpu_child, gpu_open, tensorrt
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_wire import Ended, Shared, geometry_message, receive, send
from dicomnode.inference.package import load
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from dicomnode.manifest import Wanted
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.fake_tensorrt import FakeTensorRt
from tests.unit.inference.gpu_program import manifest
from tests.unit.inference.models import values, write_package

MANIFEST = manifest()
VOLUME = chest(geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing=(6.0, 3.0, 4.0)))
Ask = Callable[..., Any]


def opener(message: dict[str, Any]) -> GpuEngine:
    if message.get("how") == "refuse":
        raise ModelError("inference-failed", cause="tensorrt-missing")
    wanted = MANIFEST if message.get("map", True) else replace(MANIFEST, results=Wanted())
    network = StandInNetwork(StandInEngine(wanted), wanted.channels)
    return GpuEngine(StandInDevice(int(message.get("memory", 2**34))), network, wanted)


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of every alarm that was set; none rings in the tests' own process."""
    found: list[float] = []
    monkeypatch.setattr(gpu_child.signal, "setitimer", lambda _, seconds: found.append(seconds))
    return found


@pytest.fixture
def link(timers: list[float]) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    serving = threading.Thread(target=gpu_child.serve, args=(theirs, opener), daemon=True)
    serving.start()
    with ours:
        yield ours
    serving.join(20)
    assert not serving.is_alive()
    theirs.close()


def asked(link: socket.socket, question: dict[str, Any], shared: Shared) -> list[dict[str, Any]]:
    send(link, {**question, "layout": shared.layout, "seconds": 7}, shared.descriptor)
    answers = [receive(link)[0]]
    while answers[-1]["state"] == "going":
        answers.append(receive(link)[0])
    return answers


def test_it_says_what_it_opened_and_answers_until_nobody_asks(link: socket.socket, timers: list[float]) -> None:
    send(link, {})
    ready, _ = receive(link)
    assert (ready["state"], ready["info"]["name"]) == ("ready", "stand-in")
    shape = list(VOLUME.values.shape)
    shared = Shared([("int16", shape), ("uint8", shape), ("uint16", shape)])
    shared.arrays[0][:] = VOLUME.values
    answers = asked(link, {"ask": "see", "geometry": geometry_message(VOLUME.geometry)}, shared)
    assert answers[-1] == {"state": "done", "info": ready["info"]}
    assert [answer["share"] for answer in answers[:-1]] == sorted(answer["share"] for answer in answers[:-1])
    assert shared.arrays[1].any()
    assert shared.arrays[2].max() > 60_000
    assert timers == [7, 0]
    shared.close()
    batch = Shared([("float32", (1, 1, 16, 16, 16)), ("float32", (1, MANIFEST.channels, 16, 16, 16))])
    assert asked(link, {"ask": "run"}, batch)[-1]["state"] == "done"
    assert np.abs(batch.arrays[1]).min() > 0
    batch.close()


def test_it_says_why_it_opens_nothing(link: socket.socket) -> None:
    send(link, {"how": "refuse"})
    assert receive(link)[0] == {"state": "failed", "cause": "tensorrt-missing"}


def test_a_study_that_fails_leaves_it_answering(link: socket.socket) -> None:
    send(link, {"memory": 1000})
    receive(link)
    shape = list(VOLUME.values.shape)
    for _ in range(2):
        shared = Shared([("int16", shape), ("uint8", shape), ("uint16", shape)])
        question = {"ask": "see", "geometry": geometry_message(VOLUME.geometry)}
        assert asked(link, question, shared) == [{"state": "failed", "cause": "device-too-small"}]
        shared.close()


def test_a_question_without_memory_ends_it(link: socket.socket) -> None:
    send(link, {})
    receive(link)
    send(link, {"ask": "run", "layout": [], "seconds": 1})
    with pytest.raises(Ended):
        receive(link)


def test_a_model_without_a_map_answers_with_labels_alone(link: socket.socket) -> None:
    send(link, {"map": False})
    receive(link)
    shape = list(VOLUME.values.shape)
    shared = Shared([("int16", shape), ("uint8", shape), ("uint16", shape)])
    shared.arrays[0][:] = VOLUME.values
    shared.arrays[2][:] = 77
    answers = asked(link, {"ask": "see", "geometry": geometry_message(VOLUME.geometry)}, shared)
    assert answers[-1]["state"] == "done"
    assert shared.arrays[1].any()
    assert (shared.arrays[2] == 77).all()
    shared.close()


def test_it_ends_with_the_other_side_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    monkeypatch.setattr(gpu_child.os, "_exit", ended.put)
    ours, theirs = socket.socketpair()
    with theirs:
        gpu_child.end_with(theirs)
        ours.sendall(b"still here")
        with pytest.raises(queue.Empty):
            ended.get(timeout=0.2)
        ours.close()
        assert ended.get(timeout=20) == 1


@pytest.fixture
def opened_on_stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`open_package` over the stand-in device and a library with TensorRT's interface."""
    network = {**values()["network"], "tile": [16, 16, 16]}
    folder = write_package(tmp_path, network=network)
    fake = FakeTensorRt(load(folder).manifest)
    devices: list[StandInDevice] = []

    def device() -> StandInDevice:
        devices.append(StandInDevice())
        return devices[-1]

    monkeypatch.setattr(cuda_device, "CudaDevice", device)
    monkeypatch.setattr(tensorrt, "library", lambda name: fake)

    def make(precision: str = "auto") -> Any:
        message = {"library": "tensorrt", "precision": precision, "threads": 1, "cache_bytes": 2**30}
        places = {"folder": str(folder), "cache": str(tmp_path / "engines"), "key": "00" * 32}
        return gpu_open.open_package({**message, **places}), fake, devices

    return make


def test_a_package_is_opened_built_once_and_warm(opened_on_stand_ins: Callable[..., Any]) -> None:
    engine, fake, _ = opened_on_stand_ins()
    assert str(engine.info) == "tensorrt fp16"
    batch = np.random.default_rng(1).uniform(-1, 1, (5, 1, 16, 16, 16)).astype(np.float32)
    answer = engine.run(batch)
    engine.close()
    again, fake, _ = opened_on_stand_ins()
    assert fake.calls.count("build_serialized_network") == 1
    assert fake.calls.count("execute_async_v3") > 2  # it has run before anybody asked
    assert np.array_equal(again.run(batch), answer)
    again.close()


def test_what_does_not_open_gives_its_device_back(opened_on_stand_ins: Callable[..., Any]) -> None:
    engine, fake, devices = opened_on_stand_ins("fp32")
    engine.close()
    fake.failing = {"deserialize_cuda_engine"}
    with pytest.raises(ModelError) as caught:
        opened_on_stand_ins("tf32")
    assert caught.value.facts == {"cause": "tensorrt-load"}
    with pytest.raises(ModelError):
        devices[-1].allocate(1)
