"""Tilted and uneven stacks on an even grid, and label maps back: an anatomy that knows nothing of grids says what is right."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.straighten import straighten
from tests.unit.inference.chests import chest, dice, geometry, truth

EVEN = geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def tilted(degrees: float, *, sideways: float = 0.0) -> VolumeGeometry:
    slope = math.tan(math.radians(degrees))
    middle = (EVEN.shape[0] - 1) / 2
    drift = tuple((slope * 4.0 * k, sideways * 4.0 * k) for k in range(EVEN.shape[0]))
    origin = (EVEN.origin[0] - sideways * 4.0 * middle, EVEN.origin[1] - slope * 4.0 * middle, EVEN.origin[2])
    return replace(EVEN, drift=drift, origin=origin)


def uneven() -> VolumeGeometry:
    """Thin slices in the middle, thick ones at the ends."""
    heights = [0.0]
    while heights[-1] < 130:
        heights.append(heights[-1] + (2.5 if 45 < heights[-1] < 85 else 5.5))
    shape = (len(heights), *EVEN.shape[1:])
    spacing = (heights[-1] / (len(heights) - 1), *EVEN.spacing[1:])
    return replace(EVEN, heights=tuple(heights), shape=shape, spacing=spacing, order=tuple(range(len(heights))))


STACKS = [tilted(15), tilted(-25), tilted(10, sideways=0.2), uneven()]


def test_an_even_straight_stack_is_left_alone() -> None:
    volume = chest(EVEN)
    grid = straighten(EVEN)
    assert grid.is_source
    assert grid.volume(volume) is volume
    labels = truth(EVEN)
    assert grid.back(labels) is labels
    assert grid.labels(labels) is labels


@pytest.mark.parametrize("stack", STACKS)
def test_the_values_lie_where_the_anatomy_is(stack: VolumeGeometry) -> None:
    grid = straighten(stack)
    straight = grid.volume(chest(stack))
    assert straight.geometry.heights is None
    assert straight.geometry.drift is None
    expected = chest(grid.geometry).values
    inside = np.abs(straight.values - expected) < 200  # borders are blurred by less than a voxel
    middle = truth(grid.geometry) > 0
    assert inside[middle].mean() > 0.85
    for number, low in ((1, -450), (2, -450)):
        found = np.argwhere((straight.values < low) & (truth(grid.geometry) == number)).mean(axis=0)
        wanted = np.argwhere(truth(grid.geometry) == number).mean(axis=0)
        assert found == pytest.approx(wanted, abs=0.4)


@pytest.mark.parametrize("stack", STACKS)
def test_labels_there_and_back_are_within_a_voxel(stack: VolumeGeometry) -> None:
    grid = straighten(stack)
    expected = truth(stack)
    back = grid.back(truth(grid.geometry))
    assert back.shape == stack.shape
    assert back.flags.c_contiguous
    there = grid.labels(expected)
    assert there.shape == grid.geometry.shape
    for number in (1, 2):
        assert dice(back, expected, number) > 0.95
        assert dice(there, truth(grid.geometry), number) > 0.94


def test_the_wrong_direction_would_be_seen() -> None:
    """The control: labels of a stack that leans the other way do not fit."""
    right, wrong = tilted(25), tilted(-25)
    back = straighten(right).back(truth(straighten(right).geometry))
    assert dice(back, truth(wrong), 1) < 0.9


def test_one_thin_step_does_not_make_a_thousand_slices() -> None:
    heights = (0.0, 0.4, *(1.4 + k for k in range(40)))
    stack = replace(EVEN, heights=heights, shape=(42, *EVEN.shape[1:]), order=tuple(range(42)))
    assert straighten(stack).geometry.shape[0] <= 4 * 41 + 1
