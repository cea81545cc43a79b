"""A CUDA device by pycuda: memory, streams, and the node's own kernels out of their PTX.

The only module that imports pycuda, and it does so when a device is opened: the extra ``gpu`` brings it. The device's
primary context is shared with TensorRT; nothing is initialised by importing. Copies go through two pieces of pinned
memory, so that filling one overlaps with sending the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from dicomnode.errors import ModelError
from dicomnode.inference import kernels
from dicomnode.inference.device import Argument, Buffer, DeviceFacts, Event, Stream, as_argument

Array = npt.NDArray[Any]

_THREADS: Final = 256
_BLOCKS_PER_MULTIPROCESSOR: Final = 16
_STAGING_BYTES: Final = 16 * 1024 * 1024
_DRIVER: Final = Path("/proc/driver/nvidia/version")
_RELEASE: Final = re.compile(r"Module\s+(\d+(?:\.\d+)+)")
_MIG: Final = re.compile(r"MIG (\d+g\.\d+gb\S*)")


class CudaBuffer:
    """Memory of a device, or a part of it; the address is kept alive by whoever allocated it."""

    def __init__(self, address: int, size: int) -> None:
        self.address = address
        self._size = size

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    def part(self, first: int) -> CudaBuffer:
        """The same memory from a byte on."""
        return CudaBuffer(self.address + first, self._size - first)


class _Staging:
    """A piece of pinned memory and the moment from which on it is free again."""

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.free_from: Any = None


class CudaDevice:
    """A device; see `Device`.

    Parameters
    ----------
    index
        Among those that the process may see.

    Raises
    ------
    ModelError
        ``inference-failed``: ``pycuda-missing``, or ``device-failed`` where there is no driver or no such device.
    """

    def __init__(self, index: int = 0) -> None:
        self._cuda = _library()
        self._context: Any = None
        self._allocations: dict[int, Any] = {}
        with _guarded(self._cuda):
            self._cuda.init()
            self._device = self._cuda.Device(index)
            self._context = self._device.retain_primary_context()
            self._context.push()
        self._functions: dict[str, Any] = {}
        self._staging: list[_Staging] = []
        try:
            with _guarded(self._cuda):
                self._functions = self._load()
                self._staging = [_Staging(self._cuda.pagelocked_empty(_STAGING_BYTES, np.uint8)) for _ in range(2)]
                self._facts = facts_of(self._cuda, self._device)
        except ModelError:
            self.close()
            raise
        self._blocks = self._facts.multiprocessors * _BLOCKS_PER_MULTIPROCESSOR

    @property
    def facts(self) -> DeviceFacts:
        """Description."""
        return self._facts

    def free_bytes(self) -> int:
        """Memory that could be allocated now."""
        with self._working():
            return int(self._cuda.mem_get_info()[0])

    def allocate(self, size: int) -> CudaBuffer:
        """Memory of so many bytes."""
        with self._working():
            memory = self._cuda.mem_alloc(max(1, size))
        self._allocations[int(memory)] = memory
        return CudaBuffer(int(memory), size)

    def release(self, buffer: Buffer) -> None:
        """Give memory back; what a broken device makes of it does not matter any more."""
        memory = self._allocations.pop(buffer.address, None)
        if memory is not None:
            self._ending(memory.free)

    def stream(self) -> Stream:
        """A new stream."""
        with self._working():
            return cast(Stream, self._cuda.Stream())

    def upload(self, array: Array, target: Buffer, stream: Stream) -> None:
        """Copy to the device, piece by piece through pinned memory."""
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        with self._working():
            for number, first in enumerate(range(0, len(data), _STAGING_BYTES)):
                staging, piece = self._staging[number % 2], data[first : first + _STAGING_BYTES]
                self._wait_until_free(staging)
                held = staging.memory[: len(piece)]
                held[:] = piece
                self._cuda.memcpy_htod_async(target.address + first, held, stream)
                staging.free_from = self._event(stream)

    def download(self, source: Buffer, array: Array, stream: Stream) -> None:
        """Copy to the host, piece by piece through pinned memory; waits for it."""
        data = array.reshape(-1).view(np.uint8)
        waiting: list[tuple[_Staging, int, int]] = []

        def take() -> None:
            staging, first, size = waiting.pop(0)
            self._wait_until_free(staging)
            data[first : first + size] = staging.memory[:size]

        with self._working():
            for number, first in enumerate(range(0, len(data), _STAGING_BYTES)):
                if len(waiting) == len(self._staging):
                    take()
                staging, size = self._staging[number % 2], min(_STAGING_BYTES, len(data) - first)
                self._wait_until_free(staging)
                self._cuda.memcpy_dtoh_async(staging.memory[:size], source.address + first, stream)
                staging.free_from = self._event(stream)
                waiting.append((staging, first, size))
            while waiting:
                take()

    def copy(self, source: Buffer, target: Buffer, size: int, stream: Stream) -> None:
        """Copy within the device."""
        with self._working():
            self._cuda.memcpy_dtod_async(target.address, source.address, size, stream)

    def clear(self, target: Buffer, size: int, stream: Stream) -> None:
        """Set bytes to 0."""
        with self._working():
            self._cuda.memset_d8_async(target.address, 0, size, stream)

    def launch(self, kernel: str, count: int, arguments: Sequence[Argument], stream: Stream) -> None:
        """Run a kernel; every thread takes every so-many-th element."""
        blocks = max(1, min(-(-count // _THREADS), self._blocks))
        types = kernels.KERNELS[kernel].types
        given = [_argument(one, kind) for one, kind in zip(arguments, types, strict=True)]
        with self._working():
            self._functions[kernel].prepared_async_call((blocks, 1, 1), (_THREADS, 1, 1), stream, *given)

    def record(self, stream: Stream) -> Event:
        """The moment at which all that the stream was given so far is done."""
        with self._working():
            return cast(Event, self._event(stream))

    def wait_for(self, event: Event, stream: Stream) -> None:
        """Let a stream go on no earlier than that moment."""
        with self._working():
            cast(Any, stream).wait_for_event(event)

    def reach(self, event: Event) -> None:
        """Wait until that moment has come."""
        with self._working():
            cast(Any, event).synchronize()

    def synchronise(self, stream: Stream) -> None:
        """Wait until the stream has done all that it was given."""
        with self._working():
            cast(Any, stream).synchronize()

    def close(self) -> None:
        """Give everything back; may be called again."""
        context, self._context = self._context, None
        if context is None:
            return
        for memory in self._allocations.values():
            self._ending(memory.free)
        self._allocations.clear()
        self._functions, self._staging = {}, []
        self._ending(context.pop)
        self._ending(context.detach)

    def _load(self) -> dict[str, Any]:
        modules = {file: self._cuda.module_from_buffer(kernels.ptx(file)) for file in kernels.FILES}
        found = {}
        for name, kernel in kernels.KERNELS.items():
            found[name] = modules[kernel.file].get_function(name)
            found[name].prepare(kernel.types)
        return found

    def _event(self, stream: Stream) -> Any:
        event = self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)
        event.record(stream)
        return event

    def _wait_until_free(self, staging: _Staging) -> None:
        if staging.free_from is not None:
            staging.free_from.synchronize()

    @contextmanager
    def _working(self) -> Iterator[None]:
        if self._context is None:
            raise ModelError("inference-failed", cause="device-failed")
        with _guarded(self._cuda):
            yield

    def _ending(self, end: Callable[[], object]) -> None:
        """Give something back on a device that may be broken already: then nobody can use it anyway."""
        try:
            end()
        except self._cuda.Error:
            return


def devices() -> tuple[DeviceFacts, ...]:
    """Devices that the process may see.

    Raises
    ------
    ModelError
        As `CudaDevice`.
    """
    cuda = _library()
    with _guarded(cuda):
        cuda.init()
        return tuple(facts_of(cuda, cuda.Device(index)) for index in range(cuda.Device.count()))


def facts_of(cuda: Any, device: Any) -> DeviceFacts:
    """Facts of one of pycuda's devices."""
    name = str(device.name())
    profile = _MIG.search(name)
    major, minor = device.compute_capability()
    return DeviceFacts(
        name=name,
        capability=(int(major), int(minor)),
        multiprocessors=int(device.get_attribute(cuda.device_attribute.MULTIPROCESSOR_COUNT)),
        memory_bytes=int(device.total_memory()),
        mig_profile=profile[1] if profile else "",
        driver="-".join([str(cuda.get_driver_version()), *_driver_release()]),
    )


def _driver_release() -> list[str]:
    """Release of the kernel's driver; nothing where the kernel does not tell."""
    try:
        found = _RELEASE.search(_DRIVER.read_text("ascii", "replace"))
    except OSError:
        return []
    return [] if found is None else [found[1]]


def _library() -> Any:
    try:
        import pycuda.driver as cuda
    except ImportError:
        raise ModelError("inference-failed", cause="pycuda-missing") from None
    return cuda


@contextmanager
def _guarded(cuda: Any) -> Iterator[None]:
    """Errors of CUDA as the node's own."""
    try:
        yield
    except cuda.MemoryError:
        raise ModelError("inference-failed", cause="device-out-of-memory") from None
    except cuda.Error:
        raise ModelError("inference-failed", cause="device-failed") from None


def _argument(value: Argument, kind: str) -> Any:
    if isinstance(value, int | float):
        return as_argument(value, kind)
    return np.intp(value.address)
