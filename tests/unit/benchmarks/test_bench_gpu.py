"""`make bench-gpu` over the stand-in device, where only what it names as needed can be imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.imaging.volume import resampled_shape
from dicomnode.inference import tensorrt
from dicomnode.inference.cuda_device import devices
from dicomnode.inference.standin_device import StandInDevice
from tests.benchmarks import gpu, gpu_parts
from tests.benchmarks.gpu_parts import Course, Task
from tests.benchmarks.gpu_table import NAMES, PREDICTED
from tests.benchmarks.gpu_worker import ROOT
from tests.benchmarks.studies import fine_spacing, without_rules
from tests.unit.inference.fake_tensorrt import FakeTensorRt

#: What dicomnode installs and no inference needs; also what no test has.
BLOCKED = [
    *("alembic", "dbos", "gdcm", "h11", "highdicom", "httpx", "jpeg_ls", "obstore", "openjpeg", "openvino", "PIL"),
    *(
        "prometheus_client",
        "pynetdicom",
        "pytest",
        "reportlab",
        "rich",
        "sqlalchemy",
        "starlette",
        "structlog",
        "typer",
    ),
    *("uvicorn", "monai", "pycuda", "tensorrt", "tensorrt_rtx", "torch"),
]


def run(tmp_path: Path, *arguments: str, blocked: list[str]) -> tuple[str, dict[str, object]]:
    """What the command prints, and its JSON; in its processes some modules cannot be imported."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n")
    environment = {name: value for name, value in os.environ.items() if name != "DICOMNODE_MEASURED"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--json", str(tmp_path / "found.json"), *arguments],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert json.loads(result.stdout.splitlines()[-1]) == found
    return result.stdout, found


def line(text: str, beginning: str) -> str:
    return next(one.strip() for one in text.splitlines() if one.strip().startswith(beginning))


def test_one_command_measures_what_can_be_and_says_what_is_missing(tmp_path: Path) -> None:
    text, found = run(tmp_path, "--small", "--stand-in", "--rounds", "2", "--cases", "unet", blocked=BLOCKED)
    assert line(text, "what").split() == ["what", "measured", "floor", "verdict", "predicted"]
    case = found["cases"]["unet"]
    assert {part: len(turns) for part, turns in case["seconds"].items()} == {"course": 2, "node": 2, "cpu": 1}
    assert case["differing"] == {f"{NAMES['course']}, {NAMES['node']}": 0.0, f"{NAMES['course']}, {NAMES['cpu']}": 0.0}
    assert len(case["labels"]["course"]) > 1
    assert case["memory"]["course"]["measured"] == case["memory"]["course"]["buffers"]
    assert case["memory"]["course"]["planned"] > case["memory"]["course"]["measured"]
    assert len(case["spent"]["course/plain"]) == len(case["network"]["course"]) == 2
    assert set(case["failed"].values()) == {"torch is not installed"}
    assert case["failed"].keys() == {"torch", "torch-contiguous", "roofline"}
    assert "not measured: torch is not installed" in line(text, NAMES["torch"])
    for beginning in (
        "volume to labels: the node's course",
        "network alone",
        "operations",
        "before and after",
        "upload",
    ):
        assert line(text, beginning)
    assert "no measure of any GPU" in text
    assert not [one for one in ("above", "missed", "below") if one in text]
    assert "stand-in, compute capability 0.0" in text


def test_without_a_device_everything_else_is_still_measured(tmp_path: Path) -> None:
    wished = ["--small", "--rounds", "1", "--cases", "unet", "--parts", "course,node,course-torch,cpu"]
    text, found = run(tmp_path, *wished, blocked=BLOCKED)
    case = found["cases"]["unet"]
    assert case["failed"] == dict.fromkeys(["course", "node", "course-torch"], "pycuda is not installed")
    assert list(case["seconds"]) == ["cpu"]
    assert line(text, "the same through the GPU's process").endswith("not measured: pycuda is not installed")


def test_what_it_cannot_do_without_is_named(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules.update(pydicom=None, scipy=None)\n")
    program = [sys.executable, "-m", "tests.benchmarks.gpu", "--small", "--stand-in"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.strip()) == (2, "needs scipy, pydicom")
    assert gpu.__doc__ is not None
    assert all(name in gpu.__doc__ for name in gpu.NEEDED)


def test_the_shipped_model_is_timed_with_its_rules_as_well(tmp_path: Path) -> None:
    study = gpu.studies(small=True)["ct-lung"]
    study.write(tmp_path)
    course = Course(Task(study=study, folder=tmp_path, stand_in=True))
    assert course.facts["manifests"] == ["plain", "shipped"]
    course.turn()
    kept = tmp_path / "labels.npy"
    assert course.keep(str(kept))["found"] == np.unique(np.load(kept)).tolist()
    assert np.load(kept).shape == study.shape
    for which in course.facts["manifests"]:
        spent = course.spent(which)
        assert spent["network"] > 0
        assert min(spent.values()) >= 0
    assert course.shipped()["seconds"] > 0


def test_the_course_builds_its_engine_as_the_node_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a library with TensorRT's interface: built, held to the CPU, kept, and found again."""
    study = gpu.studies(small=True)["unet"]
    study.write(tmp_path)
    task = Task(study=study, folder=tmp_path)
    fake = FakeTensorRt(task.package.manifest)
    monkeypatch.setattr(tensorrt, "library", lambda name: fake)
    monkeypatch.setattr(gpu_parts, "_device", lambda task: StandInDevice())
    monkeypatch.setattr(gpu_parts, "_library", lambda: "tensorrt_rtx")
    for built in (1, 1):
        course = Course(task)
        assert (course.facts["engine"], course.facts["precision"]) == ("tensorrt-rtx fp16", "fp16")
        assert fake.calls.count("build_serialized_network") == built
    course.turn()
    assert course.network()["seconds"] > 0
    found = course.memory()
    assert found["network"] > 0  # taken when it was loaded
    assert found["measured"] == found["buffers"] < found["planned"]
    assert (tmp_path / "engines").stat().st_mode & 0o777 == 0o700


@pytest.mark.gpu
def test_it_runs_on_a_device(tmp_path: Path) -> None:
    try:
        assert devices()
    except ModelError as error:
        pytest.skip(f"no CUDA device: {error.facts['cause']}")
    _, found = run(tmp_path, "--small", "--rounds", "1", "--cases", "unet", "--parts", "course,node,cpu", blocked=[])
    assert found["cases"]["unet"]["failed"] == {}


@pytest.mark.parametrize("small", [False, True])
def test_both_sides_have_the_same_grid_and_the_same_tiles(small: bool, tmp_path: Path) -> None:
    """MONAI's windows begin at multiples of their stride, the last one where it still fits; the node's are spread evenly."""
    known = gpu.studies(small=small)
    assert list(known) == ["ct-lung", "unet"]
    for study in known.values():
        assert small or study.shape == (500, 512, 512)
        spacing = fine_spacing(study.shape, study.coarse, study.spacing_mm)
        assert resampled_shape(study.shape, spacing, (study.spacing_mm,) * 3) == study.coarse
        replace(study, shape=(8, 16, 16)).write(tmp_path)  # its network is what counts here
        package = study.package(tmp_path)
        assert package.manifest == without_rules(package.manifest)
        layout = Task(study=study, folder=tmp_path).layout(package)
        for size, axis in zip(study.coarse, layout.axes, strict=True):
            factor = package.manifest.preprocess.multiple_of[0]
            last, stride = (
                -(-size // factor) * factor - axis.size,
                int(axis.size * (1 - package.manifest.network.overlap)),
            )
            assert axis.starts == tuple(min(at, last) for at in range(0, last + stride, stride))


def test_the_predictions_are_those_of_the_page() -> None:
    page = (ROOT / "deploy/docs/benchmarks.md").read_text("utf-8")
    said = re.sub(r"\s+", " ", page[page.index("Predictions to hold") :])
    for beginning, name in (
        ("upload 262 MB in", "upload"),
        ("upload 262 MB in 12 ms, resampling (about 75 taps for each of 3 million voxels)", "resample"),
        ("network", "network"),
        ("all channels at borders alone)", "labels back"),
        ("download 131 MB in", "download"),
        ("so", "volume to labels"),
    ):
        assert f"{beginning} {PREDICTED[name]}" in said
    assert PREDICTED.keys() == {"upload", "resample", "network", "labels back", "download", "volume to labels"}
