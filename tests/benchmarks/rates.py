"""How often a second something is done, and which of two ways is the quicker: for any callables, on any device."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
_TRIES = 2


def each_second(
    act: Callable[[], object], times: int, *, wait: Callable[[], object], clock: Clock = time.perf_counter
) -> float:
    """Times a second, of calls that follow each other and are waited for at the end alone; two before them do not count."""
    for _ in range(2):
        act()
    wait()
    begun = clock()
    for _ in range(times):
        act()
    wait()
    return times / (clock() - begun)


def quicker(act: Callable[[bool], object], *, wait: Callable[[], object], clock: Clock = time.perf_counter) -> bool:
    """Whether an act takes less time with True than with False, each tried in turn; the last try of each counts."""
    took = {}
    for which in (False, True) * _TRIES:
        wait()
        begun = clock()
        act(which)
        wait()
        took[which] = clock() - begun
    return took[True] < took[False]
