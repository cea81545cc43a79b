"""The peer: the same network in PyTorch, between torch's own interpolation, under MONAI's sliding window.

The network is the ONNX file's own graph, operator by operator, with its weights. Resampling is `interpolate`, which is
much faster than MONAI's `Spacing`: the peer is as good as a user who knows torch makes it.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from torch.nn import functional

from dicomnode.inference.tiles import bell
from dicomnode.manifest import Manifest
from tests.benchmarks.torch_graph import Graph


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
