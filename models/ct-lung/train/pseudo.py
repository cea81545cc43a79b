"""Pseudo-labels of real scans by classical image processing: threshold, body, airways, sides, closing.

May live here: what turns HU into lung labels without a network. May not: file reading, training.
Label 255 marks voxels where the method is not trusted (around the hila, in juxta-pleural masses): training ignores them.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

AIR_HU = -450.0
AIRWAY_AREA_MM2 = 900.0
IGNORED = 255


def body_mask(hu: np.ndarray) -> np.ndarray:
    """Everything inside the skin: the largest dense component, filled slice by slice."""
    dense = ndimage.binary_opening(hu > -350, iterations=3)
    names, count = ndimage.label(dense)
    if count == 0:
        return dense
    largest = names == 1 + int(np.argmax(np.bincount(names.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(ndimage.binary_closing(plane, iterations=3)) for plane in largest])


def airways(air: np.ndarray, hu: np.ndarray, *, pixel_mm2: float, middle: float, reach: float) -> np.ndarray:
    """Trachea and main bronchi: small dark round components near the middle of each slice."""
    found = np.zeros_like(air)
    for z, plane in enumerate(air):
        names, count = ndimage.label(plane)
        for value, box in enumerate(ndimage.find_objects(names), start=1):
            if box is None or count == 0:
                continue
            part = names[box] == value
            area = part.sum() * pixel_mm2
            centre = (box[1].start + box[1].stop) / 2.0
            if 15.0 < area < AIRWAY_AREA_MM2 and abs(centre - middle) < reach and hu[z][box][part].mean() < -800:
                found[z][box] |= part
    return found


def split_sides(lung: np.ndarray, spacing: tuple[float, float, float], middle: float) -> np.ndarray:
    """Right (1) and left (2): each voxel belongs to the nearest core; cores are what an erosion leaves apart."""
    if not lung.any():
        return np.zeros(lung.shape, dtype=np.uint8)
    distance = ndimage.distance_transform_edt(lung, sampling=spacing)
    cores = np.zeros(lung.shape, dtype=np.uint8)
    for depth in (0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0):
        names, count = ndimage.label(distance > depth)
        if count == 0:
            break
        centres = np.array(ndimage.center_of_mass(names > 0, names, range(1, count + 1)))[:, 2]
        sizes = np.bincount(names.ravel(), minlength=count + 1)[1:]
        cores = np.concatenate([[0], np.where(centres < middle, 1, 2)]).astype(np.uint8)[names]
        if abs(centres[int(sizes.argmax())] - middle) * spacing[2] > 40.0:
            break
    nearest = ndimage.distance_transform_edt(cores == 0, sampling=spacing, return_distances=False, return_indices=True)
    return np.where(lung, cores[tuple(nearest)], 0).astype(np.uint8)


def _disk(radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    ry, rx = radius_mm / spacing[1], radius_mm / spacing[2]
    y, x = np.ogrid[-int(ry) : int(ry) + 1, -int(rx) : int(rx) + 1]
    return (y / ry) ** 2 + (x / rx) ** 2 <= 1.0


def close_slices(mask: np.ndarray, radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    """Close each slice by a disk (done by distance, as big disks are slow otherwise)."""
    closed = np.zeros_like(mask)
    for z, plane in enumerate(mask):
        if plane.any():
            margin = int(radius_mm / spacing[1]) + 2
            padded = np.pad(plane, margin)
            near = ndimage.distance_transform_edt(~padded, sampling=spacing[1:]) <= radius_mm
            back = ndimage.distance_transform_edt(near, sampling=spacing[1:]) > radius_mm
            closed[z] = ndimage.binary_fill_holes(back | padded)[margin:-margin, margin:-margin]
    return closed


def pseudo_labels(hu: np.ndarray, spacing: tuple[float, float, float], *, from_top: bool = False) -> np.ndarray:
    """Label a scan: 0 background, 1 right, 2 left, 255 not trusted.

    Parameters
    ----------
    hu : numpy.ndarray
        (z, y, x), canonical orientation.
    spacing : tuple of float
        mm, (z, y, x).
    from_top : bool
        Keep only air in the back that reaches the uppermost slice (slabs of the lung bases, where bowel gas is inside too).
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), (0.0, 0.7, 0.7))
    body = body_mask(hu)
    air = body & (smooth < AIR_HU)
    middle = float(np.median(np.nonzero(body)[2]))
    found = airways(air, smooth, pixel_mm2=spacing[1] * spacing[2], middle=middle, reach=48.0 / spacing[2])
    lung = air & ~found
    if not from_top:
        lung = ndimage.binary_opening(lung, structure=_disk(1.8, spacing)[None])
    names, count = ndimage.label(lung)
    sizes = np.bincount(names.ravel(), minlength=count + 1) * float(np.prod(spacing)) / 1000.0
    keep = sizes > (0.4 if from_top else 150.0)
    keep[0] = False
    if from_top:
        centres = np.array(ndimage.center_of_mass(lung, names, range(1, count + 1))).reshape(count, 3)[:, 1]
        keep[1:] &= (centres - float(np.median(np.nonzero(body)[1]))) * spacing[1] > 20.0
        touching = np.unique(names[-1:])
        keep &= np.isin(np.arange(count + 1), touching)
    sides = split_sides(keep[names], spacing, middle)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    doubt = np.zeros(hu.shape, dtype=bool)
    wide = np.zeros(hu.shape, dtype=bool)
    for side in (1, 2):
        part = close_slices(sides == side, 6.0, spacing)
        wide |= close_slices(part, 14.0, spacing)
        labels[part & (labels == 0) & ~found] = side
    doubt |= wide & (labels == 0) & ~ndimage.binary_dilation(found, iterations=3)
    labels[doubt] = IGNORED
    if from_top:
        labels[air & (labels == 0) & (np.arange(hu.shape[1])[None, :, None] > np.median(np.nonzero(body)[1]))] = IGNORED
    return labels
