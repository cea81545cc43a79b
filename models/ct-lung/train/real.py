"""The real scans of the recipe: which sets are used, how each gets its labels, how often it is drawn.

May live here: the table of sets, their pseudo-labels, contours of the left-out scan. May not: augmentation, torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pydicom
from chests import LEARNED, fetch, read_chest
from contours import lung_contours
from plan import Plan
from pseudo import IGNORED, pseudo_labels
from samples import Sample, resample, resample_labels
from scans import Scan, read_scan
from scipy import ndimage

LEFT_OUT = "ct_thorax_siemens105_rtstruct"
"""The scan with human contours: figures are reported on it, the shipped weights never saw it."""

SETS: tuple[tuple[str, str, str, float], ...] = (
    ("ct_chest_philips64", ".", "whole", 6.0),
    ("ct_body_siemens_j2k20_seg", ".", "slab", 1.0),
    ("sts025_ct_mr_pet_rtstruct", "CT/image", "none", 0.4),
)
"""Folder, sub-folder of the images, kind of pseudo-label, relative frequency."""
CHEST_WEIGHT = 6.0

Weighed = list[tuple[float, Sample]]


def _boxes(folder: Path, scan: Scan, labels: np.ndarray) -> None:
    """Do not trust dense voxels in the tumour boxes: whether a mass is lung, readers disagree (in place)."""
    heights = {}
    for path in folder.glob("*.dcm"):
        image = pydicom.dcmread(path, stop_before_pixels=True)
        heights[str(image.SOPInstanceUID)] = float(image.ImagePositionPatient[2])
    for path in (folder / "annotation_xml").glob("*.xml"):
        z = round((heights[path.stem] - scan.origin[2]) / scan.spacing[0])
        for box in ElementTree.parse(path).iter("bndbox"):
            x0, y0, x1, y1 = (int(box.findtext(tag, "0")) for tag in ("xmin", "ymin", "xmax", "ymax"))
            region = labels[max(z - 1, 0) : z + 2, y0 - 12 : y1 + 13, x0 - 12 : x1 + 13]
            region[region == 0] = IGNORED


def _labels(kind: str, folder: Path, scan: Scan) -> np.ndarray:
    if kind == "none":
        return np.zeros(scan.hu.shape, dtype=np.uint8)
    labels = pseudo_labels(scan.hu, scan.spacing, from_top=kind == "slab")
    if kind == "whole" and (folder / "annotation_xml").is_dir():
        _boxes(folder, scan, labels)
    return labels


def chest_labels(scan: Scan, tumour: np.ndarray) -> np.ndarray:
    """Classical labels of a chest with a tumour that a human reader drew: it belongs to the lung around it."""
    labels = pseudo_labels(scan.hu, scan.spacing)
    if tumour.any():
        around = labels[ndimage.binary_dilation(tumour, iterations=3) & ~tumour]
        labels[tumour] = 1 if (around == 1).sum() > (around == 2).sum() else 2
    return labels


def _kept(path: Path, draw: Callable[[], tuple[Scan, np.ndarray]]) -> Sample:
    """A scan and its labels at the network's spacing, from the cache or made and cached."""
    if not path.exists():
        scan, labels = draw()
        small = np.rint(resample(scan.hu, scan.spacing)).astype(np.int16)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, hu=small, labels=resample_labels(labels, scan.spacing))
    with np.load(path) as kept:
        return Sample(name=path.stem, hu=kept["hu"], labels=kept["labels"])


def _read(folder: Path, name: str, kind: str) -> tuple[Scan, np.ndarray]:
    scan = read_scan(folder, name=name)
    return scan, lung_contours(folder, scan) if kind == "contours" else _labels(kind, folder, scan)


def real_samples(plan: Plan) -> Weighed:
    """Weight and sample of every real scan found under the plan's data; results are cached."""
    found: Weighed = []
    sets = [*SETS, (LEFT_OUT, ".", "contours", 6.0)] if plan.with_left_out else SETS
    for name, inner, kind, weight in sets if plan.data else ():
        folder = plan.data / name / inner
        if not folder.is_dir():
            print(f"real scan {name}: absent, left away")
            continue
        found.append((weight, _kept(plan.cache / f"{name}.npz", partial(_read, folder, name, kind))))
        print(f"real scan {name}: ready", flush=True)
    return found


def with_chest(plan: Plan, found: Weighed) -> Weighed:
    """The same and one of the two fetched chests, where it can be had."""
    path = plan.cache / f"{LEARNED}.npz"
    if not path.exists() and not fetch(plan.chests):
        return found

    def draw() -> tuple[Scan, np.ndarray]:
        scan, tumour = read_chest(plan.chests, LEARNED)
        return scan, chest_labels(scan, tumour)

    return [*found, (CHEST_WEIGHT, _kept(path, draw))]
