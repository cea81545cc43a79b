"""An ONNX file's own graph in PyTorch, operator by operator, with its weights: what every peer on torch runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional


class Graph(nn.Module):
    """Operators of an ONNX graph in their order."""

    def __init__(self, model: bytes) -> None:
        super().__init__()
        graph = onnx.load_from_string(model).graph
        self._output = graph.output[0].name
        for item in graph.initializer:
            weight = torch.from_numpy(numpy_helper.to_array(item).copy())
            self.register_buffer(_plain(item.name), weight)
        self._steps = [
            (
                node.op_type,
                list(node.input),
                node.output[0],
                {a.name: helper.get_attribute_value(a) for a in node.attribute},
            )
            for node in graph.node
        ]
        last: dict[str, int] = {name: at for at, (_, inputs, _, _) in enumerate(self._steps) for name in inputs}
        self._done = [[name for name, at in last.items() if at == step] for step in range(len(self._steps))]

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Logits; what no later operator needs is dropped."""
        known = {"volume": volume}
        for (operator, inputs, output, attributes), done in zip(self._steps, self._done, strict=True):
            given = [known[name] if name in known else getattr(self, _plain(name)) for name in inputs]
            known[output] = OPERATORS[operator](given, attributes)
            for name in done:
                known.pop(name, None)
        return known[self._output]


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _conv(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    x, weight, *bias = given
    padding = (attributes.get("pads") or [0] * 6)[:3]
    return functional.conv3d(x, weight, *bias, stride=attributes.get("strides") or 1, padding=padding)


def _up(given: list[torch.Tensor], attributes: dict[str, Any]) -> torch.Tensor:
    x, weight, *bias = given
    return functional.conv_transpose3d(x, weight, *bias, stride=attributes["strides"])


OPERATORS: dict[str, Callable[[list[torch.Tensor], dict[str, Any]], torch.Tensor]] = {
    "Conv": _conv,
    "ConvTranspose": _up,
    "Relu": lambda given, _: functional.relu_(given[0]),
    "LeakyRelu": lambda given, attributes: functional.leaky_relu_(given[0], attributes["alpha"]),
    "Add": lambda given, _: given[0] + given[1],
    "Mul": lambda given, _: given[0] * given[1],
    "Clip": lambda given, _: torch.clamp(given[0], given[1], given[2]),
    "Concat": lambda given, attributes: torch.cat(given, attributes["axis"]),
    "InstanceNormalization": lambda given, attributes: functional.instance_norm(
        given[0], weight=given[1], bias=given[2], eps=attributes["epsilon"]
    ),
}
