"""What every engine is and keeps to: the Protocol, its description, and the checks on what goes in and comes out.

No engine lives here; each has a module of its own that imports its library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dicomnode.errors import ModelError
from dicomnode.manifest import Manifest

Batch = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Which engine computes, in which precision.

    Attributes
    ----------
    name, precision
        For instance ``onnxruntime-cpu`` and ``fp32``.
    version
        Version of the engine's library.
    threads
        Threads of one run: how sums are split among them decides their last bits.
    note
        What somebody who reads a result must know besides, in ASCII, for instance that another engine failed before.
    """

    name: str
    precision: str
    version: str
    threads: int = 1
    note: str = ""

    def __str__(self) -> str:
        """Name, precision and note, as results state them (TID 4019)."""
        return " ".join([self.name, self.precision, *self._notes])

    @property
    def fingerprint(self) -> str:
        """Everything of the engine, on one machine, that can change a bit of its answer, or of what is said of it."""
        return " ".join([self.name, self.version, self.precision, str(self.threads), *self._notes])

    @property
    def _notes(self) -> list[str]:
        return [f"({self.note})"] if self.note else []


class Engine(Protocol):
    """A network that is ready to run.

    An engine belongs to one thread at a time. Equal input gives equal output, bit for bit, and an element of a batch
    does not depend on its neighbours.
    """

    @property
    def info(self) -> EngineInfo:
        """Description of the engine."""
        ...

    def run(self, batch: Batch) -> Batch:
        """Run the network.

        Parameters
        ----------
        batch
            float32 [N, 1, Z, Y, X], normalised intensities; Z, Y and X are multiples of the manifest's.

        Returns
        -------
        float32 [N, C, Z, Y, X], C-contiguous and owned by the caller: logits of the background and each segment.

        Raises
        ------
        ModelError
            ``inference-failed``: the input is of another kind, the engine was closed, or it failed.
        """
        ...

    def rest(self) -> None:
        """Give back the memory that only a study needs; the next run takes it again. May be called at any time."""
        ...

    def close(self) -> None:
        """Give memory back; may be called again."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of a network, as its file says it.

    Attributes
    ----------
    shape
        None: a size that is free.
    """

    names: frozenset[str]
    float32: bool
    shape: tuple[int | None, ...]


def tensor_problems(inputs: Sequence[Tensor], outputs: Sequence[Tensor], manifest: Manifest) -> tuple[str, ...]:
    """What differs between a network's tensors and those that the manifest promises."""
    problems: list[str] = []
    network = manifest.network
    for kind, tensors, name, channels in (
        ("input", inputs, network.input, 1),
        ("output", outputs, network.output, manifest.channels),
    ):
        if len(tensors) != 1 or name not in tensors[0].names:
            problems.append(f"network.{kind}: the file has other tensors")
            continue
        shape = tensors[0].shape
        if not tensors[0].float32 or len(shape) != 5 or shape[1] not in (None, channels):
            problems.append(f"network.{kind}: it is float32 with 5 dimensions and {channels} channels")
        elif any(size is not None for size in shape[2:]):
            problems.append(f"network.{kind}: its sizes z, y, x are free")
    return tuple(problems)


def check_batch(batch: Batch, manifest: Manifest) -> None:
    """Check what goes into an engine.

    Raises
    ------
    ModelError
        ``inference-failed``, with the cause as a token.
    """
    factors = manifest.preprocess.multiple_of
    if not isinstance(batch, np.ndarray) or batch.dtype != np.float32:
        cause = "input-not-float32"
    elif batch.ndim != 5 or batch.shape[1] != 1 or batch.size == 0:
        cause = "input-shape"
    elif any(size % factor for size, factor in zip(batch.shape[2:], factors, strict=True)):
        cause = "input-not-a-multiple"
    elif not np.isfinite(batch).all():
        cause = "input-not-finite"
    else:
        return
    raise ModelError("inference-failed", cause=cause)


def checked_logits(logits: object, batch: Batch, manifest: Manifest) -> Batch:
    """Logits as the Protocol promises them.

    Raises
    ------
    ModelError
        ``inference-failed``, with the cause as a token.
    """
    expected = (batch.shape[0], manifest.channels, *batch.shape[2:])
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.shape != expected:
        raise ModelError("inference-failed", cause="output-shape")
    if not np.isfinite(logits).all():
        raise ModelError("inference-failed", cause="output-not-finite")
    return np.ascontiguousarray(logits)
