"""Mask → segmentation → mask, read by others: by highdicom, and by position with nothing but pydicom and numpy."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.study import ResultRole
from tests.conformance import results_material
from tests.conformance.results_material import Written
from tests.unit.results import material

ORIENTATIONS = {
    "axial": material.AXIAL,
    "feet first": (-1, 0, 0, 0, 1, 0),
    "prone": (-1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "oblique": (0.866025, 0.0, -0.5, 0.0, 1.0, 0.0),
}


def in_space(
    labels: NDArray[np.uint8], rows_first: list[tuple[NDArray[np.float64], Dataset]]
) -> dict[tuple[float, ...], int]:
    """Patient coordinates (0.01 mm) of every labelled voxel → label."""
    found = {}
    for plane, (position, source) in zip(labels, rows_first, strict=True):
        orientation = np.array([float(v) for v in source.ImageOrientationPatient])
        spacing = [float(v) for v in source.PixelSpacing]
        for row, column in np.argwhere(plane):
            point = position + orientation[:3] * column * spacing[1] + orientation[3:] * row * spacing[0]
            found[tuple(np.round(point, 2) + 0.0)] = int(plane[row, column])
    return found


def points_of(path: Path) -> dict[tuple[float, ...], int]:
    """The same of a segmentation file, from its own attributes alone."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    plane = Dataset()
    plane.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    plane.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
    found: dict[tuple[float, ...], int] = {}
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = np.array([float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient])
        found |= in_space((frame * number).astype(np.uint8)[None], [(position, plane)])
    return found


@pytest.fixture(scope="module", params=list(ORIENTATIONS))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    originals = material.source_series(orientation=ORIENTATIONS[request.param])
    return results_material.write(tmp_path_factory.mktemp("geometry"), originals, material.labels_for())


def test_every_voxel_lies_where_it_lay(written: Written) -> None:
    positions = [(np.array([float(v) for v in o.ImagePositionPatient]), o) for o in written.originals]
    expected = in_space(written.labels, positions)
    assert len(expected) > 1000
    assert points_of(written.files[ResultRole.SEGMENTATION]) == expected


def test_highdicom_gives_the_mask_back(written: Written) -> None:
    segmentation = highdicom.seg.segread(written.files[ResultRole.SEGMENTATION])
    uids = [str(original.SOPInstanceUID) for original in written.originals]
    mask = segmentation.get_pixels_by_source_instance(uids, combine_segments=True)
    assert np.array_equal(mask, written.labels)


def test_a_real_chest_round_trips(tmp_path: Path) -> None:
    originals = results_material.thorax()
    labels = results_material.ellipsoids(105, 512, 512)
    written = results_material.write(tmp_path, originals, labels)
    segmentation = highdicom.seg.segread(written.files[ResultRole.SEGMENTATION])
    uids = [str(original.SOPInstanceUID) for original in originals]
    assert np.array_equal(segmentation.get_pixels_by_source_instance(uids, combine_segments=True), labels)
