"""A head's brain is found in every pose, contrast and orientation, its face goes, and not one voxel of brain with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from dicomnode.errors import StudyError
from dicomnode.imaging.balloon import Grid, middle_and_spread, normals, sphere, volume_ml
from dicomnode.imaging.brain import find_brain, has_no_skull
from dicomnode.imaging.phantom import abdomen_phantom, chest_phantom, legs_phantom
from tests import pace
from tests.head_phantom import GREY, WHITE, Pose, Scan, defaced, face_surface, taken_off

SAGITTAL = {"view": "sagittal", "size": (150, 132), "low": -105.0, "high": 105.0}
CORONAL = {"view": "coronal", "size": (150, 120), "low": -130.0, "high": 130.0}
OBLIQUE = {"view": ((0.94, 0.34, 0.0), (-0.3214, 0.883, -0.342)), "size": (142, 142), "low": -160.0, "high": 120.0}


def measured(scan: Scan) -> tuple[int, float]:
    """Voxels of brain that changed, and the share of the face's surface (as far as it is in view) that moved by 8 mm."""
    before, after = defaced(scan)
    brain = np.isin(scan.tissue(), (GREY, WHITE))
    right, down, through = scan.directions()
    from_corner = scan.pose.to_patient(face_surface()) - scan.planes()[0]
    places = np.stack(
        [from_corner @ through / scan.step, from_corner @ down / scan.pixel, from_corner @ right / scan.pixel]
    )
    places = places[:, ((places >= 0) & (places <= np.array(before.shape)[:, None] - 1)).all(axis=0)]
    assert places.shape[1] > 1000
    solid = ndimage.binary_opening(after > (1024 - 400 if scan.is_ct else 60))
    away = ndimage.distance_transform_edt(~solid, sampling=(scan.step, scan.pixel, scan.pixel))
    moved = ndimage.map_coordinates(away, places, order=1, mode="nearest") > 8
    return int(((before != after) & brain).sum()), float(moved.mean())


@pytest.mark.parametrize(
    ("contrast", "how"),
    pace.cases(
        [  # each contrast, plane and tilt, and what lies beside
            ("ct", {"pose": Pose(tilt=20, turn=-15), "beside": ("hand",)}),
            ("t1", {**SAGITTAL, "pose": Pose(turn=20, nod=10), "step": 5.0}),
            ("ct", {"drift": 0.25, "size": (160, 120), "low": -110.0}),
            ("t2", {"pose": Pose(tilt=-20), "noise": 0.05}),
            ("flair", {**CORONAL, "pose": Pose(nod=10, tilt=10, turn=-10)}),
        ],
        [
            ("ct", {"pose": Pose(nod=20)}),
            ("ct", {"low": -50.0, "beside": ("arms",)}),
            ("ct", {**CORONAL, "noise": 0.05, "beside": ("headrest",)}),
            ("t1", {"pose": Pose(nod=-20), "beside": ("headrest",)}),
            ("t1", OBLIQUE),
            ("t2", SAGITTAL),
        ],
    ),
)
def test_a_face_goes_and_the_brain_stays(contrast: str, how: dict[str, Any]) -> None:
    changed, moved = measured(Scan(contrast=contrast, **how))
    assert changed == 0
    least = (
        0.75 if "drift" in how else 0.9
    )  # a gantry tilted so far leaves the mouth out of view: more of what is seen is brow
    assert moved > least  # what is left lies on the brow and the temples, over the frontal lobes


@pytest.mark.parametrize(
    ("how", "because"),
    pace.cases(
        [
            ({"low": 30.0}, "withheld-face-not-found"),  # the vertex alone
            ({"low": -30.0, "high": 12.0}, "withheld-face-geometry"),  # eleven slices
            ({"high": 80.0}, "withheld-face-not-found"),  # without its vertex
            ({"step": 12.0}, "withheld-face-geometry"),
            ({"noise": 1.5}, "withheld-face-not-found"),
        ],
        [
            ({"high": -40.0}, "withheld-face-not-found"),  # the face without its brain
            ({"high": 35.0}, "withheld-face-not-found"),  # without its vault
        ],
    ),
)
@pytest.mark.parametrize("contrast", ["ct"])
def test_what_is_no_whole_head_is_refused(contrast: str, how: dict[str, Any], because: str) -> None:
    with pytest.raises(StudyError) as caught:
        defaced(Scan(contrast=contrast, **how))
    assert caught.value.code == because


@pytest.mark.parametrize(
    ("contrast", "orientation"),
    pace.cases([("ct", ("-1", "0", "0", "0", "-1", "0"))], [("t1", ("1", "0", "0", "0", "-1", "0"))]),
)
def test_a_head_that_says_it_looks_backward_is_refused(contrast: str, orientation: tuple[str, ...]) -> None:
    with pytest.raises(StudyError, match="withheld-face-not-found"):
        defaced(Scan(contrast=contrast, low=-110.0), ImageOrientationPatient=list(orientation))


@pytest.mark.parametrize("contrast", pace.cases(["t1"], ["ct"]))
def test_a_head_that_says_it_stands_on_its_top_is_refused(contrast: str) -> None:
    series = Scan(contrast=contrast).series()
    for ds in series:
        x, y, z = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, -z]
    with pytest.raises(StudyError, match="withheld-face-not-found"):
        taken_off(series)


@pytest.mark.parametrize("make", pace.cases([chest_phantom, legs_phantom], [abdomen_phantom]))
def test_other_bodies_have_no_skull_and_no_brain(make: Any) -> None:
    body = make(np.random.default_rng(3), shape=(60, 96, 96), spacing=(5.0, 4.0, 4.0))
    affine = np.zeros((4, 4))
    affine[[0, 1, 2, 3], [2, 1, 0, 3]] = (*body.spacing[::-1], 1.0)
    grid = Grid(values=body.hu.astype(np.float32), affine=affine, beyond=-1000.0)
    assert has_no_skull(grid)
    with pytest.raises(StudyError, match="withheld-face-not-found"):
        find_brain(grid, is_ct=True)
    with pytest.raises(StudyError, match="withheld-face-not-found"):
        find_brain(Grid(values=grid.values + 1000, affine=affine), is_ct=False)


def test_a_volume_without_contrast_is_refused() -> None:
    for values in (np.zeros((20, 30, 30), np.float32), np.eye(30, dtype=np.float32)[None].repeat(20, 0)):
        with pytest.raises(StudyError, match="withheld-face-not-found"):
            find_brain(Grid(values=values, affine=np.eye(4)), is_ct=False)


def test_a_mesh_knows_what_it_encloses() -> None:
    unit, triangles, beside = sphere()
    assert (len(unit), len(triangles), beside.shape) == (642, 1280, (642, 6))
    body = unit * (80, 60, 50) + (3, 4, 5)
    assert volume_ml(body) == pytest.approx(4 / 3 * np.pi * 80 * 60 * 50 / 1000, rel=0.02)
    middle, spread = middle_and_spread(body)
    assert middle == pytest.approx((3, 4, 5), abs=0.05)
    assert np.sqrt(5 * np.diag(spread)) == pytest.approx((80, 60, 50), rel=0.01)
    assert np.einsum("ij,ij->i", normals(unit), unit).min() > 0.999
