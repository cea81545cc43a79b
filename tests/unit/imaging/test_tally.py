"""The tally of a label map: what it counts is what masks count, whatever the values, padding and labels are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.tally import take_tally


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 19), st.integers(1, 9), st.sampled_from([1, 7, 8, 16])),
    kind=st.sampled_from([np.int16, np.uint16, np.int32, np.float32]),
    padded=st.booleans(),
    share=st.sampled_from([0.0, 0.02, 0.5]),
)
def test_counts_are_those_of_masks(
    *, seed: int, shape: tuple[int, int, int], kind: type, padded: bool, share: float
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < share, rng.choice([1, 2, 9, 255], shape), 0).astype(np.uint8)
    spread = rng.choice([3, 300, 30000])
    values = np.clip(rng.normal(0, spread, shape), 0 if kind is np.uint16 else -32768, 32767).astype(kind)
    padding = rng.random(shape) < 0.3 if padded else None
    tally = take_tally(values, labels, padding, 4)
    assert len(tally.histogram) == max(4, int(labels.max()) + 1)
    for number in range(len(tally.histogram)):
        mask = (labels == number) & (number > 0)
        assert tally.voxels[number] == np.count_nonzero(mask)
        under = values[mask if padding is None else mask & ~padding].astype(np.float64)
        assert tally.histogram[number].sum() == under.size
        assert tally.sums[number] == pytest.approx(under.sum(), rel=1e-12, abs=1e-9)
        wholes, counts = np.unique(np.floor(under), return_counts=True)
        places = wholes.astype(int) - tally.first
        assert np.array_equal(tally.histogram[number][places], counts)


def test_a_value_beyond_16_bits_counts_at_the_end_and_sums_as_it_is() -> None:
    values = np.array([[[40000, 5]], [[-40000, 5]]], np.int32)
    tally = take_tally(values, np.ones(values.shape, np.uint8), None)
    assert tally.first == -32768
    assert (tally.histogram[1][0], tally.histogram[1][-1]) == (1, 1)
    assert tally.sums[1] == 10
