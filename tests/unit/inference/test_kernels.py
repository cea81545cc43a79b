"""The kernels as they ship: what the table says of them, and the PTX that was made of their sources."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from dicomnode.inference import kernels
from tests import pace
from tests.tools import require_of_a_toolkit

_SPELT = {"Place": "q", "int": "i", "float": "f"}
ROOT = Path(__file__).resolve().parents[3]


def _parameters(text: str) -> dict[str, str]:
    """Kernel → letters of its parameters, as the source spells them."""
    found = {}
    for name, parameters in re.findall(r"^KERNEL (\w+)\(([^)]*)\)", text, re.MULTILINE):
        letters = ["P" if "*" in one else _SPELT[one.split()[0]] for one in parameters.split(",")]
        found[name] = "".join(letters)
    return found


def test_the_table_says_what_the_sources_take() -> None:
    spelt = {
        name: (file, types)
        for file in kernels.FILES
        for name, types in _parameters(kernels.source(f"{file}.cu")).items()
    }
    assert spelt == {name: (kernel.file, kernel.types) for name, kernel in kernels.KERNELS.items()}


@pytest.mark.parametrize("file", kernels.FILES)
def test_the_ptx_was_made_of_these_sources(file: str) -> None:
    assert kernels.digest_of_ptx(file) == kernels.digest(file), "run `make kernels` where nvcc is"


def test_a_change_of_any_source_is_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: kernels.digest(file) for file in kernels.FILES}
    assert len(set(before.values())) == len(kernels.FILES)
    real = kernels.source
    monkeypatch.setattr(kernels, "source", lambda file: real(file) + (" " if file == "shared.cuh" else ""))
    assert all(kernels.digest(file) != before[file] for file in kernels.FILES)


@pytest.mark.parametrize("file", kernels.FILES)
def test_the_ptx_is_for_every_device_from_75_on_and_fuses_nothing(file: str) -> None:
    text = kernels.ptx(file)
    assert text.endswith(b"}\n\n\0")
    said = text.decode()
    major, minor = kernels.LEAST_CAPABILITY
    assert re.search(rf"^\.target sm_{major}{minor}$", said, re.MULTILINE)
    assert set(re.findall(r"\.visible \.entry (\w+)\(", said)) == {
        name for name, kernel in kernels.KERNELS.items() if kernel.file == file
    }
    bodies = dict(re.findall(r"\.visible \.entry (\w+)\((.*?)^}", said, re.MULTILINE | re.DOTALL))
    assert {name for name, body in bodies.items() if "fma" in body} <= {"foreground"}  # the exponential is made of them


@pytest.fixture(scope="module")
def made_again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_of_a_toolkit("nvcc")
    folder = tmp_path_factory.mktemp("kernels")
    subprocess.run(["make", "-s", "kernels", f"KERNELS={folder}"], cwd=ROOT, check=True)
    return folder


@pytest.mark.parametrize("file", kernels.FILES)
def test_nvcc_makes_the_same_ptx_again(file: str, made_again: Path) -> None:
    kept, made = kernels.ptx(file)[:-1], (made_again / f"{file}.ptx").read_bytes()
    assert _release(kept) != _release(made) or kept == made


@pytest.mark.parametrize(
    "architecture", pace.cases(["sm_75", "sm_120"], ["sm_80", "sm_86", "sm_89", "sm_90", "sm_100"])
)
def test_the_ptx_assembles_for_every_generation(architecture: str, tmp_path: Path) -> None:
    program = require_of_a_toolkit("ptxas")
    with resources.as_file(resources.files(kernels)) as folder:
        for file in kernels.FILES:
            source = Path(folder) / f"{file}.ptx"
            command = [program, "-arch", architecture, str(source), "-o", str(tmp_path / f"{file}.cubin")]
            subprocess.run(command, check=True, capture_output=True)


def _release(ptx: bytes) -> bytes:
    found = re.search(rb"Cuda compilation tools, release \S+ \S+", ptx)
    assert found is not None
    return found[0]
