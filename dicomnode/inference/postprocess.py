"""What is done to a network's answer before it becomes labels: gas beyond a wall, components, holes, volumes.

Pure, and on the network's own coarse grid: where the rules change a voxel's label its scores are changed to agree, so
that interpolating the scores to the source grid afterwards yields smooth edges of what was kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicomnode.manifest import Gas, Postprocess

Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

MARGIN = np.float32(1)  # by which a changed label leads, in logits


def clean(scores: Scores, rule: Postprocess, *, voxel_ml: float, hu: Scores | None = None) -> Labels:
    """Apply the rules to scores (logits), in place.

    Parameters
    ----------
    scores
        (labels, z, y, x); label 0 is background.
    voxel_ml
        Volume of one voxel, ml.
    hu
        Values (z, y, x) that the network saw, in HU: a rule on gas needs them.

    Returns
    -------
    Labels (z, y, x) with the highest score after the rules.
    """
    before: Labels = np.argmax(scores, axis=0).astype(np.uint8)
    labels = ruled(before, rule, voxel_ml=voxel_ml, hu=hu)
    z, y, x = np.nonzero(labels != before)
    scores[labels[z, y, x], z, y, x] = scores[:, z, y, x].max(axis=0) + MARGIN
    return labels


def ruled(before: Labels, rule: Postprocess, *, voxel_ml: float, hu: Scores | None = None) -> Labels:
    """Labels (z, y, x) after the rules, as a new array; parameters as those of `clean`."""
    labels = before.copy()
    numbers = range(1, int(labels.max(initial=0)) + 1)
    if rule.gas is not None and hu is not None:
        for number in numbers:
            _drop_gas(labels, number, hu, rule=rule.gas, voxel_ml=voxel_ml)
    if rule.keep_largest_per_label:
        for number in numbers:
            _keep_largest(labels, number, rule.share_of_largest, least=rule.minimum_component_ml / voxel_ml)
    if rule.fill_holes:
        for number in numbers:
            _fill_holes(labels, number)
    for number in numbers:
        own = labels == number
        if np.count_nonzero(own) * voxel_ml < rule.minimum_component_ml:
            labels[own] = 0
    return labels


def _drop_gas(labels: Labels, number: int, hu: Scores, *, rule: Gas, voxel_ml: float) -> None:
    """Take gas out of a label that a wall parts from the label's largest airy piece; the wall goes to the nearer one."""
    boxes = ndimage.find_objects((labels == number).view(np.uint8))
    if not boxes:
        return
    part, values = labels[boxes[0]], hu[boxes[0]]
    own = part == number
    pieces, count = ndimage.label(own & (values < rule.wall_hu))
    if count < 2:
        return
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    large = np.flatnonzero(sizes * voxel_ml >= max(rule.minimum_piece_ml, voxel_ml))
    medians = np.asarray(ndimage.median(values, pieces, large))
    if len(large) < 2:
        return
    limit = min(medians[large == sizes.argmax()].item() - rule.darker_by_hu, rule.gas_hu)
    gas = large[medians < limit]
    if len(gas):
        nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
        part[own & np.isin(pieces[tuple(nearest)], gas)] = 0


def _keep_largest(labels: Labels, number: int, share: float, *, least: float) -> None:
    """Keep the largest piece, and others of a share of it that alone would be enough; connected over faces.

    What touches at an edge alone comes apart on a finer grid.
    """
    pieces, count = ndimage.label(labels == number)
    if count > 1:
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        kept = (sizes >= max(share * sizes.max(), least)) & (share < 1)
        kept[sizes.argmax()] = True
        labels[(pieces != 0) & ~kept[pieces]] = 0


def _fill_holes(labels: Labels, number: int) -> None:
    """Give background from which no path over faces leads out of the label to that label."""
    boxes = ndimage.find_objects((labels == number).view(np.uint8))
    if not boxes:
        return
    part = labels[boxes[0]]
    pieces, count = ndimage.label(np.pad(part != number, 1, constant_values=True))
    if count > 1:  # piece 1 is the padding and what it reaches
        part[(pieces[1:-1, 1:-1, 1:-1] > 1) & (part == 0)] = number
