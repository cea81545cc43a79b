"""The stand-in device: memory is memory, a stream does at once what it is given, and kernels are their numpy twins.

Ships with the node and keeps the contract of every device, so that the way of a study over a device is proved where
there is none. It counts what is allocated, and refuses what does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from dicomnode.errors import ModelError
from dicomnode.imaging.resample import Taps
from dicomnode.inference import twins
from dicomnode.inference.device import Argument, Buffer, DeviceFacts, Event, Stream
from dicomnode.inference.engine import Engine, EngineInfo
from dicomnode.inference.kernels import KERNELS

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Arguments = Sequence[Any]

FACTS: Final = DeviceFacts(
    name="stand-in", capability=(0, 0), multiprocessors=1, memory_bytes=2**34, mig_profile="", driver="0"
)


class HostBuffer:
    """Memory of the stand-in."""

    def __init__(self, data: Bytes) -> None:
        self.data = data

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)

    @property
    def address(self) -> int:
        """Where it begins."""
        return int(self.data.ctypes.data)

    def part(self, first: int) -> HostBuffer:
        """The same memory from a byte on."""
        return HostBuffer(self.data[first:])

    def view(self, kind: Any, shape: Sequence[int]) -> Array:
        """The first elements as an array."""
        count = int(np.prod(shape, dtype=np.int64))
        array: Array = self.data[: count * np.dtype(kind).itemsize].view(kind).reshape(shape)
        return array


class HostStream:
    """Order that is kept anyway: everything is done at once."""

    handle = 0


class StandInDevice:
    """Memory of the host; see `Device`.

    Parameters
    ----------
    memory_bytes
        That it has.

    Attributes
    ----------
    peak_bytes
        Most that was allocated at once.
    """

    def __init__(self, memory_bytes: int = FACTS.memory_bytes) -> None:
        self._facts = replace(FACTS, memory_bytes=memory_bytes)
        self._taken: dict[int, int] = {}
        self._closed = False
        self.peak_bytes = 0

    @property
    def facts(self) -> DeviceFacts:
        """Description."""
        return self._facts

    def free_bytes(self) -> int:
        """Memory that could be allocated now."""
        return self._facts.memory_bytes - sum(self._taken.values())

    def allocate(self, size: int) -> HostBuffer:
        """Memory, full of what must not be read before it was written."""
        self._require_open()
        if size > self.free_bytes():
            raise ModelError("inference-failed", cause="device-out-of-memory")
        buffer = HostBuffer(np.full(size, 0xA5, np.uint8))
        self._taken[id(buffer.data)] = size
        self.peak_bytes = max(self.peak_bytes, sum(self._taken.values()))
        return buffer

    def release(self, buffer: Buffer) -> None:
        """Give memory back."""
        self._taken.pop(id(_host(buffer).data), None)

    def stream(self) -> Stream:
        """A stream without a memory of its own: everything is done at once."""
        self._require_open()
        return HostStream()

    def upload(self, array: Array, target: Buffer, stream: Stream) -> None:
        """Copy to the device."""
        self._require_open()
        _host(target).data[: array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def download(self, source: Buffer, array: Array, stream: Stream) -> None:
        """Copy from the device."""
        self._require_open()
        array.reshape(-1).view(np.uint8)[:] = _host(source).data[: array.nbytes]

    def copy(self, source: Buffer, target: Buffer, size: int, stream: Stream) -> None:
        """Copy within the device; what overlaps is refused."""
        self._require_open()
        a, b = _host(source).data[:size], _host(target).data[:size]
        if len(a) != size or len(b) != size or np.may_share_memory(a, b):
            raise ModelError("inference-failed", cause="device-failed")
        b[:] = a

    def clear(self, target: Buffer, size: int, stream: Stream) -> None:
        """Set bytes to 0."""
        self._require_open()
        _host(target).data[:size] = 0

    def launch(self, kernel: str, count: int, arguments: Sequence[Argument], stream: Stream) -> None:
        """Run the twin of a kernel."""
        self._require_open()
        if len(arguments) != len(KERNELS[kernel].types):
            raise ModelError("inference-failed", cause="device-failed")
        _RUN[kernel](arguments)

    def record(self, stream: Stream) -> Event:
        """Everything so far is done already."""
        return object()

    def wait_for(self, event: Event, stream: Stream) -> None:
        """There is nothing to wait for."""

    def reach(self, event: Event) -> None:
        """It has come already."""

    def synchronise(self, stream: Stream) -> None:
        """There is nothing to wait for."""
        self._require_open()

    def close(self) -> None:
        """Refuse to work from now on."""
        self._closed = True
        self._taken.clear()

    def _require_open(self) -> None:
        if self._closed:
            raise ModelError("inference-failed", cause="device-failed")


class StandInNetwork:
    """An engine of the CPU as the network of the stand-in device; see `DeviceNetwork`."""

    def __init__(self, engine: Engine, channels: int, *, batch: int = 2) -> None:
        self._engine = engine
        self._channels = channels
        self._batch = batch

    @property
    def info(self) -> EngineInfo:
        """Description of the engine within."""
        return self._engine.info

    @property
    def batch(self) -> int:
        """Most patches of one run."""
        return self._batch

    def memory_bytes(self) -> int:
        """Nothing of the device's."""
        return 0

    def enqueue(self, source: Buffer, target: Buffer, shape: tuple[int, ...], stream: Stream) -> None:
        """Run at once."""
        patches, _, *tile = shape
        logits = self._engine.run(_host(source).view(np.float32, shape))
        _host(target).view(np.float32, (patches, self._channels, *tile))[:] = logits

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()


def _host(buffer: Buffer) -> HostBuffer:
    return cast(HostBuffer, buffer)


# ---- kernels: from addresses and numbers to the arrays of their twins ----


def _resample(kind: type, arguments: Arguments) -> None:
    source, target, base, *rest = arguments
    steps, size, valid = rest[:3], tuple(rest[3:6]), tuple(rest[6:9])
    starts, weights, counts, nesting = rest[9], rest[10], rest[11:14], rest[14:17]
    pad, lower, upper, inverse, centred = rest[17:]
    taps = _tables(starts, weights, valid, counts)
    shape = [int((table.starts + table.weights.shape[1]).max()) for table in taps]
    values = as_strided(
        source.view(kind, (source.size // np.dtype(kind).itemsize,))[base:],
        shape=shape,
        strides=[step * np.dtype(kind).itemsize for step in steps],
        writeable=False,
    )
    window = twins.Window(np.float32(lower), np.float32(upper), np.float32(inverse), bool(centred))
    target.view(np.float32, size)[:] = twins.resample(
        values, taps, nesting, size=size, pad=np.float32(pad), window=window
    )


def _resample_i16(arguments: Arguments) -> None:
    _resample(np.int16, arguments)


def _resample_f32(arguments: Arguments) -> None:
    _resample(np.float32, arguments)


def _gather(arguments: Arguments) -> None:
    volume, batch, origins, patches, size_y, size_x, *tile = arguments
    places = origins.view(np.int32, (patches, 3))
    whole = volume.view(np.float32, (volume.size // (4 * size_y * size_x), size_y, size_x))
    batch.view(np.float32, (patches, 1, *tile))[:] = twins.gather(whole, places, tuple(tile))


def _accumulate(arguments: Arguments) -> None:
    logits, total, *weights, first, channels, rows, size_y, size_x = arguments[:10]
    tile_and_origin = arguments[10:]
    tile, origin = tile_and_origin[:3], tuple(tile_and_origin[3:])
    patch = logits.part(4 * first).view(np.float32, (channels, *tile))
    rows_of_weights = [row.view(np.float32, (size,)) for row, size in zip(weights, tile, strict=True)]
    twins.accumulate(
        total.view(np.float32, (channels, rows, size_y, size_x)), patch, rows_of_weights, origin=cast(Any, origin)
    )


def _scores(scores: HostBuffer, channels: int, channel_stride: int, voxels: int) -> Array:
    """Scores (channels, 1, 1, voxels) of a slab whose channels lie apart."""
    flat = scores.view(np.float32, ((channels - 1) * channel_stride + voxels,))
    strides = (4 * channel_stride, 4 * voxels, 4 * voxels, 4)
    return as_strided(flat, shape=(channels, 1, 1, voxels), strides=strides)


def _argmax(arguments: Arguments) -> None:
    scores, labels, channels, channel_stride, voxels = arguments
    labels.view(np.uint8, (1, 1, voxels))[:] = twins.argmax(_scores(scores, channels, channel_stride, voxels))


def _agree(arguments: Arguments) -> None:
    scores, labels, channels, channel_stride, voxels, margin = arguments
    twins.agree(
        _scores(scores, channels, channel_stride, voxels),
        labels.view(np.uint8, (1, 1, voxels)),
        margin=np.float32(margin),
    )


def _foreground(arguments: Arguments) -> None:
    scores, shares, channels, channel_stride, voxels = arguments
    shares.view(np.float32, (1, 1, voxels))[:] = twins.foreground(_scores(scores, channels, channel_stride, voxels))


def _labels_back(arguments: Arguments) -> None:
    scores, _, target, channels, channel_stride, first_row, size_y, size_x, *rest = arguments
    taps = _fine_taps(first_row, rest)
    rows = int((taps[0].starts + (taps[0].weights[:, 1] != 0)).max()) + 1
    flat = _scores(scores, channels, channel_stride, rows * size_y * size_x)
    labels = twins.labels_back(flat.reshape(channels, rows, size_y, size_x), taps)
    _placed(target, np.uint8, rest)[:] = labels


def _shares_back(arguments: Arguments) -> None:
    shares, target, first_row, size_y, size_x, *rest = arguments
    taps = _fine_taps(first_row, rest)
    rows = int((taps[0].starts + (taps[0].weights[:, 1] != 0)).max()) + 1
    values = twins.shares_back(shares.view(np.float32, (rows, size_y, size_x)), taps)
    _placed(target, np.uint16, rest)[:] = values


def _fine_taps(first_row: int, rest: Arguments) -> tuple[Taps, ...]:
    """Taps of the slices that a launch is for, counted from the slab's first row."""
    fine, from_z, count_z, starts, weights = rest[:3], rest[3], rest[4], rest[9], rest[10]
    z, y, x = _tables(starts, weights, fine, (2, 2, 2))
    part = slice(from_z, from_z + count_z)
    return Taps(z.starts[part] - first_row, z.weights[part]), y, x


def _placed(target: HostBuffer, kind: type, rest: Arguments) -> Array:
    """The slices of a launch, canonical (z, y, x), as they lie in the source's grid."""
    (_, fine_y, fine_x), from_z, count_z, base, steps = rest[:3], rest[3], rest[4], rest[5], rest[6:9]
    size = np.dtype(kind).itemsize
    flat = target.view(kind, (target.size // size,))
    return as_strided(
        flat[base + from_z * steps[0] :],
        shape=(count_z, fine_y, fine_x),
        strides=[step * size for step in steps],
    )


def _tables(starts: HostBuffer, weights: HostBuffer, sizes: Sequence[int], counts: Sequence[int]) -> tuple[Taps, ...]:
    taps, first, weight = [], 0, 0
    for size, count in zip(sizes, counts, strict=True):
        begins = starts.part(4 * first).view(np.int32, (size,))
        shares = weights.part(4 * weight).view(np.float32, (size, count))
        taps.append(Taps(begins.astype(np.intp), shares))
        first, weight = first + size, weight + size * count
    return tuple(taps)


_RUN: Final[dict[str, Callable[[Arguments], None]]] = {
    "resample_i16": _resample_i16,
    "resample_f32": _resample_f32,
    "gather": _gather,
    "accumulate": _accumulate,
    "argmax": _argmax,
    "agree": _agree,
    "foreground": _foreground,
    "labels_back": _labels_back,
    "shares_back": _shares_back,
}
