"""What a network asks of a device at least, counted from its ONNX graph, and how near a time comes to it. Pure, but for `onnx`.

Work is that of convolutions, also transposed ones: two operations for each product. Traffic is that each operator reads its
inputs and weights once and writes its output once. Additions, activations and joins cost nothing: they go along with
the operator before. Norms are told apart: each is a pass of its own unless the next operator does it while it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FULL = 4  # bytes of an element of the network's own input and output, whatever it computes in
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_NORMS = ("InstanceNormalization", "BatchNormalization", "GroupNormalization", "LayerNormalization")
#: Of an engine's precision: the peak that it is held against, and bytes of an element.
PRECISIONS: Mapping[str, tuple[str, int]] = {
    "fp16": ("fp16", 2),
    "bf16": ("fp16", 2),
    "tf32": ("tf32", 4),
    "fp32": ("fp32", 4),
}
#: Ways of reckoning, the strictest first.
WAYS = ("as one piece", "layer by layer", "layer by layer, norms too")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operator of a batch.

    Attributes
    ----------
    flops
        Operations.
    inner
        Elements read and written in the precision of the engine, weights included.
    outer
        Elements of the network's input or output, which are float32.
    """

    name: str
    operator: str
    flops: int
    inner: int
    outer: int

    @property
    def is_norm(self) -> bool:
        """Whether it is a norm."""
        return self.operator in _NORMS

    def bytes_at(self, width: int) -> int:
        """Bytes that it moves where an element takes `width`."""
        return self.inner * width + self.outer * _FULL


@dataclass(frozen=True, kw_only=True)
class Network:
    """A batch through a network.

    Attributes
    ----------
    weights
        Elements.
    ends
        Elements of its input and output.
    """

    layers: tuple[Layer, ...]
    weights: int
    ends: int

    @property
    def flops(self) -> int:
        """Operations of all layers."""
        return sum(layer.flops for layer in self.layers)

    def bytes_at(self, width: int) -> int:
        """Bytes that the convolutions move, one by one."""
        return sum(layer.bytes_at(width) for layer in self.layers if not layer.is_norm)

    def least_seconds(self, flops_each_second: float, bytes_each_second: float, width: int) -> dict[str, float]:
        """The least time by each of `WAYS`."""
        whole = max(self.flops / flops_each_second, (self.weights * width + self.ends * _FULL) / bytes_each_second)
        each = [
            (layer.is_norm, max(layer.flops / flops_each_second, layer.bytes_at(width) / bytes_each_second))
            for layer in self.layers
        ]
        convolutions = sum(seconds for is_norm, seconds in each if not is_norm)
        return dict(zip(WAYS, (whole, convolutions, sum(seconds for _, seconds in each)), strict=True))


def count(model: bytes, shape: Sequence[int]) -> Network:
    """What a batch of a shape (patches, 1, z, y, x) asks for.

    Raises
    ------
    ValueError
        A tensor's shape is not known.
    """
    import onnx

    proto = onnx.load_from_string(model)
    for dimension, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    graph = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True).graph
    shapes = {one.name: tuple(one.dims) for one in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(one.dim_value for one in value.type.tensor_type.shape.dim)
    inputs, outputs = {one.name for one in graph.input} - {one.name for one in graph.initializer}, graph.output
    ends = inputs | {one.name for one in outputs}
    layers = tuple(_layer(node, shapes, ends) for node in graph.node if node.op_type in (*_CONVOLUTIONS, *_NORMS))
    return Network(
        layers=layers,
        weights=sum(math.prod(one.dims) for one in graph.initializer),
        ends=sum(_elements(shapes, name) for name in ends),
    )


def _layer(node: Any, shapes: Mapping[str, tuple[int, ...]], ends: set[str]) -> Layer:
    source, *weights = (name for name in node.input if name)
    target = node.output[0]
    flops = 0
    if (
        node.op_type in _CONVOLUTIONS
    ):  # (outputs, inputs / groups, ...) over the output, or (inputs, outputs / groups, ...)
        over = target if node.op_type == "Conv" else source
        flops = 2 * _elements(shapes, over) * math.prod(shapes[weights[0]][1:])
    moved = {name: _elements(shapes, name) for name in (source, target)}
    return Layer(
        name=node.name or target,
        operator=node.op_type,
        flops=flops,
        inner=sum(size for name, size in moved.items() if name not in ends)
        + sum(_elements(shapes, name) for name in weights),
        outer=sum(size for name, size in moved.items() if name in ends),
    )


def _elements(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    if not shapes.get(name) or not all(shapes[name]):
        raise ValueError(f"the shape of {name} is not known")
    return math.prod(shapes[name])


def joined(runs: Sequence[Network]) -> Network:
    """Runs one after the other: each reads its weights anew."""
    return Network(
        layers=tuple(layer for run in runs for layer in run.layers),
        weights=sum(run.weights for run in runs),
        ends=sum(run.ends for run in runs),
    )


def batches(tiles: int, batch: int) -> list[int]:
    """Patches of each run of a study."""
    return [min(batch, tiles - first) for first in range(0, tiles, batch)]
