"""Any of the 48 ways to lay an array into the patient, and any order of its slices."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.geometry import VolumeGeometry, arrange, canonical_axes
from dicomnode.imaging.plane import Plane
from dicomnode.imaging.volume import canonical, from_canonical

SIGNED = [
    np.array(axes)[:, None] * np.eye(3)[list(order)]
    for order in itertools.permutations(range(3))
    for axes in itertools.product((1, -1), repeat=3)
]


@pytest.mark.parametrize("directions", SIGNED, ids=range(48))
def test_canonical_and_back_is_exact(directions: Any) -> None:
    """Left-handed layouts, too, though no DICOM series has one."""
    array = np.random.default_rng(0).integers(-1000, 1000, (3, 4, 5)).astype(np.int16)
    geometry = VolumeGeometry(
        origin=(7.0, -3.0, 11.0),
        slice_direction=tuple(directions[0]),
        column_direction=tuple(directions[1]),
        row_direction=tuple(directions[2]),
        spacing=(3.0, 0.5, 0.7),
        shape=array.shape,
        frame_of_reference_uid="1",
        order=(0, 1, 2),
    )
    turned = canonical(array, geometry)
    axes = canonical_axes(geometry)
    assert turned.shape == axes.shape
    np.testing.assert_array_equal(from_canonical(turned, geometry), array)
    places = np.moveaxis(np.indices(array.shape), 0, -1) @ geometry.affine()[:3, :3].T + geometry.origin
    for canonical_axis, patient_axis in enumerate((2, 1, 0)):
        coordinate = canonical(places[..., patient_axis], geometry)
        np.testing.assert_allclose(np.diff(coordinate, axis=canonical_axis), axes.spacing[canonical_axis])


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 30), st.floats(0.4, 10), st.tuples(*[st.floats(-1, 1)] * 6))
def test_order_and_grid_do_not_depend_on_the_order_of_arrival(
    random: Any, count: Any, spacing: Any, numbers: Any
) -> None:
    row, column = np.array(numbers[:3]), np.array(numbers[3:])
    if np.linalg.norm(row) < 0.1:
        row = np.array([1.0, 0.0, 0.0])
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    if np.linalg.norm(column) < 0.1:
        column = np.cross(row, np.eye(3)[np.abs(row).argmin()])
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)
    planes = [
        Plane(
            sop_instance_uid=str(k),
            position=tuple(np.array([1.0, 2.0, 3.0]) + k * spacing * normal),
            orientation=(*row, *column),
            pixel_spacing=(0.7, 0.7),
            rows=2,
            columns=2,
            slice_thickness=None,
            frame_of_reference_uid="1",
        )
        for k in range(count)
    ]
    shuffled = list(planes)
    random.shuffle(shuffled)
    geometry = arrange(shuffled)
    assert [shuffled[k].sop_instance_uid for k in geometry.order] == [str(k) for k in range(count)]
    assert geometry.spacing[0] == pytest.approx(spacing)
    last = geometry.affine() @ [count - 1, 0, 0, 1]
    np.testing.assert_allclose(last[:3], planes[-1].position, atol=1e-6)
