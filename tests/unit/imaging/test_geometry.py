"""Planes and their order: every check with the numbers that break it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicomnode.errors import StudyError
from dicomnode.imaging.geometry import Tolerances, arrange, canonical_axes
from dicomnode.imaging.plane import Plane, plane_of
from tests.unit.imaging.slices import slice_of

PIXELS = np.zeros((4, 6), np.int16)


def plane(z: Any = 0.0, **changes: Any) -> Any:
    base = Plane(
        sop_instance_uid=f"1.{z}",
        position=(0.0, 0.0, z),
        orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        pixel_spacing=(0.7, 0.8),
        rows=4,
        columns=6,
        slice_thickness=None,
        frame_of_reference_uid="1.2",
    )
    return replace(base, **changes)


def code_of(planes: Any, tolerances: Any = None) -> Any:
    with pytest.raises(StudyError) as caught:
        arrange(planes, tolerances)
    return caught.value.code, caught.value.facts


def test_slices_are_ordered_by_position() -> None:
    geometry = arrange([plane(z) for z in (5.0, 0.0, 2.5)])
    assert geometry.order == (1, 2, 0)
    assert geometry.origin == (0.0, 0.0, 0.0)
    assert geometry.spacing == (2.5, 0.7, 0.8)
    assert geometry.shape == (3, 4, 6)
    assert geometry.slice_direction == (0.0, 0.0, 1.0)
    assert geometry.voxel_volume_ml == pytest.approx(2.5 * 0.7 * 0.8 / 1000)
    assert geometry.voxel_volumes_ml() == pytest.approx([geometry.voxel_volume_ml] * 3)


def test_affine_places_voxels_as_the_standard_does() -> None:
    geometry = arrange([plane(z) for z in (-10.0, -8.0)])
    assert geometry.affine() @ [1, 2, 3, 1] == pytest.approx([3 * 0.8, 2 * 0.7, -8.0, 1])


def test_oblique_slices_are_welcome() -> None:
    angle = math.radians(30)
    orientation = (1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle))
    normal = np.cross(orientation[:3], orientation[3:])
    planes = [plane(0, position=tuple(3.0 * k * normal), orientation=orientation) for k in range(4)]
    geometry = arrange(planes[::-1])
    assert geometry.order == (3, 2, 1, 0)
    assert geometry.spacing[0] == pytest.approx(3.0)
    assert canonical_axes(geometry).permutation == (0, 1, 2)


@pytest.mark.parametrize("count", [0, 1])
def test_one_slice_has_no_spacing(count: Any) -> None:
    assert code_of([plane()] * count) == ("geometry-too-few-slices", {"slices": count})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"frame_of_reference_uid": "9"}, "geometry-mixed-frame-of-reference"),
        ({"rows": 5}, "geometry-mixed-size"),
        ({"columns": 5}, "geometry-mixed-size"),
        ({"pixel_spacing": (0.7, 0.9)}, "geometry-mixed-size"),
        ({"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, "geometry-mixed-orientation"),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, math.cos(0.01), math.sin(0.01))}, "geometry-mixed-orientation"),
    ],
)
def test_a_slice_unlike_the_others(change: Any, code: Any) -> None:
    assert code_of([plane(0), plane(1), plane(2, **change)])[0] == code


def test_orientation_jitter_is_tolerated() -> None:
    tilted = (1.0, 0.0, 0.0, 0.0, math.cos(0.001), math.sin(0.001))
    assert arrange([plane(0), plane(1, orientation=tilted)]).shape[0] == 2


def test_two_slices_at_one_place() -> None:
    assert code_of([plane(0), plane(1), plane(1.001), plane(2)]) == ("geometry-duplicate-position", {"slices": 1})


@pytest.mark.parametrize(
    ("heights", "missing"), [((0, 1, 2, 4, 5), 1), ((0, 1, 2, 6, 7), 3), ((0, 1, 3), 1), ((0, 1, 3, 4, 6, 7), 2)]
)
def test_missing_slices_are_counted(heights: Any, missing: Any) -> None:
    assert code_of([plane(float(z)) for z in heights]) == ("geometry-gap", {"missing": missing, "spacing_mm": 1.0})


def test_uneven_steps_are_no_gap() -> None:
    geometry = arrange([plane(z) for z in (4.4, 0.0, 1.0, 2.0, 3.4)])
    assert geometry.heights == pytest.approx((0.0, 1.0, 2.0, 3.4, 4.4))
    assert geometry.spacing[0] == pytest.approx(1.1)
    assert geometry.widest_step == pytest.approx(1.4)
    face = 0.7 * 0.8 / 1000
    assert geometry.voxel_volumes_ml() == pytest.approx([face, face, 1.2 * face, 1.2 * face, face])


def test_steps_that_are_no_stack() -> None:
    code, facts = code_of([plane(z) for z in (0.0, 1.0, 2.3, 8.6, 9.6)])
    assert code == "geometry-irregular-spacing"
    assert facts == {"median_mm": 1.0, "smallest_mm": 1.0, "largest_mm": 6.3}


def test_a_gap_beside_an_uneven_step_is_uneven() -> None:
    assert arrange([plane(z) for z in (0.0, 1.0, 2.0, 4.0, 5.5, 6.5)]).heights is not None


def test_drift_that_no_single_step_shows() -> None:
    heights = np.concatenate([np.arange(50) * 1.0, 49 + np.arange(1, 51) * 1.09])
    assert arrange([plane(float(z)) for z in heights]).heights == pytest.approx(tuple(heights))


def test_jitter_of_real_scanners_passes() -> None:
    random = np.random.default_rng(0)
    heights = np.arange(60) * 0.625 + random.uniform(-0.04, 0.04, 60)
    assert arrange([plane(float(z)) for z in heights]).spacing[0] == pytest.approx(0.625, abs=0.01)
    rounded = [round(k * 0.625, 1) for k in range(60)]
    assert arrange([plane(z) for z in rounded]).spacing[0] == pytest.approx(0.625, abs=0.002)


def test_a_gantry_tilt_is_kept_as_drift() -> None:
    shift = math.tan(math.radians(12))
    geometry = arrange([plane(0, position=(0.0, 5.0 * k * shift, 5.0 * k)) for k in range(5)])
    assert geometry.heights is None
    assert geometry.drift is not None
    assert np.array(geometry.drift) == pytest.approx(np.array([(5.0 * k * shift, 0.0) for k in range(5)]))


def test_a_tilt_beyond_any_gantry_tells_its_angle() -> None:
    shift = math.tan(math.radians(50))
    code, facts = code_of([plane(0, position=(0.0, 5.0 * k * shift, 5.0 * k)) for k in range(5)])
    assert code == "geometry-gantry-tilt"
    assert facts == {"degrees": 50.0, "stray_mm": 0.0}


def test_slices_that_do_not_lie_on_a_line() -> None:
    code, facts = code_of([plane(0, position=(0.0, 20.0 if k == 2 else 0.0, 5.0 * k)) for k in range(5)])
    assert code == "geometry-gantry-tilt"
    assert facts["stray_mm"] > 10


def test_tolerances_are_settings() -> None:
    planes = [plane(z) for z in (0.0, 1.0, 2.4, 3.4)]
    assert arrange(planes).heights is not None
    assert arrange(planes, Tolerances(step_mm=0.5, grid_fraction=0.5)).heights is None
    assert code_of(planes, Tolerances(step_ratio=1.2))[0] == "geometry-irregular-spacing"


def test_axes_of_an_axial_scan_sent_feet_up() -> None:
    geometry = arrange(
        [plane(0, position=(0.0, 0.0, z), orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)) for z in (0.0, 1.0)]
    )
    assert geometry.slice_direction == (0.0, 0.0, -1.0)
    assert geometry.order == (1, 0)
    axes = canonical_axes(geometry)
    assert axes.flips == (True, False, True)
    assert axes.ends(0) == ("superior", "inferior")
    assert axes.ends(1) == ("anterior", "posterior")
    assert axes.ends(2) == ("left", "right")


def test_axes_of_a_sagittal_scan() -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    geometry = arrange([plane(0, position=(x, 0.0, 0.0), orientation=sagittal) for x in (0.0, 3.0, 6.0)])
    axes = canonical_axes(geometry)
    assert axes.permutation == (1, 2, 0)
    assert axes.flips == (True, False, True)
    assert axes.inverse_permutation == (2, 0, 1)
    assert axes.spacing == (0.7, 0.8, 3.0)
    assert axes.shape == (4, 6, 3)


def test_plane_of_a_data_set() -> None:
    found = plane_of(slice_of(PIXELS, z=7.5, spacing=(0.5, 0.6), SliceThickness=2.0))
    assert found.position == (0.0, 0.0, 7.5)
    assert found.orientation == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert found.pixel_spacing == (0.5, 0.6)
    assert (found.rows, found.columns) == (4, 6)
    assert found.slice_thickness == 2.0
    assert found.frame_of_reference_uid == "1.2.4"
    assert "1.2.4" not in repr(found)


def test_plane_of_an_undecoded_data_set_with_overlong_numbers() -> None:
    dataset = slice_of(PIXELS)
    dataset.is_undefined_length_sequence_item = False
    for keyword, text in (
        ("ImagePositionPatient", rb"-249.512345678901234567\-1e1\7 "),
        ("SliceThickness", b""),
        ("FrameOfReferenceUID", b"1.2.4\0"),
    ):
        tag = Tag(keyword)
        vr = pydicom.datadict.dictionary_VR(tag)
        dataset._dict[tag] = RawDataElement(tag, vr, len(text), text, 0, False, True)
    found = plane_of(dataset)
    assert found.position == (-249.512345678901234567, -10.0, 7.0)
    assert found.slice_thickness is None
    assert found.frame_of_reference_uid == "1.2.4"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImagePositionPatient", [1.0, 2.0]),
        ("ImageOrientationPatient", None),
        ("ImageOrientationPatient", [0.0] * 6),
        ("ImageOrientationPatient", [1.0, 0.0, 0.0, 0.6, 0.8, 0.0]),
        ("PixelSpacing", [0.0, 1.0]),
        ("PixelSpacing", None),
        ("Rows", 0),
        ("Columns", None),
        ("FrameOfReferenceUID", ""),
        ("FrameOfReferenceUID", None),
        ("SOPInstanceUID", None),
    ],
)
def test_what_places_a_slice_must_be_there(keyword: Any, value: Any) -> None:
    with pytest.raises(StudyError) as caught:
        plane_of(slice_of(PIXELS, **{keyword: value}))
    assert caught.value.code == "geometry-attribute-missing"
    assert caught.value.facts == {"attribute": keyword}


@pytest.mark.parametrize("text", [b"nan\\0\\0", b"a\\b\\c", b"inf\\0\\0", b"\xff\\0\\0"])
def test_numbers_that_are_none(text: Any) -> None:
    dataset = slice_of(PIXELS)
    tag = Tag("ImagePositionPatient")
    dataset._dict[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True)
    with pytest.raises(StudyError, match="geometry-attribute-missing"):
        plane_of(dataset)


def test_a_damaged_element_is_a_missing_one() -> None:
    dataset = slice_of(PIXELS)
    tag = Tag("Rows")
    dataset._dict[tag] = RawDataElement(tag, "US", 3, b"\1\2\3", 0, False, True)
    with pytest.raises(StudyError) as caught:
        plane_of(dataset)
    assert caught.value.facts == {"attribute": "Rows"}


def test_multi_frame_images_are_refused() -> None:
    with pytest.raises(StudyError, match="geometry-multi-frame"):
        plane_of(slice_of(PIXELS, NumberOfFrames=2))


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("sliceincrement", "geometry-gap"),
        ("sliceorientation", "geometry-mixed-orientation"),
        ("ge", "geometry-duplicate-position"),
    ],
)
def test_real_edges(shared_data: Any, folder: Any, code: Any) -> None:
    """The files lack their Frame of Reference, which is refused by itself."""
    files = [path for path in sorted((shared_data("geometry_edges") / folder).rglob("*")) if path.is_file()]
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    with pytest.raises(StudyError, match="geometry-attribute-missing"):
        plane_of(datasets[0])
    for dataset in datasets:
        dataset.FrameOfReferenceUID = "1.2.3"
    assert code_of([plane_of(dataset) for dataset in datasets])[0] == code


def test_a_real_tilted_stack(shared_data: Any) -> None:
    folder = shared_data("geometry_edges") / "gantrytilting"
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(folder.rglob("*")) if path.is_file()]
    for dataset in datasets:
        dataset.FrameOfReferenceUID = "1.2.3"
    geometry = arrange([plane_of(dataset) for dataset in datasets])
    assert geometry.drift is not None
    down = np.diff(np.array(geometry.drift)[:, 0])
    tilt = math.degrees(math.asin(abs(datasets[0].ImageOrientationPatient[5])))  # the table moved along z
    assert np.degrees(np.arctan(np.abs(down) / geometry.spacing[0])) == pytest.approx([tilt] * 3, abs=0.01)


def test_a_real_chest_ct(shared_data: Any) -> None:
    folder = shared_data("ct_thorax_siemens105_rtstruct")
    planes = [plane_of(pydicom.dcmread(path, stop_before_pixels=True)) for path in folder.glob("CT*")]
    geometry = arrange(planes)
    assert geometry.shape == (105, 512, 512)
    assert geometry.spacing == (4.0, 1.26953125, 1.26953125)
    assert canonical_axes(geometry).flips == (False, False, False)
