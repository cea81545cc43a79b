"""Measure a model.onnx the way the node runs it: Dice per lung on the left-out scan and on phantoms never trained on.

May live here: the figures of the model card. May not: torch.
"""

from __future__ import annotations

import argparse
import resource
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from chests import LEARNED, NEVER_LEARNED, fetch, read_chest
from clouds import clouded, unmarked
from contours import lung_contours
from paint import insert_colon, insert_lobe
from pseudo import IGNORED
from real import LEFT_OUT, chest_labels
from samples import SPACING, Sample, body_sample, phantom_sample
from scans import Scan, read_scan
from scipy import ndimage, stats

from dicomnode import manifest as manifests
from dicomnode.imaging.resample import labels_on
from dicomnode.inference import tiles
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import prepare, restored

PACKAGE = Path(__file__).resolve().parents[1]
Paint = Callable[[np.ndarray, np.ndarray, np.random.Generator], None]


class Model:
    """A network with the package's manifest."""

    def __init__(self, path: Path) -> None:
        self.manifest = manifests.parse(tomllib.loads((PACKAGE / "model.toml").read_text()))
        self.engine = OnnxEngine(path.read_bytes(), self.manifest, threads=1)

    def segment(self, hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
        """Labels of a volume in canonical orientation, on its own grid."""
        rule, network = self.manifest.preprocess, self.manifest.network
        inputs, (z, y, x) = prepare(hu, spacing, rule)
        plan = tiles.plan(inputs.shape, network.tile, network.overlap)
        scores = tiles.run(inputs, plan, self.engine.run, channels=self.manifest.channels)[:, :z, :y, :x]
        seen = restored(inputs[:z, :y, :x], rule.intensity)
        clean(scores, self.manifest.postprocess, voxel_ml=SPACING**3 / 1000, hu=seen)
        return labels_on(scores, rule.spacing_mm, hu.shape, spacing)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Dice coefficient of two masks; 1 when both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 1.0 if total == 0 else 2.0 * int((first & second).sum()) / total


def spread(scores: list[tuple[float, int, int]]) -> str:
    """Mean and 5th percentile of (Dice, seed, side), each with its 95 % bootstrap interval; whole bodies are drawn."""
    rng, values = np.random.default_rng(0), np.array([score for score, _, _ in scores])
    bodies = np.unique([seed for _, seed, _ in scores], return_inverse=True)[1]
    draws = [
        np.bincount(rng.integers(0, bodies.max() + 1, bodies.max() + 1), minlength=bodies.max() + 1)
        for _ in range(2000)
    ]
    samples = [np.repeat(values, draw[bodies]) for draw in draws]
    text = []
    for name, figure in (("mean", np.mean), ("5th percentile", lambda some: np.percentile(some, 5))):
        low, high = np.percentile([figure(sample) for sample in samples], [2.5, 97.5])
        text.append(f"{name} {figure(values):.4f} ({low:.4f} to {high:.4f})")
    return ", ".join(text)


def share(found: int, of: int) -> str:
    """A share with its exact 95 % interval (Clopper and Pearson)."""
    low = float(stats.beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    high = float(stats.beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0
    return f"{found} of {of} ({low:.2f} to {high:.2f})"


def worsened(scan: Scan, truth: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, tuple[float, float, float]]]:
    """The left-out scan, and what a worse scan of the same person might be: HU, truth, spacing."""
    hu, spacing = scan.hu, scan.spacing
    noisy = hu + np.random.default_rng(1).normal(0, 60, hu.shape).astype(np.int16)
    noisy[:, :, :60] = -3024
    sharp = hu + 1.5 * (hu - ndimage.gaussian_filter(hu.astype(np.float32), (0, 1.0, 1.0)))
    sharp += np.random.default_rng(2).normal(0, 40, hu.shape)
    zone = truth.any(axis=(1, 2)).nonzero()[0]
    middle = int(zone.mean())
    return {
        "as it is": (hu, truth, spacing),
        "8 mm slices": (hu[::2], truth[::2], (2 * spacing[0], *spacing[1:])),
        "upper half": (hu[middle:], truth[middle:], spacing),
        "lower half": (hu[:middle], truth[:middle], spacing),
        "noise 60 HU, padding": (noisy, truth, spacing),
        "sharp kernel": (sharp.astype(np.int16), truth, spacing),
        "narrow view": (hu[:, 90:350, 110:410], truth[:, 90:350, 110:410], spacing),
    }


def on_left_out(model: Model, data: Path) -> None:
    """Print Dice, volume and mean density against the human contours of the left-out scan."""
    folder = data / LEFT_OUT
    if not folder.is_dir():
        print(f"{LEFT_OUT}: absent")
        return
    scan = read_scan(folder, name=LEFT_OUT)
    for title, (hu, truth, spacing) in worsened(scan, lung_contours(folder, scan)).items():
        began = time.process_time()
        labels = model.segment(hu, spacing)
        spent = time.process_time() - began
        ml = float(np.prod(spacing)) / 1000
        for value, side in ((1, "right"), (2, "left")):
            ours, theirs = labels == value, truth == value
            text = f"Dice {dice(ours, theirs):.4f}, {ours.sum() * ml:.0f} ml for {theirs.sum() * ml:.0f} ml"
            print(f"{title}, {side}: {text}, {hu[ours].mean():.1f} HU for {hu[theirs].mean():.1f} HU ({spent:.1f} s)")


def on_chests(model: Model, folder: Path) -> None:
    """Print Dice against classical labels (doubtful voxels left away), the share of the tumour found, volume far outside."""
    if not fetch(folder):
        return
    for name in (LEARNED, NEVER_LEARNED):
        scan, tumour = read_chest(folder, name)
        truth, ml = chest_labels(scan, tumour), float(np.prod(scan.spacing)) / 1000
        labels = model.segment(scan.hu, scan.spacing)
        known = truth != IGNORED
        for value, side in ((1, "right"), (2, "left")):
            ours, theirs = (labels == value) & known, truth == value
            swapped = (labels == 3 - value) & theirs
            text = f"Dice {dice(ours, theirs):.4f}, {ours.sum() * ml:.0f} ml for {theirs.sum() * ml:.0f} ml"
            print(f"{name}, {side}: {text}, {swapped.sum() * ml:.1f} ml taken for the other side")
        far = ndimage.distance_transform_edt(truth == 0, sampling=scan.spacing) > 15.0
        found = float((labels > 0)[tumour].mean())
        print(
            f"{name}: {found:.3f} of a tumour of {tumour.sum() * ml:.1f} ml, {((labels > 0) & far).sum() * ml:.1f} ml far outside"
        )


def painted(sample: Sample, seed: int, paint: Paint) -> Sample:
    """The sample with something painted into it, the same for every model."""
    hu = sample.hu.astype(np.float32)
    paint(hu, sample.labels, np.random.default_rng([77, seed]))
    return Sample(name=sample.name, hu=np.rint(hu).astype(np.int16), labels=sample.labels)


def cloud(seed: int, cache: Path, *, filled: float, wet: float) -> Sample:
    """A body never trained on, lung filled or fluid in it, the same for every model."""
    rng = np.random.default_rng([78, seed])
    sample = clouded(body_sample(seed + 100000, cache), rng, filled=filled, wet=wet)
    return Sample(name=sample.name, hu=sample.hu, labels=unmarked(sample.labels), contrast=sample.contrast)


def on_phantoms(model: Model, seeds: range, title: str, draw: Callable[[int], Sample]) -> None:
    """Print the Dice on phantoms; lungs below 100 ml are left away, bodies without lungs count false volume."""
    scores, false_ml = [], []
    for seed in seeds:
        sample = draw(seed)
        labels = model.segment(sample.hu, (SPACING, SPACING, SPACING))
        if not sample.labels.any():
            false_ml.append((float((labels > 0).sum()) * SPACING**3 / 1000, seed))
        for value in (1, 2):
            if (sample.labels == value).sum() * SPACING**3 >= 100e3:
                scores.append((dice(labels == value, sample.labels == value), seed, value))
    print(f"{title}: {len(scores)} lungs, {spread(scores)}")
    print("worst:", [(round(score, 3), seed, value) for score, seed, value in sorted(scores)[:6]])
    found = sum(volume > 0 for volume, _ in false_ml)
    print(f"false lungs: {share(found, len(false_ml))}, largest {max(false_ml, default=(0.0, 0))}", flush=True)


def main() -> None:
    """evaluate.py --model model.onnx --data ../shared/data --cache CACHE --phantoms FIRST LAST."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=PACKAGE / "model.onnx")
    parser.add_argument("--data", type=Path, default=PACKAGE.parents[2] / "shared" / "data")
    parser.add_argument("--cache", type=Path, default=PACKAGE.parents[1] / "build" / "train" / "ct-lung" / "cache")
    parser.add_argument(
        "--chests", type=Path, default=PACKAGE.parents[1] / "build" / "train" / "chests", help="fetched"
    )
    parser.add_argument("--phantoms", type=int, nargs=2, default=(100000, 100060))
    given = parser.parse_args()
    model = Model(given.model)
    if given.data.is_dir():
        on_left_out(model, given.data)
    on_chests(model, given.chests)
    cache = given.cache
    rows: dict[str, Callable[[int], Sample]] = {
        "phantoms": lambda seed: phantom_sample(seed, cache),
        "phantoms with colon": lambda seed: painted(phantom_sample(seed, cache), seed, insert_colon),
        "phantoms with a consolidated lobe": lambda seed: painted(phantom_sample(seed, cache), seed, insert_lobe),
        "bodies with a filled lobe": lambda seed: cloud(seed, cache, filled=1.0, wet=0.0),
        "bodies with effusion": lambda seed: cloud(seed, cache, filled=0.0, wet=1.0),
    }
    for title, draw in rows.items():
        on_phantoms(model, range(*given.phantoms), title, draw)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
