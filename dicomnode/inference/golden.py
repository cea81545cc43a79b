"""The golden input, and the judgement of an engine by it: whatever is to serve has answered it as the reference does.

Pure. The input is made, not kept: shapes of several intensities, edges and noise over the whole of the network's window,
from a fixed seed, so that it is the same everywhere. The reference is the package's own ONNX, fp32, on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from dicomnode.inference.engine import Batch
from dicomnode.inference.tiles import Size
from dicomnode.manifest import Manifest

_SEED: Final = 20261101
#: Places and radii (z, y, x) in shares of the input, and intensity in shares of the window.
_BODIES: Final = (
    ((0.50, 0.50, 0.50), (0.95, 0.38, 0.46), 0.66),
    ((0.50, 0.47, 0.30), (0.36, 0.25, 0.14), 0.11),
    ((0.52, 0.47, 0.70), (0.33, 0.23, 0.13), 0.12),
    ((0.50, 0.74, 0.50), (0.90, 0.07, 0.06), 0.95),
    ((0.40, 0.42, 0.56), (0.13, 0.12, 0.10), 0.68),
    ((0.80, 0.55, 0.35), (0.10, 0.12, 0.16), 0.70),
)
_NOISE: Final = 0.02

#: Of a precision: greatest error of a logit, in shares of the reference's spread, and share of voxels whose label differs.
TOLERANCES: Final = MappingProxyType(
    {
        "fp32": (1e-4, 1e-4),
        "tf32": (2e-2, 1e-3),
        "fp16": (3e-2, 1e-3),
        "bf16": (1.5e-1, 1e-2),
        "int8": (5e-1, 2e-2),
        "fp8": (5e-1, 2e-2),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How an engine answered the golden input.

    Attributes
    ----------
    error
        Greatest error of a logit, divided by the standard deviation of the reference's logits.
    differing
        Share of the voxels whose label differs.
    labels
        Labels that the reference found: with one alone, `differing` says little.
    allowed_error, allowed_differing
        What the precision allows.
    independent
        Whether an element of a batch had the same bits whatever its neighbours.
    """

    error: float
    differing: float
    labels: int
    allowed_error: float
    allowed_differing: float
    independent: bool = True

    @property
    def may_serve(self) -> bool:
        """Whether the engine computes what the reference does, as well as its precision can."""
        right = self.error <= self.allowed_error and self.differing <= self.allowed_differing
        return right and self.independent

    def __str__(self) -> str:
        """One line."""
        said = "may serve" if self.may_serve else "must not serve"
        return (
            f"{said}: greatest error {self.error:.2g} of the logits' spread (allowed {self.allowed_error:g}), "
            f"{100 * self.differing:.3f} % of labels differ (allowed {100 * self.allowed_differing:g} %), "
            f"{self.labels} labels" + ("" if self.independent else ", and elements depend on their neighbours")
        )


def golden_sizes(manifest: Manifest) -> tuple[Size, ...]:
    """Sizes (z, y, x) of the golden input: a whole tile, and a piece of half its edges where the network takes one."""
    tile, factors = manifest.network.tile, manifest.preprocess.multiple_of
    z, y, x = (max(factor, size // 2 // factor * factor) for size, factor in zip(tile, factors, strict=True))
    return tuple(dict.fromkeys((tile, (z, y, x))))


def golden_batch(manifest: Manifest, size: Size, *, patches: int = 1) -> Batch:
    """The golden input, float32 [patches, 1, Z, Y, X] of a size; patches differ by their noise."""
    places = np.meshgrid(*((np.arange(n, dtype=np.float32) + 0.5) / n for n in size), indexing="ij", sparse=True)
    shares = np.random.default_rng(_SEED).normal(0.01, _NOISE, (patches, 1, *size)).astype(np.float32)
    body = np.zeros(size, np.float32)
    for centre, radii, intensity in _BODIES:
        away = sum(((place - at) / radius) ** 2 for place, at, radius in zip(places, centre, radii, strict=True))
        body[np.asarray(away) < 1] = intensity
    np.clip(shares + body, 0, 1, out=shares)
    return shares * np.float32(2) - np.float32(1) if _centred(manifest) else shares


def _centred(manifest: Manifest) -> bool:
    return manifest.preprocess.intensity.scale == "minus-one-to-one"


def judge(
    logits: npt.NDArray[np.float32], reference: npt.NDArray[np.float32], precision: str, *, independent: bool = True
) -> Verdict:
    """Compare an answer to the golden input with the reference's.

    Parameters
    ----------
    logits, reference
        float32 [N, C, Z, Y, X].
    precision
        A key of `TOLERANCES`.
    independent
        Whether neighbours in a batch changed nothing.
    """
    error, differing = TOLERANCES[precision]
    spread = float(reference.std()) or 1.0
    labels = reference.argmax(axis=1)
    if logits.shape != reference.shape or not np.isfinite(logits).all():
        found, wrong = float("inf"), 1.0
    else:
        found = float(np.abs(logits - reference).max()) / spread
        wrong = float((logits.argmax(axis=1) != labels).mean())
    return Verdict(
        error=found,
        differing=wrong,
        labels=len(np.unique(labels)),
        allowed_error=error,
        allowed_differing=differing,
        independent=independent,
    )
