"""Regions of an ultrasound image, (0018,6011): what of a frame they say is picture, and whether they can be believed. Pure.

All else of the frame is blanked. What stands within is read, or the image is withheld: banners, names and legends stand
there, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.deidentification.nesting import items_of
from dicomnode.deidentification.reader import Box
from dicomnode.deidentification.stored import number_of
from dicomnode.errors import StudyError

_REGIONS: Final = 0x00186011
#: Region Location Min X0, Min Y0, Max X1, Max Y1 (PS3.3 C.8.5.5).
_CORNERS: Final = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)


def own_regions(dataset: Dataset) -> tuple[Box, ...] | None:
    """Regions that an image has, as `regions_of`; None where it says nothing of them."""
    items = items_of(dataset, _REGIONS) if _REGIONS in dataset else None
    return regions_of(dataset, items) if items else None


def regions_of(dataset: Dataset, items: Iterable[Dataset]) -> tuple[Box, ...]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of the regions of a frame, within it.

    Parameters
    ----------
    dataset, items
        The image, and the items of its sequence.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a corner is missing or its region is the wrong way round, or where none of them has a size
        within the frame.
    """
    rows, columns = number_of(dataset, 0x00280010), number_of(dataset, 0x00280011)
    regions = []
    for item in items:
        x0, y0, x1, y1 = (number_of(item, tag, -1) for tag in _CORNERS)
        if min(x0, y0, x1, y1) < 0 or x0 > x1 or y0 > y1:
            raise StudyError("withheld-pixels", because="regions")
        if x0 < min(x1, columns - 1) and y0 < min(y1, rows - 1):
            regions.append((x0, y0, min(x1, columns - 1), min(y1, rows - 1)))
    if not regions:
        raise StudyError("withheld-pixels", because="regions")
    return tuple(regions)
