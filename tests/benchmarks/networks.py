"""A network of the kind that nnU-Net plans, made on the fly with fixed seeds: the same numbers give the same bytes.

Its weights were never trained. They are drawn so that the labels of neighbouring voxels agree and every label occurs:
what such a network costs does not depend on what it has learned.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_BACKGROUND = 2.0  # by which the background leads: about half of all voxels are that


class UNet:
    """Two convolutions a scale, instance normalisation, leaky ReLU, strided convolutions down, transposed ones up."""

    def __init__(self, widths: tuple[int, ...], labels: int, seed: int = 1) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self.multiple = 2 ** (len(widths) - 1)
        x, skips, inputs = "volume", [], 1
        for level, width in enumerate(widths):
            x = self._block(f"down{level}a", x, inputs, width, stride=2 if level else 1)
            x = self._block(f"down{level}b", x, width, width)
            skips.append(x)
            inputs = width
        for level in reversed(range(len(widths) - 1)):
            width = widths[level]
            weight = self._weight(f"up{level}.weight", (inputs, width, 2, 2, 2), inputs)
            up = self._add("ConvTranspose", [x, weight], f"up{level}", kernel_shape=[2] * 3, strides=[2] * 3)
            x = self._add("Concat", [up, skips[level]], f"join{level}", axis=1)
            x = self._block(f"up{level}a", x, 2 * width, width)
            x = self._block(f"up{level}b", x, width, width)
            inputs = width
        head = self._weight("head.weight", (labels, widths[0], 1, 1, 1), widths[0])
        favour = self._constant("head.bias", np.where(np.arange(labels) == 0, _BACKGROUND, 0))
        self._add("Conv", [x, head, favour], "logits", kernel_shape=[1] * 3)
        self._labels = labels

    def to_bytes(self) -> bytes:
        """The ONNX file."""
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "z", "y", "x"])
            for name, channels in (("volume", 1), ("logits", self._labels))
        ]
        graph = helper.make_graph(self._nodes, "unet", ends[:1], ends[1:], initializer=self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def _block(self, name: str, source: str, inputs: int, outputs: int, *, stride: int = 1) -> str:
        weight = self._weight(f"{name}.weight", (outputs, inputs, 3, 3, 3), inputs * 27)
        x = self._add(
            "Conv", [source, weight], f"{name}.conv", kernel_shape=[3] * 3, pads=[1] * 6, strides=[stride] * 3
        )
        scale, bias = (self._constant(f"{name}.{what}", np.full(outputs, v)) for what, v in (("scale", 1), ("bias", 0)))
        x = self._add("InstanceNormalization", [x, scale, bias], f"{name}.norm", epsilon=1e-5)
        return self._add("LeakyRelu", [x], f"{name}.relu", alpha=0.01)

    def _weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        return self._constant(name, self._random.normal(0, (2 / fan_in) ** 0.5, shape))

    def _constant(self, name: str, values: np.ndarray) -> str:
        self._weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
