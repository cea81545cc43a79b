"""The shipped package ct-lung: whole, small, of plain operators, honestly described."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from dicomnode.inference import package as packages
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package

FOLDER = Path(__file__).resolve().parents[3] / "models" / "ct-lung"
#: What TensorRT's ONNX parser takes in 3D without doubt.
OPERATORS = {"Add", "Clip", "Concat", "Conv", "ConvTranspose", "Mul", "Relu"}
SECTIONS = (
    "Intended use",
    "Training data",
    "Procedure",
    "Figures",
    "Known failures",
    "Density",
    "Limits",
)


@pytest.fixture(scope="module")
def package() -> Package:
    return packages.load(FOLDER)


@pytest.fixture(scope="module")
def graph() -> onnx.ModelProto:
    return onnx.load(FOLDER / "model.onnx")


def test_sha256_is_that_of_the_file(package: Package) -> None:
    data = (FOLDER / "model.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == package.manifest.network.sha256
    assert len(data) <= 10_000_000


def test_operators_are_those_tensorrt_takes(graph: onnx.ModelProto) -> None:
    onnx.checker.check_model(graph, full_check=True)
    assert [(item.domain, item.version <= 18) for item in graph.opset_import] == [("", True)]
    assert {node.op_type for node in graph.graph.node} <= OPERATORS
    assert {weight.data_type for weight in graph.graph.initializer} == {onnx.TensorProto.FLOAT}


def test_batch_and_space_are_free(graph: onnx.ModelProto) -> None:
    for tensor in (*graph.graph.input, *graph.graph.output):
        sizes = tensor.type.tensor_type.shape.dim
        assert [bool(size.dim_param) for size in sizes] == [True, False, True, True, True]


def test_runs_on_the_smallest_and_a_larger_volume(package: Package) -> None:
    engine = OnnxEngine.from_package(package, threads=1)
    z, y, x = package.manifest.preprocess.multiple_of
    for size in ((z, y, x), (2 * z, 3 * y, 2 * x)):
        logits = engine.run(np.full((1, 1, *size), -1.0, np.float32))
        assert logits.shape == (1, 3, *size)
        assert (logits.argmax(axis=1) == 0).all()


def test_sides_and_colours(package: Package) -> None:
    right, left = package.manifest.segments
    assert (right.laterality.meaning, left.laterality.meaning) == ("Right", "Left")  # type: ignore[union-attr]
    assert right.colour != left.colour
    assert package.manifest.research_only


def test_the_card_says_what_it_must() -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    headings = [line.lstrip("# ").strip() for line in card.splitlines() if line.startswith("#")]
    assert [section for section in SECTIONS if section not in headings] == []
    assert "not a medical device" in card
    assert "left out" in card
