"""The shipped lungs on a real chest CT with human contours that training never saw, and on phantoms it never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image, ImageDraw

from dicomnode.imaging.phantom import abdomen_phantom, chest_phantom, head_phantom, water_phantom
from dicomnode.imaging.resample import labels_on
from dicomnode.inference import package as packages
from dicomnode.inference import tiles
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import prepare, restored

Labels = npt.NDArray[np.uint8]
Spacing = tuple[float, float, float]
LEFT_OUT = "ct_thorax_siemens105_rtstruct"
#: Human contours of one reader; the model card gives the exact figures, this is the floor below them.
FLOOR = {1: 0.975, 2: 0.97}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chest:
    """HU and human labels in canonical orientation."""

    hu: npt.NDArray[np.int16]
    truth: Labels
    spacing: Spacing


class Lungs:
    """The shipped package on one CPU thread, in canonical orientation."""

    def __init__(self, package: Package) -> None:
        self.manifest = package.manifest
        self.engine = OnnxEngine.from_package(package, threads=1)

    def __call__(self, hu: npt.NDArray[np.int16], spacing: Spacing) -> Labels:
        rule, network = self.manifest.preprocess, self.manifest.network
        inputs, (z, y, x) = prepare(hu, spacing, rule)
        plan = tiles.plan((inputs.shape[0], inputs.shape[1], inputs.shape[2]), network.tile, network.overlap)
        scores = tiles.run(inputs, plan, self.engine.run, channels=3)[:, :z, :y, :x]
        seen = restored(inputs[:z, :y, :x], rule.intensity)
        clean(scores, self.manifest.postprocess, voxel_ml=float(np.prod(rule.spacing_mm)) / 1000, hu=seen)
        shape = (hu.shape[0], hu.shape[1], hu.shape[2])
        return labels_on(scores, rule.spacing_mm, shape, spacing)


@pytest.fixture(scope="module")
def lungs() -> Lungs:
    return Lungs(packages.load(packages.shipped_models_folder() / "ct-lung"))


@pytest.fixture(scope="module")
def chest(shared_data: Callable[[str], Path]) -> Chest:
    folder = shared_data(LEFT_OUT)
    objects = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    images = sorted((o for o in objects if o.Modality == "CT"), key=lambda o: float(o.ImagePositionPatient[2]))
    (structures,) = (o for o in objects if o.Modality == "RTSTRUCT")
    hu = np.stack([o.pixel_array * float(o.RescaleSlope) + float(o.RescaleIntercept) for o in images])
    first = images[0]
    step = float(images[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    spacing = (step, float(first.PixelSpacing[0]), float(first.PixelSpacing[1]))
    origin = np.array([float(value) for value in first.ImagePositionPatient])
    return Chest(hu=hu.astype(np.int16), truth=contours(structures, hu.shape, spacing, origin), spacing=spacing)


def contours(
    structures: pydicom.Dataset, shape: tuple[int, ...], spacing: Spacing, origin: npt.NDArray[np.float64]
) -> Labels:
    """Closed planar contours (PS3.3 C.8.8.6) of LUNG_R and LUNG_L, four samples per voxel and axis."""
    names = {"LUNG_R": 1, "LUNG_L": 2}
    numbers = {int(r.ROINumber): names[r.ROIName] for r in structures.StructureSetROISequence if r.ROIName in names}
    labels = np.zeros(shape, np.uint8)
    for roi in structures.ROIContourSequence:
        value = numbers.get(int(roi.ReferencedROINumber))
        for item in roi.ContourSequence if value else ():
            points = (np.array(item.ContourData, float).reshape(-1, 3) - origin) / [spacing[2], spacing[1], spacing[0]]
            picture = Image.new("1", (shape[2] * 4, shape[1] * 4))
            corners = [((x + 0.5) * 4 - 0.5, (y + 0.5) * 4 - 0.5) for x, y, _ in points]
            ImageDraw.Draw(picture).polygon(corners, fill=1)
            inside = np.asarray(picture, np.float32).reshape(shape[1], 4, shape[2], 4).mean(axis=(1, 3)) >= 0.5
            plane = labels[round(points[0, 2])]
            plane[inside] = np.where(plane[inside] == value, 0, value)
    return labels


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


@pytest.mark.slow
def test_human_contours_on_the_left_out_scan(lungs: Lungs, chest: Chest) -> None:
    found = lungs(chest.hu, chest.spacing)
    for label, floor in FLOOR.items():
        assert dice(found == label, chest.truth == label) >= floor
        assert dice(found == label, chest.truth == 3 - label) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("change", ["every second slice", "upper half", "lower half", "padding and noise", "narrow"])
def test_human_contours_when_the_scan_is_made_worse(lungs: Lungs, chest: Chest, change: str) -> None:
    view = (slice(None), slice(60, 380), slice(90, 430))  # the body without the wide air around it: quicker
    hu, truth, spacing = chest.hu[view].copy(), chest.truth[view], chest.spacing
    if change == "every second slice":
        hu, truth, spacing = hu[::2], truth[::2], (2 * spacing[0], spacing[1], spacing[2])
    elif change == "upper half":
        hu, truth = hu[55:], truth[55:]
    elif change == "lower half":
        hu, truth = hu[:60], truth[:60]
    elif change == "padding and noise":
        hu = hu + np.random.default_rng(1).normal(0, 60, hu.shape).astype(np.int16)
        hu[:, :, :20] = -3024
    else:
        hu, truth = hu[:, 30:290, 20:320], truth[:, 30:290, 20:320]
    found = lungs(hu, spacing)
    floor = 0.91 if change == "every second slice" else 0.955  # 8 mm blur away the wall between lung and bowel
    for label in (1, 2):
        assert dice(found == label, truth == label) >= floor


@pytest.mark.slow
def test_density_within_the_human_contours(lungs: Lungs, chest: Chest) -> None:
    """What the outlines' difference (Dice 0.98) moves: a few HU, no emphysema out of nothing."""
    found = lungs(chest.hu, chest.spacing)
    for label in (1, 2):
        ours, theirs = chest.hu[found == label], chest.hu[chest.truth == label]
        assert abs(ours.size / theirs.size - 1) < 0.03
        assert abs(ours.mean() - theirs.mean()) < 6.0
        assert abs(np.percentile(ours, 15) - np.percentile(theirs, 15)) < 4.0
        assert abs(100.0 * (ours < -950).mean() - 100.0 * (theirs < -950).mean()) < 0.2


def test_phantoms_never_seen(lungs: Lungs) -> None:
    for seed, typical, floor in ((901, True, 0.96), (902, False, 0.88), (903, False, 0.88)):
        rng = np.random.default_rng(seed)
        phantom = chest_phantom(rng, shape=(104, 120, 128), spacing=(3.0, 3.0, 3.0), typical=typical, diseases=())
        found = lungs(phantom.hu, phantom.spacing)
        for label in (1, 2):
            assert dice(found == label, phantom.labels == label) >= floor


@pytest.mark.parametrize("draw", [head_phantom, abdomen_phantom, water_phantom])
def test_no_lung_is_a_result(lungs: Lungs, draw: Callable[..., object]) -> None:
    for seed in (911, 912):
        phantom = draw(np.random.default_rng(seed), shape=(48, 110, 120), spacing=(3.0, 3.0, 3.0))
        assert not lungs(phantom.hu, phantom.spacing).any()  # type: ignore[attr-defined]


def test_real_bodies_without_lungs(lungs: Lungs, shared_data: Callable[[str], Path]) -> None:
    folder = shared_data("sts025_ct_mr_pet_rtstruct") / "CT" / "image"
    images = [pydicom.dcmread(path) for path in folder.iterdir()]
    images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    hu = np.stack([image.pixel_array * image.RescaleSlope + image.RescaleIntercept for image in images])
    first = images[0]
    spacing = (3.27, float(first.PixelSpacing[0]), float(first.PixelSpacing[1]))
    assert not lungs(hu.astype(np.int16), spacing).any()
