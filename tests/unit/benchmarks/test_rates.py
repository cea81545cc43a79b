"""Rates and trials over a clock that the calls themselves move."""

from __future__ import annotations

import pytest

from tests.benchmarks.rates import each_second, quicker


class Device:
    """Work that is queued and takes its time when it is waited for."""

    def __init__(self, costs: dict[bool, list[float]]) -> None:
        self.now, self._queued, self._costs = 0.0, 0.0, costs

    def act(self, which: bool = False) -> None:
        costs = self._costs[which]
        self._queued += costs.pop(0) if len(costs) > 1 else costs[0]

    def wait(self) -> None:
        self.now, self._queued = self.now + self._queued, 0.0

    def clock(self) -> float:
        return self.now


def test_a_rate_counts_what_is_done_when_it_is_done() -> None:
    device = Device({False: [30.0, 20.0, 0.5]})  # the first two are dear: they warm up
    assert each_second(device.act, 10, wait=device.wait, clock=device.clock) == 2.0


@pytest.mark.parametrize(
    ("plain", "other", "expected"),
    [([2.0], [1.0], True), ([1.0], [2.0], False), ([1.0], [50.0, 0.5], True), ([50.0, 0.5], [1.0], False)],
)
def test_the_quicker_way_is_that_of_the_second_try(plain: list[float], other: list[float], expected: bool) -> None:
    device = Device({False: plain, True: other})
    assert quicker(device.act, wait=device.wait, clock=device.clock) is expected
