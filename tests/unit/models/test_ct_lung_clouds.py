"""Lung without air and fluid as the recipe paints them: what is lung stays lung, fluid is none, what was painted is marked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from dicomnode.imaging.phantom import Phantom, chest_phantom

TRAIN = Path(__file__).resolve().parents[3] / "models" / "ct-lung" / "train"
SEEDS = range(4)


@pytest.fixture(scope="module")
def clouds() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TRAIN))
    try:
        yield importlib.import_module("clouds")
    finally:
        sys.path.remove(str(TRAIN))


@pytest.fixture(scope="module")
def body() -> Phantom:
    return chest_phantom(np.random.default_rng(6), shape=(96, 100, 120), spacing=(3.0, 3.0, 3.0), diseases=())


def painted(
    clouds: ModuleType, body: Phantom | SimpleNamespace, seed: int, *, filled: float, wet: float
) -> tuple[np.ndarray, ...]:
    sample = sys.modules["samples"].Sample(name="body", hu=body.hu, labels=body.labels)
    done = clouds.clouded(sample, np.random.default_rng(seed), filled=filled, wet=wet)
    assert np.array_equal(sample.hu, body.hu)
    assert np.array_equal(sample.labels, body.labels)
    return done.hu, done.labels


def test_filled_lung_is_lung_on_its_side_and_marked(clouds: ModuleType, body: Phantom) -> None:
    dense = 0
    for seed in SEEDS:
        hu, labels = painted(clouds, body, seed, filled=1.0, wet=0.0)
        assert np.array_equal(clouds.unmarked(labels), body.labels)
        marked = labels >= clouds.MARK
        assert len(np.unique(body.labels[marked])) == 1  # one side
        assert 500 < marked.sum() < 0.95 * (body.labels > 0).sum()
        dense += int((hu[marked] > -100).sum() > 0.5 * marked.sum())
        far = np.abs(hu.astype(int) - body.hu) > 30
        assert not far[(body.labels == 0) & (body.hu > 0)].any()  # nothing outside of the lung and its dark rim
    assert dense >= 2  # the others are clouded


def test_fluid_is_no_lung_lies_low_and_is_water(clouds: ModuleType, body: Phantom) -> None:
    for seed in SEEDS:
        hu, labels = painted(clouds, body, seed, filled=0.0, wet=1.0)
        fluid = labels == clouds.MARK
        assert fluid.sum() > 500
        assert (body.labels[fluid] > 0).all()
        assert not clouds.unmarked(labels)[fluid].any()
        assert -15 < np.median(hu[fluid]) < 30
        lung = np.argwhere(body.labels > 0)
        assert np.argwhere(fluid)[:, 1].mean() > lung[:, 1].mean()  # in the back


def test_the_same_draw_is_the_same_body(clouds: ModuleType, body: Phantom) -> None:
    first, second = (painted(clouds, body, 11, filled=1.0, wet=1.0) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_body_without_lungs_is_left_alone(clouds: ModuleType) -> None:
    empty = SimpleNamespace(hu=np.full((24, 24, 24), 40, np.int16), labels=np.zeros((24, 24, 24), np.uint8))
    hu, labels = painted(clouds, empty, 1, filled=1.0, wet=1.0)
    assert (hu == 40).all()
    assert not labels.any()
