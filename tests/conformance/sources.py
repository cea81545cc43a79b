"""Kinds of sources, made here and real, with every kind of object that is made of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pydicom.dataset import Dataset

from tests.conformance import results_material
from tests.conformance.results_material import KINDS, MAP, RTSTRUCT, Written
from tests.unit.results import material

OBLIQUE = (0.866025, 0.0, -0.5, 0.0, 1.0, 0.0)


def uneven() -> list[Dataset]:
    """Slices of 2.5 mm, of which the fourth lies a millimetre off and the fifth is missing."""
    series = material.source_series(7)
    x, y, z = series[3].ImagePositionPatient
    series[3].ImagePositionPatient = [x, y, f"{float(z) + 1:.8g}"]
    return [*series[:4], *series[5:]]


def tilted() -> list[Dataset]:
    """Slices sheared by a gantry tilt of 15 degrees."""
    series = material.source_series(6)
    for index, one in enumerate(series):
        x, y, z = one.ImagePositionPatient
        one.ImagePositionPatient = [x, f"{float(y) + 0.67 * index:.8g}", z]
    return series


#: Kind of source → its planes in source order.
SOURCES: dict[str, Callable[[], list[Dataset]]] = {
    "axial": material.source_series,
    "oblique": lambda: material.source_series(orientation=OBLIQUE),
    "enhanced-mr": lambda: results_material.real("enhanced_mr", "hyperfine"),
    "enhanced-mr-brain": lambda: results_material.real("enhanced_mr", "philips_enhanced"),
    "legacy-enhanced-ct": lambda: results_material.real("dcmqi_seg_sr", "segmentations", "24x38x3", "multiframe"),
    "gantry-tilt": tilted,
    "gantry-tilt-real": lambda: results_material.real("geometry_edges", "gantrytilting"),
    "irregular": uneven,
    "irregular-real": lambda: results_material.real("geometry_edges", "sliceincrement"),
    "flat": results_material.flat,
}
#: Those that a grid with one step in each direction describes.
EVEN = ("axial", "oblique", "enhanced-mr", "enhanced-mr-brain", "legacy-enhanced-ct")
#: Goes with the process.
_FOLDER = tempfile.TemporaryDirectory(prefix="dicomnode-conformance-")


@cache
def everything(kind: str) -> Written:
    """Every kind of object of a kind of source: made once, to be read by all and changed by none."""
    folder = Path(_FOLDER.name, kind)
    folder.mkdir()
    originals = SOURCES[kind]()
    shape = len(originals), int(originals[0].Rows), int(originals[0].Columns)
    labels = results_material.ellipsoids(*shape) if shape[0] > 1 else material.labels_for()[3:4]
    spatial = "ImagePositionPatient" in originals[0]
    place = results_material.middle_of(originals[len(originals) // 2]) if spatial else None
    return results_material.write(
        folder,
        originals,
        labels,
        tuple(variant for variant in KINDS if spatial or variant not in (RTSTRUCT, MAP)),
        findings=results_material.full_findings(place=place),
        voxel_map=results_material.probabilities(labels) if spatial else None,
    )
