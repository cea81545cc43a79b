"""The way from a volume to its label map: an even grid, canonical axes, network input, tiles, rules, and back to the source grid.

May live here: the order of the steps and what they cost in memory. May not: opinions on what the labels mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dicomnode.errors import StudyError
from dicomnode.imaging.geometry import canonical_axes
from dicomnode.imaging.straighten import straighten
from dicomnode.imaging.volume import Volume, canonical, from_canonical, labels_on, resampled_shape
from dicomnode.inference import tiles
from dicomnode.inference.engine import Engine
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import prepare, restored
from dicomnode.manifest import Manifest

Labels = npt.NDArray[np.uint8]
Progress = Callable[[float], None]

_PREPARED, _INFERRED = 0.05, 0.85  # shares of the work done after these steps


def segment(
    volume: Volume,
    manifest: Manifest,
    engine: Engine,
    *,
    progress: Progress | None = None,
    maximum_memory_bytes: int | None = None,
) -> Labels:
    """Label map of a volume.

    Parameters
    ----------
    progress
        Told the share done, growing to 1.
    maximum_memory_bytes
        Memory that the study may take, the volume included; None: any.

    Returns
    -------
    uint8 (slices, rows, columns), C-contiguous, on the volume's own grid: 0 background, else the segment's number;
    all 0 where the network found nothing.

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
        return grid.back(_segment(grid.volume(volume), manifest, engine, tell))
    except MemoryError:
        raise StudyError("memory-too-large", needed=needed) from None


def memory_needed(volume: Volume, manifest: Manifest) -> int:
    """Bytes that `segment` takes at its peak, the volume included: an estimate on the high side."""
    grid = straighten(volume.geometry)
    axes, rule = canonical_axes(grid.geometry), manifest.preprocess
    source = math.prod(axes.shape)
    sizes = resampled_shape(axes.shape, axes.spacing, rule.spacing_mm)
    shrinks = sorted(new / old for new, old in zip(sizes, axes.shape, strict=True))
    resampling = 4 * source * (shrinks[0] + shrinks[0] * shrinks[1])
    padded = [-(-size // factor) * factor for size, factor in zip(sizes, rule.multiple_of, strict=True)]
    tile = math.prod(min(size, largest) for size, largest in zip(padded, manifest.network.tile, strict=True))
    coarse = 4 * (1 + manifest.channels) * math.prod(padded)
    inference = coarse + tile * (manifest.network.memory_bytes_per_voxel + 8 * manifest.channels)
    held = volume.values.nbytes + (0 if volume.padding is None else volume.padding.nbytes)
    if not grid.is_source:
        held += 5 * source  # float32 values and labels on the straight grid
    return held + math.ceil(max(resampling, inference, coarse * 2 + 2 * source))


def _segment(volume: Volume, manifest: Manifest, engine: Engine, tell: Progress) -> Labels:
    axes, spacing = canonical_axes(volume.geometry), manifest.preprocess.spacing_mm
    inputs, (z, y, x) = prepare(canonical(volume.values, volume.geometry), axes.spacing, manifest.preprocess)
    tell(_PREPARED)
    scores = tiles.run(
        inputs,
        tiles.plan(_size(inputs), manifest.network.tile, manifest.network.overlap),
        engine.run,
        channels=manifest.channels,
        progress=lambda share: tell(_PREPARED + share * (_INFERRED - _PREPARED)),
    )[:, :z, :y, :x]
    hu = None if manifest.postprocess.gas is None else restored(inputs[:z, :y, :x], manifest.preprocess.intensity)
    clean(scores, manifest.postprocess, voxel_ml=math.prod(spacing) / 1000, hu=hu)
    labels = labels_on(scores, spacing, axes.shape, axes.spacing)
    tell(1.0)
    return np.ascontiguousarray(from_canonical(labels, volume.geometry))


def _size(array: npt.NDArray[np.float32]) -> tiles.Size:
    z, y, x = array.shape
    return z, y, x
