"""Grids: their size and place, exactness on linear fields, and scores back into labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dicomnode.imaging.resample import labels_on, resample, resampled_shape


def field(shape: Any, spacing: Any) -> Any:
    z, y, x = (np.arange(n) * s for n, s in zip(shape, spacing, strict=True))
    return 3 * z[:, None, None] - 2 * y[:, None] + 5 * x + 7


@pytest.mark.parametrize(
    ("n", "old", "new", "expected"),
    [
        (300, 1.0, 3.0, 100),
        (301, 1.0, 3.0, 101),
        (512, 0.7, 3.0, 120),
        (64, 5.0, 3.0, 106),
        (1, 5.0, 3.0, 1),
        (4, 0.1, 0.3, 2),
    ],
)
def test_size_of_the_grid(n: Any, old: Any, new: Any, expected: Any) -> None:
    assert resampled_shape((n, 1, 1), (old, 1, 1), (new, 1, 1)) == (expected, 1, 1)


@pytest.mark.parametrize(("shape", "new"), [((0, 1, 1), (1, 1, 1)), ((1, 1, 1), (0, 1, 1))])
def test_impossible_grids(shape: Any, new: Any) -> None:
    with pytest.raises(ValueError, match="at least one voxel"):
        resampled_shape(shape, (1, 1, 1), new)


@pytest.mark.parametrize("new", [(3.0, 3.0, 3.0), (0.5, 1.1, 0.9), (1.0, 0.8, 0.9)])
def test_a_linear_field_is_met_exactly(new: Any) -> None:
    old = (1.0, 0.8, 0.9)
    found = resample(field((20, 21, 22), old), old, new)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, field(found.shape, new), atol=1e-3)


def test_antialiasing_keeps_a_linear_field_inside_and_quiets_noise() -> None:
    old, new = (1.0, 1.0, 1.0), (3.0, 3.0, 3.0)
    plain = field((31, 31, 31), old)
    found = resample(plain, old, new, antialias=True)
    inner = slice(1, -1)
    np.testing.assert_allclose(found[inner, inner, inner], field(found.shape, new)[inner, inner, inner], atol=1e-3)
    noise = np.random.default_rng(0).normal(0, 100, (31, 31, 31))
    assert resample(noise, old, new, antialias=True).std() < 0.4 * resample(noise, old, new).std()


def test_antialiasing_leaves_small_steps_alone() -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (6, 6, 6)).astype(np.int16)
    np.testing.assert_array_equal(
        resample(values, (1, 1, 1), (1.4, 1.4, 1.4), antialias=True), resample(values, (1, 1, 1), (1.4, 1.4, 1.4))
    )


def test_the_same_grid_is_a_copy() -> None:
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    found = resample(values, (1, 1, 1), (1, 1, 1))
    np.testing.assert_array_equal(found, values)
    assert not np.shares_memory(found, values)


def test_single_voxels() -> None:
    assert resample(np.full((1, 1, 1), 5, np.int16), (1, 1, 1), (3, 3, 3), antialias=True).tolist() == [[[5.0]]]
    assert resample(np.arange(2.0).reshape(1, 1, 2), (1, 1, 1), (1, 1, 0.5)).tolist() == [[[0.0, 0.5, 1.0]]]


def test_four_axes_are_no_volume() -> None:
    with pytest.raises(ValueError, match="three axes"):
        resample(np.zeros((1, 1, 1, 1)), (1, 1, 1), (1, 1, 1))


def naive(scores: Any, spacing: Any, shape: Any, new_spacing: Any) -> Any:
    """Every score on the whole fine grid, clamped at the ends."""
    result = scores.astype(np.float64)
    for axis in range(3):
        coarse = scores.shape[axis + 1]
        places = np.minimum(np.arange(shape[axis]) * new_spacing[axis] / spacing[axis], coarse - 1)
        low = np.minimum(np.floor(places).astype(int), max(coarse - 2, 0))
        weight = (places - low).reshape([-1 if d == axis + 1 else 1 for d in range(4)])
        high = np.minimum(low + 1, coarse - 1)
        result = np.take(result, low, axis + 1) * (1 - weight) + np.take(result, high, axis + 1) * weight
    return result.argmax(axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_the_whole_interpolation(seed: Any) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(0, 1, (3, 5, 6, 7)).astype(np.float32)
    scores[0] += 2.5  # sparse foreground
    shape, new = (15, 19, 16), (0.9, 0.9, 1.3)
    found = labels_on(scores, (3.0, 3.0, 3.0), shape, new)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, naive(scores, (3.0, 3.0, 3.0), shape, new))


def test_the_last_coarse_voxel_stands_beyond_itself() -> None:
    scores = np.zeros((2, 2, 1, 1), np.float32)
    scores[1, 1] = 1
    assert labels_on(scores, (3, 3, 3), (7, 2, 2), (1, 1, 1))[:, 0, 0].tolist() == [0, 1, 1, 1, 1, 1, 1]


def test_nothing_found_is_all_background() -> None:
    scores = np.zeros((2, 3, 3, 3), np.float32)  # a tie goes to background
    assert not labels_on(scores, (3, 3, 3), (7, 7, 7), (1, 1, 1)).any()


@pytest.mark.parametrize("shape", [(2, 3, 3), (257, 1, 1, 1), (2, 0, 1, 1)])
def test_scores_have_labels_and_three_axes(shape: Any) -> None:
    with pytest.raises(ValueError, match="scores are"):
        labels_on(np.zeros(shape, np.float32), (1, 1, 1), (1, 1, 1), (1, 1, 1))


def test_what_a_wide_grid_steps_over_is_not_seen() -> None:
    """Thick sagittal slices: between two of them there may be a row of the network's grid that neither touches."""
    scores = np.zeros((2, 1, 10, 1), np.float32)
    scores[0] = 1
    scores[1, 0, 4] = 2
    assert not labels_on(scores, (1, 1, 1), (1, 3, 1), (1, 3, 1)).any()
    assert labels_on(scores, (1, 1, 1), (1, 3, 1), (1, 4, 1)).ravel().tolist() == [0, 1, 0]
