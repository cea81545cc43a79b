"""TensorRT-RTX takes and builds every model that ships, and others of its kind, in every precision, with no GPU in the machine."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from dicomnode.inference import package, precision
from tests import pace
from tests.unit.inference.rtx_program import QUANTISED, network

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine", exc_type=ImportError)
SHIPPED = sorted(path.parent.name for path in package.shipped_models_folder().glob("*/model.toml"))
ROOT = Path(__file__).resolve().parents[3]


def built(name: str, wish: str) -> str:
    command = [sys.executable, "-m", "tests.unit.inference.rtx_program", name, wish]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    return result.stdout.strip()


def test_there_are_models() -> None:
    assert SHIPPED


@pytest.mark.parametrize(
    ("name", "wish"),
    pace.cases(
        [*product(SHIPPED, ("fp32", "fp16")), ("unet", "tf32"), ("unet", "bf16")],
        [*product(SHIPPED, ("tf32", "bf16")), ("unet", "fp32"), ("unet", "fp16")],
    ),
)
def test_networks_are_parsed_and_built_in_every_precision(name: str, wish: str) -> None:
    size, timing = map(int, built(name, wish).split())
    weights = len(network(name)[0])
    assert size > weights * (0.9 if wish.endswith("32") else 0.45)
    assert timing > 0


@pytest.mark.parametrize("name", QUANTISED)
def test_a_file_that_quantises_is_built_as_it_is(name: str) -> None:
    assert precision.native_precision(network(name)[0]) == name
    assert int(built(name, name).split()[0]) > 10_000


def test_a_file_that_is_none_is_refused() -> None:
    assert built(SHIPPED[0], "broken") == "tensorrt-parse"


def test_without_a_device_an_engine_does_not_load_and_nothing_crashes() -> None:
    said = built(SHIPPED[0], "load")
    assert said == "tensorrt-load" or said.split()[0].isdigit()
