"""plastimatch, a reader from radiotherapy, makes masks of an RT Structure Set: they are those that it was made of."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.encoded import encode_part10
from tests import tools
from tests.conformance import results_material
from tests.conformance.results_material import RTSTRUCT, Written
from tests.conformance.sources import SOURCES
from tests.conformance.test_results_dcmqi import nrrd_points
from tests.conformance.test_results_geometry import in_space

#: Kinds of sources that plastimatch can hold: one grid with one step in each direction, an image for each plane.
KINDS = ("axial", "oblique")
NAMES = {"AI Right lung.nrrd": 1, "AI Left lung.nrrd": 2}


def with_holes() -> NDArray[np.uint8]:
    """Two bodies with holes, an island in a hole, corners that touch, and single pixels."""
    labels = results_material.ellipsoids(6, 40, 48)
    labels[2:5, 18:23, 11:18] = 0
    labels[3, 20, 14] = 1
    labels[2, 15:30, 30:36][np.random.default_rng(1).random((15, 6)) < 0.3] = 0
    labels[1, 2, 2] = labels[1, 3, 3] = 2
    return labels


def masks_of(written: Written, folder: Path) -> dict[tuple[float, ...], int]:
    """Patient coordinates of every voxel that plastimatch fills → label."""
    images = folder / "images"
    images.mkdir()
    for number, header in enumerate(written.originals):
        (images / f"{number}.dcm").write_bytes(encode_part10(_image(header), transfer_syntax_uid="1.2.840.10008.1.2.1"))
    program = tools.require("plastimatch", setup="sh deploy/setup-system.sh contours")
    command = [program, "convert", "--input", written.kinds[RTSTRUCT], "--referenced-ct", images]
    command += ["--output-prefix", folder / "masks", "--prefix-format", "nrrd"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    found: dict[tuple[float, ...], int] = {}
    for name, number in NAMES.items():
        found |= nrrd_points(folder / "masks" / name, number)
    return found


def _image(header: Dataset) -> Dataset:
    """An image that is all zero, of a header without pixels."""
    image = header.copy()
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.RescaleIntercept, image.RescaleSlope = "0", "1"
    image.PixelData = bytes(2 * image.Rows * image.Columns)
    return image


@pytest.mark.parametrize("labels", [results_material.ellipsoids(6, 40, 48), with_holes()], ids=["plain", "holes"])
@pytest.mark.parametrize("kind", KINDS)
def test_plastimatch_fills_the_masks_pixel_by_pixel(kind: str, labels: NDArray[np.uint8], tmp_path: Path) -> None:
    written = results_material.write(tmp_path, SOURCES[kind](), labels, (RTSTRUCT,))
    places = [(np.array([float(v) for v in one.ImagePositionPatient]), one) for one in written.originals]
    expected = in_space(labels, places)
    assert set(expected.values()) == {1, 2}
    assert masks_of(written, tmp_path) == expected
