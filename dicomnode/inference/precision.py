"""Reduced precision: an ONNX file in fp16 or bf16 derived from the fp32 reference, cast by cast.

TensorRT takes the precision that the file has (networks are strongly typed), so it is written into the file. Inputs and
outputs stay fp32. Operators that bear it compute in half precision; all others (norms, sums, exponentials, whatever is
not in the table) stay fp32, and so does one whose weights do not fit. Needs the library onnx, of the extra ``gpu``.
A file that carries QuantizeLinear and DequantizeLinear says itself what is int8 or fp8, and is taken as it is.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dicomnode.errors import ModelError

#: Version of the way of deriving: another one makes other engines.
RECIPE: Final = "1"
HALVES: Final = ("fp16", "bf16")
#: Operators that compute in half precision, or only move what they are given.
_BEARING: Final = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "Relu",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Sigmoid",
        "Tanh",
        "HardSigmoid",
        "HardSwish",
        "Clip",
        "Gelu",
        "Add",
        "Sub",
        "Mul",
        "Neg",
        "Abs",
        "Max",
        "Min",
        "Concat",
        "MaxPool",
        "AveragePool",
        "Resize",
        "BatchNormalization",
        "Slice",
        "Split",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Pad",
        "Identity",
        "Dropout",
        "Gather",
        "Expand",
        "Where",
        "DepthToSpace",
        "SpaceToDepth",
        "Tile",
    }
)
#: Inputs whose type is float32 whatever the data's: operator → their places.
_FIXED: Final = {"Resize": (1, 2)}
#: Operators that TensorRT does not compute in a precision (seen in TensorRT-RTX 1.7: no transposed convolution in bf16).
_UNBORNE: Final = {"fp16": frozenset[str](), "bf16": frozenset({"ConvTranspose"})}
_QUANTISING: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_LEAST_OPSET: Final = {"fp16": 11, "bf16": 13}


def native_precision(model: bytes) -> str:
    """What a file computes in as it stands: ``int8`` or ``fp8`` where it quantises, else ``fp32``."""
    graph = _parsed(model).graph
    if not any(node.op_type in _QUANTISING for node in graph.node):
        return "fp32"
    import onnx

    eights = {getattr(onnx.TensorProto, name) for name in ("FLOAT8E4M3FN", "FLOAT8E5M2")}
    return "fp8" if any(one.data_type in eights for one in graph.initializer) else "int8"


def derive(model: bytes, precision: str) -> bytes:
    """The same network in half precision.

    Parameters
    ----------
    model
        ONNX file, fp32, whole in itself.
    precision
        One of `HALVES`.

    Raises
    ------
    ModelError
        ``inference-failed``, ``precision-not-derivable``: types that cannot be inferred, an old operator set, a file that
        quantises already or holds functions or subgraphs; ``onnx-missing`` without the library.
    """
    proto = _parsed(model)
    opset = max((one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")), default=0)
    nested = any(
        attribute.HasField("g") or attribute.graphs for node in proto.graph.node for attribute in node.attribute
    )
    quantised = any(node.op_type in _QUANTISING for node in proto.graph.node)
    if precision not in HALVES or opset < _LEAST_OPSET[precision] or nested or quantised or proto.functions:
        raise _not_derivable()
    derived: bytes = _Derivation(proto, precision).run().SerializeToString()
    return derived


class _Derivation:
    """One file on its way to half precision: of each tensor there may be the fp32 one (its name) and a half one."""

    def __init__(self, proto: Any, precision: str) -> None:
        import onnx

        self._onnx = onnx
        self._proto = proto
        self._bearing = _BEARING - _UNBORNE[precision]
        self._half = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.BFLOAT16
        _constants_to_initializers(onnx, proto.graph)
        self._weights = {one.name: one for one in proto.graph.initializer}
        self._floats = _float_tensors(onnx, proto)
        self._full = {value.name for value in proto.graph.input} | set(self._weights)
        self._halved: set[str] = set()
        self._nodes: list[Any] = []
        self._new_weights: list[Any] = []

    def run(self) -> Any:
        """The derived file."""
        graph = self._proto.graph
        for node in list(graph.node):
            if node.op_type in self._bearing and node.domain in ("", "ai.onnx") and self._fits(node):
                self._reduce(node)
            else:
                self._keep(node)
        for value in graph.output:
            if value.name in self._floats:
                self._as_full(value.name)
        used = {name for node in self._nodes for name in node.input}
        kept = [one for one in (*graph.initializer, *self._new_weights) if one.name in used]
        for field, values in ((graph.node, self._nodes), (graph.initializer, kept)):
            del field[:]
            field.extend(values)
        del graph.value_info[:]
        return self._proto

    def _fits(self, node: Any) -> bool:
        """Whether a node has floats at all, and weights that half precision can hold."""
        if not any(name in self._floats for name in (*node.input, *node.output)):
            return False
        return all(self._weight_fits(name) for _, name in self._variable_inputs(node) if name in self._weights)

    def _weight_fits(self, name: str) -> bool:
        values = self._onnx.numpy_helper.to_array(self._weights[name])
        if self._half == self._onnx.TensorProto.BFLOAT16:  # the range of fp32
            return True
        limits = np.finfo(np.float16)
        return bool(np.isfinite(values).all() and np.abs(values).max(initial=0) <= limits.max)

    def _variable_inputs(self, node: Any) -> list[tuple[int, str]]:
        fixed = _FIXED.get(node.op_type, ())
        return [(at, name) for at, name in enumerate(node.input) if name in self._floats and at not in fixed]

    def _reduce(self, node: Any) -> None:
        for at, name in self._variable_inputs(node):
            node.input[at] = self._as_half(name)
        for at in _FIXED.get(node.op_type, ()):
            if at < len(node.input) and node.input[at] in self._floats:
                self._as_full(node.input[at])
        for at, name in enumerate(node.output):
            if name in self._floats:
                node.output[at] = _half_name(name)
                self._halved.add(name)
        self._nodes.append(node)

    def _keep(self, node: Any) -> None:
        for name in node.input:
            if name in self._floats:
                self._as_full(name)
        self._full.update(node.output)
        self._nodes.append(node)

    def _as_full(self, name: str) -> None:
        if name not in self._full:
            self._cast(_half_name(name), name, self._onnx.TensorProto.FLOAT)
            self._full.add(name)

    def _as_half(self, name: str) -> str:
        half = _half_name(name)
        if name not in self._halved:
            if name in self._weights:
                self._new_weights.append(self._half_weight(name))
            else:
                self._cast(name, half, self._half)
            self._halved.add(name)
        return half

    def _half_weight(self, name: str) -> Any:
        values = self._onnx.numpy_helper.to_array(self._weights[name])
        kind = self._onnx.helper.tensor_dtype_to_np_dtype(self._half)
        return self._onnx.numpy_helper.from_array(values.astype(kind), _half_name(name))

    def _cast(self, source: str, target: str, kind: int) -> None:
        self._nodes.append(self._onnx.helper.make_node("Cast", [source], [target], to=kind))


def _half_name(name: str) -> str:
    return f"{name}.half"


def _float_tensors(onnx: Any, proto: Any) -> frozenset[str]:
    """Names of the float32 tensors of a graph, every tensor's type being known."""
    try:
        graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    except Exception:  # noqa: BLE001 - onnx raises many kinds
        raise _not_derivable() from None
    kinds = {one.name: one.type.tensor_type.elem_type for one in (*graph.input, *graph.value_info, *graph.output)}
    kinds |= {one.name: one.data_type for one in graph.initializer}
    for node in graph.node:
        if any(name and not kinds.get(name) for name in node.output):
            raise _not_derivable()
    return frozenset(name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT)


def _constants_to_initializers(onnx: Any, graph: Any) -> None:
    """Constants as weights, so that they may be had in either precision."""
    nodes = []
    for node in graph.node:
        value = next((one for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _parsed(model: bytes) -> Any:
    try:
        import onnx
        import onnx.shape_inference
    except ImportError:
        raise ModelError("inference-failed", cause="onnx-missing") from None
    try:
        return onnx.load_model_from_string(model)
    except Exception:  # noqa: BLE001 - protobuf's exceptions are no public interface
        raise _not_derivable() from None


def _not_derivable() -> ModelError:
    return ModelError("inference-failed", cause="precision-not-derivable")
