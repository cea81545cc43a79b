"""Which engines the configuration asks for, and what becomes of them: settings, kinds, and what is told.

May live here: what stands between `[models]` of the configuration and `inference`. May not: models, studies, rooms.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.inference.choice import KINDS, Kind, Opened
from dicomnode.inference.choice import open_engine as choose_engine
from dicomnode.inference.gpu import GpuSettings, kind
from dicomnode.inference.gpu_remote import Times
from dicomnode.inference.gpu_seat import Patience, Tell
from dicomnode.inference.package import Package
from dicomnode.storage.keys import KeyRing

#: What stands in the way, and what to do about it.
ADVICE: Final[Mapping[str, str]] = {
    "not-installed": "install the extra: pip install 'dicomnode[gpu]' (TensorRT, pycuda, onnx)",
    "pycuda-missing": "pycuda does not load: build it with the CUDA toolkit of the driver's version",
    "tensorrt-missing": "TensorRT does not load: its version and the driver's CUDA must go together",
    "device-failed": "no driver answers: look at nvidia-smi; a service also needs systemd/gpu.conf",
    "no-device": "the driver shows no GPU to this user, or models.gpu names none",
    "probe-crashed": "looking at the GPU ended the process that looked: the driver does not fit its libraries",
    "probe-timeout": "the driver does not answer: look at nvidia-smi and the system log",
}


def open_engine(tree: Config, package: Package, *, gpu: Kind | None = None) -> Opened:
    """Engine that runs a package, and why it is this one.

    Parameters
    ----------
    gpu
        TensorRT, as `gpu_kind` makes it; None: the caller uses none, and who asked for it is told.

    Raises
    ------
    ModelError
        ``engine-unavailable``, ``model-package-invalid``.
    """
    wish, threads = tree.models.engine, tree.models.threads
    if gpu is not None:
        return choose_engine(package, wish, threads=threads, kinds={"tensorrt": gpu, **KINDS})
    if wish == "tensorrt":
        return replace(choose_engine(package, "auto", threads=threads), notice="engine-not-used")
    return choose_engine(package, wish, threads=threads)


def gpu_settings(tree: Config, state: Path, ring: KeyRing) -> GpuSettings:
    """What the configuration says of the GPU, and the key that seals its engines.

    Parameters
    ----------
    state
        The state folder, where engines are kept unless another one is named.
    """
    models = tree.models
    return GpuSettings(
        devices=models.gpus,
        precision=models.precision,
        cache=models.engine_cache or state / "engines",
        cache_key=hmac.digest(ring.derivation, b"dicomnode engine cache 1", "sha256"),
        cache_bytes=models.engine_cache_bytes,
        times=Times(
            opening=models.gpu_opening_seconds, silence=models.gpu_silence_seconds, study=models.gpu_study_seconds
        ),
        patience=Patience(again_seconds=models.gpu_again_seconds),
    )


def gpu_kind(settings: GpuSettings, emit: Emit) -> Kind:
    """TensorRT on this machine's GPU, what becomes of it being told as events."""
    return kind(settings, lambda model: gpu_teller(model, emit))


def gpu_teller(model: str, emit: Emit) -> Tell:
    """Who tells what becomes of a model's GPU."""

    def tell(event: str, facts: dict[str, str | int]) -> None:
        cause, device = str(facts.get("cause", "")), facts["device"]
        advice = {"text": ADVICE[cause]} if cause in ADVICE else {}
        if event == "ready":
            emit("engine.ready", model=model, engine=facts["engine"], device=device)
        elif event == "failed":
            emit("engine.failed", level="warning", model=model, device=device, reason=cause, **advice)
        else:
            emit("engine.fell-back", level="warning", model=model, device=device, reason=cause, **advice)

    return tell
