"""The peer: the same network in PyTorch, between torch's own interpolation, under MONAI's sliding window.

The network is the ONNX file's own graph, operator by operator, with its weights. Resampling is `interpolate`, which is
much faster than MONAI's `Spacing`: the peer is as good as a user who knows torch makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from monai.inferers import sliding_window_inference
from onnx import helper, numpy_helper
from torch import nn
from torch.nn import functional

from dicomnode.inference.tiles import bell
from dicomnode.manifest import Manifest


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
    "Concat": lambda given, attributes: torch.cat(given, attributes["axis"]),
    "InstanceNormalization": lambda given, attributes: functional.instance_norm(
        given[0], weight=given[1], bias=given[2], eps=attributes["epsilon"]
    ),
}


class TorchPath:
    """Volume in, labels out, with torch and MONAI."""

    def __init__(self, model: bytes, manifest: Manifest, *, threads: int) -> None:
        torch.set_num_threads(threads)
        self._network = Graph(model).eval()
        self._manifest = manifest

    @torch.inference_mode()
    def labels(self, values: np.ndarray, coarse: tuple[int, int, int]) -> np.ndarray:
        """Labels (z, y, x) of a canonical volume whose corner voxels lie on those of the coarse grid."""
        rule, network = self._manifest.preprocess, self._manifest.network
        volume = torch.from_numpy(values)[None, None].float()
        x = functional.interpolate(volume, coarse, mode="trilinear", align_corners=True)
        del volume
        x = self.normalised(x)
        margins = [-size % factor for size, factor in zip(coarse, rule.multiple_of, strict=True)]
        low = -1.0 if rule.intensity.scale == "minus-one-to-one" else 0.0
        x = functional.pad(x, (0, margins[2], 0, margins[1], 0, margins[0]), value=low)
        roi = [min(size, largest) for size, largest in zip(x.shape[2:], network.tile, strict=True)]
        logits = self.window(x, roi)[:, :, : coarse[0], : coarse[1], : coarse[2]]
        fine = functional.interpolate(logits, values.shape, mode="trilinear", align_corners=True)
        return fine.argmax(1)[0].to(torch.uint8).numpy()

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        """Clipped to the window and mapped to the scale's range, as MONAI's ScaleIntensityRange does."""
        window = self._manifest.preprocess.intensity
        x = (x.clamp(window.lower, window.upper) - window.lower) / (window.upper - window.lower)
        return x * 2 - 1 if window.scale == "minus-one-to-one" else x

    def tensor(self, inputs: np.ndarray) -> torch.Tensor:
        """A prepared volume (z, y, x) as what `window` takes."""
        return torch.from_numpy(inputs)[None, None]

    @torch.inference_mode()
    def window(self, x: torch.Tensor, roi: list[int]) -> torch.Tensor:
        """Logits of a padded volume by MONAI.

        With the node's Gaussian: MONAI's own has a floor under the product of its axes, which makes plain means of the
        outermost tenth of a tile, and so other labels.
        """
        z, y, x_ = (torch.from_numpy(bell(size)).float() for size in roi)
        weights = (z[:, None, None] * y[:, None] * x_)[None, None]
        logits: torch.Tensor = sliding_window_inference(
            x, roi, 1, self._network, overlap=self._manifest.network.overlap, roi_weight_map=weights
        )
        return logits
