"""One suite for every engine that is installed: what `dicomnode.inference.engine.Engine` promises."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import gpu, package, standin
from dicomnode.inference.cuda_device import CudaDevice
from dicomnode.inference.engine import Batch, Engine
from dicomnode.inference.engine_cache import EngineCache
from dicomnode.inference.engine_source import EngineSource
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_seat import Remote
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.openvino import OpenVinoEngine
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from dicomnode.manifest import Manifest
from tests.unit.inference.models import tiny_manifest, tiny_model

Made = tuple[Engine, Manifest]


def _tiny() -> Made:
    manifest = tiny_manifest()
    return OnnxEngine(tiny_model(), manifest, threads=2), manifest


def _stand_in() -> Made:
    manifest = standin.package().manifest
    return StandInEngine(manifest), manifest


def _shipped() -> Made:
    shipped = package.load(package.shipped_models_folder() / "ct-lung")
    return OnnxEngine.from_package(shipped, threads=2), shipped.manifest


def _tiny_openvino() -> Made:
    manifest = tiny_manifest()
    return OpenVinoEngine(tiny_model(), manifest, threads=2), manifest


def _shipped_openvino() -> Made:
    shipped = package.load(package.shipped_models_folder() / "ct-lung")
    return OpenVinoEngine.from_package(shipped, threads=2), shipped.manifest


def _on_a_device() -> Made:
    manifest = tiny_manifest()
    network = StandInNetwork(OnnxEngine(tiny_model(), manifest, threads=2), manifest.channels)
    return GpuEngine(StandInDevice(), network, manifest), manifest


def _guarded() -> Made:
    """The CPU behind a GPU that does not open."""
    manifest = tiny_manifest()

    def refuse() -> Remote:
        raise ModelError("inference-failed", cause="device-failed")

    cpu = OnnxEngine(tiny_model(), manifest, threads=2)
    return GuardedEngine([refuse], cpu, manifest, tell=lambda event, facts: None, clock=time.monotonic), manifest


def _tensorrt() -> Made:
    """The shipped model on the device of this machine, by whichever TensorRT is installed."""
    library = gpu.installed()
    if library is None:
        pytest.skip("no CUDA device: pycuda or TensorRT is not installed")
    shipped = package.load(package.shipped_models_folder() / "ct-lung")
    cache = EngineCache(Path(tempfile.mkdtemp(prefix="dicomnode-engines-")), bytes(32))
    try:
        device = CudaDevice()
    except ModelError as error:
        pytest.skip(f"no CUDA device: {error.facts['cause']}")
    source = EngineSource(
        shipped, device, cache, name=library, reference=lambda: OnnxEngine.from_package(shipped, threads=2)
    )
    return GpuEngine(device, source.network("auto").network, shipped.manifest), shipped.manifest


MAKERS = {
    "onnx": _tiny,
    "stand-in": _stand_in,
    "onnx-ct-lung": _shipped,
    "openvino": _tiny_openvino,
    "openvino-ct-lung": _shipped_openvino,
    "device": _on_a_device,
    "guarded": _guarded,
}


@pytest.fixture(
    params=[*MAKERS.values(), pytest.param(_tensorrt, marks=pytest.mark.gpu)], ids=[*MAKERS.keys(), "tensorrt-ct-lung"]
)
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    make: Callable[[], Made] = request.param
    engine, manifest = make()
    yield engine, manifest
    engine.close()


def _batch(manifest: Manifest, *, count: int = 1, multiples: tuple[int, int, int] = (2, 3, 4), seed: int = 7) -> Batch:
    size = [n * factor for n, factor in zip(multiples, manifest.preprocess.multiple_of, strict=True)]
    return np.random.default_rng(seed).uniform(-1, 1, (count, 1, *size)).astype(np.float32)


def test_gives_logits_of_every_voxel_and_channel(made: Made) -> None:
    engine, manifest = made
    batch = _batch(manifest)
    before = batch.copy()
    logits = engine.run(batch)
    assert logits.shape == (1, manifest.channels, *batch.shape[2:])
    assert logits.dtype == np.float32
    assert logits.flags.c_contiguous
    assert logits.flags.writeable
    assert np.isfinite(logits).all()
    assert np.array_equal(batch, before)


def test_takes_sizes_that_differ_from_run_to_run(made: Made) -> None:
    engine, manifest = made
    for multiples in ((1, 2, 2), (3, 2, 1), (1, 2, 2)):
        batch = _batch(manifest, multiples=multiples)
        assert engine.run(batch).shape[2:] == batch.shape[2:]


def test_a_batch_of_two_equals_two_batches_of_one(made: Made) -> None:
    engine, manifest = made
    batch = _batch(manifest, count=2)
    together = engine.run(batch)
    assert together.flags.c_contiguous
    assert np.array_equal(together, np.concatenate([engine.run(batch[:1]), engine.run(batch[1:])]))


def test_repeats_itself_bit_for_bit(made: Made) -> None:
    engine, manifest = made
    batch = _batch(manifest)
    first = engine.run(batch).tobytes()
    engine.run(_batch(manifest, multiples=(3, 3, 3), seed=8))
    assert engine.run(batch).tobytes() == first


def test_an_answer_outlives_the_next_run(made: Made) -> None:
    engine, manifest = made
    batch = _batch(manifest)
    logits = engine.run(batch)
    kept = logits.copy()
    engine.run(-batch)
    assert np.array_equal(logits, kept)


def test_takes_views_that_are_not_contiguous(made: Made) -> None:
    engine, manifest = made
    batch = _batch(manifest)
    mirrored = batch[..., ::-1]
    assert np.array_equal(engine.run(mirrored), engine.run(np.ascontiguousarray(mirrored)))


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda batch: batch.astype(np.float64), "input-not-float32"),
        (lambda batch: batch.tolist(), "input-not-float32"),
        (lambda batch: batch[0], "input-shape"),
        (lambda batch: np.concatenate([batch, batch], axis=1), "input-shape"),
        (lambda batch: batch[:0], "input-shape"),
        (lambda batch: batch[:, :, :-1], "input-not-a-multiple"),
        (lambda batch: np.full_like(batch, np.nan), "input-not-finite"),
        (lambda batch: np.full_like(batch, np.inf), "input-not-finite"),
    ],
)
def test_refuses_input_of_another_kind(made: Made, spoil: Callable[[Batch], Batch], cause: str) -> None:
    engine, manifest = made
    with pytest.raises(ModelError) as caught:
        engine.run(spoil(_batch(manifest)))
    assert (caught.value.code, caught.value.facts) == ("inference-failed", {"cause": cause})


def test_says_what_it_is(made: Made) -> None:
    engine, _ = made
    assert str(engine.info) == f"{engine.info.name} {engine.info.precision}"
    assert engine.info.precision in {"fp32", "tf32", "fp16", "bf16", "int8", "fp8"}
    assert engine.info.version
    assert engine.info.threads >= 1
    assert engine.info.note == ""
    assert engine.info.fingerprint.split() == [
        engine.info.name,
        engine.info.version,
        engine.info.precision,
        str(engine.info.threads),
    ]


def test_rests_between_studies_and_goes_on_with_the_same_bits(made: Made) -> None:
    engine, manifest = made
    engine.rest()
    batch = _batch(manifest)
    logits = engine.run(batch)
    kept = logits.tobytes()
    engine.rest()
    engine.rest()
    assert logits.tobytes() == kept  # what was given out stays
    assert engine.run(batch).tobytes() == kept


def test_memory_goes_back_between_studies(made: Made) -> None:
    engine, manifest = made
    multiple = manifest.preprocess.multiple_of
    batch = np.zeros(
        (1, 1, *(-(-size // factor) * factor for size, factor in zip((96, 128, 128), multiple, strict=True))),
        np.float32,
    )
    engine.run(batch)
    engine.rest()
    before = _resident()
    engine.run(batch)
    held = _resident() - before
    engine.rest()
    assert _resident() - before < max(8 << 20, held / 4)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_closes_twice_and_then_refuses(made: Made) -> None:
    engine, manifest = made
    engine.run(_batch(manifest))
    engine.close()
    engine.close()
    engine.rest()
    with pytest.raises(ModelError) as caught:
        engine.run(_batch(manifest))
    assert (caught.value.code, caught.value.facts) == ("inference-failed", {"cause": "engine-closed"})
