"""Phantoms: reproducible, plausible, labelled on the right side; small grids keep this quick."""

from __future__ import annotations

import numpy as np
import pytest

from dicomnode.imaging.phantom import (
    Phantom,
    abdomen_phantom,
    chest_phantom,
    head_phantom,
    legs_phantom,
    water_phantom,
)

SHAPE, SPACING = (44, 60, 60), (7.0, 6.5, 6.5)
CENTRE = (-30.0, 4.0, 0.0)


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_phantom(np.random.default_rng(5), shape=SHAPE, spacing=SPACING, centre=CENTRE)


def litres(phantom: Phantom, label: int) -> float:
    return float((phantom.labels == label).sum() * np.prod(phantom.spacing) / 1e6)


def test_types_and_range(chest: Phantom) -> None:
    assert chest.hu.dtype == np.int16
    assert chest.labels.dtype == np.uint8
    assert chest.hu.shape == chest.labels.shape == SHAPE
    assert chest.hu.min() == -1024
    assert 300 < chest.hu.max() <= 3071
    assert set(np.unique(chest.labels)) == {0, 1, 2}


def test_lungs_have_a_person_s_size_and_density(chest: Phantom) -> None:
    assert 1.5 < litres(chest, 1) < 3.5
    assert 1.2 < litres(chest, 2) < 3.0
    assert litres(chest, 2) < litres(chest, 1)
    for label in (1, 2):
        assert -930 < chest.hu[chest.labels == label].mean() < -700


def test_right_lung_lies_at_low_x_and_apex_at_high_z(chest: Phantom) -> None:
    right, left = (np.argwhere(chest.labels == label) for label in (1, 2))
    assert right[:, 2].mean() < SHAPE[2] / 2 < left[:, 2].mean()
    areas = (chest.labels > 0).sum(axis=(1, 2))
    top = np.flatnonzero(areas)[-1]
    assert areas[top] < areas.max() / 3


def test_table_is_posterior(chest: Phantom) -> None:
    body = np.argwhere(chest.hu > 0)
    below = chest.hu[:, int(np.percentile(body[:, 1], 99.9)) :]
    assert ((below > -900) & (below < -150)).any()


def test_equal_generators_give_equal_phantoms(chest: Phantom) -> None:
    again = chest_phantom(np.random.default_rng(5), shape=SHAPE, spacing=SPACING, centre=CENTRE)
    other = chest_phantom(np.random.default_rng(6), shape=SHAPE, spacing=SPACING, centre=CENTRE)
    assert np.array_equal(chest.hu, again.hu)
    assert np.array_equal(chest.labels, again.labels)
    assert not np.array_equal(chest.hu, other.hu)


@pytest.mark.parametrize("seed", range(2))
def test_random_bodies_are_valid(seed: int) -> None:
    phantom = chest_phantom(np.random.default_rng(seed), shape=SHAPE, spacing=SPACING, centre=CENTRE, typical=False)
    assert 0.3 < litres(phantom, 1) < 6.0
    assert 0.2 < litres(phantom, 2) < 6.0
    assert phantom.truth["region"] == "chest"


def test_masses_and_consolidation_stay_lung_and_effusion_does_not() -> None:
    volumes = {}
    for disease in ("mass", "consolidation", "effusion"):
        rng = np.random.default_rng(3)
        phantom = chest_phantom(rng, shape=SHAPE, spacing=SPACING, centre=CENTRE, diseases=(disease,), contrast=False)
        dense = (phantom.hu > -200) & (phantom.labels > 0)
        volumes[disease] = (litres(phantom, 1) + litres(phantom, 2), float(dense.sum() / (phantom.labels > 0).sum()))
    assert volumes["effusion"][0] < volumes["mass"][0] - 0.05
    assert volumes["consolidation"][0] == pytest.approx(volumes["mass"][0], rel=0.02)
    assert volumes["consolidation"][1] > 0.02


def test_centre_cuts_the_lungs() -> None:
    phantom = chest_phantom(np.random.default_rng(5), shape=(12, 60, 60), spacing=SPACING, centre=(-10.0, 4.0, 0.0))
    assert phantom.labels[0].any()
    assert phantom.labels[-1].any()


@pytest.mark.parametrize("draw", [abdomen_phantom, head_phantom, water_phantom, legs_phantom])
def test_other_bodies_have_no_lungs(draw: object) -> None:
    phantom = draw(np.random.default_rng(2), shape=(24, 50, 60), spacing=(6.0, 7.0, 7.0))  # type: ignore[operator]
    assert not phantom.labels.any()
    assert (phantom.hu > -300).mean() > 0.05


def test_what_is_wrong_is_said() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="unknown diseases"):
        chest_phantom(rng, diseases=("gout",))
    with pytest.raises(ValueError, match="positive"):
        water_phantom(rng, shape=(10, 10, 10), spacing=(1.0, 0.0, 1.0))
