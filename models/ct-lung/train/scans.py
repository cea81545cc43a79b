"""Real CT series for the recipe: reading, canonical orientation, classical pseudo-labels' input.

Only file reading and geometry may live here; nothing that knows the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """A CT volume in canonical orientation.

    Attributes
    ----------
    name : str
        Folder name of the set.
    hu : numpy.ndarray
        int16, axes (z, y, x), growing toward Superior, Posterior, Left.
    spacing : tuple of float
        Distance between voxel centres in mm, (z, y, x).
    origin : tuple of float
        Patient coordinates (x, y, z) of voxel (0, 0, 0), mm.
    """

    name: str
    hu: np.ndarray
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]


def read_scan(folder: Path, *, name: str = "") -> Scan:
    """Read one axial CT series from a folder into canonical orientation.

    Raises
    ------
    ValueError
        If the folder holds no axial CT slices or their spacing is not uniform.
    """
    slices = []
    for path in sorted(folder.iterdir()):
        try:
            image = pydicom.dcmread(path)
        except (pydicom.errors.InvalidDicomError, IsADirectoryError):
            continue
        if image.get("Modality") == "CT" and "PixelData" in image and "ImagePositionPatient" in image:
            slices.append(image)
    if not slices:
        raise ValueError(f"no CT slices in {folder}")
    slices.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    heights = np.array([float(image.ImagePositionPatient[2]) for image in slices])
    steps = np.diff(heights)
    if len(steps) == 0 or steps.max() - steps.min() > 0.1:
        raise ValueError(f"slices of {folder} are not uniformly spaced")
    first = slices[0]
    if np.abs(np.array(first.ImageOrientationPatient, dtype=float) - [1, 0, 0, 0, 1, 0]).max() > 1e-3:
        raise ValueError(f"{folder} is not axial, head first or feet first supine")
    planes = [
        image.pixel_array.astype(np.float32) * float(image.RescaleSlope) + float(image.RescaleIntercept)
        for image in slices
    ]
    hu = np.clip(np.rint(np.stack(planes)), -32768, 32767).astype(np.int16)
    x, y = float(first.ImagePositionPatient[0]), float(first.ImagePositionPatient[1])
    row, column = (float(value) for value in first.PixelSpacing)
    return Scan(
        name=name or folder.name,
        hu=hu,
        spacing=(float(steps.mean()), row, column),
        origin=(x, y, float(heights[0])),
    )
