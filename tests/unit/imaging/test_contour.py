"""Outlines: coordinates, closure, areas, and the slices to show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomnode.imaging.contour import area_mm2, contour, key_slices, spread_slices


def test_a_pixel_lies_around_its_centre_at_one_half() -> None:
    mask = np.zeros((5, 6), bool)
    mask[2, 4] = True
    points = contour(mask)
    assert points[0] == points[-1]
    assert set(points) == {(4.0, 2.0), (5.0, 2.0), (5.0, 3.0), (4.0, 3.0)}


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 2.5, 3, 4])
def test_a_small_finding_keeps_its_area(radius: float) -> None:
    y, x = np.ogrid[:20, :20]
    mask = (y - 10) ** 2 + (x - 9) ** 2 <= radius**2
    assert area_mm2(contour(mask), (0.7, 0.7)) == pytest.approx(np.count_nonzero(mask) * 0.49)
    beam = np.zeros((20, 20), bool)
    beam[3, 2 : 3 + int(radius * 4)] = True
    assert area_mm2(contour(beam), (1, 1)) == np.count_nonzero(beam)


def test_a_rectangle_keeps_its_place_and_nearly_its_area() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:22] = 7
    points = np.array(contour(mask))
    assert points.min(axis=0).tolist() == [10, 5]
    assert points.max(axis=0).tolist() == [22, 15]
    assert area_mm2(contour(mask), (0.5, 0.8)) == pytest.approx(120 * 0.4, rel=0.01)


def test_a_disc() -> None:
    y, x = np.mgrid[:300, :300]
    mask = (x - 120) ** 2 + (y - 140) ** 2 <= 100**2
    points = contour(mask)
    assert 20 < len(points) <= 200
    assert area_mm2(points, (1, 1)) == pytest.approx(np.pi * 100**2, rel=0.003)
    radii = np.hypot(*(np.array(points) - (120.5, 140.5)).T)
    assert abs(radii - 100).max() < 1.2


def test_the_largest_component_alone_and_without_its_holes() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:5, 2:5] = True
    mask[10:25, 10:25] = True
    mask[15:18, 15:18] = False
    points = np.array(contour(mask))
    assert points.min() == 10
    assert area_mm2(contour(mask), (1, 1)) == pytest.approx(225, rel=0.01)


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    assert len(contour(np.eye(4))) == 5
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    assert contour(mask)[0] == contour(mask)[-1]
    assert area_mm2(contour(mask), (1, 1)) > 6


def test_a_ragged_outline_is_simplified_until_it_fits() -> None:
    random = np.random.default_rng(0)
    mask = np.zeros((200, 200), bool)
    mask[20:180, 20:180] = random.random((160, 160)) > 0.3
    assert len(contour(mask, maximum_points=50)) <= 50


def test_nothing_has_no_outline() -> None:
    assert contour(np.zeros((4, 4))) == []
    assert area_mm2([], (1, 1)) == 0.0


@pytest.mark.parametrize("arguments", [{"maximum_points": 4}, {"tolerance": 0}])
def test_bounds(arguments: Any) -> None:
    with pytest.raises(ValueError, match="a contour has"):
        contour(np.ones((2, 2)), **arguments)


def test_the_whole_picture() -> None:
    assert area_mm2(contour(np.ones((8, 8))), (1, 1)) == pytest.approx(64, rel=0.01)


def test_key_slices_have_the_largest_area() -> None:
    labels = np.zeros((5, 4, 4), np.uint8)
    labels[1, :2] = 1
    labels[2, :3] = 1
    labels[3, :3] = 1
    labels[4, 0, 0] = 3
    assert key_slices(labels) == {1: 2, 3: 4}
    assert key_slices(np.zeros((2, 2, 2), np.uint8)) == {}


def test_slices_are_spread_over_what_is_labelled() -> None:
    labels = np.zeros((40, 4, 4), np.uint8)
    labels[10:30] = 1
    assert spread_slices(labels, 4) == (12, 17, 22, 27)
    assert spread_slices(labels[:0:-1], 1) == (19,)
    assert spread_slices(np.zeros((9, 2, 2), np.uint8), 3) == (1, 4, 7)
    labels[:] = 0
    labels[3] = 1
    assert spread_slices(labels, 3) == (3,)
