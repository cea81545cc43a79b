"""Training samples of the recipe: phantoms and pseudo-labelled real scans at the network's spacing, cached on disk.

May live here: resampling into the network's space, the cache. May not: augmentation, torch.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from dicomnode.imaging import resample as grids
from dicomnode.imaging.phantom import (
    Phantom,
    abdomen_phantom,
    chest_phantom,
    head_phantom,
    legs_phantom,
    water_phantom,
)
from dicomnode.imaging.phantom_anatomy import smooth_field

__all__ = ["SPACING", "Sample", "body_sample", "phantom_sample", "resample", "resample_labels", "smooth_field"]

SPACING = 3.0
"""Network spacing in mm on every axis."""
DRY = ("nodules", "mass", "emphysema", "opacity")
"""Diseases of bodies whose consolidation and effusion are painted by `clouds`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One training volume: HU int16 and labels uint8 (z, y, x) at `SPACING`; 255 in labels is ignored."""

    name: str
    hu: np.ndarray
    labels: np.ndarray
    contrast: bool = False


def resample(volume: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Bring a volume to `SPACING` by the very function that the node uses."""
    return grids.resample(volume, spacing, (SPACING, SPACING, SPACING), antialias=True)


def resample_labels(labels: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Resample labels: each class as a smooth share, the largest wins."""
    shares = [resample((labels == value).astype(np.float32), spacing) for value in (0, 1, 2, 255)]
    return np.array([0, 1, 2, 255], dtype=np.uint8)[np.argmax(np.stack(shares), axis=0)]


def _phantom(rng: np.random.Generator, **kinds: Any) -> Phantom:
    kind = rng.random()
    spacing = (SPACING, SPACING, SPACING)
    width, depth = int(rng.integers(100, 160)), int(rng.integers(88, 150))
    if kind < 0.08:
        return head_phantom(rng, shape=(int(rng.integers(32, 80)), 84, 84), spacing=spacing)
    if kind < 0.18:
        return abdomen_phantom(rng, shape=(int(rng.integers(32, 96)), depth, width), spacing=spacing)
    if kind < 0.20:
        return legs_phantom(rng, shape=(int(rng.integers(24, 80)), 80, 128), spacing=spacing)
    if kind < 0.22:
        return water_phantom(rng, shape=(int(rng.integers(24, 64)), width, width), spacing=spacing)
    high = int(rng.integers(80, 150)) if rng.random() < 0.75 else int(rng.integers(24, 70))
    centre = (float(rng.normal(-40, 30 if high > 80 else 90)), float(rng.normal(0, 15)), float(rng.normal(0, 15)))
    return chest_phantom(rng, shape=(high, depth, width), spacing=spacing, centre=centre, typical=False, **kinds)


def _keep(path: Path, phantom: Phantom) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.npz")
    np.savez_compressed(partial, hu=phantom.hu, labels=phantom.labels)
    partial.rename(path)


def phantom_sample(seed: int, cache: Path) -> Sample:
    """Phantom number `seed`, from the cache or drawn and cached."""
    path = cache / f"phantom{seed:05d}.npz"
    if not path.exists():
        _keep(path, _phantom(np.random.default_rng([20240717, seed])))
    with np.load(path) as data:
        return Sample(name=path.stem, hu=data["hu"], labels=data["labels"])


def body_sample(seed: int, cache: Path) -> Sample:
    """Body number `seed`: as a phantom, but without the generator's consolidation and effusion (see `clouds`)."""
    path, contrast = cache / f"body{seed:05d}.npz", seed % 5 < 2
    if not path.exists():
        rng = np.random.default_rng([20261128, seed])
        diseases = tuple(name for name in DRY if rng.random() < 0.2)
        _keep(path, _phantom(rng, contrast=contrast, diseases=diseases))
    with np.load(path) as data:
        return Sample(name=path.stem, hu=data["hu"], labels=data["labels"], contrast=contrast)


def main() -> None:
    """Fill the cache with phantoms: samples.py CACHE FIRST LAST."""
    cache, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        phantom_sample(seed, cache)
        print(f"phantom {seed + 1 - first} of {last - first}", flush=True)


if __name__ == "__main__":
    main()
