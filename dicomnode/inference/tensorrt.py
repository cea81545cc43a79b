"""TensorRT, and TensorRT-RTX, which has nearly the same interface: parse, build, load, run.

The only module that imports them, and it does so when a library is asked for. Networks are strongly typed: the file says
in what precision each tensor is (`precision`). Setters and runs answer False where they fail; every answer is looked at.
An engine is native code: what is loaded here has come out of this process's builder or out of the sealed cache.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from dicomnode.errors import ModelError
from dicomnode.inference.device import Buffer, Device, Stream
from dicomnode.inference.engine import EngineInfo
from dicomnode.manifest import Manifest

#: Libraries, the better first: module → name in results.
LIBRARIES: Final = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}
#: Version of the way of building: another one makes other engines.
RECIPE: Final = "1"
_WORKSPACE_BYTES: Final = 4 * 1024**3

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Shapes (patches, 1, z, y, x) that an engine takes: least, the one it is made fast for, largest."""

    least: Shape
    best: Shape
    largest: Shape

    def takes(self, shape: Shape) -> bool:
        """Whether a batch of this shape may be run."""
        return all(low <= size <= high for low, size, high in zip(self.least, shape, self.largest, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An engine as bytes, and what the builder measured on the way."""

    engine: bytes
    timing: bytes


def profiles(manifest: Manifest, batch: int) -> tuple[Profile, ...]:
    """Whole tiles in batches; and single pieces, for volumes that are smaller than a tile along some axis."""
    tile, least = manifest.network.tile, manifest.preprocess.multiple_of
    tiles = Profile(least=(1, 1, *tile), best=(batch, 1, *tile), largest=(batch, 1, *tile))
    pieces = Profile(least=(1, 1, *least), best=(1, 1, *tile), largest=(1, 1, *tile))
    return (tiles,) if tile == least else (tiles, pieces)


@cache
def library(name: str) -> Any:
    """A library by the name of its module.

    Raises
    ------
    ModelError
        ``inference-failed``, ``tensorrt-missing``.
    """
    if name not in LIBRARIES:
        raise ValueError("no such library")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on drivers and optional parts
            return importlib.import_module(name)
    except (ImportError, OSError):
        raise ModelError("inference-failed", cause="tensorrt-missing") from None


def build(trt: Any, model: bytes, shapes: Sequence[Profile], *, tf32: bool, timing: bytes = b"") -> Built:
    """Build an engine; takes minutes for a large network.

    Parameters
    ----------
    trt
        As `library` gives it.
    model
        ONNX file in the wanted precision.
    tf32
        Whether convolutions of fp32 may round their inputs to TF32.
    timing
        What was measured on this device before.

    Raises
    ------
    ModelError
        ``inference-failed``: ``tensorrt-parse`` for a file that it does not take, ``tensorrt-batch-fixed`` where the
        file fixes the size of batches that the shapes leave free, ``tensorrt-build``.
    """
    logger = _quiet(trt)
    builder = _made(trt.Builder(logger), "tensorrt-build")
    network = _made(builder.create_network(_network_flags(trt)), "tensorrt-build")
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model) or network.num_inputs != 1 or network.num_outputs != 1:
        raise ModelError("inference-failed", cause="tensorrt-parse", errors=parser.num_errors)
    source = network.get_input(0)
    if source.shape[0] >= 0 and any(shape.largest[0] != source.shape[0] for shape in shapes):
        raise ModelError("inference-failed", cause="tensorrt-batch-fixed")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    _set_tf32(trt, config, wanted=tf32)
    measured = config.create_timing_cache(timing) or config.create_timing_cache(b"")
    if measured is not None:
        config.set_timing_cache(measured, False)
    for shape in shapes:
        profile = builder.create_optimization_profile()
        profile.set_shape(source.name, shape.least, shape.best, shape.largest)
        if config.add_optimization_profile(profile) < 0:
            raise ModelError("inference-failed", cause="tensorrt-build")
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ModelError("inference-failed", cause="tensorrt-build")
    return Built(engine=bytes(engine), timing=_serialised(measured))


class TensorRtNetwork:
    """An engine on a device; see `DeviceNetwork`.

    One context for each profile; they share their memory, since one runs after the other.

    Parameters
    ----------
    trt, name
        The library and the name of its module.
    engine
        As `build` made it.
    precision
        What results say.

    Raises
    ------
    ModelError
        ``inference-failed``: ``tensorrt-load``, or what the device raises.
    """

    def __init__(
        self, trt: Any, engine: bytes, manifest: Manifest, device: Device, *, name: str, precision: str, batch: int
    ) -> None:
        self._manifest, self._device = manifest, device
        self._profiles = profiles(manifest, batch)
        self._batch = batch
        self._info = EngineInfo(name=LIBRARIES[name], precision=precision, version=str(trt.__version__))
        self._runtime = _made(trt.Runtime(_quiet(trt)), "tensorrt-load")
        self._engine = _made(self._runtime.deserialize_cuda_engine(engine), "tensorrt-load")
        if self._engine.num_optimization_profiles != len(self._profiles):
            raise ModelError("inference-failed", cause="tensorrt-load")
        sizes = [self._engine.get_device_memory_size_for_profile_v2(at) for at in range(len(self._profiles))]
        self._memory: Buffer | None = device.allocate(max(1, *sizes))
        self._stream = device.stream()
        self._contexts: list[Any] = []
        try:
            for at, size in enumerate(sizes):
                self._contexts.append(self._context(trt, at, size))
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        """Description."""
        return self._info

    @property
    def batch(self) -> int:
        """Most patches of one run."""
        return self._batch

    def memory_bytes(self) -> int:
        """Nothing more: all was taken when it was loaded."""
        return 0

    def enqueue(self, source: Buffer, target: Buffer, shape: tuple[int, ...], stream: Stream) -> None:
        """Give a stream a run."""
        at = next((at for at, profile in enumerate(self._profiles) if profile.takes(shape)), None)
        if at is None or at >= len(self._contexts):
            raise ModelError("inference-failed", cause="engine-closed" if not self._contexts else "input-shape")
        context, network = self._contexts[at], self._manifest.network
        _require(context.set_input_shape(network.input, shape))
        _require(context.set_tensor_address(network.input, source.address))
        _require(context.set_tensor_address(network.output, target.address))
        _require(context.execute_async_v3(stream.handle))

    def close(self) -> None:
        """Give everything back; may be called again."""
        self._contexts = []
        self._engine = self._runtime = None
        memory, self._memory = self._memory, None
        if memory is not None:
            self._device.release(memory)

    def _context(self, trt: Any, profile: int, size: int) -> Any:
        kind = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = _made(self._engine.create_execution_context(kind), "tensorrt-load")
        _require(context.set_optimization_profile_async(profile, self._stream.handle))
        self._device.synchronise(self._stream)
        assert self._memory is not None
        context.set_device_memory(self._memory.address, size)
        return context


def _network_flags(trt: Any) -> int:
    """Strongly typed; TensorRT 11 knows nothing else and may not have the flag any more."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _set_tf32(trt: Any, config: Any, *, wanted: bool) -> None:
    flag = getattr(trt.BuilderFlag, "TF32", None)
    if flag is not None:
        change: Callable[[Any], object] = config.set_flag if wanted else config.clear_flag
        change(flag)


def _serialised(timing: Any) -> bytes:
    data = None if timing is None else timing.serialize()
    return b"" if data is None else bytes(data)


def _made(thing: Any, cause: str) -> Any:
    if thing is None:
        raise ModelError("inference-failed", cause=cause)
    return thing


def _require(answer: bool) -> None:
    if not answer:
        raise ModelError("inference-failed", cause="device-failed")


@cache
def _quiet(trt: Any) -> Any:
    """A logger that keeps silent: messages name tensors and paths, and what matters is answered."""

    class Quiet(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            return

    return Quiet()
