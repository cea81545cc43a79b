from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dicomnode.inference import tiles
from dicomnode.inference.tiles import Array

sizes = st.tuples(*[st.integers(1, 33)] * 3)
tile_sizes = st.tuples(*[st.integers(1, 20)] * 3)
overlaps = st.floats(0, 0.75)


@given(sizes, tile_sizes, overlaps)
def test_every_voxel_is_covered_and_neighbours_overlap(shape: tiles.Size, tile: tiles.Size, overlap: float) -> None:
    layout = tiles.plan(shape, tile, overlap)
    for size, largest, axis in zip(shape, tile, layout.axes, strict=True):
        assert axis.size == min(size, largest)
        assert axis.starts[0] == 0
        assert axis.starts[-1] + axis.size == size
        steps = np.diff(axis.starts)
        assert (steps > 0).all()
        assert (steps <= max(1, int(axis.size * (1 - overlap)))).all()
    assert layout.tile == tuple(axis.size for axis in layout.axes)


@given(sizes, tile_sizes, overlaps)
def test_weights_sum_to_one_and_none_is_zero(shape: tiles.Size, tile: tiles.Size, overlap: float) -> None:
    layout = tiles.plan(shape, tile, overlap)
    for size, axis in zip(shape, layout.axes, strict=True):
        total = np.zeros(size)
        for index, start in enumerate(axis.starts):
            weights = axis.weights(index)
            assert (weights > 0).all()
            total[start : start + axis.size] += weights
        np.testing.assert_allclose(total, 1, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(1, 17)] * 3),
    st.tuples(*[st.integers(3, 9)] * 3),
    st.floats(0, 0.5),
    st.integers(0, 2**32 - 1),
)
def test_an_identity_gives_back_what_went_in(shape: tiles.Size, tile: tiles.Size, overlap: float, seed: int) -> None:
    volume = np.random.default_rng(seed).uniform(1, 2, shape).astype(np.float32)
    shares: list[float] = []
    layout = tiles.plan(shape, tile, overlap)
    logits = tiles.run(volume, layout, _identity, channels=2, progress=shares.append)
    if layout.count == 1:
        assert np.array_equal(logits, np.stack([volume, -volume]))
    np.testing.assert_allclose(logits, np.stack([volume, -volume]), rtol=2e-6)
    assert len(shares) == layout.count
    assert shares == sorted(shares)
    assert shares[-1] == 1


@given(sizes, overlaps)
def test_a_tile_larger_than_the_volume_is_the_volume(shape: tiles.Size, overlap: float) -> None:
    layout = tiles.plan(shape, (40, 40, 40), overlap)
    ((place, weights),) = layout.tiles()
    assert layout.count == 1
    assert layout.tile == shape
    assert place == tuple(slice(0, size) for size in shape)
    np.testing.assert_allclose(weights, 1, rtol=1e-6)


@given(sizes, tile_sizes, overlaps)
def test_places_and_weights_agree_with_the_axes(shape: tiles.Size, tile: tiles.Size, overlap: float) -> None:
    layout = tiles.plan(shape, tile, overlap)
    assume(layout.count <= 200)
    covered = np.zeros(shape)
    count = 0
    for place, weights in layout.tiles():
        covered[place] += weights
        assert weights.shape == layout.tile
        count += 1
    assert count == layout.count
    np.testing.assert_allclose(covered, 1, rtol=1e-5)


def _identity(batch: Array) -> Array:
    assert batch.flags.c_contiguous
    return np.concatenate([batch, -batch], axis=1)
