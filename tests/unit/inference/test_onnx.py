from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import package
from dicomnode.inference.choice import KINDS, open_engine
from dicomnode.inference.cores import usable_cores
from dicomnode.inference.engine import checked_logits
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.openvino import OpenVinoEngine
from dicomnode.manifest import ModelPackageErrors
from tests.unit.inference.models import (
    double_model,
    failing_model,
    not_finite_model,
    tiny_manifest,
    tiny_model,
    write_package,
)

ENGINES = pytest.mark.parametrize("kind", [OnnxEngine, OpenVinoEngine])
Kind = type[OnnxEngine] | type[OpenVinoEngine]


@ENGINES
@pytest.mark.parametrize(
    ("model", "problems"),
    [
        (tiny_model(names=("a", "logits")), ("network.input: the file has other tensors",)),
        (tiny_model(names=("volume", "b")), ("network.output: the file has other tensors",)),
        (tiny_model(channels=2), ("network.output: it is float32 with 5 dimensions and 3 channels",)),
        (
            double_model(),
            (
                "network.input: it is float32 with 5 dimensions and 1 channels",
                "network.output: it is float32 with 5 dimensions and 3 channels",
            ),
        ),
        (
            tiny_model(sizes=("Z", 32, "X")),
            ("network.input: its sizes z, y, x are free", "network.output: its sizes z, y, x are free"),
        ),
    ],
)
def test_refuses_a_file_that_is_not_the_manifests(kind: Kind, model: bytes, problems: tuple[str, ...]) -> None:
    with pytest.raises(ModelPackageErrors) as caught:
        kind(model, tiny_manifest(), threads=1)
    assert caught.value.problems == problems


@pytest.mark.parametrize(("kind", "who"), [(OnnxEngine, "ONNX Runtime"), (OpenVinoEngine, "OpenVINO")])
def test_refuses_what_is_no_model(kind: Kind, who: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelPackageErrors) as caught:
        kind(b"no model", tiny_manifest(), threads=1)
    assert caught.value.problems == (f"network: the file cannot be loaded by {who}",)
    assert capfd.readouterr() == ("", "")


@ENGINES
def test_computes_what_the_file_says(kind: Kind) -> None:
    engine = kind(tiny_model(), tiny_manifest(), threads=1)
    impulse = np.zeros((1, 1, 4, 4, 4), np.float32)
    impulse[0, 0, 1, 1, 1] = 1
    weights = np.random.default_rng(1).normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
    logits = engine.run(impulse)
    np.testing.assert_allclose(logits[0, :, :3, :3, :3], weights[:, 0, ::-1, ::-1, ::-1], rtol=1e-6)


@ENGINES
@pytest.mark.parametrize(
    ("make", "causes"),
    [(failing_model, {"engine-failed", "output-shape"}), (not_finite_model, {"output-not-finite"})],
)
def test_a_failure_of_the_network_is_coded(
    kind: Kind, make: Callable[[], bytes], causes: set[str], capfd: pytest.CaptureFixture[str]
) -> None:
    engine = kind(make(), tiny_manifest(), threads=1)
    with pytest.raises(ModelError) as caught:
        engine.run(np.full((1, 1, 4, 4, 4), -0.5, np.float32))
    assert caught.value.code == "inference-failed"
    assert caught.value.facts["cause"] in causes  # OpenVINO does not always mind a size that cannot be
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert capfd.readouterr() == ("", "")


def test_an_answer_of_another_shape_is_refused() -> None:
    batch = np.zeros((1, 1, 2, 2, 2), np.float32)
    for answer in (None, np.zeros((1, 2, 2, 2, 2), np.float32), np.zeros((1, 3, 2, 2, 2))):
        with pytest.raises(ModelError) as caught:
            checked_logits(answer, batch, tiny_manifest())
        assert caught.value.facts == {"cause": "output-shape"}


@pytest.mark.parametrize(("kind", "name"), [(OnnxEngine, "onnxruntime-cpu"), (OpenVinoEngine, "openvino-cpu")])
def test_opens_a_package_with_one_thread_per_core(kind: Kind, name: str, tmp_path: Path) -> None:
    engine = kind.from_package(package.load(write_package(tmp_path)))
    assert engine.info.name == name
    assert engine.info.threads == usable_cores()
    assert engine.run(np.zeros((1, 1, 2, 2, 2), np.float32)).shape == (1, 3, 2, 2, 2)


def test_providers_of_a_gpu_are_not_used_where_they_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the distribution onnxruntime-gpu: its default order would begin with TensorRT (decision 32)."""
    asked: list[list[str]] = []
    session = onnxruntime.InferenceSession

    def noted(model: bytes, options: object, *, providers: list[str]) -> object:
        asked.append(providers)
        return session(model, options, providers=providers)

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    engine = OnnxEngine(tiny_model(), tiny_manifest(), threads=1)
    assert asked == [["CPUExecutionProvider"]]
    assert engine._session.get_providers() == ["CPUExecutionProvider"]
    assert engine.info.name == "onnxruntime-cpu"
    opened = open_engine(package.load(package.shipped_models_folder() / "ct-lung"), "onnxruntime", threads=1)
    assert asked[1:] == [["CPUExecutionProvider"]]
    opened.engine.close()
    assert not {"cuda", "tensorrt"} & set(KINDS)
