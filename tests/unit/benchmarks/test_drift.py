"""Slopes of quantities that leak, that do not, and that jump."""

from __future__ import annotations

import random

import pytest

from tests.benchmarks.drift import percentiles, slope


def noisy(count: int, growth: float) -> list[float]:
    chance = random.Random(7)
    return [200 + growth * number + chance.uniform(-3, 3) for number in range(count)]


@pytest.mark.parametrize("count", [12, 60, 1000])
def test_a_leak_is_told_from_noise(count: int) -> None:
    numbers = list(range(count))
    assert slope(numbers, noisy(count, 1.0)).low > 0.4
    flat = slope(numbers, noisy(count, 0.0))
    assert flat.low <= 0 <= flat.high


def test_one_spike_is_no_leak() -> None:
    values = [200.0] * 20
    values[13] = 900.0
    found = slope(list(range(20)), values)
    assert (found.low, found.middle, found.high) == (0, 0, 0)


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        slope([1, 1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="no values"):
        percentiles([])


def test_percentiles_are_values_that_were_there() -> None:
    assert percentiles(list(range(1, 101))) == {"p50": 50, "p90": 90, "p99": 99, "p100": 100}
    assert percentiles([3.0]) == {"p50": 3.0, "p90": 3.0, "p99": 3.0, "p100": 3.0}
