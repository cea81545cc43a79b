"""Resampling and back, for any grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.resample import labels_on, resample, resampled_shape

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
SPACINGS = st.tuples(*[st.floats(0.3, 6)] * 3)


@settings(max_examples=80, deadline=None)
@given(SHAPES, SPACINGS, SPACINGS, st.booleans())
def test_results_stay_within_the_values_and_the_first_voxel_in_its_place(
    shape: Any, old: Any, new: Any, antialias: Any
) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    found = resample(values, old, new, antialias=antialias)
    assert found.shape == resampled_shape(shape, old, new)
    assert values.min() - 1e-3 <= found.min()
    assert found.max() <= values.max() + 1e-3
    if not antialias:
        assert found[0, 0, 0] == values[0, 0, 0]
    for n, size, a, b in zip(shape, found.shape, old, new, strict=True):
        assert (size - 1) * b <= (n - 1) * a + 1e-4 * b < size * b + 1e-3 * b


@settings(max_examples=80, deadline=None)
@given(SHAPES, SPACINGS, SPACINGS, st.integers(1, 4))
def test_certain_labels_come_back_at_the_coarse_voxels(shape: Any, old: Any, new: Any, count: Any) -> None:
    coarse = resampled_shape(shape, old, new)
    truth = np.random.default_rng(1).integers(0, count, coarse)
    scores = (np.arange(count)[:, None, None, None] == truth).astype(np.float32)
    labels = labels_on(scores, new, shape, old)
    assert labels.shape == shape
    assert set(np.unique(labels)) <= set(range(count))
    assert labels[0, 0, 0] == truth[0, 0, 0]


@settings(max_examples=40, deadline=None)
@given(SHAPES, SPACINGS)
def test_the_same_grid_gives_the_same_labels(shape: Any, spacing: Any) -> None:
    truth = np.random.default_rng(2).integers(0, 3, shape)
    scores = (np.arange(3)[:, None, None, None] == truth).astype(np.float32)
    np.testing.assert_array_equal(labels_on(scores, spacing, shape, spacing), truth)
