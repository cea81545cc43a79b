"""The course of a study over a stand-in device gives what the CPU path gives, in the whole and in slabs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.imaging.plane import Vector
from dicomnode.imaging.straighten import straighten
from dicomnode.imaging.volume import Volume
from dicomnode.inference import gpu_course, segment, standin
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from dicomnode.manifest import Manifest
from tests.unit.imaging.test_straighten import STACKS
from tests.unit.inference.chests import ORIENTATIONS, chest, geometry
from tests.unit.inference.host_kernels import CompiledDevice
from tests.unit.inference.models import Values, tiny_manifest, tiny_model

AXIAL: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def tiny(*, tile: int = 16, gas: bool = False, shares: bool = False) -> Manifest:
    """A network of random weights over several tiles, with rules that change its labels."""

    def change(values: Values) -> None:
        values["network"]["tile"] = [tile, tile, tile]
        values["preprocess"]["antialias"] = True
        values["results"] = {"parametric_map": shares}
        if gas:
            rule = {"wall_hu": -500.0, "gas_hu": -600.0, "darker_by_hu": 10.0, "minimum_piece_ml": 0.1}
            values["postprocess"]["gas"] = rule

    return tiny_manifest(change)


def on_cpu(volume: Volume, manifest: Manifest) -> segment.Seen:
    return segment.compute(volume, manifest, OnnxEngine(tiny_model(), manifest, threads=1), lambda _: None)


def on_device(
    volume: Volume, manifest: Manifest, device: StandInDevice, *, batch: int = 3, shares: list[float] | None = None
) -> segment.Seen:
    network = StandInNetwork(OnnxEngine(tiny_model(), manifest, threads=1), manifest.channels, batch=batch)
    return gpu_course.see(volume, manifest, device, network, (shares if shares is not None else []).append)


def noisy(volume: Volume, seed: int = 1) -> Volume:
    noise = np.random.default_rng(seed).normal(0, 200, volume.values.shape)
    values: Any = (volume.values + noise).astype(volume.values.dtype)
    return Volume(values=values, geometry=volume.geometry, padding=None, sop_instance_uids=volume.sop_instance_uids)


def least_bytes(volume: Volume, manifest: Manifest) -> int:
    with pytest.raises(ModelError) as caught:
        on_device(volume, manifest, StandInDevice(1))
    assert caught.value.facts["cause"] == "device-too-small"
    return int(caught.value.facts["needed"])


@pytest.mark.parametrize("make", [StandInDevice, CompiledDevice], ids=["twins", "compiled"])
@pytest.mark.parametrize("slabs", [False, True], ids=["whole", "slabs"])
def test_labels_and_probabilities_are_those_of_the_cpu(make: Any, slabs: bool) -> None:
    manifest, volume = tiny(shares=True, gas=True), noisy(chest(geometry(*AXIAL)))
    expected = on_cpu(volume, manifest)
    memory = least_bytes(volume, manifest) if slabs else 2**34
    device, shares = make(memory_bytes=memory), []
    found = on_device(volume, manifest, device, shares=shares)
    assert np.unique(expected.labels).tolist() == [0, 1, 2]
    assert np.array_equal(found.labels, expected.labels)
    assert found.labels.flags.c_contiguous
    assert found.probability is not None
    assert expected.probability is not None
    assert np.abs(found.probability.astype(int) - expected.probability).max() <= 1
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert device.free_bytes() == memory
    assert found.engine == expected.engine


def test_slabs_need_less_and_stay_within_what_was_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, volume = tiny(), noisy(chest(geometry(*AXIAL)))
    courses: list[Any] = []
    real = gpu_course.plan
    monkeypatch.setattr(gpu_course, "plan", lambda *args, **more: courses.append(real(*args, **more)) or courses[-1])
    least = least_bytes(volume, manifest)
    for memory in (2**34, least):
        device = StandInDevice(memory)
        on_device(volume, manifest, device)
        assert device.peak_bytes == sum(size for _, size in courses[-1].buffers)
        assert device.peak_bytes <= courses[-1].needed <= memory
    assert [course.whole for course in courses] == [True, False]
    assert len(courses[1].slabs) > 2
    assert len(courses[1].parts) > 2


@pytest.mark.parametrize(("row", "column"), ORIENTATIONS[::5])
def test_every_orientation_goes_up_and_comes_down_as_it_lies(row: Vector, column: Vector) -> None:
    manifest, volume = tiny(tile=32), noisy(chest(geometry(row, column, spacing=(5.0, 2.5, 4.0))))
    assert np.array_equal(on_device(volume, manifest, StandInDevice()).labels, on_cpu(volume, manifest).labels)


@pytest.mark.parametrize("stack", STACKS[:2])
def test_straightened_stacks_of_floats(stack: Any) -> None:
    manifest, volume = tiny(tile=32), straighten(stack).volume(noisy(chest(stack)))
    assert volume.values.dtype == np.float32
    assert np.array_equal(on_device(volume, manifest, StandInDevice()).labels, on_cpu(volume, manifest).labels)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_size_of_batches_changes_nothing(batch: int) -> None:
    manifest, volume = tiny(), noisy(chest(geometry(*AXIAL)))
    found = on_device(volume, manifest, StandInDevice(), batch=batch)
    assert np.array_equal(found.labels, on_cpu(volume, manifest).labels)


def test_rules_of_the_stand_in_model_in_one_piece() -> None:
    manifest = standin.package().manifest
    volume = noisy(chest(geometry(*AXIAL)))
    engine = StandInEngine(manifest)
    expected = segment.compute(volume, manifest, engine, lambda _: None)
    network = StandInNetwork(engine, manifest.channels)
    found = gpu_course.see(volume, manifest, StandInDevice(), network, lambda _: None)
    assert np.array_equal(found.labels, expected.labels)
    assert found.probability is None


def test_memory_is_given_back_when_the_network_fails() -> None:
    manifest, volume = tiny(), chest(geometry(*AXIAL))
    engine = OnnxEngine(tiny_model(), manifest, threads=1)
    network, device = StandInNetwork(engine, manifest.channels), StandInDevice()
    network.close()
    with pytest.raises(ModelError, match="inference-failed"):
        gpu_course.see(volume, manifest, device, network, lambda _: None)
    assert device.free_bytes() == device.facts.memory_bytes
