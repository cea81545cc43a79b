"""One suite for every device: what `dicomnode.inference.device.Device` promises, on a real one, too, where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import gpu_course, segment
from dicomnode.inference.cuda_device import CudaDevice, devices
from dicomnode.inference.device import Device
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.standin_device import StandInDevice
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.host_kernels import CompiledDevice
from tests.unit.inference.models import tiny_manifest, tiny_model


def _cuda() -> Device:
    try:
        found = devices()
    except ModelError as error:
        pytest.skip(f"no CUDA device: {error.facts['cause']}")
    if not found:
        pytest.skip("no CUDA device")
    return CudaDevice()


@pytest.fixture(
    params=[StandInDevice, CompiledDevice, pytest.param(_cuda, marks=pytest.mark.gpu)],
    ids=["twins", "compiled", "cuda"],
)
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    make: Callable[[], Device] = request.param
    made = make()
    yield made
    made.close()


def cause(error: pytest.ExceptionInfo[ModelError]) -> Any:
    return error.value.facts["cause"]


@pytest.mark.parametrize("size", [1, 1000, 40_000_000])
def test_what_goes_up_comes_down(device: Device, size: int) -> None:
    stream, buffer = device.stream(), device.allocate(size)
    values = np.arange(size, dtype=np.uint32).astype(np.uint8)
    device.upload(values, buffer, stream)
    kept, values = values.copy(), np.zeros_like(values)
    found = np.zeros(size, np.uint8)
    device.download(buffer, found, stream)
    device.synchronise(stream)
    assert np.array_equal(found, kept)
    assert buffer.size == size


def test_parts_copies_and_zeros(device: Device) -> None:
    stream, one, other = device.stream(), device.allocate(64), device.allocate(64)
    device.upload(np.arange(16, dtype=np.float32), one, stream)
    device.clear(other, 64, stream)
    device.copy(one.part(16), other.part(32), 16, stream)
    device.upload(np.float32([-1]), other.part(60), stream)
    found = np.empty((4, 4), np.float32)
    device.download(other, found, stream)
    device.synchronise(stream)
    assert found.ravel().tolist() == [0] * 8 + [4, 5, 6, 7, 0, 0, 0, -1]
    assert other.part(32).size == 32
    assert other.part(32).address == other.address + 32


def test_memory_is_counted_and_comes_back(device: Device) -> None:
    before = device.free_bytes()
    buffer = device.allocate(64 * 1024 * 1024)
    assert device.free_bytes() <= before - 60 * 1024 * 1024
    device.release(buffer)
    device.release(buffer)
    assert device.free_bytes() >= before - 4 * 1024 * 1024


def test_more_than_there_is_is_refused_and_the_rest_goes_on(device: Device) -> None:
    with pytest.raises(ModelError) as caught:
        device.allocate(2 * device.facts.memory_bytes)
    assert (caught.value.code, cause(caught)) == ("inference-failed", "device-out-of-memory")
    assert device.allocate(1000).size == 1000


def test_streams_wait_for_each_other(device: Device) -> None:
    first, second = device.stream(), device.stream()
    scores, labels = device.allocate(4 * 3 * 1000), device.allocate(1000)
    values = np.random.default_rng(1).normal(size=(3, 1000)).astype(np.float32)
    device.upload(values, scores, first)
    device.wait_for(device.record(first), second)
    device.launch("argmax", 1000, [scores, labels, 3, 1000, 1000], second)
    done = device.record(second)
    device.reach(done)
    found = np.zeros(1000, np.uint8)
    device.download(labels, found, second)
    device.synchronise(second)
    assert np.array_equal(found, values.argmax(axis=0))


def test_a_whole_study_has_the_labels_of_the_cpu(device: Device) -> None:
    """Every kernel, through a stand-in for the network that moves logits by the host."""

    def change(values: dict[str, Any]) -> None:
        values["network"]["tile"] = [16, 16, 16]
        values["results"] = {"parametric_map": True}

    manifest = tiny_manifest(change)
    volume = chest(geometry((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), spacing=(5.0, 2.5, 4.0)))
    engine = OnnxEngine(tiny_model(), manifest, threads=1)
    expected = segment.compute(volume, manifest, engine, lambda _: None)
    found = gpu_course.see(volume, manifest, device, _Moving(device, engine, manifest.channels), lambda _: None)
    assert np.array_equal(found.labels, expected.labels)
    assert found.probability is not None
    assert expected.probability is not None
    assert np.abs(found.probability.astype(int) - expected.probability).max() <= 1


class _Moving:
    """An engine of the host as the network of any device."""

    batch = 2

    def __init__(self, device: Device, engine: OnnxEngine, channels: int) -> None:
        self._device, self._engine, self._channels = device, engine, channels
        self.info = engine.info

    def memory_bytes(self) -> int:
        return 0

    def enqueue(self, source: Any, target: Any, shape: tuple[int, ...], stream: Any) -> None:
        batch = np.empty(shape, np.float32)
        self._device.download(source, batch, stream)
        self._device.synchronise(stream)
        self._device.upload(self._engine.run(batch), target, stream)

    def close(self) -> None:
        pass


def test_says_what_it_is(device: Device) -> None:
    facts = device.facts
    assert facts.name
    assert facts.memory_bytes >= device.free_bytes() > 0
    assert facts.multiprocessors >= 1
    assert facts.driver


def test_closes_twice_and_then_refuses(device: Device) -> None:
    stream, buffer = device.stream(), device.allocate(16)
    device.close()
    device.close()
    for refused in (
        lambda: device.allocate(1),
        device.stream,
        lambda: device.upload(np.zeros(1), buffer, stream),
        lambda: device.clear(buffer, 1, stream),
        lambda: device.synchronise(stream),
        lambda: device.launch("argmax", 1, [buffer, buffer, 1, 1, 1], stream),
    ):
        with pytest.raises(ModelError) as caught:
            refused()
        assert cause(caught) == "device-failed"
