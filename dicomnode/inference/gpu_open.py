"""What a GPU process opens: a package's engine on the first device that it may see, out of the cache or built, and warm.

Imported in that process alone (`gpu_child`), since it brings every library along.
"""

from __future__ import annotations

from pathlib import Path

from dicomnode.inference import cuda_device
from dicomnode.inference.device import Device
from dicomnode.inference.engine_cache import EngineCache
from dicomnode.inference.engine_source import EngineSource
from dicomnode.inference.golden import golden_batch, golden_sizes
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_wire import Message
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import load


def open_package(message: Message) -> GpuEngine:
    """The engine that a first message (`gpu.first_message`) asks for.

    Raises
    ------
    ModelError, StorageError
        Whatever stands in the way; the device is given back.
    """
    cache = EngineCache(Path(message["cache"]), bytes.fromhex(message["key"]))
    device = cuda_device.CudaDevice()
    try:
        return _opened(message, device, cache)
    except BaseException:
        device.close()
        raise


def _opened(message: Message, device: Device, cache: EngineCache) -> GpuEngine:
    package = load(Path(message["folder"]))
    source = EngineSource(
        package,
        device,
        cache,
        name=message["library"],
        reference=lambda: OnnxEngine.from_package(package, threads=int(message["threads"])),
    )
    sourced = source.network(message["precision"])
    cache.purge(int(message["cache_bytes"]))
    engine = GpuEngine(device, sourced.network, package.manifest)
    for size in golden_sizes(package.manifest):  # warm: the first study pays for no load
        engine.run(golden_batch(package.manifest, size))
    return engine
