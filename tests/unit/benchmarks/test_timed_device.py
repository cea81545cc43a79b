"""The device that is timed step by step: the same labels, every step in a share, and sums that come out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dicomnode.inference import gpu_course
from dicomnode.inference.kernels import KERNELS
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from tests.benchmarks.timed_device import HOST, SHARES, TimedDevice, around, shares
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.models import tiny_manifest, tiny_model


def test_every_kernel_has_a_share() -> None:
    held = [step for steps in SHARES.values() for step in steps]
    assert len(held) == len(set(held))
    assert KERNELS.keys() <= set(held)


def test_a_study_over_it_has_the_same_labels_and_each_step_its_time() -> None:
    manifest = tiny_manifest(lambda values: values["network"].update(tile=[16, 16, 16]))
    volume = chest(geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    device = StandInDevice()
    network = StandInNetwork(OnnxEngine(tiny_model(), manifest, threads=1), manifest.channels)
    expected = gpu_course.see(volume, manifest, device, network, lambda _: None)
    ticks = itertools.count()
    timed = TimedDevice(device, watch=True, clock=lambda: float(next(ticks)))
    found = gpu_course.see(volume, manifest, timed, timed.network(network), lambda _: None)
    assert np.array_equal(found.labels, expected.labels)
    assert found.engine == expected.engine
    study = gpu_course.study_of(volume.geometry, manifest, itemsize=2)
    tiles = study.layout.count
    assert tiles > 4
    assert timed.seconds["accumulate"] == tiles  # one tick each
    assert timed.seconds["network"] == timed.seconds["gather"] == -(-tiles // network.batch)
    assert timed.seconds["resample_i16"] == timed.seconds["labels_back"] == 1
    assert timed.seconds["allocate"] == timed.seconds["release"]
    assert device.facts.memory_bytes - timed.least_free == device.peak_bytes
    assert device.free_bytes() == device.facts.memory_bytes
    total = 2.0 * sum(timed.seconds.values())
    spent = shares(timed.seconds, total)
    assert sum(spent.values()) == total
    assert spent[HOST] == total / 2


def test_every_step_is_waited_for_within_its_time() -> None:
    said: list[object] = []

    class Device(StandInDevice):
        def synchronise(self, stream: object) -> None:
            said.append(stream)

    device = Device()
    timed = TimedDevice(device, clock=lambda: float(said.append("clock") or 0))  # type: ignore[func-returns-value]
    stream, one, other = timed.stream(), device.allocate(64), device.allocate(64)
    array = np.zeros(8, np.float32)
    engine = StandInNetwork(OnnxEngine(tiny_model(), tiny_manifest(), threads=1), 3)
    source, target = device.allocate(4 * 8), device.allocate(4 * 24)
    device.clear(source, 32, stream)
    for act in (
        lambda: timed.upload(array, one, stream),
        lambda: timed.download(one, array, stream),
        lambda: timed.copy(one, other, 32, stream),
        lambda: timed.clear(one, 32, stream),
        lambda: timed.launch("argmax", 4, (one, other, 2, 4, 4), stream),
        lambda: timed.network(engine).enqueue(source, target, (1, 1, 2, 2, 2), stream),
    ):
        said.clear()
        act()
        assert said == ["clock", stream, "clock"]


def test_whoever_does_not_watch_does_not_look_at_memory() -> None:
    timed = TimedDevice(StandInDevice())
    timed.release(timed.allocate(1000))
    assert timed.least_free == timed.facts.memory_bytes


def test_a_step_that_no_share_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="new_kernel"):
        shares({"new_kernel": 1.0}, 2.0)


def test_what_stands_around_the_network_with_and_without_copies() -> None:
    spent = shares({"upload": 3.0, "download": 1.0, "allocate": 1.0, "network": 9.0, "resample_i16": 0.5}, 15.0)
    assert spent[HOST] == 0.5
    without, all_ = around(spent)
    assert without == pytest.approx(1 / 10)
    assert all_ == pytest.approx(6 / 15)
    assert shares({"network": 9.0}, 8.0)[HOST] == 0.0
