"""The stand-in: an engine without a network, which finds the air inside a chest and splits it into right and left.

Ships with the node and keeps the contract of every engine, so that tests and proofs run in milliseconds. It is no
model: its results are for phantoms.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicomnode import coding
from dicomnode.errors import ModelError
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, EngineInfo, check_batch
from dicomnode.inference.package import Package, digest
from dicomnode.inference.segment import PriorVolume, Progress, Seen, compute
from dicomnode.manifest import Manifest, parse

_AIR_BELOW_HU: Final = -400.0
_LOGIT: Final = 8.0
_VERSION: Final = "1"
_WITHIN_SLICE: Final = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))], dtype=bool)


class StandInEngine:
    """Thresholds where others compute; see `Engine`.

    The first segment of the manifest is the patient's right lung, the second the left one, others stay empty; a single
    segment is both lungs.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._closed = False

    @property
    def info(self) -> EngineInfo:
        """Description of the engine."""
        return EngineInfo(name="stand-in", precision="fp32", version=_VERSION)

    def run(self, batch: Batch) -> Batch:
        """Find the air inside the body; see `Engine.run`."""
        if self._closed:
            raise ModelError("inference-failed", cause="engine-closed")
        check_batch(batch, self._manifest)
        logits = np.full((batch.shape[0], self._manifest.channels, *batch.shape[2:]), -_LOGIT, dtype=np.float32)
        for item, result in zip(batch[:, 0], logits, strict=True):
            labels = np.minimum(_labels(item < self._threshold()), self._manifest.channels - 1)
            for channel in range(min(3, self._manifest.channels)):
                result[channel][labels == channel] = _LOGIT
        return logits

    def compare(self, volume: Volume, priors: Sequence[PriorVolume], progress: Progress) -> Seen:
        """Air that was there in every earlier volume of the same shape as well; see `ComparingEngine.compare`."""
        seen = compute(volume, self._manifest, self, progress)
        for prior in priors:
            earlier = compute(prior.volume, self._manifest, self, lambda _: None).labels
            if earlier.shape == seen.labels.shape:
                seen.labels[earlier == 0] = 0
        return seen

    def rest(self) -> None:
        """Nothing is kept; see `Engine.rest`."""

    def close(self) -> None:
        """Refuse to run from now on."""
        self._closed = True

    def _threshold(self) -> float:
        window = self._manifest.preprocess.intensity
        share = (_AIR_BELOW_HU - window.lower) / (window.upper - window.lower)
        return share if window.scale == "zero-to-one" else 2 * share - 1


def _labels(air: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Air that no path within its slice joins to the slice's edge: 1 on the patient's right, 2 left; axes LPS+."""
    pieces, count = ndimage.label(air, structure=_WITHIN_SLICE)
    outside = np.zeros(count + 1, dtype=bool)
    for side in (pieces[:, 0], pieces[:, -1], pieces[:, :, 0], pieces[:, :, -1]):
        outside[side] = True
    outside[0] = True
    inside = ~outside[pieces]
    body = np.cumsum((~air).sum(axis=(0, 1)))
    middle = np.searchsorted(body, body[-1] / 2)
    side_of = np.where(np.arange(air.shape[2]) < middle, 1, 2).astype(np.uint8)
    return np.asarray(inside * side_of, dtype=np.uint8)


_MANIFEST: Final = MappingProxyType(
    {
        "schema": 1,
        "name": "stand-in",
        "version": _VERSION,
        "title": "Stand-in for tests: air in the chest",
        "manufacturer": "dicomnode project",
        "intended_use": "Tests and proofs on phantoms. Not a model, not for patients.",
        "research_only": True,
        "task": "segmentation",
        "input": {
            "modalities": ["CT"],
            "excluded_image_types": ["LOCALIZER", "SECONDARY"],
            "minimum_slices": 4,
            "maximum_slice_spacing_mm": 25.0,
            "minimum_extent_mm": 20.0,
        },
        "preprocess": {
            "spacing_mm": [4.0, 4.0, 4.0],
            "intensity": {"lower": -1024.0, "upper": 600.0, "scale": "minus-one-to-one"},
            "pad_hu": -1024.0,
            "multiple_of": [2, 2, 2],
        },
        "network": {
            "file": "built-in.onnx",
            "sha256": hashlib.sha256(b"dicomnode stand-in " + _VERSION.encode()).hexdigest(),
            "input": "volume",
            "output": "logits",
            "tile": [256, 256, 256],
            "memory_bytes_per_voxel": 64,
        },
        "postprocess": {"keep_largest_per_label": True, "fill_holes": True, "minimum_component_ml": 1.0},
        "density": {},
    }
)


def package() -> Package:
    """Built-in package to run the stand-in with where no other is wanted."""
    sides = (("Right lung", coding.RIGHT, "#4e9a06"), ("Left lung", coding.LEFT, "#3465a4"))
    segments: list[dict[str, Any]] = [
        {
            "number": number,
            "label": label,
            "category": _code(coding.ANATOMICAL_STRUCTURE),
            "type": _code(coding.LUNG),
            "laterality": _code(laterality),
            "colour": colour,
        }
        for number, (label, laterality, colour) in enumerate(sides, start=1)
    ]
    manifest = parse({**_MANIFEST, "segments": segments})
    return Package(manifest=manifest, folder=None, digest=digest(b"stand-in", manifest.network.sha256))


def _code(concept: coding.CodedConcept) -> dict[str, str]:
    return {"value": concept.value, "scheme": concept.scheme, "meaning": concept.meaning}
