"""TensorRT-RTX takes and builds every model that ships, in every precision, with no GPU in the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.inference import package

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this machine", exc_type=ImportError)
SHIPPED = sorted(path.parent.name for path in package.shipped_models_folder().glob("*/model.toml"))

#: In a process of its own: NVIDIA's libraries may end the one that they are loaded in.
PROGRAM = """
import sys
from pathlib import Path
from dicomnode.errors import ModelError
from dicomnode.inference import package, precision, tensorrt
name, wish = sys.argv[1:]
shipped = package.load(package.shipped_models_folder() / name)
model = shipped.model_bytes()
if wish in precision.HALVES:
    model = precision.derive(model, wish)
if wish == "broken":
    model = model[:-1000]
shapes = tensorrt.profiles(shipped.manifest, 4)
try:
    built = tensorrt.build(tensorrt.library("tensorrt_rtx"), model, shapes, tf32=wish == "tf32")
except ModelError as error:
    print(error.facts["cause"])
else:
    print(len(built.engine))
"""


def built(name: str, wish: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, wish], capture_output=True, text=True, check=True, timeout=120
    )
    return result.stdout.strip()


def test_there_are_models() -> None:
    assert SHIPPED


@pytest.mark.parametrize("wish", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_model_is_parsed_and_built(name: str, wish: str) -> None:
    size = int(built(name, wish))
    weights = (package.shipped_models_folder() / name / "model.onnx").stat().st_size
    assert size > weights * (0.9 if wish.endswith("32") else 0.45)


def test_a_file_that_is_none_is_refused() -> None:
    assert built(SHIPPED[0], "broken") == "tensorrt-parse"


def test_without_a_device_an_engine_does_not_load_and_nothing_crashes(tmp_path: Path) -> None:
    program = PROGRAM.replace(
        "print(len(built.engine))",
        """
    from dicomnode.inference.standin_device import StandInDevice
    try:
        tensorrt.TensorRtNetwork(tensorrt.library("tensorrt_rtx"), built.engine, shipped.manifest, StandInDevice(),
                                 name="tensorrt_rtx", precision=wish, batch=4)
    except ModelError as error:
        print(error.facts["cause"])
    else:
        print("loaded")
    """,
    )
    result = subprocess.run(
        [sys.executable, "-c", program, SHIPPED[0], "fp16"], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() in {"tensorrt-load", "loaded"}
