"""`dicomnode models` and `dicomnode doctor gpu`: what there is, what stands in the way, and engines as the node opens them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dicomnode import config
from dicomnode.cli import models as cli_models
from dicomnode.cli.main import app
from dicomnode.errors import KeyStoreError, ModelError
from dicomnode.inference import golden
from dicomnode.inference.engine import EngineInfo
from dicomnode.inference.gpu import Found, GpuSettings
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package
from dicomnode.inference.standin_device import FACTS
from dicomnode.service import models as module
from dicomnode.service.models import Models, bench_volume, examine_gpu
from dicomnode.storage.keys import open_keys

FOUND = Found(library="tensorrt", version="11.4", devices=(FACTS,), problem="")
H200 = replace(FACTS, name="NVIDIA H200", capability=(9, 0), multiprocessors=132, memory_bytes=139 * 2**30)


class Remote(OnnxEngine):
    """The CPU in the GPU's place."""

    strayed = np.float32(0)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(name="tensorrt", precision="fp16", version="11.4")

    def run(self, batch: Any) -> Any:
        return super().run(batch) + self.strayed


def opener(package: Package, settings: GpuSettings, library: str, threads: int, device: str) -> Any:
    assert device in settings.devices or settings.devices == ("all",)
    assert library == "tensorrt"
    assert len(settings.cache_key) == 32
    return Remote.from_package(package, threads=threads)


def small(manifest: Any) -> tuple[Any, ...]:
    return ((32, 32, 32),)


@pytest.fixture
def tree(tmp_path: Path) -> config.Config:
    open_keys(tmp_path / "keys", create=True)
    return config.parse({"node": {"state": str(tmp_path)}, "models": {"threads": 1}})


@pytest.fixture
def models(tree: config.Config) -> Models:
    return Models(tree, {}, look_for=lambda device: FOUND, opener=opener)


def call(tree: config.Config, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*words, "--state", str(tree.node.state)])
    assert result.exit_code == code, result.output
    return result.output


def test_models_and_engines_are_listed(tree: config.Config) -> None:
    said = call(tree, "models", "list")
    assert said.startswith("ct-lung ")
    assert "research only" in said
    folder = Path(str(tree.node.state)) / "engines"
    folder.mkdir(mode=0o700)
    (folder / f"{'ab' * 32}.engine").write_bytes(bytes(3 * 2**20))
    assert "engine abababababab  3 MiB" in call(tree, "models", "list")


def test_without_a_gpu_every_chore_says_why(tree: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Models.__init__, "__kwdefaults__", {"look_for": _nothing, "opener": opener})
    for chore in ("build", "verify", "bench"):
        result = CliRunner().invoke(app, ["models", chore, "--state", str(tree.node.state)])
        assert isinstance(result.exception, ModelError)
        assert result.exception.facts == {"cause": "not-installed"}
    with pytest.raises(ModelError) as caught:
        Models(tree, {}, look_for=_nothing, opener=opener).packages("no-such")
    assert caught.value.code == "model-not-found"


def _nothing(device: str) -> Found:
    return Found(library="", version="", devices=(), problem="not-installed")


def test_engines_are_built_and_verified_as_the_node_does(tree: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "golden_sizes", small)
    monkeypatch.setattr(module.Models.__init__, "__kwdefaults__", {"look_for": lambda device: FOUND, "opener": opener})
    assert call(tree, "models", "build", "ct-lung").startswith("ready ct-lung on tensorrt fp16 11.4")
    assert "may serve" in call(tree, "models", "verify")
    monkeypatch.setattr(Remote, "strayed", np.float32(50))
    assert "must not serve" in call(tree, "models", "verify", code=2)


def test_times_are_taken_in_turns_and_labels_compared(models: Models) -> None:
    (package,) = models.packages("ct-lung")
    found = models.bench(package, slices=16, rounds=2)
    assert json.loads(json.dumps(found)) == found
    assert found["volume"] == [16, 512, 512]
    assert [len(found["seconds"][where]) for where in ("gpu", "cpu")] == [2, 2]
    assert found["labels_differing"] < 1e-3
    assert found["ratio"] > 0
    assert found["gpu"] == "tensorrt fp16"


def test_the_volume_of_the_bench_has_the_models_own_labels(models: Models) -> None:
    (package,) = models.packages()
    volume = bench_volume(package.manifest, 20)
    assert volume.values.dtype == np.int16
    assert volume.values.min() < -900
    assert volume.values.max() > 400


def test_keys_are_not_made_on_the_way(tmp_path: Path) -> None:
    tree = config.parse({"node": {"state": str(tmp_path)}})
    models = Models(tree, {}, look_for=lambda device: FOUND, opener=opener)
    with pytest.raises(KeyStoreError):
        models.open(models.packages()[0])


def test_the_doctor_tells_device_and_engines(tree: config.Config) -> None:
    lines = examine_gpu(tree, look_for=lambda device: replace(FOUND, devices=(H200,)))
    assert all(line.well for line in lines)
    assert [line.text for line in lines[:2]] == [
        "tensorrt 11.4 is installed",
        "NVIDIA H200: compute capability 9.0, 132 multiprocessors, 139.0 GiB, driver 0",
    ]
    assert "will be built into" in lines[2].text


@pytest.mark.parametrize("problem", module.ADVICE)
def test_the_doctor_advises(tree: config.Config, problem: str) -> None:
    found = Found(library="tensorrt", version="", devices=(), problem=problem)
    lines = examine_gpu(tree, look_for=lambda device: found)
    assert f"{problem}: {module.ADVICE[problem]}" in [line.text for line in lines if not line.well]


def test_the_doctor_sees_what_keeps_the_gpu_from_being_used(tree: config.Config) -> None:
    folder = Path(str(tree.node.state)) / "engines"
    folder.mkdir()
    folder.chmod(0o755)
    named = config.parse({**tree.model_dump(exclude_unset=True), "models": {"engine": "onnxruntime"}})
    texts = [line.text for line in examine_gpu(named, look_for=lambda device: FOUND) if not line.well]
    assert len(texts) == 2
    assert "models.engine" in texts[0]
    assert "chmod 0700" in texts[1]
    folder.chmod(0o700)
    assert any("0 built engines" in line.text for line in examine_gpu(named, look_for=lambda device: FOUND))


def test_the_doctor_ends_with_what_will_happen(tree: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine_gpu, "__kwdefaults__", {"look_for": _nothing})
    said = call(tree, "doctor", "gpu", code=1)
    assert "not-installed: install the extra" in said
    assert said.endswith("The node computes on the CPU.\n")
    monkeypatch.setattr(examine_gpu, "__kwdefaults__", {"look_for": lambda device: FOUND})
    assert "The node will use the GPU" in call(tree, "doctor", "gpu")


def _second_alone(device: str) -> Found:
    return FOUND if device == "1" else Found(library="tensorrt", version="11.4", devices=(), problem="no-device")


def test_engines_are_built_on_every_gpu_that_is_named(tree: config.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    several = tree.model_copy(update={"models": tree.models.model_copy(update={"gpu": "0,1"})})
    opened: list[str] = []

    def noted(package: Package, settings: GpuSettings, library: str, threads: int, device: str) -> Any:
        opened.append(device)
        return opener(package, settings, library, threads, device)

    monkeypatch.setattr(module.Models.__init__, "__kwdefaults__", {"look_for": lambda device: FOUND, "opener": noted})
    monkeypatch.setattr(cli_models, "read_config", lambda *_: several)
    said = call(tree, "models", "build", "ct-lung")
    assert opened == ["0", "1"]
    assert [f", GPU {device}, after" in said for device in opened] == [True, True]


def test_all_is_every_gpu_that_is_there(tree: config.Config) -> None:
    every = tree.model_copy(update={"models": tree.models.model_copy(update={"gpu": "all"})})
    found = replace(FOUND, devices=(FACTS, H200))
    assert Models(every, {}, look_for=lambda device: found, opener=opener).devices() == ("0", "1")
    assert Models(every, {}, look_for=_nothing, opener=opener).devices() == ("",)
    texts = [line.text for line in examine_gpu(every, look_for=lambda device: found) if line.device]
    assert [text.partition(":")[0] for text in texts] == [FACTS.name, "NVIDIA H200"]


def test_the_doctor_names_the_one_of_several_that_is_not_there(
    tree: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = tree.model_copy(update={"models": tree.models.model_copy(update={"gpu": "0,1"})})
    monkeypatch.setattr(examine_gpu, "__kwdefaults__", {"look_for": _second_alone})
    monkeypatch.setattr(cli_models, "read_config", lambda *_: several)
    said = call(tree, "doctor", "gpu", code=1)
    assert "0: no-device: " in said
    assert f"1: {FACTS.name}: " in said
    assert "will use 1 GPU(s), not all" in said
    texts = [line.text for line in examine_gpu(several, look_for=_nothing)]
    assert sum("not-installed" in text for text in texts) == 1
