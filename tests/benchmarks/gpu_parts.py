"""The parts of `make bench-gpu`, each of which runs in a process of its own (`gpu_worker`): what it opens, and what it is asked.

A part is made of a `Task` and says `facts` of itself; its other public functions are what it can be asked, and give what
JSON holds. Libraries are imported by the part that needs them, so that a missing one ends that part alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dicomnode.inference import gpu, gpu_course, gpu_plan, tiles
from dicomnode.inference.cores import usable_cores
from dicomnode.inference.device import Device, DeviceNetwork
from dicomnode.inference.engine import Engine
from dicomnode.inference.engine_source import BATCH
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_remote import COMMAND, RemoteEngine, Times
from dicomnode.inference.gpu_seat import Patience
from dicomnode.inference.package import Package, load, shipped_models_folder
from dicomnode.inference.segment import look
from tests.benchmarks.roofline import batches
from tests.benchmarks.studies import Study, with_rules_of
from tests.benchmarks.timed_device import TimedDevice, shares

Facts = dict[str, Any]
STAND_IN = (sys.executable, "-P", "-m", "tests.benchmarks.gpu_stand_in")
_ENGINES, _CACHE_BYTES = "engines", 16 * 1024**3
_KEY = bytes(32)  # the cache is thrown away with the studies: its seal guards nothing


class Missing(Exception):
    """What is not installed here."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a part works on.

    Attributes
    ----------
    folder
        Of all studies; engines are kept beside them.
    stand_in
        Whether the stand-in device takes the GPU's place, and the CPU that of torch's.
    size
        Edge of the matrices whose product tells the device's peak, and a thirty-second of the MiB that are copied.
    """

    study: Study
    folder: Path
    stand_in: bool = False
    precision: str = "auto"
    size: int = 8192

    @property
    def place(self) -> str:
        """As torch calls it."""
        return "cpu" if self.stand_in else "cuda"

    @property
    def package(self) -> Package:
        """Network and manifest, without rules."""
        return self.study.package(self.folder)

    def layout(self, package: Package) -> tiles.Plan:
        """Tiles of the study."""
        manifest = package.manifest
        z, y, x = (
            -(-size // factor) * factor
            for size, factor in zip(self.study.coarse, manifest.preprocess.multiple_of, strict=True)
        )
        return tiles.plan((z, y, x), manifest.network.tile, manifest.network.overlap)


class Turns:
    """Whatever goes from the volume to its labels."""

    def __init__(self, task: Task, go: Callable[[], np.ndarray]) -> None:
        self._task, self._go = task, go
        self._labels: np.ndarray | None = None

    def turn(self) -> Facts:
        """Seconds from volume to labels."""
        begun = time.perf_counter()
        self._labels = self._go()
        return {"seconds": time.perf_counter() - begun}

    def keep(self, path: str) -> Facts:
        """Put the last labels where others find them."""
        assert self._labels is not None
        np.save(path, self._labels)
        return {"found": np.unique(self._labels).tolist()}


class Course(Turns):
    """The node's own course on a device, in this process; the network is TensorRT's."""

    def __init__(self, task: Task) -> None:
        begun = time.perf_counter()
        self._package, self._volume = task.package, task.study.volume(task.folder)
        self._device = _device(task)
        free = self._device.free_bytes()
        self._network = self._opened(task)
        self._taken = free - self._device.free_bytes()
        engine = GpuEngine(self._device, self._network, self._package.manifest)
        self._manifests = {"plain": self._package.manifest}
        if task.study.is_shipped:
            shipped = load(shipped_models_folder() / "ct-lung").manifest
            self._manifests["shipped"] = with_rules_of(self._package.manifest, shipped)
        super().__init__(task, lambda: look(self._volume, self._package.manifest, engine).labels)
        self.facts: Facts = {
            "engine": str(self._network.info),
            "precision": self._network.info.precision,
            "version": self._network.info.version,
            "batch": self._network.batch,
            "manifests": list(self._manifests),
            "device": asdict(self._device.facts),
            "opened s": time.perf_counter() - begun,
        }

    def shipped(self) -> Facts:
        """Seconds with the way in and the rules that the model ships with."""
        begun = time.perf_counter()
        gpu_course.see(self._volume, self._manifests["shipped"], self._device, self._network, lambda _: None)
        return {"seconds": time.perf_counter() - begun}

    def spent(self, which: str) -> Facts:
        """Seconds of each share of a study that is waited for step by step."""
        device = TimedDevice(self._device)
        begun = time.perf_counter()
        gpu_course.see(self._volume, self._manifests[which], device, device.network(self._network), lambda _: None)
        return shares(device.seconds, time.perf_counter() - begun)

    def network(self) -> Facts:
        """Seconds of the runs of a study, one after the other, on the device alone."""
        layout, device, network = self._task.layout(self._package), self._device, self._network
        runs, (z, y, x) = batches(layout.count, network.batch), layout.tile
        given = np.random.default_rng(1).random((max(runs), 1, z, y, x), np.float32)
        stream, source = device.stream(), device.allocate(given.nbytes)
        target = device.allocate(given.nbytes * self._package.manifest.channels)
        try:
            device.upload(given, source, stream)
            device.synchronise(stream)
            begun = time.perf_counter()
            for patches in runs:
                network.enqueue(source, target, (patches, 1, z, y, x), stream)
            device.synchronise(stream)
            return {"seconds": time.perf_counter() - begun}
        finally:
            device.release(source)
            device.release(target)

    def memory(self) -> Facts:
        """Bytes that the plan says and that were gone at the most, the network's own apart."""
        manifest, device = self._package.manifest, self._device
        study = gpu_course.study_of(self._volume.geometry, manifest, itemsize=self._volume.values.dtype.itemsize)
        network, free = self._network.memory_bytes(), device.free_bytes()
        course = gpu_plan.plan(study, batch=self._network.batch, network_bytes=network, available=free)
        watched = TimedDevice(device, watch=True)
        gpu_course.see(self._volume, manifest, watched, self._network, lambda _: None)
        return {
            "planned": course.needed,
            "buffers": sum(size for _, size in course.buffers),
            "measured": free - watched.least_free,
            "network": self._taken,
            "whole": course.whole,
        }

    def _opened(self, task: Task) -> DeviceNetwork:
        if task.stand_in:
            from dicomnode.inference.standin_device import StandInNetwork

            return StandInNetwork(_cpu_engine(self._package), self._package.manifest.channels, batch=BATCH)
        from dicomnode.inference.engine_cache import EngineCache
        from dicomnode.inference.engine_source import EngineSource

        cache = EngineCache(task.folder / _ENGINES, _KEY)
        source = EngineSource(
            self._package, self._device, cache, name=_library(), reference=lambda: _cpu_engine(self._package)
        )
        return source.network(task.precision).network


class CourseOfTorch(Course):
    """The node's own course with torch's network in it: for a machine without TensorRT."""

    def _opened(self, task: Task) -> DeviceNetwork:
        _torch()
        from tests.benchmarks.gpu_peer import TorchNetwork

        return TorchNetwork(self._package.model_bytes(), self._package.manifest, place=task.place, batch=BATCH)


class Node(Turns):
    """The same course as a node goes it: in the GPU's process, over memory that both see."""

    def __init__(self, task: Task) -> None:
        package, volume = task.package, task.study.volume(task.folder)
        settings = gpu.GpuSettings(
            devices=("",),
            precision=task.precision,
            cache=task.folder / _ENGINES,
            cache_key=_KEY,
            cache_bytes=_CACHE_BYTES,
            times=Times(),
            patience=Patience(),
        )
        library = "" if task.stand_in else _library()
        first = gpu.first_message(settings, package, library=library, threads=usable_cores())
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES") if name in os.environ}
        paths = os.pathsep.join(one or str(Path.cwd()) for one in sys.path)
        environment = {**gpu.environment(""), **kept, "PYTHONPATH": paths}
        command = STAND_IN if task.stand_in else COMMAND
        engine = RemoteEngine(package.manifest, first, environment=environment, command=command)
        super().__init__(task, lambda: look(volume, package.manifest, engine).labels)
        self.facts: Facts = {"engine": str(engine.info), "version": engine.info.version}
        self.close = engine.close


class Cpu(Turns):
    """The node without a GPU."""

    def __init__(self, task: Task) -> None:
        package, volume = task.package, task.study.volume(task.folder)
        engine = _cpu_engine(package)
        super().__init__(task, lambda: look(volume, package.manifest, engine).labels)
        self.facts: Facts = {"engine": str(engine.info), "version": engine.info.version, "threads": engine.info.threads}


class Torch(Turns):
    """The peer."""

    LAYOUT = "channels_last_3d"

    def __init__(self, task: Task) -> None:
        _torch()
        from tests.benchmarks import gpu_peer

        package, volume = task.package, task.study.volume(task.folder)
        self._layout = task.layout(package)
        model = package.model_bytes()
        self._peer = gpu_peer.Peer(model, package.manifest, place=task.place, layout=self.LAYOUT, batch=BATCH)
        super().__init__(task, lambda: self._peer.labels(volume.values, task.study.coarse))
        self.facts: Facts = {**gpu_peer.description(task.place), "window": self._peer.window_of}
        self.facts["precision"] = "fp32" if task.stand_in else "fp16"
        self.facts["batch"] = BATCH

    def network(self) -> Facts:
        """Seconds of the runs of a study on the device alone."""
        runs = batches(self._layout.count, BATCH)
        return {"seconds": self._peer.network_seconds(runs, self._layout.tile)}

    def memory(self) -> Facts:
        """Most bytes of a study."""
        self._peer.forget_peak()
        self.turn()
        return dict(self._peer.peak_bytes())


class TorchContiguous(Torch):
    """The peer in the memory format that torch has by itself."""

    LAYOUT = "contiguous"


class Roofline:
    """What the device attains: operations a second by precision, and bytes."""

    def __init__(self, task: Task) -> None:
        _torch()
        from tests.benchmarks import gpu_peer

        self._task, self._peer = task, gpu_peer
        self.facts: Facts = gpu_peer.description(task.place)

    def peaks(self) -> Facts:
        """By large products and a large copy."""
        task, times = self._task, 2 if self._task.stand_in else 20
        found = {
            name: self._peer.matmul_rate(task.place, name, task.size if name != "fp32" else task.size // 2, times)
            for name in (("fp32",) if task.stand_in else ("fp16", "tf32", "fp32"))
        }
        return {**found, "bytes": self._peer.copy_rate(task.place, task.size * 2**18, times)}


PARTS: Mapping[str, type[Any]] = {
    "course": Course,
    "node": Node,
    "course-torch": CourseOfTorch,
    "torch": Torch,
    "torch-contiguous": TorchContiguous,
    "roofline": Roofline,
    "cpu": Cpu,
}


def _device(task: Task) -> Device:
    if task.stand_in:
        from dicomnode.inference.standin_device import StandInDevice

        return StandInDevice()
    from dicomnode.inference.cuda_device import CudaDevice

    if find_spec("pycuda") is None:
        raise Missing("pycuda is not installed")
    return CudaDevice()


def _library() -> str:
    found = gpu.installed()
    if found is None:
        pycuda = find_spec("pycuda") is not None
        raise Missing("neither tensorrt nor tensorrt_rtx is installed" if pycuda else "pycuda is not installed")
    return found


def _cpu_engine(package: Package) -> Engine:
    if find_spec("onnxruntime") is None:
        raise Missing("onnxruntime is not installed")
    from dicomnode.inference.onnx import OnnxEngine

    return OnnxEngine.from_package(package, threads=usable_cores())


def _torch() -> None:
    if find_spec("torch") is None:
        raise Missing("torch is not installed")
