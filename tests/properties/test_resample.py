"""Grids of any sizes: slice by slice is axis by axis, bit for bit; labels by look-up are labels by interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.resample import Taps, finer_taps, labels_on, resample, resampling_taps, shares_on

sizes = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.sampled_from([0.4, 0.7, 1.0, 1.3, 2.0, 3.0, 7.5])] * 3)


def along(array: Any, axis: int, taps: Taps) -> Any:
    """One axis of a whole array, tap by tap."""
    lines = [1] * array.ndim
    lines[axis] = -1
    total = None
    for k in range(taps.weights.shape[1]):
        part = np.take(array, taps.starts + k, axis=axis).astype(np.float32) * taps.weights[:, k].reshape(lines)
        total = part if total is None else total + part
    return total


@settings(deadline=None)
@given(sizes, spacings, spacings, st.booleans(), st.integers(0, 99))
def test_slice_by_slice_is_axis_by_axis(shape: Any, old: Any, new: Any, antialias: bool, seed: int) -> None:
    values = np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.int16)
    taps, nesting = resampling_taps(shape, old, new, antialias=antialias)
    expected: Any = values
    for axis in nesting:
        if old[axis] != new[axis]:
            expected = along(expected, axis, taps[axis])
    for view in (values, np.ascontiguousarray(values.transpose(2, 1, 0)).transpose(2, 1, 0), values[::-1][::-1]):
        found = resample(view, old, new, antialias=antialias)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)


grids = st.tuples(sizes, spacings)


@settings(deadline=None)
@given(grids, grids, st.integers(1, 4), st.integers(0, 99))
def test_labels_by_look_up_are_labels_by_interpolation(coarse: Any, fine: Any, labels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(0, 1, (labels, *coarse[0])).astype(np.float32)
    scores[0] += np.float32(random.choice([-3, 0, 3]))
    expected: Any = scores
    for axis, taps in enumerate(finer_taps(*coarse, *fine), start=1):
        expected = along(expected, axis, taps)
    assert np.array_equal(labels_on(scores, coarse[1], *fine), expected.argmax(axis=0))


@settings(deadline=None)
@given(grids, grids, st.integers(0, 99))
def test_shares_are_interpolated_as_scores_are(coarse: Any, fine: Any, seed: int) -> None:
    shares = np.random.default_rng(seed).uniform(0, 1, coarse[0]).astype(np.float32)
    expected: Any = shares
    for axis, taps in enumerate(finer_taps(*coarse, *fine)):
        expected = along(expected, axis, taps)
    assert np.array_equal(shares_on(shares, coarse[1], *fine), np.rint(np.clip(expected, 0, 1) * np.float32(65535)))
