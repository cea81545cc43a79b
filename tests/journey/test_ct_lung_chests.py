"""The shipped lungs on two real chests that came with another package, one with a tumour of 48 ml under the chest wall.

What is lung here: air inside the body but airways, each slice closed, the sides parted where they are apart; and the
tumour as a human reader drew it. So this is a coarser truth than contours, and the floors are lower.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from dicomnode.inference import package as packages
from tests import tools
from tests.journey.test_ct_lung_quality import Lungs, Spacing, dice

Mask = npt.NDArray[np.bool_]


def read(path: Path) -> tuple[npt.NDArray[np.int16], Spacing]:
    """A gzipped NRRD of whole numbers in canonical orientation."""
    head, body = path.read_bytes().split(b"\n\n", 1)
    sizes = [int(size) for size in re.findall(r"sizes: (\d+) (\d+) (\d+)", head.decode())[0]]
    steps = re.findall(r"directions: \(([\d.]+),0,0\) \(0,([\d.]+),0\) \(0,0,([\d.]+)\)", head.decode())[0]
    kind = "<u2" if b"type: unsigned short" in head or b"type: uint16" in head else "<i2"
    values = np.frombuffer(gzip.decompress(body), kind).reshape(sizes[::-1]).astype(np.int16)
    return values, (float(steps[2]), float(steps[1]), float(steps[0]))


def aerated(hu: npt.NDArray[np.int16], spacing: Spacing) -> tuple[Mask, Mask]:
    """Air of the right and of the left lung by threshold alone: the two largest pieces inside the body, or one cut in the middle."""
    body = ndimage.binary_opening(hu > -350, iterations=2)
    names, count = ndimage.label(body)
    largest = names == 1 + int(np.bincount(names.ravel(), minlength=count + 1)[1:].argmax())
    inside = np.stack([ndimage.binary_fill_holes(plane) for plane in largest])
    air = ndimage.binary_opening(inside & (hu < -600) & (hu > -985), np.ones((1, 5, 5), bool))
    names, count = ndimage.label(air)
    sizes = np.bincount(names.ravel(), minlength=count + 1)[1:]
    order = sizes.argsort()[::-1]
    pieces = [names == 1 + int(number) for number in order[:2]]
    assert sizes[order[1]] * np.prod(spacing) > 3e5, "the lungs hang together"
    pieces.sort(key=lambda piece: float(np.nonzero(piece)[2].mean()))
    return pieces[0], pieces[1]


@pytest.fixture(scope="module")
def lungs() -> Lungs:
    return Lungs(packages.load(packages.shipped_models_folder() / "ct-lung"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lung1", "lung2"])
def test_each_aerated_lung_is_found_whole_and_on_its_side(lungs: Lungs, name: str) -> None:
    hu, spacing = read(tools.fetched_chests() / f"{name}_image.nrrd")
    found = lungs(hu, spacing)
    for label, air in zip((1, 2), aerated(hu, spacing), strict=True):
        assert (found[air] == label).mean() > 0.97
        assert (found[air] == 3 - label).mean() < 0.001
        assert dice(found == label, air) > 0.93  # vessels and the rim are lung, too
