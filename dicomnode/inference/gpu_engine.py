"""A network on a device as an engine: it runs batches as every engine does, and whole volumes without leaving the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dicomnode.errors import ModelError
from dicomnode.heap import give_back
from dicomnode.imaging.volume import Volume
from dicomnode.inference import golden, gpu_course
from dicomnode.inference.device import Device, DeviceNetwork
from dicomnode.inference.engine import Batch, Engine, EngineInfo, check_batch, checked_logits
from dicomnode.inference.golden import Verdict
from dicomnode.inference.segment import Seen
from dicomnode.manifest import Manifest


class GpuEngine:
    """See `Engine` and `segment.VolumeEngine`.

    Parameters
    ----------
    device, network
        Opened; they are closed with the engine.
    """

    def __init__(self, device: Device, network: DeviceNetwork, manifest: Manifest) -> None:
        self._device, self._network, self._manifest = device, network, manifest
        self._stream = device.stream()
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """Description of the network."""
        return self._network.info

    def run(self, batch: Batch) -> Batch:
        """Run the network, as many patches at once as it takes; see `Engine.run`."""
        self._require_open()
        check_batch(batch, self._manifest)
        whole = batch.shape[2:] == self._manifest.network.tile
        most = self._network.batch if whole else 1
        parts = [self._run(batch[first : first + most]) for first in range(0, len(batch), most)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """What the network sees in an even, straight volume."""
        self._require_open()
        return gpu_course.see(volume, self._manifest, self._device, self._network, progress)

    def rest(self) -> None:
        """Give back what the last study took of the host; what it took of the device went back with its course."""
        give_back()

    def close(self) -> None:
        """Give the network and the device back; may be called again."""
        if not self._closed:
            self._closed = True
            self._network.close()
            self._device.close()

    def _run(self, batch: Batch) -> Batch:
        device, patches = self._device, len(batch)
        logits = np.empty((patches, self._manifest.channels, *batch.shape[2:]), np.float32)
        source = device.allocate(batch.nbytes)
        try:
            target = device.allocate(logits.nbytes)
            try:
                device.upload(batch, source, self._stream)
                self._network.enqueue(source, target, batch.shape, self._stream)
                device.download(target, logits, self._stream)
                device.synchronise(self._stream)
            finally:
                device.release(target)
        finally:
            device.release(source)
        return checked_logits(logits, batch, self._manifest)

    def _require_open(self) -> None:
        if self._closed:
            raise ModelError("inference-failed", cause="engine-closed")


def verify(engine: Engine, reference: Engine, manifest: Manifest) -> Verdict:
    """Hold an engine to the reference by the golden input, in a whole tile and in a piece; the worse verdict counts.

    Parameters
    ----------
    reference
        The package's own ONNX, fp32, on the CPU.
    """
    verdicts = []
    for size in golden.golden_sizes(manifest):
        batch = golden.golden_batch(manifest, size, patches=2)
        logits = engine.run(batch)
        independent = np.array_equal(engine.run(batch[1:]), logits[1:]) and np.array_equal(engine.run(batch), logits)
        for number in range(len(batch)):  # one after the other: with a hundred labels an answer has gigabytes
            one = slice(number, number + 1)
            expected = reference.run(batch[one])
            verdicts.append(golden.judge(logits[one], expected, engine.info.precision, independent=independent))
    return max(verdicts, key=lambda verdict: (not verdict.may_serve, verdict.error))
