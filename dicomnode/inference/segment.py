"""The way from a volume to its label map: an even grid, canonical axes, network input, tiles, rules, and back to the source grid.

May live here: the order of the steps and what they cost in memory. May not: opinions on what the labels mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dicomnode.errors import StudyError
from dicomnode.imaging.geometry import VolumeGeometry, canonical_axes
from dicomnode.imaging.straighten import straighten
from dicomnode.imaging.volume import Volume, canonical, from_canonical, labels_on, resampled_shape, shares_on
from dicomnode.inference import tiles
from dicomnode.inference.engine import Engine, EngineInfo
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import prepare, restored
from dicomnode.manifest import Manifest

Labels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.uint16]
Progress = Callable[[float], None]

#: Shares of the work that are done when the input is ready, and when the network has run.
_PREPARED, INFERRED = 0.05, 0.85


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What a network sees in a volume, on the volume's own grid, C-contiguous.

    Attributes
    ----------
    labels
        uint8 (slices, rows, columns): 0 background, else the segment's number; all 0 where nothing was found.
    probability
        uint16 of the same shape, 0 to 65535 for 0 to 1: that a voxel belongs to any segment, after the rules; None
        where the manifest wants no map.
    engine
        What computed it: not always the engine that was asked, which may have failed and let another one do it.
    """

    labels: Labels = field(repr=False)
    probability: Probabilities | None = field(repr=False)
    engine: EngineInfo


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriorVolume:
    """The same patient earlier: one series of an earlier study, and how many days before the one that is worked on."""

    volume: Volume = field(repr=False)
    days_before: int


@runtime_checkable
class ComparingEngine(Protocol):
    """An engine that looks at earlier volumes, too: the door for models whose manifest has ``priors``."""

    def compare(self, volume: Volume, priors: Sequence[PriorVolume], progress: Progress) -> Seen:
        """What its network sees in an even, straight volume beside earlier ones, each on a grid of its own; as `compute`."""
        ...


@runtime_checkable
class VolumeEngine(Protocol):
    """An engine that goes the whole way of `look` itself, on its device."""

    def see(self, volume: Volume, progress: Progress) -> Seen:
        """What its network sees in an even, straight volume; as `compute`."""
        ...


def look(
    volume: Volume,
    manifest: Manifest,
    engine: Engine,
    *,
    progress: Progress | None = None,
    maximum_memory_bytes: int | None = None,
    priors: Sequence[PriorVolume] = (),
) -> Seen:
    """Label map of a volume, and the map of probabilities where the manifest wants one.

    Parameters
    ----------
    progress
        Told the share done, growing to 1.
    maximum_memory_bytes
        Memory that the study may take, the volume included; None: any.
    priors
        Earlier volumes, the newest first; an engine that is none to compare does without.

    Raises
    ------
    StudyError
        ``memory-too-large``, before anything is computed where it can be foreseen.
    ModelError
        ``inference-failed``.
    """
    tell = progress or (lambda _: None)
    needed = memory_needed(volume, manifest)
    if maximum_memory_bytes is not None and needed > maximum_memory_bytes:
        raise StudyError("memory-too-large", needed=needed, maximum=maximum_memory_bytes)
    grid = straighten(volume.geometry)
    try:
        even = grid.volume(volume)
        if priors and isinstance(engine, ComparingEngine):
            seen = engine.compare(even, priors, tell)
        else:
            seen = engine.see(even, tell) if isinstance(engine, VolumeEngine) else compute(even, manifest, engine, tell)
        probability = None if seen.probability is None else grid.back(seen.probability)
        return Seen(labels=grid.back(seen.labels), probability=probability, engine=seen.engine)
    except MemoryError:
        raise StudyError("memory-too-large", needed=needed) from None
    finally:
        engine.rest()


def memory_needed(volume: Volume, manifest: Manifest) -> int:
    """Bytes that `look` takes at its peak, the volume included: an estimate on the high side."""
    held = volume.values.nbytes + (0 if volume.padding is None else volume.padding.nbytes)
    return memory_of(volume.geometry, manifest, held=held)


def memory_of(geometry: VolumeGeometry, manifest: Manifest, *, held: int) -> int:
    """As `memory_needed`, before there is a volume.

    Parameters
    ----------
    held
        Bytes of its values and of what says where they are padding.
    """
    grid = straighten(geometry)
    axes, rule = canonical_axes(grid.geometry), manifest.preprocess
    source = math.prod(axes.shape)
    sizes = resampled_shape(axes.shape, axes.spacing, rule.spacing_mm)
    padded = [-(-size // factor) * factor for size, factor in zip(sizes, rule.multiple_of, strict=True)]
    tile = math.prod(min(size, largest) for size, largest in zip(padded, manifest.network.tile, strict=True))
    coarse = 4 * (1 + manifest.channels) * math.prod(padded)
    inference = coarse + tile * (manifest.network.memory_bytes_per_voxel + 8 * manifest.channels)
    if manifest.results.parametric_map:
        held += 2 * source * (1 if grid.is_source else 2) + 4 * math.prod(padded)
    if not grid.is_source:
        held += 5 * source  # float32 values and labels on the straight grid
    return held + math.ceil(max(inference, coarse * 2 + 2 * source))


def compute(volume: Volume, manifest: Manifest, engine: Engine, tell: Progress) -> Seen:
    """What a network sees in an even, straight volume, all but the network itself being done here, on the CPU."""
    axes, spacing = canonical_axes(volume.geometry), manifest.preprocess.spacing_mm
    inputs, (z, y, x) = prepare(canonical(volume.values, volume.geometry), axes.spacing, manifest.preprocess)
    tell(_PREPARED)
    scores = tiles.run(
        inputs,
        tiles.plan(_size(inputs), manifest.network.tile, manifest.network.overlap),
        engine.run,
        channels=manifest.channels,
        progress=lambda share: tell(_PREPARED + share * (INFERRED - _PREPARED)),
    )[:, :z, :y, :x]
    hu = None if manifest.postprocess.gas is None else restored(inputs[:z, :y, :x], manifest.preprocess.intensity)
    clean(scores, manifest.postprocess, voxel_ml=math.prod(spacing) / 1000, hu=hu)
    labels = labels_on(scores, spacing, axes.shape, axes.spacing)
    probability = None
    if manifest.results.parametric_map:
        fine = shares_on(_foreground(scores), spacing, axes.shape, axes.spacing)
        probability = np.ascontiguousarray(from_canonical(fine, volume.geometry))
    tell(1.0)
    labels = np.ascontiguousarray(from_canonical(labels, volume.geometry))
    return Seen(labels=labels, probability=probability, engine=engine.info)


def _foreground(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probability (z, y, x) that a voxel is not background, of logits: plane by plane, so that no copy of all is made."""
    result = np.empty(scores.shape[1:], np.float32)
    for z in range(scores.shape[1]):
        powers = np.exp(scores[:, z] - scores[:, z].max(axis=0))
        result[z] = 1 - powers[0] / powers.sum(axis=0)
    return result


def _size(array: npt.NDArray[np.float32]) -> tiles.Size:
    z, y, x = array.shape
    return z, y, x
