"""Small ONNX models and their manifests, made for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dicomnode import manifest as manifests
from dicomnode.manifest import Manifest

Values = dict[str, Any]


def code(value: str = "39607008", meaning: str = "Lung") -> dict[str, str]:
    return {"scheme": "SCT", "value": value, "meaning": meaning}


def values() -> Values:
    """Values of a manifest as tomllib gives them."""
    return {
        "schema": 1,
        "name": "tiny",
        "version": "0.1.0",
        "title": "Lungs: volume and density",
        "manufacturer": "dicomnode project",
        "intended_use": "Research: tests.",
        "research_only": True,
        "task": "segmentation",
        "input": {
            "modalities": ["CT"],
            "excluded_image_types": ["LOCALIZER"],
            "minimum_slices": 16,
            "maximum_slice_spacing_mm": 10.0,
            "minimum_extent_mm": 60.0,
            "body_parts": ["CHEST", "THORAX"],
            "preferred_kernels": ["^B[23]", "STANDARD"],
        },
        "preprocess": {
            "spacing_mm": [3.0, 3.0, 3.0],
            "intensity": {"lower": -1024.0, "upper": 600.0, "scale": "minus-one-to-one"},
            "pad_hu": -1024.0,
            "multiple_of": [2, 2, 2],
        },
        "network": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(tiny_model()).hexdigest(),
            "input": "volume",
            "output": "logits",
            "tile": [32, 32, 32],
            "overlap": 0.25,
        },
        "postprocess": {"keep_largest_per_label": True, "fill_holes": True, "minimum_component_ml": 1.0},
        "segments": [
            {
                "number": number,
                "label": f"{side} lung",
                "category": code("123037004", "Anatomical Structure"),
                "type": code(),
                "laterality": code(value, side),
                "colour": colour,
            }
            for number, side, value, colour in (
                (1, "Right", "24028007", "#4e79a7"),
                (2, "Left", "7771000", "#F28E2B"),
            )
        ],
        "density": {"maximum_slice_thickness_mm": 5.0},
    }


def tiny_manifest(change: Callable[[Values], object] = lambda _: None) -> Manifest:
    changed = values()
    change(changed)
    return manifests.parse(changed)


def tiny_model(
    *,
    channels: int = 3,
    sizes: tuple[Any, Any, Any] = ("Z", "Y", "X"),
    names: tuple[str, str] = ("volume", "logits"),
    batch: Any = "N",
) -> bytes:
    """One 3 × 3 × 3 convolution with fixed random weights, as the bytes of an ONNX file."""
    weights = np.random.default_rng(1).normal(size=(channels, 1, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", [names[0], "weights"], [names[1]], pads=[1] * 6)],
        "tiny",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [batch, 1, *sizes])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, [batch, channels, *sizes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return _serialised(graph)


def failing_model() -> bytes:
    """A model that loads and then always fails: it reshapes to a size that differs by one along each axis.

    The one is made of the input's values, so that no loader can foresee it.
    """
    return _of_nodes(
        [
            helper.make_node("Abs", ["volume"], ["abs"]),
            helper.make_node("ReduceMax", ["abs"], ["most"], keepdims=0),
            helper.make_node("Add", ["most", "little"], ["more"]),
            helper.make_node("Sign", ["more"], ["sign"]),
            helper.make_node("Cast", ["sign"], ["one"], to=TensorProto.INT64),
            helper.make_node("Shape", ["three"], ["shape"]),
            helper.make_node("Add", ["shape", "one"], ["larger"]),
            helper.make_node("Reshape", ["three", "larger"], ["logits"]),
        ],
        "volume",
        [numpy_helper.from_array(np.array(0.5, np.float32), "little")],
    )


def not_finite_model() -> bytes:
    """A model that answers with the logarithm of its input."""
    return _of_nodes(
        [helper.make_node("Log", ["volume"], ["log"]), helper.make_node("Identity", ["three"], ["logits"])], "log"
    )


def double_model() -> bytes:
    """A model of double precision."""
    return _of_nodes([helper.make_node("Identity", ["three"], ["logits"])], "volume", element=TensorProto.DOUBLE)


def _of_nodes(
    nodes: list[onnx.NodeProto],
    source: str,
    constants: list[TensorProto] | None = None,
    element: int = TensorProto.FLOAT,
) -> bytes:
    """Nodes around ``three``, which is the source thrice along its channels."""
    three = helper.make_node("Concat", [source] * 3, ["three"], axis=1)
    first = [node for node in nodes if source in node.output]
    graph = helper.make_graph(
        [*first, three, *(node for node in nodes if node not in first)],
        "nodes",
        [helper.make_tensor_value_info("volume", element, ["N", 1, "Z", "Y", "X"])],
        [helper.make_tensor_value_info("logits", element, ["N", 3, "A", "B", "C"])],
        constants or [],
    )
    return _serialised(graph)


def _serialised(graph: onnx.GraphProto, domain: str = "") -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def toml(data: Values) -> str:
    """Values as TOML (what the tests need of it)."""
    lines = [f"{key} = {_toml(value)}" for key, value in data.items() if not isinstance(value, dict | list)]
    for key, value in data.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", *(f"{name} = {_toml(item)}" for name, item in value.items())]
        elif isinstance(value, list):
            for entry in value:
                lines += [f"[[{key}]]", *(f"{name} = {_toml(item)}" for name, item in entry.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def write_package(models: Path, name: str = "tiny", *, model: bytes | None = None, **changes: Any) -> Path:
    """Write a package folder; the manifest's digest is that of the model unless changed."""
    data = model if model is not None else tiny_model()
    content = {**values(), "name": name, **changes}
    if "network" not in changes:
        content["network"]["sha256"] = hashlib.sha256(data).hexdigest()
    folder = models / name
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(toml(content))
    (folder / "model.onnx").write_bytes(data)
    return folder
