"""TensorRT on a GPU as a kind of engine: what it needs, whether it is there, and how it is put together.

No library of CUDA is imported here, or anywhere in this process: where the drivers are broken they may end the process
that loads them, so a process of its own looks, and another one works.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import dicomnode
from dicomnode.errors import ModelError
from dicomnode.inference.choice import KINDS, Kind
from dicomnode.inference.choice import open_engine as open_on_cpu
from dicomnode.inference.device import DeviceFacts
from dicomnode.inference.engine import Engine
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_remote import RemoteEngine, Times
from dicomnode.inference.gpu_seat import Patience, Remote, Tell, Turns
from dicomnode.inference.gpu_wire import Message
from dicomnode.inference.package import Package
from dicomnode.inference.tensorrt import LIBRARIES

PROBE: Final = (sys.executable, "-P", "-m", "dicomnode.inference.gpu_probe")
_PROBE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSettings:
    """What a site says of its GPU.

    Attributes
    ----------
    devices
        Numbers or UUIDs (``GPU-…``, ``MIG-…``) as CUDA_VISIBLE_DEVICES takes them; empty text: the first; ``all``: every
        whole device.
    precision
        Of `golden.TOLERANCES`, or ``auto``.
    cache, cache_key, cache_bytes
        Folder of built engines, 32 bytes that seal them, and how large it may grow.
    times, patience
        How long is waited.
    """

    devices: tuple[str, ...]
    precision: str
    cache: Path
    cache_key: bytes = field(repr=False)
    cache_bytes: int
    times: Times
    patience: Patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at the machine found.

    Attributes
    ----------
    library, version
        Module of the TensorRT that is installed, and its version; empty: none.
    devices
        That CUDA sees.
    problem
        What stands in the way, in a token; empty: nothing.
    """

    library: str
    version: str
    devices: tuple[DeviceFacts, ...]
    problem: str


def installed() -> str | None:
    """Module of the TensorRT that is installed beside pycuda; None: one of them is missing. Nothing is imported."""
    if find_spec("pycuda") is None:
        return None
    return next((name for name in LIBRARIES if find_spec(name) is not None), None)


def environment(device: str) -> dict[str, str]:
    """Of a process that uses the GPU: one device, and no cache of compiled code but the node's own, which is sealed."""
    chosen = {"CUDA_VISIBLE_DEVICES": device} if device else {}
    return {"CUDA_CACHE_DISABLE": "1", "CUDA_MODULE_LOADING": "LAZY", "ORT_DISABLE_TELEMETRY": "1", **chosen}


def probe(device: str = "", *, command: Sequence[str] = PROBE) -> Found:
    """Look for a device and a library in a process of its own; never raises: a look that fails is a problem found."""
    library = installed()
    if library is None:
        return Found(library="", version="", devices=(), problem="not-installed")
    root = Path(dicomnode.__file__).resolve().parent.parent
    try:
        answer = subprocess.run(  # noqa: S603
            [*command, library],
            env={"PYTHONPATH": str(root), **environment(device)},
            capture_output=True,
            cwd="/",
            timeout=_PROBE_SECONDS,
            check=True,
        )
        return _found(library, json.loads(answer.stdout))
    except subprocess.TimeoutExpired:
        return Found(library=library, version="", devices=(), problem="probe-timeout")
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError):
        return Found(library=library, version="", devices=(), problem="probe-crashed")


def find_devices(wished: Sequence[str], look: Callable[[str], Found] = probe) -> dict[str, Found]:
    """What a look for each device that is named found, by its name; nothing where all were wished for and none is there.

    Each is looked for alone: CUDA hides every device behind a wrong name, and all MIG slices but one.
    """
    if tuple(wished) != ("all",):
        return {device: look(device) for device in wished}
    found = look("")
    return {str(number): replace(found, devices=(facts,)) for number, facts in enumerate(found.devices)}


def kind(
    settings: GpuSettings,
    tell: Callable[[str], Tell],
    *,
    look: Callable[[str], Found] = probe,
    start: Callable[[Package, Message, str], Remote] | None = None,
) -> Kind:
    """TensorRT as one of the kinds that `choice` knows, with the best engine of the CPU behind it.

    All engines that it makes share the devices: one study at a time on each.

    Parameters
    ----------
    tell
        Given a model's name, who is told what becomes of its GPU.
    look
        Looks for a device by its name.
    start
        Opens a package's engine on a device by its first message and its name; None: in a process of its own.
    """
    devices: dict[str, Found] = {}
    turns: list[Turns] = []

    def absence() -> str | None:
        found = find_devices(settings.devices, look)
        problems = [one.problem for one in found.values()] or [look("").problem or "no-device"]
        if all(problems):
            return problems[0].replace("-", " ")
        if not turns:
            devices.update(found)
            turns.append(Turns(len(found)))
        return None

    def open_remote(package: Package, first: Message, device: str) -> Remote:
        return RemoteEngine(package.manifest, first, environment=environment(device), times=settings.times)

    def make(package: Package, threads: int) -> Engine:
        cpu = open_on_cpu(package, threads=threads, kinds=KINDS).engine
        library = next(found.library for found in devices.values() if not found.problem)
        first = first_message(settings, package, library=library, threads=threads)
        return GuardedEngine(
            [partial(start or open_remote, package, first, device) for device in devices],
            cpu,
            package.manifest,
            tell=tell(package.manifest.name),
            clock=time.monotonic,
            patience=settings.patience,
            turns=turns[0],
            rooms=[sum(facts.memory_bytes for facts in found.devices) for found in devices.values()],
        )

    return Kind(absence=absence, make=make)


def first_message(settings: GpuSettings, package: Package, *, library: str, threads: int) -> Message:
    """What a GPU process is told to open; its key goes over the socket alone, never on a command line.

    Raises
    ------
    ModelError
        ``inference-failed``, ``package-built-in``: there is no file to build from.
    """
    if package.folder is None:
        raise ModelError("inference-failed", cause="package-built-in")
    return {
        "folder": str(package.folder.resolve()),
        "cache": str(settings.cache),
        "key": settings.cache_key.hex(),
        "cache_bytes": settings.cache_bytes,
        "library": library,
        "precision": settings.precision,
        "threads": threads,
    }


def _found(library: str, answer: dict[str, Any]) -> Found:
    devices = tuple(
        DeviceFacts(**{**one, "capability": (int(one["capability"][0]), int(one["capability"][1]))})
        for one in answer["devices"]
    )
    problem = str(answer["problem"]) or ("" if devices else "no-device")
    return Found(library=library, version=str(answer["version"]), devices=devices, problem=problem)
