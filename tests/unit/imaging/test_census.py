"""Counting a label map in one look gives what looking at every voxel gives."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dicomnode.imaging.census import box_of, slice_counts, take_census
from dicomnode.imaging.chart import distributions
from dicomnode.imaging.contour import contour, key_slices, spread_slices
from dicomnode.imaging.tally import take_tally
from dicomnode.imaging.views import _overlay

SHAPES = [(5, 16, 24), (4, 13, 17), (3, 8, 8), (1, 1, 1), (6, 40, 64)]


def balls(shape: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """Some boxes of labels, here and there, and empty slices."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    for number in (1, 2, 7, 255):
        corner = [rng.integers(0, size) for size in shape]
        place = tuple(slice(at, at + int(rng.integers(1, size + 1))) for at, size in zip(corner, shape, strict=True))
        labels[place] = number
    labels[shape[0] // 2] *= seed % 2
    return labels


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(6))
def test_counts_boxes_and_sums_along_axes(shape: tuple[int, int, int], seed: int) -> None:
    labels = balls(shape, seed)
    census = take_census(labels)
    wanted = [np.bincount(plane.ravel(), minlength=256) for plane in labels]
    assert np.array_equal(census.counts, wanted)
    assert np.array_equal(slice_counts(labels), wanted)
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        assert np.array_equal(census.along[axis], (labels > 0).sum(axis=others))
    for plane, (rows, columns) in zip(labels, census.boxes, strict=True):
        inside = np.zeros(plane.shape, bool)
        inside[rows, columns] = True
        assert not plane[~inside].any()
        assert np.count_nonzero(plane) == np.count_nonzero(plane[rows, columns])
        if plane.any():
            found = np.argwhere(plane)
            assert (rows.start, columns.start) == tuple(found.min(axis=0))
            assert (rows.stop - 1, columns.stop - 1) == tuple(found.max(axis=0))
    assert key_slices(census) == key_slices(labels)
    assert spread_slices(census, 3) == spread_slices(labels, 3)


def test_a_view_that_is_not_contiguous_has_the_same_box() -> None:
    plane = balls((1, 40, 64), 1)[0]
    rows, columns = box_of(np.asfortranarray(plane))
    assert (rows, columns) == box_of(plane)
    assert box_of(np.zeros((4, 8), np.uint8)) == (slice(0, 0), slice(0, 0))


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_distributions_are_shares_of_each_label(kind: type) -> None:
    labels = balls((6, 40, 64), 3)
    values = np.random.default_rng(1).normal(-700, 300, labels.shape).astype(kind)
    values[0, 0, :4] = (-32768, 32767, -1020, -380)
    numbers = [1, 2, 7, 255]
    curves = distributions(take_tally(values, labels, None), numbers)
    assert list(curves) == [number for number in numbers if (labels == number).any()]
    for number, curve in curves.items():
        under = values[labels == number]
        counts, _ = np.histogram(under[under < -380], np.arange(-1020, -379, 10))  # its last bin would hold its end
        assert curve == pytest.approx(np.convolve(counts / under.size, np.array([1, 2, 3, 2, 1]) / 9, mode="same"))


def test_a_contour_lies_where_its_component_lies() -> None:
    mask = np.zeros((64, 64), bool)
    mask[50:60, 40:56] = True
    points = np.array(contour(mask))
    assert (points.min(axis=0) >= (40, 50)).all()
    assert (points.max(axis=0) <= (56, 60)).all()


@pytest.mark.parametrize("place", [(0, 0), (20, 30), (29, 39), (12, 0)])
def test_the_overlay_is_cut_where_nothing_of_it_is(place: tuple[int, int]) -> None:
    mask = np.zeros((30, 40), np.float32)
    mask[place[0] : place[0] + 5, place[1] : place[1] + 4] = 1
    box, fill, line = _overlay(mask, (130, 100))
    everywhere = mask + np.float32(1e-30)  # nothing is quite zero: nothing is cut
    whole, filled, lined = _overlay(everywhere, (130, 100))
    assert filled.shape == (100, 130), whole
    for cut, full in ((fill, filled), (line, lined)):
        pasted = np.zeros_like(full)
        pasted[box] = cut
        assert np.array_equal(pasted, full)
