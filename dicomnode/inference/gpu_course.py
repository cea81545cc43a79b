"""The course of a study over a device: the volume goes up once, labels come down once, and between them nothing leaves it.

May live here: the order of copies, kernels and runs on a `Device`, the same for the real one and the stand-in. May not:
CUDA, TensorRT, or how much fits (`gpu_plan`). The rules on labels alone are the CPU's: on the network's coarse grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.geometry import CanonicalAxes, VolumeGeometry, canonical_axes
from dicomnode.imaging.resample import Taps, finer_taps, resampling_taps
from dicomnode.imaging.volume import Volume
from dicomnode.inference import tiles
from dicomnode.inference.device import Buffer, Device, DeviceNetwork
from dicomnode.inference.gpu_plan import Course, Part, Slab, Study, plan
from dicomnode.inference.postprocess import MARGIN, ruled
from dicomnode.inference.preprocess import restored
from dicomnode.inference.segment import Seen
from dicomnode.manifest import Manifest

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]
Progress = Callable[[float], None]
Size = tuple[int, int, int]

_UPLOADED, _INFERRED, _RULED = 0.05, 0.85, 0.9  # shares of the work done after these steps
_FLOAT: Final = 4


def see(volume: Volume, manifest: Manifest, device: Device, network: DeviceNetwork, progress: Progress) -> Seen:
    """What a network on a device sees in an even, straight volume: what `segment.compute` gives, computed there.

    Raises
    ------
    ModelError
        ``inference-failed``: ``device-too-small`` before anything is taken, or what `Device` raises.
    """
    task = _Task.of(volume, manifest)
    course = plan(task.study, batch=network.batch, network_bytes=network.memory_bytes(), available=device.free_bytes())
    with _held(device, course) as buffers:
        run = _Run(task, course, device, network, buffers)
        run.prepare()
        progress(_UPLOADED)
        run.infer(lambda share: progress(_UPLOADED + share * (_INFERRED - _UPLOADED)))
        run.rule()
        progress(_RULED)
        labels, probability = run.back()
    progress(1.0)
    return Seen(labels=labels, probability=probability, engine=network.info)


def study_of(geometry: VolumeGeometry, manifest: Manifest, *, itemsize: int) -> Study:
    """What a study asks of a device, by its geometry alone.

    Parameters
    ----------
    geometry
        Even and straight.
    itemsize
        Bytes of a voxel.
    """
    return _Tables.of(geometry, manifest).study(itemsize, manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """The way between a source's grid and the network's."""

    axes: CanonicalAxes
    taps: tuple[Taps, Taps, Taps]
    nesting: Size
    finer: tuple[Taps, Taps, Taps]

    @classmethod
    def of(cls, geometry: VolumeGeometry, manifest: Manifest) -> _Tables:
        axes, rule = canonical_axes(geometry), manifest.preprocess
        taps, nesting = resampling_taps(axes.shape, axes.spacing, rule.spacing_mm, antialias=rule.antialias)
        coarse = _size(len(table.starts) for table in taps)
        z, y, x = (_paired(one) for one in finer_taps(coarse, rule.spacing_mm, axes.shape, axes.spacing))
        return cls(axes=axes, taps=taps, nesting=nesting, finer=(z, y, x))

    def study(self, itemsize: int, manifest: Manifest) -> Study:
        coarse = _size(len(table.starts) for table in self.taps)
        factors = manifest.preprocess.multiple_of
        padded = _size(-(-size // factor) * factor for size, factor in zip(coarse, factors, strict=True))
        return Study(
            source=self.axes.shape,
            itemsize=itemsize,
            coarse=coarse,
            padded=padded,
            layout=tiles.plan(padded, manifest.network.tile, manifest.network.overlap),
            channels=manifest.channels,
            back=tuple(int(start) for start in self.finer[0].starts),
            tables=sum(_FLOAT * (one.starts.size + one.weights.size) for one in (*self.taps, *self.finer)),
            shares=manifest.results.parametric_map,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """A study in numbers and tables."""

    values: Array = field(repr=False)
    manifest: Manifest
    axes: CanonicalAxes
    taps: tuple[Taps, Taps, Taps]
    nesting: Size
    finer: tuple[Taps, Taps, Taps]
    study: Study

    @classmethod
    def of(cls, volume: Volume, manifest: Manifest) -> _Task:
        tables = _Tables.of(volume.geometry, manifest)
        return cls(
            values=np.ascontiguousarray(volume.values),
            manifest=manifest,
            axes=tables.axes,
            taps=tables.taps,
            nesting=tables.nesting,
            finer=tables.finer,
            study=tables.study(volume.values.dtype.itemsize, manifest),
        )

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Element of the source at canonical (0, 0, 0), and the steps from there along z, y and x."""
        shape = self.values.shape
        strides = (shape[1] * shape[2], shape[2], 1)
        base, steps = 0, []
        for source, flip in zip(self.axes.permutation, self.axes.flips, strict=True):
            base += strides[source] * (shape[source] - 1) if flip else 0
            steps.append(-strides[source] if flip else strides[source])
        return base, steps[0], steps[1], steps[2]


class _Run:
    """One study on its device."""

    def __init__(
        self, task: _Task, course: Course, device: Device, network: DeviceNetwork, buffers: dict[str, Buffer]
    ) -> None:
        self._task, self._course, self._device, self._network, self._buffers = task, course, device, network, buffers
        self._work, self._net = device.stream(), device.stream()
        _, y, x = task.study.padded
        self._plane = y * x
        self._channel = course.rows * self._plane
        self._fine_tables = 0, 0
        self._kept: Floats | None = None  # scores on the host, where the device cannot hold them
        if not course.whole:
            self._kept = np.empty((task.study.channels, *task.study.padded), np.float32)

    def prepare(self) -> None:
        """Volume and tables up; the network's input."""
        task, study, buffers = self._task, self._task.study, self._buffers
        self._device.upload(task.values, buffers["source"], self._work)
        starts, weights, fine = self._upload_tables()
        self._fine_tables = fine
        self._upload_tiles()
        rule = task.manifest.preprocess
        low, high = rule.intensity.lower, rule.intensity.upper
        kernel = "resample_i16" if task.values.dtype == np.int16 else "resample_f32"
        tables = buffers["tables"]
        self._launch(
            kernel,
            math.prod(study.padded),
            *(buffers["source"], buffers["coarse"], *task.steps, *study.padded, *study.coarse),
            *(tables.part(starts), tables.part(weights), *(one.weights.shape[1] for one in task.taps), *task.nesting),
            *(rule.pad_hu, low, high, 1 / (high - low), int(rule.intensity.scale == "minus-one-to-one")),
        )

    def infer(self, progress: Progress) -> None:
        """Scores of the whole, or of slab after slab."""
        count, device = self._task.study.layout.count, self._device
        size = _FLOAT * self._task.study.channels * self._channel
        device.clear(self._buffers["scores"], size, self._work)
        for number, slab in enumerate(self._course.slabs):
            self._run_slab(slab, lambda done: progress(done / count))
            below = slab.done * self._plane
            labels = self._buffers["labels"].part(slab.row * self._plane)
            channels = self._task.study.channels
            self._launch("argmax", below, self._buffers["scores"], labels, channels, self._channel, below)
            if self._kept is not None:
                self._keep(slab)
                if number + 1 < len(self._course.slabs):
                    self._move_up(slab.done)

    def rule(self) -> None:
        """The rules on labels, which are the CPU's; the labels go up again where they change any."""
        task, (z, y, x) = self._task, self._task.study.coarse
        rule, device = task.manifest.postprocess, self._device
        labels = np.empty(task.study.padded, np.uint8)
        device.download(self._buffers["labels"], labels, self._work)
        inputs = np.empty(task.study.padded if rule.gas else (0,), np.float32)
        if rule.gas is not None:
            device.download(self._buffers["coarse"], inputs, self._work)
        device.synchronise(self._work)
        own = labels[:z, :y, :x]
        window, spacing = task.manifest.preprocess.intensity, task.manifest.preprocess.spacing_mm
        hu = None if rule.gas is None else restored(inputs[:z, :y, :x], window)
        after = ruled(np.ascontiguousarray(own), rule, voxel_ml=math.prod(spacing) / 1000, hu=hu)
        if not np.array_equal(own, after):
            own[:] = after
            device.upload(labels, self._buffers["labels"], self._work)

    def back(self) -> tuple[Labels, npt.NDArray[np.uint16] | None]:
        """Labels on the source's grid, and the map of probabilities where one is wanted."""
        target, shape = self._buffers["source"], self._task.values.shape
        for part in self._course.parts:
            self._bring(part, agree=True)
            self._launch_back("labels_back", part)
        labels = np.empty(shape, np.uint8)
        self._device.download(target, labels, self._work)
        self._device.synchronise(self._work)
        if not self._task.study.shares:
            return labels, None
        for part in self._course.parts:
            self._bring(part, agree=False)
            self._launch_back("shares_back", part)
        shares = np.empty(shape, np.uint16)
        self._device.download(target, shares, self._work)
        self._device.synchronise(self._work)
        return labels, shares

    # ---- tiles ----

    def _run_slab(self, slab: Slab, progress: Progress) -> None:
        """Gather, run and accumulate batch after batch; a batch is gathered while the one before runs."""
        study, course, device = self._task.study, self._course, self._device
        tile = math.prod(study.layout.tile)
        origins = list(_origins(study.layout))
        waiting: list[tuple[int, int, int, Any]] = []
        for number, first in enumerate(range(slab.first, slab.first + slab.patches, course.batch)):
            slot = number % course.slots
            if len(waiting) == course.slots:
                progress(self._accumulate(waiting.pop(0), origins, slab))
            count = min(course.batch, slab.first + slab.patches - first)
            batch, logits = self._buffers[f"batch{slot}"], self._buffers[f"logits{slot}"]
            places = self._buffers["origins"].part(12 * first)
            sizes = (count, *study.padded[1:], *study.layout.tile)
            self._launch("gather", count * tile, self._buffers["coarse"], batch, places, *sizes)
            device.wait_for(device.record(self._work), self._net)
            self._network.enqueue(batch, logits, (count, 1, *study.layout.tile), self._net)
            waiting.append((slot, first, count, device.record(self._net)))
        for one in waiting:
            progress(self._accumulate(one, origins, slab))

    def _accumulate(self, batch: tuple[int, int, int, Any], origins: list[Size], slab: Slab) -> int:
        """Add the logits of a batch once they are there; gives the number of patches done so far."""
        slot, first, count, computed = batch
        study, rows = self._task.study, self._course.rows
        tile = study.layout.tile
        self._device.wait_for(computed, self._work)
        self._device.reach(computed)  # the next batch is queued already: nothing stands still, and progress is true
        each = study.channels * math.prod(tile)
        for index in range(count):
            z, y, x = origins[first + index]
            weights = (self._buffers["weights"].part(at) for at in self._weights_of(first + index))
            logits, scores = self._buffers[f"logits{slot}"], self._buffers["scores"]
            shape = (study.channels, rows, *study.padded[1:], *tile)
            place = (z - slab.row, y, x)
            self._launch("accumulate", each, logits, scores, *weights, index * each, *shape, *place)
        return first + count

    def _weights_of(self, index: int) -> Iterator[int]:
        """Where the weights of a tile lie, for each axis, in bytes."""
        axes = self._task.study.layout.axes
        counts = [len(axis.starts) for axis in axes]
        numbers = np.unravel_index(index, counts)
        begin = 0
        for axis, number in zip(axes, numbers, strict=True):
            yield _FLOAT * (begin + int(number) * axis.size)
            begin += len(axis.starts) * axis.size

    # ---- slabs ----

    def _keep(self, slab: Slab) -> None:
        """Finished rows of scores to the host."""
        assert self._kept is not None
        for channel in range(self._task.study.channels):
            rows = self._kept[channel, slab.row : slab.row + slab.done]
            source = self._buffers["scores"].part(_FLOAT * channel * self._channel)
            self._device.download(source, rows, self._work)
        self._device.synchronise(self._work)

    def _move_up(self, done: int) -> None:
        """The unfinished rows to the slab's beginning, in pieces that do not overlap, and zeros behind them."""
        scores, plane, device = self._buffers["scores"], _FLOAT * self._plane, self._device
        rows = self._course.rows
        for channel in range(self._task.study.channels):
            start = scores.part(_FLOAT * channel * self._channel)
            for row in range(done, rows, done):
                size = min(done, rows - row) * plane
                device.copy(start.part(row * plane), start.part((row - done) * plane), size, self._work)
            device.clear(start.part((rows - done) * plane), done * plane, self._work)

    def _bring(self, part: Part, *, agree: bool) -> None:
        """The rows of scores that a part needs, agreeing with the labels after the rules."""
        first, count = part.rows
        scores, channels = self._buffers["scores"], self._task.study.channels
        if self._kept is not None:
            for channel in range(channels):
                rows = self._kept[channel, first : first + count]
                self._device.upload(rows, scores.part(_FLOAT * channel * self._channel), self._work)
        elif not agree:
            return
        labels = self._buffers["labels"].part(first * self._plane)
        voxels = count * self._plane
        self._launch("agree", voxels, scores, labels, channels, self._channel, voxels, float(MARGIN))

    def _launch_back(self, kernel: str, part: Part) -> None:
        """One part of the source's grid."""
        study, buffers = self._task.study, self._buffers
        (from_z, count_z), (first, rows) = part.slices, part.rows
        (starts, weights), tables = self._fine_tables, buffers["tables"]
        grid = (first, *study.padded[1:], *study.source, from_z, count_z, *self._task.steps)
        taps = (tables.part(starts), tables.part(weights))
        count = count_z * study.source[1] * study.source[2]
        if kernel == "labels_back":
            labels = buffers["labels"].part(first * self._plane)
            scores = (buffers["scores"], labels, buffers["source"], study.channels, self._channel)
            self._launch(kernel, count, *scores, *grid, *taps)
            return
        voxels = rows * self._plane
        shares = buffers["shares"]
        self._launch("foreground", voxels, buffers["scores"], shares, study.channels, self._channel, voxels)
        self._launch(kernel, count, shares, buffers["source"], *grid, *taps)

    # ---- tables ----

    def _upload_tables(self) -> tuple[int, int, tuple[int, int]]:
        """Tables of taps; where, in bytes, starts and weights of the way down and of the way back begin."""
        parts: list[Array] = []
        places: list[int] = []
        for tables in (self._task.taps, self._task.finer):
            for arrays in ([one.starts for one in tables], [one.weights for one in tables]):
                places.append(sum(part.nbytes for part in parts))
                kind = np.int32 if arrays[0].dtype != np.float32 else np.float32
                parts.extend(np.ascontiguousarray(array, kind).reshape(-1).view(np.uint8) for array in arrays)
        self._device.upload(np.concatenate(parts), self._buffers["tables"], self._work)
        return places[0], places[1], (places[2], places[3])

    def _upload_tiles(self) -> None:
        layout = self._task.study.layout
        self._device.upload(np.array(list(_origins(layout)), np.int32), self._buffers["origins"], self._work)
        rows = [axis.weights(index) for axis in layout.axes for index in range(len(axis.starts))]
        self._device.upload(np.concatenate(rows), self._buffers["weights"], self._work)

    def _launch(self, kernel: str, count: int, *arguments: Buffer | int | float) -> None:
        self._device.launch(kernel, count, arguments, self._work)


@contextmanager
def _held(device: Device, course: Course) -> Iterator[dict[str, Buffer]]:
    """The buffers of a course."""
    buffers: dict[str, Buffer] = {}
    try:
        for name, size in course.buffers:
            buffers[name] = device.allocate(size)
        yield buffers
    finally:
        for buffer in buffers.values():
            device.release(buffer)


def _origins(layout: tiles.Plan) -> Iterator[Size]:
    """Origin of each tile, in the order of the plan: x fastest."""
    z_axis, y_axis, x_axis = layout.axes
    for z in z_axis.starts:
        for y in y_axis.starts:
            for x in x_axis.starts:
                yield z, y, x


def _paired(taps: Taps) -> Taps:
    """Two weights a voxel, where a single source voxel has but one."""
    if taps.weights.shape[1] == 2:
        return taps
    return Taps(taps.starts, np.pad(taps.weights, ((0, 0), (0, 1))))


def _size(values: Iterator[int] | Sequence[int]) -> Size:
    z, y, x = values
    return z, y, x
