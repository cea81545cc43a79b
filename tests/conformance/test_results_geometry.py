"""Mask → segmentation → mask, read by others: by highdicom, and by position with nothing but pydicom and numpy."""

from __future__ import annotations

from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicomnode.study import ResultRole
from tests.conformance import results_material
from tests.conformance.results_material import KINDS, RTSTRUCT, Written
from tests.conformance.sources import SOURCES, everything
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
    found: dict[tuple[float, ...], int] = {}
    for plane, (position, source) in zip(labels, rows_first, strict=True):
        orientation = np.array([float(v) for v in source.ImageOrientationPatient])
        spacing = [float(v) for v in source.PixelSpacing]
        rows, columns = np.nonzero(plane)
        across = orientation[:3] * columns[:, None] * spacing[1]
        points = position + across + orientation[3:] * rows[:, None] * spacing[0]
        found |= zip(rounded(points), plane[rows, columns].tolist(), strict=True)
    return found


def rounded(points: NDArray[np.float64]) -> list[tuple[float, ...]]:
    """Coordinates, (points, 3), to 0.01 mm and without a negative zero."""
    return [tuple(point) for point in (np.round(points, 2) + 0.0).tolist()]


def points_of(path: Path) -> dict[tuple[float, ...], int]:
    """The same of a segmentation file in any form, from its own attributes alone."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    frames = frames // int(dataset.get("MaximumFractionalValue") or 1)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    plane = Dataset()
    plane.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    plane.PixelSpacing = shared.PixelMeasuresSequence[0].PixelSpacing
    found: dict[tuple[float, ...], int] = {}
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identified = group.get("SegmentIdentificationSequence")  # in a label map the values say it
        number = identified[0].ReferencedSegmentNumber if identified else 1
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


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "flat"])
def test_every_form_gives_every_voxel_back_on_the_planes_of_every_source(kind: str) -> None:
    written = everything(kind)
    positions = [(np.array([float(v) for v in o.ImagePositionPatient]), o) for o in written.originals]
    expected = in_space(written.labels, positions)
    assert len(expected) > 50
    forms = [variant for variant in KINDS if variant.role is ResultRole.SEGMENTATION and variant != RTSTRUCT]
    assert len(forms) == 3
    for variant in forms:
        assert points_of(written.kinds[variant]) == expected, variant.name


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if "enhanced" in kind])
def test_frames_of_a_multi_frame_image_are_named(kind: str) -> None:
    written = everything(kind)
    segmentation = pydicom.dcmread(written.files[ResultRole.SEGMENTATION])
    by_place = {tuple(map(float, one.ImagePositionPatient)): one for one in written.originals}
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        place = tuple(map(float, group.PlanePositionSequence[0].ImagePositionPatient))
        original = min(by_place.items(), key=lambda pair: np.abs(np.subtract(pair[0], place)).max())[1]
        (reference,) = group.DerivationImageSequence[0].SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == original.SOPClassUID
        assert reference.ReferencedFrameNumber == original.ReferencedFrameNumber
    (series,) = segmentation.ReferencedSeriesSequence
    (instance,) = series.ReferencedInstanceSequence
    assert instance.ReferencedSOPInstanceUID == written.originals[0].SOPInstanceUID


@pytest.mark.parametrize("kind", ["axial", "oblique", "gantry-tilt", "irregular", "enhanced-mr"])
def test_contours_of_a_structure_set_enclose_the_mask(kind: str) -> None:
    written = everything(kind)
    structures = pydicom.dcmread(written.kinds[RTSTRUCT])
    assert structures.ApprovalStatus == "UNAPPROVED"
    assert structures.StructureSetLabel == "AI UNAPPROVED"
    for roi in structures.ROIContourSequence:
        number = int(roi.ReferencedROINumber)
        filled = np.zeros(written.labels.shape, np.uint8)
        for item in roi.ContourSequence:
            index, points = on_plane(np.array(item.ContourData, float).reshape(-1, 3), written.originals)
            picture = Image.fromarray(filled[index])
            ImageDraw.Draw(picture).polygon([tuple(point) for point in points], fill=1)
            filled[index] = np.asarray(picture)
        mask = written.labels == number
        assert dice(filled.astype(bool), mask) > 0.9


def on_plane(points: NDArray[np.float64], originals: list[Dataset]) -> tuple[int, NDArray[np.float64]]:
    """Plane on which points lie exactly, and their pixel indices (column, row)."""
    for index, one in enumerate(originals):
        orientation = np.array([float(value) for value in one.ImageOrientationPatient])
        offset = points - [float(value) for value in one.ImagePositionPatient]
        if np.abs(offset @ np.cross(orientation[:3], orientation[3:])).max() < 0.01:
            rows, columns = (float(value) for value in one.PixelSpacing)
            return index, np.stack([offset @ orientation[:3] / columns, offset @ orientation[3:] / rows], axis=1)
    raise AssertionError("a contour lies on no plane of the source")


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
