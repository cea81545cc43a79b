"""Draw the worst phantoms for the model card: truth above, network below.

May live here: one picture. `python models/ct-lung/train/pictures.py CACHE SEED [SEED:colon|lobe|filled|wet] [CHESTS:lung2] ...`
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from chests import read_chest
from evaluate import PACKAGE, Model, cloud, painted
from paint import insert_colon, insert_lobe
from PIL import Image
from real import chest_labels
from samples import SPACING, Sample, phantom_sample, resample, resample_labels

COLOURS = {1: (230, 159, 0), 2: (0, 114, 178)}


def overlay(hu: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One plane in a lung window with coloured labels, uint8 (y, x, 3)."""
    grey = np.clip((hu.astype(np.float32) + 1050) / 1400, 0, 1) * 255
    picture = np.stack([grey] * 3, axis=-1)
    for value, colour in COLOURS.items():
        inside = labels == value
        picture[inside] = picture[inside] * 0.55 + np.array(colour) * 0.45
    return picture.astype(np.uint8)


def tile(hu: np.ndarray, labels: np.ndarray, size: tuple[int, int] = (260, 200)) -> np.ndarray:
    """A plane scaled to a common size."""
    return np.asarray(Image.fromarray(overlay(hu, labels)).resize(size, Image.Resampling.BILINEAR))


def drawn(text: str, cache: Path) -> Sample:
    """What one word of the command line names."""
    name, _, kind = text.partition(":")
    if kind.startswith("lung"):
        scan, tumour = read_chest(Path(name), f"pyradiomics_{kind}")
        labels = chest_labels(scan, tumour)
        labels[labels == 255] = 0
        hu = np.rint(resample(scan.hu, scan.spacing)).astype(np.int16)
        return Sample(name=kind, hu=hu, labels=resample_labels(labels, scan.spacing))
    seed, paints = int(name), {"colon": insert_colon, "lobe": insert_lobe}
    if kind in ("filled", "wet"):
        return cloud(seed, cache, filled=float(kind == "filled"), wet=float(kind == "wet"))
    sample = phantom_sample(seed, cache)
    return painted(sample, seed, paints[kind]) if kind else sample


def main() -> None:
    """Write pictures/failures.png beside the model card."""
    model, columns = Model(PACKAGE / "model.onnx"), []
    for text in sys.argv[2:]:
        sample = drawn(text, Path(sys.argv[1]))
        found = model.segment(sample.hu, (SPACING, SPACING, SPACING))
        wrong = (found != sample.labels).sum(axis=(1, 2))
        z, y = int(wrong.argmax()), int((found != sample.labels).sum(axis=(0, 2)).argmax())
        planes = [tile(sample.hu[z], part[z]) for part in (sample.labels, found)]
        planes += [tile(sample.hu[::-1, y], part[::-1, y]) for part in (sample.labels, found)]
        columns.append(np.concatenate(planes, axis=0))
    folder = PACKAGE / "pictures"
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.concatenate(columns, axis=1)).quantize(64).save(folder / "failures.png", optimize=True)


if __name__ == "__main__":
    main()
