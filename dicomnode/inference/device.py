"""What the node needs of a device that computes: memory, streams, events, and its own kernels launched by name.

No device lives here: `dicomnode.inference.cuda_device` is the real one, `dicomnode.inference.standin_device` the one
for machines without, and both keep one contract suite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dicomnode.inference.engine import EngineInfo

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """A device, as far as what is built for it depends on it.

    Attributes
    ----------
    name
        As its driver says it.
    capability
        Compute capability.
    multiprocessors
        Their number: of the slice, where the device is one (MIG).
    memory_bytes
        In all.
    mig_profile
        Empty for a whole device.
    driver
        Version of the driver.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory_bytes: int
    mig_profile: str
    driver: str


class Buffer(Protocol):
    """Memory of a device."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    @property
    def address(self) -> int:
        """Where it begins, as the device counts."""
        ...

    def part(self, first: int) -> Buffer:
        """The same memory from a byte on."""
        ...


class Stream(Protocol):
    """Work in order; the works of two streams may overlap."""

    @property
    def handle(self) -> int:
        """As the driver knows it."""
        ...


class Event(Protocol):
    """A moment in a stream."""


Argument = Buffer | int | float


class Device(Protocol):
    """One device, used by one thread.

    Whatever it cannot do raises a `ModelError` ``inference-failed`` with one of the causes ``device-out-of-memory`` and
    ``device-failed``; after the second the device is to be closed, since an error may stay with it.
    """

    @property
    def facts(self) -> DeviceFacts:
        """Description."""
        ...

    def free_bytes(self) -> int:
        """Memory that could be allocated now."""
        ...

    def allocate(self, size: int) -> Buffer:
        """Memory of so many bytes, whatever it holds; at least 1."""
        ...

    def release(self, buffer: Buffer) -> None:
        """Give memory back, once nothing works on it."""
        ...

    def stream(self) -> Stream:
        """A new stream."""
        ...

    def upload(self, array: Array, target: Buffer, stream: Stream) -> None:
        """Copy a C-contiguous array to the device; the array may change as soon as this returns."""
        ...

    def download(self, source: Buffer, array: Array, stream: Stream) -> None:
        """Copy to a C-contiguous array; it holds the bytes once the stream was waited for."""
        ...

    def copy(self, source: Buffer, target: Buffer, size: int, stream: Stream) -> None:
        """Copy within the device; the two do not overlap."""
        ...

    def clear(self, target: Buffer, size: int, stream: Stream) -> None:
        """Set bytes to 0."""
        ...

    def launch(self, kernel: str, count: int, arguments: Sequence[Argument], stream: Stream) -> None:
        """Run a kernel of `dicomnode.inference.kernels.KERNELS` over so many elements."""
        ...

    def record(self, stream: Stream) -> Event:
        """The moment at which all that the stream was given so far is done."""
        ...

    def wait_for(self, event: Event, stream: Stream) -> None:
        """Let a stream go on no earlier than that moment."""
        ...

    def reach(self, event: Event) -> None:
        """Wait until that moment has come."""
        ...

    def synchronise(self, stream: Stream) -> None:
        """Wait until the stream has done all that it was given."""
        ...

    def close(self) -> None:
        """Give everything back; may be called again."""
        ...


class DeviceNetwork(Protocol):
    """A network on a device."""

    @property
    def info(self) -> EngineInfo:
        """Description."""
        ...

    @property
    def batch(self) -> int:
        """Most patches of one run."""
        ...

    def memory_bytes(self) -> int:
        """Memory of the device that it still has to take for a run, batches and logits left out."""
        ...

    def enqueue(self, source: Buffer, target: Buffer, shape: tuple[int, ...], stream: Stream) -> None:
        """Give a stream a run: float32 batches (patches, 1, z, y, x) in, logits (patches, channels, z, y, x) out."""
        ...

    def close(self) -> None:
        """Give everything back; may be called again."""
        ...


def as_argument(value: int | float, kind: str) -> Any:
    """A number in the width that a kernel's parameter has; addresses are the device's own affair."""
    kinds: dict[str, Any] = {"i": np.int32, "q": np.int64, "f": np.float32}
    return kinds[kind](value)
