"""Slopes of quantities that leak, that do not, and that jump."""

from __future__ import annotations

import random

import pytest

from tests.benchmarks.drift import ENOUGH, Limit, judge, percentiles, slope


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


MEMORY = Limit(what="memory, MiB", a_study=0.1, at_first=64)


@pytest.mark.parametrize(("growth", "good"), [(0.0, True), (0.15, False), (1.0, False)])
def test_a_long_run_is_held_by_the_upper_end(growth: float, good: bool) -> None:
    values = noisy(ENOUGH, growth)
    found, told = judge(MEMORY, slope(list(range(ENOUGH)), values), (200, 200), ENOUGH)
    assert found is good
    assert "a long run: upper end of a study at most 0.1, from rest to rest at most 114" in told
    assert told.endswith("held" if good else "BROKEN")


def test_a_slope_that_nobody_can_tell_is_not_held() -> None:
    """Noise hides it: what might be a leak is none that was ruled out."""
    chance = random.Random(5)
    half = [chance.uniform(0, 2000) for _ in range(ENOUGH // 2)]
    wild = half + half[::-1]
    assert not judge(MEMORY, slope(list(range(ENOUGH)), wild), (200, 200), ENOUGH)[0]


def test_a_jump_that_no_slope_shows_is_seen_from_rest_to_rest() -> None:
    flat = slope(list(range(ENOUGH)), [200.0] * ENOUGH)
    assert judge(MEMORY, flat, (200, 314), ENOUGH)[0]
    assert not judge(MEMORY, flat, (200, 315), ENOUGH)[0]


def test_a_short_run_is_held_from_rest_to_rest() -> None:
    few = slope(list(range(12)), noisy(12, 3.0))
    found, told = judge(MEMORY, few, (200, 264), 12)
    assert found
    assert "a short run: from rest to rest at most 64: held" in told
    assert not judge(MEMORY, few, (200, 265), 12)[0]
