"""Building, keeping, loading and judging engines, over a library that has TensorRT's interface: every answer is looked at."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import tensorrt
from dicomnode.inference.engine_cache import EngineCache
from dicomnode.inference.engine_source import EngineSource
from dicomnode.inference.gpu_engine import GpuEngine, verify
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package, digest
from dicomnode.inference.standin_device import StandInDevice
from dicomnode.manifest import Manifest
from tests.unit.inference.fake_tensorrt import FakeTensorRt
from tests.unit.inference.models import tiny_manifest, tiny_model

MANIFEST = tiny_manifest(lambda values: values["network"].update(tile=[16, 16, 16]))


class TinyPackage(Package):
    """A package without a folder."""

    model = tiny_model()

    def model_bytes(self) -> bytes:
        return self.model


def packaged(manifest: Manifest = MANIFEST) -> TinyPackage:
    return TinyPackage(manifest=manifest, folder=None, digest=digest(b"", manifest.network.sha256))


def cause(error: pytest.ExceptionInfo[ModelError]) -> Any:
    return error.value.facts["cause"]


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRt:
    fake = FakeTensorRt(MANIFEST)
    monkeypatch.setattr(tensorrt, "library", lambda name: fake)
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines", bytes(32))


@pytest.fixture
def device() -> Iterator[StandInDevice]:
    made = StandInDevice()
    yield made
    made.close()


def sourced(
    device: StandInDevice, cache: EngineCache, package: Package | None = None, *, batch: int = 3
) -> EngineSource:
    reference = lambda: OnnxEngine(tiny_model(), MANIFEST, threads=1)  # noqa: E731
    return EngineSource(package or packaged(), device, cache, name="tensorrt", reference=reference, batch=batch)


def test_profiles_take_whole_tiles_in_batches_and_pieces_alone() -> None:
    tiles, pieces = tensorrt.profiles(MANIFEST, 3)
    assert tiles.takes((3, 1, 16, 16, 16))
    assert not tiles.takes((4, 1, 16, 16, 16))
    assert not tiles.takes((1, 1, 16, 16, 14))
    assert pieces.takes((1, 1, 2, 16, 4))
    assert not pieces.takes((2, 1, 2, 16, 4))
    fixed = tiny_manifest(lambda values: values["preprocess"].update(multiple_of=[32, 32, 32]))
    assert len(tensorrt.profiles(fixed, 3)) == 1


def test_an_engine_is_built_judged_kept_and_found_again(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    first = sourced(device, cache).network("auto")
    assert first.network.info.precision == "fp16"
    assert first.network.info.name == "tensorrt"
    assert first.network.info.version == "11.0.fake"
    assert first.verdict is not None
    assert first.verdict.may_serve
    assert trt.calls.count("build_serialized_network") == 1
    second = sourced(device, cache).network("auto")
    assert second.verdict is None
    assert trt.calls.count("build_serialized_network") == 1
    for one in (first, second):
        one.network.close()
        one.network.close()
    assert device.free_bytes() == device.facts.memory_bytes


def test_what_the_builder_measured_serves_the_next_build(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    one = sourced(device, cache)
    one.network("fp16")
    one.network("fp32")
    assert cache.timing(one.key("bf16", b"", 1)) == b".."


@pytest.mark.parametrize(("precision", "flags"), [("tf32", [7]), ("fp32", []), ("fp16", [])])
def test_tf32_is_allowed_where_it_is_meant(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice, precision: str, flags: list[int]
) -> None:
    one = sourced(device, cache)
    one.network(precision)
    (name,) = [entry.name for entry in cache.entries()]
    model = tiny_model() if precision != "fp16" else tensorrt_model(precision)
    key = one.key(precision, model, 3)
    assert key.digest == name
    assert pickle.loads(cache.engine(key) or b"")["flags"] == flags


def tensorrt_model(precision: str) -> bytes:
    from dicomnode.inference.precision import derive

    return derive(tiny_model(), precision)


def test_what_strays_from_the_reference_does_not_serve(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    trt.spoil = lambda logits: logits + np.float32(10)
    with pytest.raises(ModelError) as caught:
        sourced(device, cache).network("auto")
    assert cause(caught) == "engine-not-verified"
    assert cache.entries() == ()
    assert device.free_bytes() == device.facts.memory_bytes


def test_where_half_precision_strays_tf32_serves(trt: FakeTensorRt, cache: EngineCache, device: StandInDevice) -> None:
    trt.spoil = lambda logits: logits if trt.calls.count("build_serialized_network") > 2 else logits * np.float32(2)
    found = sourced(device, cache).network("auto")  # fp16 was tried in batches, and alone
    assert found.network.info.precision == "tf32"
    assert found.network.batch == 3


def test_elements_that_depend_on_their_neighbours_run_alone(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    trt.spoil = lambda logits: logits + np.float32(1e-6 * (len(logits) - 1))
    found = sourced(device, cache).network("fp16")
    assert found.network.batch == 1
    assert found.verdict is not None
    assert found.verdict.independent


def test_an_engine_that_does_not_load_is_built_anew(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    one = sourced(device, cache)
    one.network("fp32").network.close()
    key = one.key("fp32", tiny_model(), 3)
    content = pickle.loads(cache.engine(key) or b"")
    cache.keep_engine(key, pickle.dumps(content | {"profiles": []}))
    found = one.network("fp32")
    assert found.verdict is not None
    assert trt.calls.count("build_serialized_network") == 2


def test_a_file_that_fixes_its_batches_runs_alone(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyPackage, "model", tiny_model(batch=1))
    assert sourced(device, cache).network("fp32").network.batch == 1


def test_without_onnx_nothing_is_derived(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx.shape_inference", None)
    one = sourced(device, cache)
    assert one.candidates("auto") == ("tf32", "fp32")
    assert one.candidates("bf16") == ("bf16",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Builder", "tensorrt-build"),
        ("create_network", "tensorrt-build"),
        ("parse", "tensorrt-parse"),
        ("add_optimization_profile", "tensorrt-build"),
        ("build_serialized_network", "tensorrt-build"),
        ("Runtime", "tensorrt-load"),
        ("deserialize_cuda_engine", "tensorrt-load"),
        ("create_execution_context", "tensorrt-load"),
        ("set_optimization_profile_async", "device-failed"),
        ("set_input_shape", "device-failed"),
        ("set_tensor_address", "device-failed"),
        ("execute_async_v3", "device-failed"),
    ],
)
def test_every_answer_that_is_no_is_an_error(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice, name: str, expected: str
) -> None:
    trt.failing = {name}
    with pytest.raises(ModelError) as caught:
        sourced(device, cache).network("fp32")
    assert (caught.value.code, cause(caught)) == ("inference-failed", expected)
    assert cache.entries() == ()
    assert device.free_bytes() == device.facts.memory_bytes


def test_a_builder_that_measures_nothing_builds_all_the_same(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    trt.failing = {"create_timing_cache"}
    one = sourced(device, cache)
    one.network("fp32")
    assert cache.timing(one.key("fp32", b"", 1)) == b""


def test_where_batches_take_too_much_memory_patches_run_alone(trt: FakeTensorRt, cache: EngineCache) -> None:
    least = 4 * (1 + 3) * 16**3 + 3000  # one patch, its logits of three channels, and the contexts
    device = StandInDevice(least)
    assert sourced(device, cache).network("fp32").network.batch == 1


def test_an_error_of_the_device_is_not_tried_in_another_precision(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    trt.failing = {"execute_async_v3"}
    with pytest.raises(ModelError):
        sourced(device, cache).network("auto")
    assert trt.calls.count("build_serialized_network") == 1


def test_a_shape_that_no_profile_takes_is_refused(trt: FakeTensorRt, cache: EngineCache, device: StandInDevice) -> None:
    network = sourced(device, cache).network("fp32").network
    buffer, stream = device.allocate(10), device.stream()
    for shape, expected in (((4, 1, 16, 16, 16), "input-shape"), ((1, 1, 18, 16, 16), "input-shape")):
        with pytest.raises(ModelError) as caught:
            network.enqueue(buffer, buffer, shape, stream)
        assert cause(caught) == expected
    network.close()
    with pytest.raises(ModelError) as caught:
        network.enqueue(buffer, buffer, (1, 1, 16, 16, 16), stream)
    assert cause(caught) == "engine-closed"


def test_an_engine_is_held_to_the_reference_in_tiles_and_in_pieces(
    trt: FakeTensorRt, cache: EngineCache, device: StandInDevice
) -> None:
    reference = OnnxEngine(tiny_model(), MANIFEST, threads=1)
    engine = GpuEngine(device, sourced(device, cache).network("fp32").network, MANIFEST)
    assert verify(engine, reference, MANIFEST).may_serve
    for size in (16, 8):
        trt.spoil = lambda logits, size=size: logits * np.float32(1 if logits.shape[-1] == size else 2)
        assert not verify(engine, reference, MANIFEST).may_serve


def test_there_are_two_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt.library.cache_clear()
    with pytest.raises(ValueError, match="no such library"):
        tensorrt.library("torch")
    with pytest.raises(ModelError) as caught:
        tensorrt.library("tensorrt")
    assert cause(caught) == "tensorrt-missing"
