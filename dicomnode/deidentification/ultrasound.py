"""Regions of an ultrasound image, (0018,6011): what of a frame they say is picture, and whether they can be believed. Pure.

All else of the frame is blanked. Regions that leave next to nothing beside them blank nothing: banners stand within.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.deidentification.reader import Box
from dicomnode.deidentification.stored import number_of
from dicomnode.errors import StudyError

#: Region Location Min X0, Min Y0, Max X1, Max Y1 (PS3.3 C.8.5.5).
_CORNERS: Final = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
_MOST: Final = 256
_BESIDE: Final = 20  # a banner takes so manyth part of a frame and more


def regions_of(dataset: Dataset, items: Iterable[Dataset], *, everywhere: bool) -> tuple[Box, ...]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of the regions of a frame, within it.

    Parameters
    ----------
    dataset, items
        The image, and the items of its sequence.
    everywhere
        Whether they may cover all of the frame: somebody reads what stands within.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a corner is missing or its region is the wrong way round, where none of them has a size
        within the frame, or where they leave less than a twentieth of it and may not.
    """
    rows, columns = number_of(dataset, 0x00280010), number_of(dataset, 0x00280011)
    regions = []
    for item in items:
        x0, y0, x1, y1 = (number_of(item, tag, -1) for tag in _CORNERS)
        if min(x0, y0, x1, y1) < 0 or x0 > x1 or y0 > y1:
            raise StudyError("withheld-pixels", because="regions")
        if x0 < min(x1, columns - 1) and y0 < min(y1, rows - 1):
            regions.append((x0, y0, min(x1, columns - 1), min(y1, rows - 1)))
    beside = rows * columns - _area(regions) if 0 < len(regions) <= _MOST else 0
    if not regions or (beside * _BESIDE <= rows * columns and not everywhere):
        raise StudyError("withheld-pixels", because="regions")
    return tuple(regions)


def _area(regions: list[Box]) -> int:
    """Pixels that regions cover together."""
    xs = np.unique([edge for x0, _, x1, _ in regions for edge in (x0, x1 + 1)])
    ys = np.unique([edge for _, y0, _, y1 in regions for edge in (y0, y1 + 1)])
    covered = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for x0, y0, x1, y1 in regions:
        left, right = np.searchsorted(xs, (x0, x1 + 1))
        top, bottom = np.searchsorted(ys, (y0, y1 + 1))
        covered[top:bottom, left:right] = True
    return int((np.outer(np.diff(ys), np.diff(xs)) * covered).sum())
