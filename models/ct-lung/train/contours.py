"""Human lung contours of an RT Structure Set as a label volume.

May live here: reading and filling closed planar contours (PS3.3 C.8.8.6). May not: pseudo-labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, ImageDraw
from scans import Scan


def fill_contour(points: np.ndarray, shape: tuple[int, int], *, fine: int = 4) -> np.ndarray:
    """Voxels (y, x) whose centre lies inside a polygon given in voxel coordinates (x, y)."""
    rows, columns = shape
    picture = Image.new("1", (columns * fine, rows * fine))
    corners = [((x + 0.5) * fine - 0.5, (y + 0.5) * fine - 0.5) for x, y in points]
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    share = np.asarray(picture, dtype=np.float32).reshape(rows, fine, columns, fine).mean(axis=(1, 3))
    return share >= 0.5


def lung_contours(folder: Path, scan: Scan) -> np.ndarray:
    """Labels from the ROIs LUNG_R (1) and LUNG_L (2) of the folder's RTSTRUCT; inner contours cut holes."""
    for path in sorted(folder.iterdir()):
        structures = pydicom.dcmread(path, force=True)
        if structures.get("Modality") == "RTSTRUCT":
            break
    else:
        raise ValueError(f"no RTSTRUCT in {folder}")
    wanted = {"LUNG_R": 1, "LUNG_L": 2}
    numbers = {int(r.ROINumber): wanted[r.ROIName] for r in structures.StructureSetROISequence if r.ROIName in wanted}
    labels = np.zeros(scan.hu.shape, dtype=np.uint8)
    for contour in structures.ROIContourSequence:
        value = numbers.get(int(contour.ReferencedROINumber))
        if value is None:
            continue
        planes: dict[int, np.ndarray] = {}
        for item in contour.ContourSequence:
            points = np.array(item.ContourData, dtype=float).reshape(-1, 3)
            z = round((points[0, 2] - scan.origin[2]) / scan.spacing[0])
            flat = (points[:, :2] - scan.origin[:2]) / [scan.spacing[2], scan.spacing[1]]
            inside = fill_contour(flat, scan.hu.shape[1:])
            planes[z] = planes[z] ^ inside if z in planes else inside
        for z, plane in planes.items():
            labels[z][plane] = value
    return labels
