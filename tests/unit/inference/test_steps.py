"""The pure steps before and after the network."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from dicomnode.imaging.resample import labels_on
from dicomnode.inference.postprocess import clean
from dicomnode.inference.preprocess import normalise, prepare, restored
from dicomnode.manifest import Gas, Intensity, Postprocess, Preprocess

WINDOW = Intensity(lower=-1000.0, upper=600.0, scale="minus-one-to-one")
RULE = Preprocess(spacing_mm=(3.0, 2.0, 2.0), intensity=WINDOW, pad_hu=-1000.0, multiple_of=(4, 8, 8))


def test_normalises_to_either_scale() -> None:
    values = np.array([-3000, -1000, -200, 600, 4000], np.float32)
    assert normalise(values.copy(), WINDOW).tolist() == [-1, -1, 0, 1, 1]
    plain = Intensity(lower=-1000.0, upper=600.0, scale="zero-to-one")
    assert normalise(values.copy(), plain).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("scale", ["minus-one-to-one", "zero-to-one"])
def test_what_was_normalised_can_be_restored_within_the_window(
    scale: Literal["minus-one-to-one", "zero-to-one"],
) -> None:
    values, window = (
        np.array([-1000, -999, -200, 0, 600], np.float32),
        Intensity(lower=-1000.0, upper=600.0, scale=scale),
    )
    mapped = normalise(values.copy(), window)
    np.testing.assert_allclose(restored(mapped, window), values, atol=1e-3)
    np.testing.assert_allclose(normalise(values.copy(), window), mapped)  # and left alone


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


@pytest.mark.parametrize(("share", "kept"), [(1.0, {6}), (0.5, {6, 3}), (0.1, {6, 3, 1})])
def test_keeps_pieces_that_are_large_beside_the_largest(share: float, kept: set[int]) -> None:
    """A filled lobe can part a lung in two."""
    labels = np.zeros((3, 3, 16), np.uint8)
    labels[1, 1, 1:7] = labels[1, 1, 8:11] = labels[1, 1, 12] = 1
    result = clean(_scores(labels), Postprocess(keep_largest_per_label=True, share_of_largest=share), voxel_ml=1.0)
    assert result.sum() == sum(kept)
    assert (result[1, 1, 8:11] == (3 in kept)).all()


def test_small_pieces_do_not_add_up_to_the_least_volume() -> None:
    labels = np.zeros((3, 3, 9), np.uint8)
    labels[1, 1, 1:4] = labels[1, 1, 5:7] = 1
    rule = Postprocess(keep_largest_per_label=True, share_of_largest=0.5, minimum_component_ml=4.0)
    assert not clean(_scores(labels), rule, voxel_ml=1.0).any()


def test_of_pieces_of_equal_size_one_is_the_largest() -> None:
    labels = np.zeros((3, 3, 9), np.uint8)
    labels[1, 1, 1:3] = labels[1, 1, 5:7] = 1
    result = clean(_scores(labels), Postprocess(keep_largest_per_label=True), voxel_ml=1.0)
    assert np.argwhere(result)[:, 2].tolist() == [1, 2]


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


GAS = Gas(wall_hu=-600.0, gas_hu=-870.0, darker_by_hu=80.0, minimum_piece_ml=4.0)


def _lung_over_bowel(loop_hu: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and HU: one lung, below it a wall and a loop, all of them taken for lung."""
    labels, hu = np.zeros((16, 10, 10), np.uint8), np.full((16, 10, 10), 40, np.float32)
    labels[2:14, 2:8, 2:8] = 1
    hu[8:14, 2:8, 2:8] = -850
    hu[2:6, 2:8, 2:8] = loop_hu
    return labels, hu


def test_gas_beyond_a_wall_leaves_the_label_and_the_wall_goes_to_the_nearer_one() -> None:
    labels, hu = _lung_over_bowel(-990)
    scores = _scores(labels)
    result = clean(scores, Postprocess(gas=GAS), voxel_ml=1.0, hu=hu)
    wanted = labels.copy()
    wanted[:7] = 0
    assert np.array_equal(result, wanted)
    assert np.array_equal(scores.argmax(axis=0), wanted)


@pytest.mark.parametrize(
    "change", ["as dense as lung", "a healthy lobe", "no wall", "too small", "no values", "no rule"]
)
def test_what_is_no_gas_beyond_a_wall_stays(change: str) -> None:
    labels, hu = _lung_over_bowel(-900 if change == "as dense as lung" else -990)
    if change == "a healthy lobe":  # beside one that is clouded
        hu[8:14, 2:8, 2:8], hu[2:6, 2:8, 2:8] = -650, -860
    if change == "no wall":  # a bulla
        hu[6:8, 4, 4] = -850
    if change == "too small":  # a bubble in a filled lobe
        hu[2:6, 2:8, 2:8] = 40
        hu[3, 3, 3:6] = -990
    rule = Postprocess(gas=None if change == "no rule" else GAS)
    assert np.array_equal(clean(_scores(labels), rule, voxel_ml=1.0, hu=None if change == "no values" else hu), labels)


def test_gas_is_looked_for_within_each_label() -> None:
    hu = np.where(_two_lungs() == 1, np.float32(-990), np.float32(-800))
    assert np.array_equal(clean(_scores(_two_lungs()), Postprocess(gas=GAS), voxel_ml=1.0, hu=hu), _two_lungs())
    nothing = np.zeros((4, 4, 4), np.uint8)
    assert not clean(_scores(nothing), Postprocess(gas=GAS), voxel_ml=1.0, hu=np.zeros((4, 4, 4), np.float32)).any()


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
