"""Chores on models and the GPU: which there are, building their engines, holding them to the reference, timing them.

What `dicomnode models` and `dicomnode doctor gpu` do. Engines open in a process of their own, as in the node, in the same
cache and under the same lock: whichever of the two comes second finds them built.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from dicomnode.config import Config
from dicomnode.errors import ModelError, NodeError
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine_cache import EngineCache
from dicomnode.inference.golden import Verdict, golden_batch
from dicomnode.inference.gpu import Found, GpuSettings, environment, find_devices, first_message, probe
from dicomnode.inference.gpu_engine import verify
from dicomnode.inference.gpu_remote import RemoteEngine
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package
from dicomnode.inference.preprocess import restored
from dicomnode.inference.segment import look
from dicomnode.manifest import Manifest
from dicomnode.service import rooms
from dicomnode.service.engines import ADVICE, gpu_settings, open_engine
from dicomnode.service.rooms import Layout

_BENCH_SPACING: Final = (1.0, 0.7, 0.7)
_BENCH_PLANE: Final = 512


class OpenRemote(Protocol):
    """Opens a package's engine on the GPU."""

    def __call__(
        self, package: Package, settings: GpuSettings, library: str, threads: int, device: str
    ) -> RemoteEngine:
        """The engine, built if need be."""
        ...


def open_remote(package: Package, settings: GpuSettings, library: str, threads: int, device: str) -> RemoteEngine:
    """A package's engine in a process of its own; see `RemoteEngine`."""
    first = first_message(settings, package, library=library, threads=threads)
    return RemoteEngine(package.manifest, first, environment=environment(device), times=settings.times)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One line of a doctor: what was looked at, how it is, and advice where it is not well.

    Attributes
    ----------
    device
        Whether it is about a device.
    """

    well: bool
    text: str
    device: bool = False


def examine_gpu(tree: Config, *, look_for: Callable[[str], Found] = probe) -> tuple[Look, ...]:
    """Library, devices, and the folder of engines, in the order in which they are needed."""
    lines = []
    named = ("",) if tree.models.gpus == ("all",) else tree.models.gpus
    for number, device in enumerate(named):
        found = look_for(device)
        if found.library and not number:
            lines.append(Look(well=True, text=f"{found.library} {found.version or '(version unknown)'} is installed"))
        lines += _devices(found, f"{device}: " if len(named) > 1 else "")
        if not found.library:
            break
    if tree.models.engine not in ("auto", "tensorrt"):
        lines.append(Look(well=False, text=f'models.engine = "{tree.models.engine}" keeps the GPU from being used'))
    folder = tree.models.engine_cache or Layout.of(tree).state / "engines"
    if folder.exists():
        try:
            entries = EngineCache(folder, bytes(32)).entries()
            lines.append(Look(well=True, text=f"{len(entries)} built engines in {folder}"))
        except NodeError as error:
            lines.append(Look(well=False, text=f"{folder}: {error}; it is for this user alone (chmod 0700)"))
    else:
        lines.append(Look(well=True, text=f"engines will be built into {folder}"))
    return tuple(lines)


def _devices(found: Found, named: str) -> Iterator[Look]:
    """What a look for one name found."""
    for facts in found.devices:
        major, minor = facts.capability
        memory = facts.memory_bytes / 2**30
        yield Look(
            well=True,
            device=True,
            text=f"{named}{facts.name}: compute capability {major}.{minor}, {facts.multiprocessors} multiprocessors, "
            f"{memory:.1f} GiB, driver {facts.driver}",
        )
    if found.problem:
        advice = ADVICE.get(found.problem, "see the system log")
        yield Look(well=False, device=True, text=f"{named}{found.problem}: {advice}")


class Models:
    """The models of a configuration, on its GPU.

    Parameters
    ----------
    keys
        The process's environment, for the keys.
    look_for, opener
        How a GPU is looked for, and how an engine on it is opened.
    """

    def __init__(
        self,
        tree: Config,
        keys: Mapping[str, str],
        *,
        look_for: Callable[[str], Found] = probe,
        opener: OpenRemote = open_remote,
    ) -> None:
        self._tree, self._keys, self._look_for, self._opener = tree, keys, look_for, opener

    def packages(self, name: str | None = None) -> tuple[Package, ...]:
        """Enabled packages, or the one of a name.

        Raises
        ------
        ModelError
            ``model-not-found``, ``model-package-invalid``.
        """
        found = [one for one in rooms.load_packages(self._tree) if name in (None, one.manifest.name)]
        if not found:
            raise ModelError("model-not-found")
        return tuple(found)

    def devices(self) -> tuple[str, ...]:
        """Names of the GPUs that the node would use; at least one, whether it is there or not."""
        return tuple(find_devices(self._tree.models.gpus, self._look_for)) or ("",)

    def open(self, package: Package, device: str | None = None) -> RemoteEngine:
        """A package's engine on a GPU (None: the first), built and verified if it was not.

        Raises
        ------
        ModelError
            ``inference-failed`` with what stands in the way; ``model-package-invalid``.
        KeyStoreError
            When there are no keys yet: the first start of the node makes them.
        """
        device = self.devices()[0] if device is None else device
        found = self._look_for(device)
        if found.problem:
            raise ModelError("inference-failed", cause=found.problem)
        layout = Layout.of(self._tree)
        ring = rooms.open_key_ring(self._tree, layout, self._keys, create=False)
        settings = gpu_settings(self._tree, layout.state, ring)
        return self._opener(package, settings, found.library, self._tree.models.threads, device)

    def verify(self, package: Package, device: str | None = None) -> Verdict:
        """Hold the engine on a GPU (None: the first) to the reference on the CPU."""
        engine = self.open(package, device)
        try:
            reference = OnnxEngine.from_package(package, threads=self._tree.models.threads)
            try:
                return verify(engine, reference, package.manifest)
            finally:
                reference.close()
        finally:
            engine.close()

    def bench(self, package: Package, *, slices: int, rounds: int) -> dict[str, Any]:
        """Seconds from a volume to its labels, on the GPU and on the CPU, one after the other in turns."""
        manifest = package.manifest
        volume = bench_volume(manifest, slices)
        remote = self.open(package)
        try:
            cpu = open_engine(self._tree, package).engine
            try:
                seconds: dict[str, list[float]] = {"gpu": [], "cpu": []}
                labels = {}
                for _, (where, engine) in _turns(rounds, {"gpu": remote, "cpu": cpu}):
                    begun = time.perf_counter()
                    labels[where] = look(volume, manifest, engine).labels
                    seconds[where].append(round(time.perf_counter() - begun, 4))
                differing = float((labels["gpu"] != labels["cpu"]).mean())
                ratio = statistics.median(seconds["cpu"]) / statistics.median(seconds["gpu"])
                return {
                    "model": f"{manifest.name} {manifest.version}",
                    "volume": list(volume.values.shape),
                    "gpu": str(remote.info),
                    "cpu": str(cpu.info),
                    "seconds": seconds,
                    "ratio": round(ratio, 2),
                    "labels_differing": differing,
                }
            finally:
                cpu.close()
        finally:
            remote.close()

    def engines(self) -> tuple[tuple[str, int], ...]:
        """Names and bytes of built engines, the last used first."""
        folder = self._tree.models.engine_cache or Layout.of(self._tree).state / "engines"
        if not folder.exists():
            return ()
        return tuple((entry.name, entry.size) for entry in EngineCache(folder, bytes(32)).entries())


def bench_volume(manifest: Manifest, slices: int) -> Volume:
    """A made volume of 512 × 512 pixels, within the network's window."""
    shape = (slices, _BENCH_PLANE, _BENCH_PLANE)
    window = manifest.preprocess.intensity
    values = restored(golden_batch(manifest, shape)[0, 0], window).astype(np.int16)
    geometry = VolumeGeometry(
        origin=(0.0, 0.0, 0.0),
        row_direction=(1.0, 0.0, 0.0),
        column_direction=(0.0, 1.0, 0.0),
        slice_direction=(0.0, 0.0, 1.0),
        spacing=_BENCH_SPACING,
        shape=shape,
        frame_of_reference_uid="",
        order=tuple(range(slices)),
    )
    return Volume(values=values, geometry=geometry, padding=None, sop_instance_uids=("",) * slices)


def _turns(rounds: int, engines: dict[str, Any]) -> Iterator[tuple[int, tuple[str, Any]]]:
    """Each engine in each round; which one is first changes."""
    for number in range(rounds):
        pairs = list(engines.items())
        for pair in pairs if number % 2 == 0 else pairs[::-1]:
            yield number, pair
