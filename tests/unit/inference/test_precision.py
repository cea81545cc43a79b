"""Derived networks: half precision where it is borne, fp32 where it is not, and the reference's answer either way."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dicomnode.errors import ModelError
from dicomnode.inference import golden, package, precision
from dicomnode.inference.onnx import OnnxEngine
from tests.unit.inference.models import tiny_manifest, tiny_model

SHAPE = [1, 2, 4, 4, 4]


def model(
    nodes: list[onnx.NodeProto], weights: dict[str, Any] | None = None, *, opset: int = 17, output: str = "out"
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, list("NCZYX"))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(made.SerializeToString())


def kinds(derived: bytes) -> dict[str, int]:
    """Type of every tensor; the file is checked on the way."""
    proto = onnx.load_model_from_string(derived)
    onnx.checker.check_model(proto, full_check=True)
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    found = {one.name: one.type.tensor_type.elem_type for one in (*graph.input, *graph.value_info, *graph.output)}
    return found | {one.name: one.data_type for one in graph.initializer}


def run(data: bytes, values: np.ndarray[Any, Any]) -> Any:
    return ReferenceEvaluator(onnx.load_model_from_string(data)).run(None, {"in": values})[0]


def convolution() -> dict[str, Any]:
    return {"w": np.random.default_rng(1).normal(size=(2, 2, 3, 3, 3)).astype(np.float32), "b": np.float32([0.5, -0.5])}


def conv(source: str, target: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [source, "w", "b"], [target], pads=[1] * 6)


def test_the_shipped_network_in_fp16_answers_as_the_reference_does() -> None:
    shipped = package.load(package.shipped_models_folder() / "ct-lung")
    derived = precision.derive(shipped.model_bytes(), "fp16")
    assert len(derived) < 0.55 * len(shipped.model_bytes())
    batch = golden.golden_batch(shipped.manifest, (80, 112, 112))
    reference = OnnxEngine.from_package(shipped, threads=1).run(batch)
    logits = OnnxEngine(derived, shipped.manifest, threads=1).run(batch)
    verdict = golden.judge(logits, reference, "fp16")
    assert verdict.may_serve
    assert verdict.labels == 3
    assert verdict.error > 1e-5  # it was computed in another precision indeed


@pytest.mark.parametrize(("name", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_inputs_and_outputs_stay_fp32(name: str, kind: int) -> None:
    found = kinds(precision.derive(tiny_model(), name)) if name == "fp16" else None
    derived = onnx.load_model_from_string(precision.derive(tiny_model(), name)).graph
    assert [node.op_type for node in derived.node] == ["Cast", "Conv", "Cast"]
    assert [one.data_type for one in derived.initializer] == [kind]
    assert derived.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert derived.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    if found:
        assert (found["volume"], found["logits"], found["logits.half"]) == (TensorProto.FLOAT, TensorProto.FLOAT, kind)


def test_bf16_gives_what_bf16_gives() -> None:
    values = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    whole = model([conv("in", "out")], convolution())
    strayed = np.abs(run(precision.derive(whole, "bf16"), values) - run(whole, values)).max()
    assert 1e-4 < strayed < 0.3


def test_sensitive_operators_stay_fp32_between_casts() -> None:
    nodes = [
        conv("in", "a"),
        helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["n"]),
        helper.make_node("LeakyRelu", ["n"], ["l"]),
        helper.make_node("Softmax", ["l"], ["out"], axis=1),
    ]
    weights = convolution() | {"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)}
    whole = model(nodes, weights)
    derived = precision.derive(whole, "fp16")
    found = kinds(derived)
    half, full = TensorProto.FLOAT16, TensorProto.FLOAT
    assert (found["a.half"], found["n"], found["l.half"], found["out"]) == (half, full, half, full)
    assert found["scale"] == found["bias"] == full
    values = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(run(derived, values), run(whole, values), atol=5e-3)


def test_weights_that_half_precision_cannot_hold_stay_fp32() -> None:
    weights = convolution()
    weights["w"][0, 0, 0, 0, 0] = 1e5
    found = kinds(precision.derive(model([conv("in", "a"), helper.make_node("Relu", ["a"], ["out"])], weights), "fp16"))
    assert (found["w"], found["a"], found["out.half"]) == (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16)


def test_a_tensor_that_both_kinds_read_is_cast_once() -> None:
    nodes = [
        conv("in", "a"),
        helper.make_node("Softmax", ["a"], ["s"], axis=1),
        helper.make_node("Exp", ["a"], ["e"]),
        helper.make_node("Add", ["s", "e"], ["p"]),
        helper.make_node("Add", ["p", "a"], ["q"]),
        helper.make_node("Add", ["q", "in"], ["out"]),
    ]
    derived = precision.derive(model(nodes, convolution()), "fp16")
    casts = [node for node in onnx.load_model_from_string(derived).graph.node if node.op_type == "Cast"]
    assert sorted(node.output[0] for node in casts) == ["a", "e.half", "in.half", "out", "s.half"]
    kinds(derived)


def test_sizes_scales_and_constants_keep_their_types() -> None:
    value = numpy_helper.from_array(np.float32([2.0]), "value")
    nodes = [
        helper.make_node("Constant", [], ["two"], value=value),
        helper.make_node("Mul", ["in", "two"], ["m"]),
        helper.make_node("Resize", ["m", "", "scales"], ["r"], mode="nearest"),
        helper.make_node("Shape", ["r"], ["shape"]),
        helper.make_node("Reshape", ["r", "shape"], ["out"]),
    ]
    whole = model(nodes, {"scales": np.float32([1, 1, 2, 2, 2])})
    derived = precision.derive(whole, "fp16")
    found = kinds(derived)
    assert (found["scales"], found["two.half"], found["shape"]) == (
        TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64,
    )  # fmt: skip
    values = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(run(derived, values), run(whole, values), atol=5e-3)


def quantised(kind: int = TensorProto.INT8) -> bytes:
    zero = helper.make_tensor("zero", kind, [1], b"\0", raw=True)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["in", "scale", "zero"], ["q"], axis=0),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out"], axis=0),
        ],
        "graph",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, SHAPE)],
        [numpy_helper.from_array(np.float32([0.1]), "scale"), zero],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]).SerializeToString())


def test_a_file_that_quantises_says_its_precision_itself() -> None:
    assert precision.native_precision(tiny_model()) == "fp32"
    assert precision.native_precision(quantised()) == "int8"
    assert precision.native_precision(quantised(TensorProto.FLOAT8E4M3FN)) == "fp8"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"no onnx \xff\xff", "fp16"),
        (quantised(), "fp16"),
        (tiny_model(), "fp32"),
        (model([helper.make_node("Relu", ["in"], ["out"])], opset=9), "fp16"),
        (model([helper.make_node("Relu", ["elsewhere"], ["out"])]), "fp16"),
    ],
    ids=["nonsense", "quantised", "no half", "old", "broken"],
)
def test_what_cannot_be_derived_is_refused_with_one_code(data: bytes, name: str) -> None:
    with pytest.raises(ModelError) as caught:
        precision.derive(data, name)
    assert caught.value.facts == {"cause": "precision-not-derivable"}


def test_subgraphs_are_not_derived() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["in"], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, SHAPE)]
    )
    node = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    with pytest.raises(ModelError, match="inference-failed"):
        precision.derive(model([node], {"yes": np.array(True)}), "fp16")


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ModelError) as caught:
        precision.derive(tiny_model(), "fp16")
    assert caught.value.facts == {"cause": "onnx-missing"}


def test_the_tiny_model_agrees_too() -> None:
    manifest = tiny_manifest()
    batch = golden.golden_batch(manifest, (16, 16, 16))
    reference = OnnxEngine(tiny_model(), manifest, threads=1).run(batch)
    logits = OnnxEngine(precision.derive(tiny_model(), "fp16"), manifest, threads=1).run(batch)
    assert golden.judge(logits, reference, "fp16").error < 0.03
