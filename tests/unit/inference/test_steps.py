"""The pure steps before and after the network."""

from __future__ import annotations

import numpy as np
import pytest

from dicomnode.imaging.resample import labels_on
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import normalise, prepare
from dicomnode.manifest import Intensity, Postprocess, Preprocess

WINDOW = Intensity(lower=-1000.0, upper=600.0, scale="minus-one-to-one")
RULE = Preprocess(spacing_mm=(3.0, 2.0, 2.0), intensity=WINDOW, pad_hu=-1000.0, multiple_of=(4, 8, 8))


def test_normalises_to_either_scale() -> None:
    values = np.array([-3000, -1000, -200, 600, 4000], np.float32)
    assert normalise(values.copy(), WINDOW).tolist() == [-1, -1, 0, 1, 1]
    plain = Intensity(lower=-1000.0, upper=600.0, scale="zero-to-one")
    assert normalise(values.copy(), plain).tolist() == [0, 0, 0.5, 1, 1]


def test_prepares_on_the_networks_spacing_and_pads_the_high_ends() -> None:
    values = np.broadcast_to(np.arange(0, 19, dtype=np.int16)[:, None, None] * 10, (19, 12, 16))
    batch, size = prepare(values, (1.0, 1.0, 1.0), RULE)
    assert size == (7, 6, 8)
    assert batch.shape == (8, 8, 8)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch[:7, 0, 0], (np.arange(7) * 30 + 1000) / 800 - 1, atol=1e-6)
    assert (batch[7] == -1).all()
    assert (batch[:, 6:] == -1).all()


def test_leaves_the_source_alone_even_where_nothing_is_resampled() -> None:
    values = np.full((4, 8, 8), 4000.0, np.float32)
    batch, size = prepare(values, RULE.spacing_mm, RULE)
    assert size == batch.shape == (4, 8, 8)
    assert (batch == 1).all()
    assert (values == 4000).all()


def _scores(labels: np.ndarray, count: int = 3) -> np.ndarray:
    scores = np.full((count, *labels.shape), -4, np.float32)
    for number in range(count):
        scores[number][labels == number] = 4
    return scores


def _two_lungs() -> np.ndarray:
    labels = np.zeros((12, 12, 20), np.uint8)
    labels[2:10, 2:10, 2:8] = 1
    labels[2:10, 2:10, 11:18] = 2
    return labels


def test_without_rules_nothing_changes() -> None:
    scores = _scores(_two_lungs())
    before = scores.copy()
    assert np.array_equal(clean(scores, Postprocess(), voxel_ml=1.0), _two_lungs())
    assert np.array_equal(scores, before)


def test_keeps_the_largest_piece_of_each_label_and_fills_holes() -> None:
    wanted = _two_lungs()
    labels = wanted.copy()
    labels[0, 0, 0] = 1  # an island
    labels[5, 5, 14] = 1  # an island inside the other label: becomes a hole, and is filled
    labels[4:6, 4:6, 4] = 0  # a hole
    labels[5, 5, 2] = 0  # a dent is no hole
    wanted[5, 5, 2] = 0
    scores = _scores(labels)
    result = clean(scores, Postprocess(keep_largest_per_label=True, fill_holes=True), voxel_ml=1.0)
    assert np.array_equal(result, wanted)
    assert np.array_equal(scores.argmax(axis=0), wanted)


def test_pieces_that_touch_at_an_edge_alone_are_two() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 1, 1:3] = 1
    labels[2, 2, 3] = 1
    result = clean(_scores(labels), Postprocess(keep_largest_per_label=True), voxel_ml=1.0)
    assert np.argwhere(result).tolist() == [[1, 1, 1], [1, 1, 2]]


def test_a_hole_that_holds_another_label_keeps_it() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[3:6, 3:6, 3:6] = 0
    labels[4, 4, 4] = 2
    result = clean(_scores(labels), Postprocess(fill_holes=True), voxel_ml=1.0)
    assert result[4, 4, 4] == 2
    assert (result[1:8, 1:8, 1:8] != 0).all()


def test_drops_a_label_below_the_least_volume() -> None:
    scores = _scores(_two_lungs())
    volumes = np.bincount(_two_lungs().ravel())
    result = clean(scores, Postprocess(minimum_component_ml=float(volumes[1]) * 0.5 + 0.1), voxel_ml=0.5)
    assert set(np.unique(result)) == {0, 2}
    assert set(np.unique(scores.argmax(axis=0))) == {0, 2}
    result = clean(scores, Postprocess(minimum_component_ml=float(volumes[2]) * 0.5), voxel_ml=0.5)
    assert set(np.unique(result)) == {0, 2}


def test_nothing_stays_nothing() -> None:
    rule = Postprocess(keep_largest_per_label=True, fill_holes=True, minimum_component_ml=1.0)
    empty = np.zeros((3, 3, 3), np.uint8)
    assert not clean(_scores(empty), rule, voxel_ml=1.0).any()


@pytest.mark.parametrize("margin", [0.5, 40.0])
def test_what_was_dropped_or_filled_stays_so_on_a_finer_grid(margin: float) -> None:
    labels = _two_lungs()
    labels[1:3, 0, 0:2] = 1
    labels[4:6, 4:6, 4] = 0
    scores = _scores(labels) * np.float32(margin)
    clean(scores, Postprocess(keep_largest_per_label=True, fill_holes=True), voxel_ml=1.0)
    fine = labels_on(scores, (1.0, 1.0, 1.0), (45, 45, 77), (0.25, 0.25, 0.25))
    assert not fine[:6, :4].any()
    assert (fine[12:33, 12:33, 12:25] == 1).all()
