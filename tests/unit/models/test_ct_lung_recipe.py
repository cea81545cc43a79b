"""What the recipe paints into its samples: HU change, labels never; the same draw gives the same sample."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dicomnode.imaging.phantom import Phantom, chest_phantom

TRAIN = Path(__file__).resolve().parents[3] / "models" / "ct-lung" / "train"
KINDS = ("insert_disease", "insert_gas", "insert_colon", "insert_lobe", "insert_diffuse")


@pytest.fixture(scope="module")
def paint() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TRAIN))
    try:
        yield importlib.import_module("paint")
    finally:
        sys.path.remove(str(TRAIN))


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest_phantom(np.random.default_rng(5), shape=(56, 64, 72), spacing=(6.0, 5.0, 5.0), diseases=())


@pytest.mark.parametrize("kind", KINDS)
def test_paint_changes_values_alone_and_repeats_itself(paint: ModuleType, phantom: Phantom, kind: str) -> None:
    results = []
    for _ in range(2):
        hu, labels = phantom.hu.astype(np.float32), phantom.labels.copy()
        getattr(paint, kind)(hu, labels, np.random.default_rng(3))
        assert np.array_equal(labels, phantom.labels)
        assert np.isfinite(hu).all()
        results.append(hu)
    assert np.array_equal(results[0], results[1])
    changed = results[0] != phantom.hu
    assert changed.any()
    lung = phantom.labels > 0
    if kind in {"insert_gas", "insert_colon"}:
        assert not changed[lung].any()
    if kind in {"insert_disease", "insert_diffuse"}:
        assert not changed[~lung].any()


@pytest.mark.parametrize("kind", ["insert_disease", "insert_lobe"])
def test_what_has_no_air_is_marked_and_else_painted_alike(paint: ModuleType, phantom: Phantom, kind: str) -> None:
    marked = 0
    for seed in range(10):
        results = []
        for mark in (0, 3):
            hu, labels = phantom.hu.astype(np.float32), phantom.labels.copy()
            getattr(paint, kind)(hu, labels, np.random.default_rng(seed), mark=mark)
            results.append((hu, labels))
        (plain, _), (hu, labels) = results
        changed = labels != phantom.labels
        assert np.array_equal(labels[changed], phantom.labels[changed] + 3)
        assert (phantom.labels[changed] > 0).all()
        assert np.median(hu[changed]) > -100 if changed.any() else True
        if kind == "insert_lobe":
            assert np.array_equal(plain, hu)
        marked += int(changed.any())
    assert marked >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_without_lungs_or_room_is_left_alone(paint: ModuleType, kind: str) -> None:
    hu, labels = np.full((24, 24, 24), -1000, np.float32), np.zeros((24, 24, 24), np.uint8)
    getattr(paint, kind)(hu, labels, np.random.default_rng(3))
    assert (hu == -1000).all()
