"""Which engine runs a network, and why: the one place that makes engines.

What `models.engine` may say is here, in the order in which ``auto`` tries it. An engine's library is looked for before
its module is imported, so that a node without it pays for nothing.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import Final

import numpy as np

from dicomnode.errors import ModelError
from dicomnode.inference.engine import Engine
from dicomnode.inference.package import Package
from dicomnode.manifest import Manifest, ModelPackageErrors

_WARM: Final = 32  # voxels along each axis, at least, of the first run


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of engine.

    Attributes
    ----------
    absence
        Why it cannot be used on this machine, in a few words; None: it can.
    make
        Makes one for a package, on a number of CPU threads (0: as suits the machine).
    """

    absence: Callable[[], str | None]
    make: Callable[[Package, int], Engine]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An engine that is ready, and why it is this one.

    Attributes
    ----------
    notice
        Code of what somebody should be told who asked for another one; empty: nothing.
    """

    engine: Engine
    why: str
    notice: str = ""


def _onnxruntime(package: Package, threads: int) -> Engine:
    from dicomnode.inference.onnx import OnnxEngine

    return OnnxEngine.from_package(package, threads=threads)


def _openvino(package: Package, threads: int) -> Engine:
    from dicomnode.inference.openvino import OpenVinoEngine

    return OpenVinoEngine.from_package(package, threads=threads)


def _stand_in(package: Package, _threads: int) -> Engine:
    from dicomnode.inference.standin import StandInEngine

    return StandInEngine(package.manifest)


def _installed(module: str) -> Callable[[], str | None]:
    return lambda: None if find_spec(module) else "not installed"


def _openvino_absence() -> str | None:
    """OpenVINO writes machine code into memory and runs it, which the sandbox of the systemd unit forbids."""
    if find_spec("openvino") is None:
        return "not installed"
    try:
        with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC):
            return None
    except OSError:
        return "may not make code (MemoryDenyWriteExecute)"


#: What ``auto`` tries, the fastest first; the last one is always there.
KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "openvino": Kind(absence=_openvino_absence, make=_openvino),
        "onnxruntime": Kind(absence=_installed("onnxruntime"), make=_onnxruntime),
    }
)
#: What is taken only where it is named.
_NAMED: Final[Mapping[str, Kind]] = MappingProxyType({"stand-in": Kind(absence=lambda: None, make=_stand_in)})


def open_engine(package: Package, wish: str = "auto", *, threads: int = 0, kinds: Mapping[str, Kind] = KINDS) -> Opened:
    """Engine of a package, warm: it has run once, so that the first study pays for no load.

    Parameters
    ----------
    wish
        ``auto``, or the name of an engine: then no other one is taken.
    kinds
        Engines that there are, the best first.

    Raises
    ------
    ModelPackageErrors
        If no engine that may be taken can run the network.
    ModelError
        ``engine-unavailable`` when the engine that was named is not there; ``cause`` says why.
    """
    chosen = kinds if wish == "auto" else {wish: {**kinds, **_NAMED}[wish]}
    passed: list[str] = []
    cause = ""
    refused: ModelPackageErrors | None = None
    for name, kind in chosen.items():
        absence = kind.absence()
        if absence is not None:
            cause = re.sub(r"[^A-Za-z0-9]+", "-", absence).strip("-")
            passed.append(f"{name} {absence}")
            continue
        try:
            engine = kind.make(package, threads)
            _warm(engine, package.manifest)
        except ModelPackageErrors as error:
            passed.append(f"{name} cannot run this network")
            refused = error
            continue
        return Opened(engine=engine, why="models.engine" if wish != "auto" else ", ".join(["auto", *passed]))
    raise refused or ModelError("engine-unavailable", engine=wish, cause=cause)


def _warm(engine: Engine, manifest: Manifest) -> None:
    """Run once, on little: what is loaded late is loaded now, and a network that cannot run is known."""
    size = [-(-_WARM // factor) * factor for factor in manifest.preprocess.multiple_of]
    try:
        engine.run(np.zeros((1, 1, *size), np.float32))
    except ModelError as error:
        cause = str(error.facts.get("cause"))
        if cause == "output-not-finite":  # of nothing but zeros; a study will tell
            return
        engine.close()
        raise ModelPackageErrors((f"network: it cannot be run ({cause})",)) from None
