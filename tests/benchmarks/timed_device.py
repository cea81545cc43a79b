"""A device and its network that are timed step by step: each step is waited for, so that nothing overlaps with anything.

For shares of the time alone: a study takes longer over it than over the device within.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dicomnode.inference.device import Argument, Buffer, Device, DeviceFacts, DeviceNetwork, Event, Stream
from dicomnode.inference.engine import EngineInfo

#: Share of the time → steps that it holds, in the order of a study. What no step took is the host's.
SHARES: Mapping[str, tuple[str, ...]] = {
    "memory taken and given back": ("allocate", "release"),
    "upload": ("upload",),
    "resample": ("resample_i16", "resample_f32"),
    "gather": ("gather",),
    "network": ("network",),
    "accumulate": ("clear", "copy", "accumulate"),
    "labels": ("argmax", "agree", "foreground"),
    "labels back": ("labels_back", "shares_back"),
    "download": ("download",),
}
HOST = "host"
COPIES = ("upload", "download")
NETWORK = "network"


class TimedDevice:
    """See `Device`.

    Attributes
    ----------
    seconds
        What each step took so far.
    least_free
        Least memory that was free, where it is watched: looking takes time of its own.
    """

    def __init__(self, device: Device, *, watch: bool = False, clock: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._watch, self._clock = device, watch, clock
        self.seconds: Counter[str] = Counter()
        self.least_free = device.free_bytes()

    @property
    def facts(self) -> DeviceFacts:
        """Description."""
        return self._device.facts

    def free_bytes(self) -> int:
        """Memory that could be allocated now."""
        return self._device.free_bytes()

    def allocate(self, size: int) -> Buffer:
        """Memory of so many bytes."""
        with self._timed("allocate"):
            buffer = self._device.allocate(size)
        if self._watch:
            self.least_free = min(self.least_free, self._device.free_bytes())
        return buffer

    def release(self, buffer: Buffer) -> None:
        """Give memory back."""
        with self._timed("release"):
            self._device.release(buffer)

    def stream(self) -> Stream:
        """A new stream."""
        return self._device.stream()

    def upload(self, array: Any, target: Buffer, stream: Stream) -> None:
        """Copy to the device."""
        with self._timed("upload", stream):
            self._device.upload(array, target, stream)

    def download(self, source: Buffer, array: Any, stream: Stream) -> None:
        """Copy from the device."""
        with self._timed("download", stream):
            self._device.download(source, array, stream)

    def copy(self, source: Buffer, target: Buffer, size: int, stream: Stream) -> None:
        """Copy within the device."""
        with self._timed("copy", stream):
            self._device.copy(source, target, size, stream)

    def clear(self, target: Buffer, size: int, stream: Stream) -> None:
        """Set bytes to 0."""
        with self._timed("clear", stream):
            self._device.clear(target, size, stream)

    def launch(self, kernel: str, count: int, arguments: Sequence[Argument], stream: Stream) -> None:
        """Run a kernel."""
        with self._timed(kernel, stream):
            self._device.launch(kernel, count, arguments, stream)

    def record(self, stream: Stream) -> Event:
        """A moment of a stream, which has come already."""
        return self._device.record(stream)

    def wait_for(self, event: Event, stream: Stream) -> None:
        """Let a stream go on no earlier."""
        self._device.wait_for(event, stream)

    def reach(self, event: Event) -> None:
        """Wait until that moment has come."""
        self._device.reach(event)

    def synchronise(self, stream: Stream) -> None:
        """Wait for a stream."""
        self._device.synchronise(stream)

    def close(self) -> None:
        """The device within is closed by whoever opened it."""

    def network(self, network: DeviceNetwork) -> TimedNetwork:
        """A network on the device within, timed as well."""
        return TimedNetwork(network, self)

    @contextmanager
    def _timed(self, step: str, stream: Stream | None = None) -> Iterator[None]:
        begun = self._clock()
        yield
        if stream is not None:
            self._device.synchronise(stream)
        self.seconds[step] += self._clock() - begun


class TimedNetwork:
    """See `DeviceNetwork`."""

    def __init__(self, network: DeviceNetwork, device: TimedDevice) -> None:
        self._network, self._device = network, device

    @property
    def info(self) -> EngineInfo:
        """Description."""
        return self._network.info

    @property
    def batch(self) -> int:
        """Most patches of one run."""
        return self._network.batch

    def memory_bytes(self) -> int:
        """Memory that it still has to take."""
        return self._network.memory_bytes()

    def enqueue(self, source: Buffer, target: Buffer, shape: tuple[int, ...], stream: Stream) -> None:
        """A run."""
        with self._device._timed(NETWORK, stream):
            self._network.enqueue(source, target, shape, stream)

    def close(self) -> None:
        """The network within is closed by whoever opened it."""


def shares(seconds: Mapping[str, float], total: float) -> dict[str, float]:
    """Seconds of each of `SHARES`, and of the host, of a study that took `total`.

    Raises
    ------
    ValueError
        A step that no share holds.
    """
    unknown = seconds.keys() - {step for steps in SHARES.values() for step in steps}
    if unknown:
        raise ValueError(f"no share holds {sorted(unknown)}")
    found = {name: sum(seconds.get(step, 0.0) for step in steps) for name, steps in SHARES.items()}
    return {**found, HOST: max(0.0, total - sum(found.values()))}


def around(spent: Mapping[str, float]) -> tuple[float, float]:
    """Share of the time that is not the network's: without copies and memory, over what is then left; and all of it."""
    total = sum(spent.values())
    network = spent[NETWORK]
    moved = sum(spent[name] for name in (*COPIES, "memory taken and given back"))
    return (total - moved - network) / (total - moved), (total - network) / total
