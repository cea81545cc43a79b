"""The peer on a GPU, by PyTorch alone or with MONAI: volume up, interpolation, sliding window in fp16, interpolation, labels down.

As good as who knows torch makes it: inference mode, cudnn.benchmark, channels last, batches, copies by whichever of pinned
and pageable memory is quicker here, fp16 wherever labels allow. Also what only torch measures: peaks of the device, and,
where TensorRT is missing, a network for the node's own course. Everything runs on ``cpu``, too, in fp32: for tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dicomnode.inference import tiles
from dicomnode.inference.device import Buffer, Stream
from dicomnode.inference.engine import EngineInfo
from dicomnode.manifest import Manifest
from tests.benchmarks.rates import each_second, quicker
from tests.benchmarks.torch_graph import Graph

Size = tuple[int, int, int]
LAYOUTS = {"channels_last_3d": torch.channels_last_3d, "contiguous": torch.contiguous_format}


class Peer:
    """Volume in, labels out.

    Parameters
    ----------
    place
        ``cuda`` or ``cpu``.
    layout
        Of `LAYOUTS`.
    batch
        Windows of one run.
    """

    def __init__(self, model: bytes, manifest: Manifest, *, place: str, layout: str, batch: int) -> None:
        torch.backends.cudnn.benchmark = True
        self._manifest, self._batch = manifest, batch
        self._place, self._cuda = torch.device(place), place == "cuda"
        self._kind = torch.float16 if self._cuda else torch.float32
        self._format = LAYOUTS[layout]
        self._network = Graph(model).eval().to(self._place, self._kind)
        for name, weight in list(self._network.named_buffers()):
            if weight.ndim == 5:
                setattr(self._network, name, weight.contiguous(memory_format=self._format))
        self._pinned: dict[bool, bool] = {}
        self._held: dict[tuple[Any, ...], torch.Tensor] = {}
        self.has_monai = find_spec("monai") is not None

    @property
    def window_of(self) -> str:
        """Whose sliding window it is."""
        return f"MONAI {version('monai')}" if self.has_monai else "torch alone, MONAI is not installed"

    @torch.inference_mode()
    def labels(self, values: np.ndarray, coarse: Size) -> np.ndarray:
        """Labels (z, y, x) of a canonical volume whose corner voxels lie on those of the coarse grid."""
        x = self._input(values, coarse)
        logits = self.window(x)[:, :, : coarse[0], : coarse[1], : coarse[2]].to(self._kind)
        fine = functional.interpolate(logits, values.shape, mode="trilinear", align_corners=True)
        return self._down(fine.argmax(1)[0].to(torch.uint8))

    @torch.inference_mode()
    def network_seconds(self, runs: list[int], tile: Size) -> float:
        """Seconds of the runs of a study, one after the other, on the device alone."""
        given = torch.rand((max(runs), 1, *tile), device=self._place)
        self._wait()
        begun = time.perf_counter()
        for patches in runs:
            self._run(given[:patches])
        self._wait()
        return time.perf_counter() - begun

    @torch.inference_mode()
    def window(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, fp32, of a padded volume; weights and sums in fp32, as those of the node are."""
        network = self._manifest.network
        z, y, x_ = x.shape[2:]
        layout = tiles.plan((z, y, x_), network.tile, network.overlap)
        return self._monais(x, layout) if self.has_monai else self._own(x, layout)

    def forget_peak(self) -> None:
        """Count the most memory from now on."""
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()

    def peak_bytes(self) -> dict[str, int]:
        """Most memory in use and held by torch; nothing where it does not count."""
        if not self._cuda:
            return {}
        return {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}

    def _input(self, values: np.ndarray, coarse: Size) -> torch.Tensor:
        rule, window = self._manifest.preprocess, self._manifest.preprocess.intensity
        x = self._up(values)[None, None].float()
        x = functional.interpolate(x, coarse, mode="trilinear", align_corners=True)
        x = (x.clamp_(window.lower, window.upper) - window.lower) / (window.upper - window.lower)
        low = 0.0
        if window.scale == "minus-one-to-one":
            x, low = x * 2 - 1, -1.0
        margins = [-size % factor for size, factor in zip(coarse, rule.multiple_of, strict=True)]
        return functional.pad(x, (0, margins[2], 0, margins[1], 0, margins[0]), value=low)

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        return self._network(batch.to(self._kind).contiguous(memory_format=self._format))  # type: ignore[no-any-return]

    def _monais(self, x: torch.Tensor, layout: tiles.Plan) -> torch.Tensor:
        """With the node's Gaussian, see `torch_path`."""
        from monai.inferers import sliding_window_inference

        z, y, x_ = (torch.from_numpy(tiles.bell(size)).float() for size in layout.tile)
        weights = (z[:, None, None] * y[:, None] * x_)[None, None].to(self._place)
        overlap = self._manifest.network.overlap
        found: torch.Tensor = sliding_window_inference(
            x, layout.tile, self._batch, lambda given: self._run(given).float(), overlap=overlap, roi_weight_map=weights
        )
        return found

    def _own(self, x: torch.Tensor, layout: tiles.Plan) -> torch.Tensor:
        total = torch.zeros((1, self._manifest.channels, *x.shape[2:]), device=self._place)
        places = list(layout.tiles())
        for first in range(0, len(places), self._batch):
            some = places[first : first + self._batch]
            logits = self._run(torch.cat([x[:, :, *place] for place, _ in some])).float()
            for one, (place, weights) in zip(logits, some, strict=True):
                total[0, :, *place] += one * torch.from_numpy(weights).to(self._place)
        return total

    def _up(self, values: np.ndarray) -> torch.Tensor:
        array = torch.from_numpy(values)
        return self._quicker(True, lambda pinned: self._copied(array, self._place, pinned))

    def _down(self, labels: torch.Tensor) -> np.ndarray:
        found = self._quicker(False, lambda pinned: self._copied(labels, torch.device("cpu"), pinned))
        array: np.ndarray = found.numpy()
        return array

    def _copied(self, array: torch.Tensor, to: torch.device, pinned: bool) -> torch.Tensor:
        """By pinned memory that is kept for the next study, or as torch does it by itself."""
        if not pinned:
            return array.to(to)
        key = (to.type, array.dtype, tuple(array.shape))
        if key not in self._held:
            self._held[key] = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
        held = self._held[key]
        if to.type == "cuda":
            held.copy_(array)
            return held.to(to, non_blocking=True)
        held.copy_(array)
        return held.clone()

    def _quicker(self, up: bool, copied: Callable[[bool], torch.Tensor]) -> torch.Tensor:
        """The first study tries both."""
        if not self._cuda:
            return copied(False)
        if up not in self._pinned:
            self._pinned[up] = quicker(copied, wait=self._wait)
        return copied(self._pinned[up])

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


def description(place: str) -> dict[str, str]:
    """What torch says of itself and its device."""
    found = {"torch": torch.__version__, "CUDA of torch": str(torch.version.cuda), "device": place}
    if place == "cuda":
        facts = torch.cuda.get_device_properties(0)
        cudnn = str(torch.backends.cudnn.version())
        return {**found, "device": f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB", "cuDNN": cudnn}
    return found


def matmul_rate(place: str, precision: str, size: int, times: int) -> float:
    """Operations a second of a large product of random numbers."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = torch.float16 if precision == "fp16" else torch.float32
    a, b = (torch.randn((size, size), device=place).to(kind) for _ in range(2))
    target = torch.empty_like(a)
    return 2 * size**3 * each_second(lambda: torch.mm(a, b, out=target), times, wait=_waiting(place))


def copy_rate(place: str, size: int, times: int) -> float:
    """Bytes a second, read and written, of a large copy within the device."""
    source = torch.zeros(size, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    return 2 * size * each_second(lambda: target.copy_(source), times, wait=_waiting(place))


def _waiting(place: str) -> Callable[[], object]:
    return torch.cuda.synchronize if place == "cuda" else nullcontext


class TorchNetwork:
    """The peer's network on the node's device, where TensorRT is missing; see `DeviceNetwork`."""

    def __init__(self, model: bytes, manifest: Manifest, *, place: str, batch: int) -> None:
        self._peer = Peer(model, manifest, place=place, layout="channels_last_3d", batch=batch)
        self._cuda, self._channels = place == "cuda", manifest.channels
        self.batch = batch
        self.info = EngineInfo(name="torch", precision="fp16" if self._cuda else "fp32", version=torch.__version__)

    def memory_bytes(self) -> int:
        """Nobody knows: torch takes what it needs as it goes."""
        return 0

    @torch.inference_mode()
    def enqueue(self, source: Buffer, target: Buffer, shape: tuple[int, ...], stream: Stream) -> None:
        """A run on the stream that it is given."""
        with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)) if self._cuda else nullcontext():
            answer = self._peer._run(self._tensor(source, shape))
            self._tensor(target, (shape[0], self._channels, *shape[2:])).copy_(answer)

    def close(self) -> None:
        """Nothing of it outlives the process."""

    def _tensor(self, buffer: Buffer, shape: tuple[int, ...]) -> torch.Tensor:
        if not self._cuda:
            return torch.from_numpy(buffer.view(np.float32, shape))  # type: ignore[attr-defined]
        return torch.as_tensor(_Array(buffer.address, shape), device="cuda")


class _Array:
    """float32 at an address of the device, as others take it (CUDA Array Interface, version 3)."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        described: Mapping[str, Any] = {"shape": shape, "typestr": "<f4", "data": (address, False), "version": 3}
        self.__cuda_array_interface__ = {**described, "strides": None}
