"""The network of ct-lung: a small 3D U-Net over five scales with sums instead of concatenations.

May live here: the torch module and its translation into an ONNX graph. May not: training, data.
The graph is written node by node, with batch normalisation folded: the same weights give the same bytes.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

OPSET = 17
WIDTHS = (8, 16, 32, 64, 96)
"""Channels at 3, 6, 12, 24 and 48 mm."""
NARROW = (6.25, -1.86)
"""Gain and offset of a second view of the input, cut to [-1, 1]: -102 to 158 HU, where fluid and filled lung differ."""
MULTIPLE = 16
"""Every axis of the input must be a multiple of this."""


class Block(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(outputs, momentum=0.03)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        return torch.relu(self.norm(self.conv(x)))


class LungNet(nn.Module):
    """Logits (N, 3, Z, Y, X) for background, right lung, left lung from (N, 1, Z, Y, X) in [-1, 1].

    With two views it also sees soft tissue by itself (`NARROW`).
    """

    def __init__(self, views: int = 1) -> None:
        super().__init__()
        w = WIDTHS
        self.views = views
        self.stem = Block(views, w[0])
        self.down = nn.ModuleList(Block(a, b, stride=2) for a, b in pairwise(w))
        self.same = nn.ModuleList(Block(b, b) for b in w[1:])
        self.up = nn.ModuleList(nn.ConvTranspose3d(b, a, 2, stride=2) for a, b in pairwise(w))
        self.join = nn.ModuleList(Block(a, a) for a in w[:-1])
        self.head = nn.Conv3d(w[0], 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits."""
        if self.views == 2:
            x = torch.cat((x, torch.clamp(x * NARROW[0] + NARROW[1], -1.0, 1.0)), dim=1)
        x = self.stem(x)
        skips = []
        for down, same in zip(self.down, self.same, strict=True):
            skips.append(x)
            x = same(down(x))
        for level in reversed(range(len(skips))):
            x = self.join[level](self.up[level](x) + skips[level])
        logits: torch.Tensor = self.head(x)
        return logits


class _Graph:
    """Collects nodes and weights of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, tensor: torch.Tensor) -> str:
        array = tensor.detach().to(torch.float32).contiguous().numpy()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def block(self, name: str, block: Block, source: str) -> str:
        fused = fuse_conv_bn_eval(block.conv, block.norm)
        inputs = [source, self.weight(f"{name}.weight", fused.weight), self.weight(f"{name}.bias", fused.bias)]
        stride = list(block.conv.stride)
        done = self.add("Conv", inputs, f"{name}.conv", kernel_shape=[3, 3, 3], pads=[1] * 6, strides=stride)
        return self.add("Relu", [done], f"{name}.relu")

    def two_views(self, source: str) -> str:
        numbers = (("gain", NARROW[0]), ("offset", NARROW[1]), ("low", -1.0), ("high", 1.0))
        gain, offset, low, high = (self.weight(f"narrow.{name}", torch.tensor(value)) for name, value in numbers)
        moved = self.add("Add", [self.add("Mul", [source, gain], "narrow.scaled"), offset], "narrow.moved")
        return self.add("Concat", [source, self.add("Clip", [moved, low, high], "narrow")], "views", axis=1)


def read_onnx(path: Path, views: int = 1) -> LungNet:
    """Take the weights of a file of `write_onnx`, to train on with statistics that stay as they are; a new view counts for nothing yet.

    Folding loses how a weight is shared out between convolution and normalisation. Each output channel of a convolution
    gets the spread that a fresh one has, and the normalisation's variance what makes up for it, at a gain of 1: so one
    rate suits every layer again.
    """
    weights = {
        item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in onnx.load(path).graph.initializer
    }
    network = LungNet(views)
    for name, block in network.named_modules():
        if isinstance(block, Block):
            weight, bias = weights[f"{name.replace('.', '')}.weight"], weights[f"{name.replace('.', '')}.bias"]
            spread = weight.flatten(1).std(dim=1).clamp(min=1e-6)
            scale = (2.0 / weight[0].numel()) ** 0.5 / spread
            weight = nn.functional.pad(weight, (0, 0) * 3 + (0, block.conv.weight.shape[1] - weight.shape[1]))
            block.conv.weight.data.copy_(weight * scale.view(-1, 1, 1, 1, 1))
            block.norm.running_var.copy_(scale**2 - block.norm.eps)
            block.norm.bias.data.copy_(bias)
    for level, up in enumerate(network.up):
        up.weight.data.copy_(weights[f"up{level}.weight"])
        up.bias.data.copy_(weights[f"up{level}.bias"])
    network.head.weight.data.copy_(weights["head.weight"])
    network.head.bias.data.copy_(weights["head.bias"])
    return network


def write_onnx(network: LungNet, path: Path) -> None:
    """Write the network as ONNX: Conv, ConvTranspose, Relu, Add, for a second view Mul, Clip, Concat; fp32; batch and space dynamic."""
    network = network.eval().float()
    graph = _Graph()
    x = graph.block("stem", network.stem, graph.two_views("volume") if network.views == 2 else "volume")
    skips = []
    for level, (down, same) in enumerate(zip(network.down, network.same, strict=True)):
        skips.append(x)
        x = graph.block(f"same{level}", same, graph.block(f"down{level}", down, x))
    for level in reversed(range(len(skips))):
        up = network.up[level]
        inputs = [x, graph.weight(f"up{level}.weight", up.weight), graph.weight(f"up{level}.bias", up.bias)]
        x = graph.add("ConvTranspose", inputs, f"up{level}.conv", kernel_shape=[2, 2, 2], strides=[2, 2, 2])
        x = graph.block(f"join{level}", network.join[level], graph.add("Add", [x, skips[level]], f"sum{level}"))
    head = network.head
    inputs = [x, graph.weight("head.weight", head.weight), graph.weight("head.bias", head.bias)]
    graph.add("Conv", inputs, "logits", kernel_shape=[1, 1, 1])
    sizes = ["batch", None, "z", "y", "x"]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [sizes[0], channels, *sizes[2:]])
        for name, channels in (("volume", 1), ("logits", 3))
    ]
    whole = helper.make_graph(graph.nodes, "ct-lung", ends[:1], ends[1:], initializer=graph.weights)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="dicomnode")
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
