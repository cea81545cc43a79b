"""Whether a quantity grows with the work done: its slope and the interval of it. Pure: numbers in, numbers out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from tests.benchmarks.comparison import Interval

_RESAMPLES = 400
_LEAST = 4
_MOST = 60
#: Studies behind a slope from which on its upper end says more than its noise: an hour of a node, not a minute.
ENOUGH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a quantity may grow by.

    Attributes
    ----------
    what
        The quantity and its unit.
    a_study
        For each study, where there are enough.
    at_first
        While a node warms up, from rest to rest.
    """

    what: str
    a_study: float
    at_first: float


def judge(limit: Limit, growth: Interval, at_rest: tuple[float, float], studies: int) -> tuple[bool, str]:
    """Whether a quantity is flat, and by which bound: with `ENOUGH` studies the *upper* end of its slope is held, too."""
    grown = at_rest[1] - at_rest[0]
    if studies < ENOUGH:
        good, bound = grown <= limit.at_first, f"a short run: from rest to rest at most {limit.at_first:g}"
    else:
        most = limit.at_first + limit.a_study * studies
        good = growth.high <= limit.a_study and grown <= most
        bound = f"a long run: upper end of a study at most {limit.a_study:g}, from rest to rest at most {most:g}"
    seen = f"a study {growth.middle:.3f} [{growth.low:.3f}, {growth.high:.3f}], at rest {at_rest[0]:.0f} to {at_rest[1]:.0f}"
    return good, f"{limit.what}: {seen}; {bound}: {'held' if good else 'BROKEN'}"


def slope(done: Sequence[float], values: Sequence[float]) -> Interval:
    """Growth of `values` for one more of `done`, and its interval of 95 %.

    Medians of slopes between pairs (Theil, Sen), which one spike does not move; percentile bootstrap, seeded. Long series
    are thinned to medians of stretches first, which also takes out that neighbours resemble each other.
    """
    if len(done) != len(values) or len(set(done)) < _LEAST:
        raise ValueError("too few values")
    points = _thinned(list(zip(done, values, strict=True)))
    generator = random.Random(20261126)
    drawn = []
    while len(drawn) < _RESAMPLES:
        sample = generator.choices(points, k=len(points))
        if len({at for at, _ in sample}) > 1:
            drawn.append(_middle(sample))
    drawn.sort()
    return Interval(
        middle=_middle(points), low=drawn[round(0.025 * (_RESAMPLES - 1))], high=drawn[round(0.975 * (_RESAMPLES - 1))]
    )


def percentiles(values: Sequence[float], shares: Sequence[float] = (0.5, 0.9, 0.99, 1.0)) -> dict[str, float]:
    """Nearest-rank percentiles."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return {f"p{share * 100:g}": ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for share in shares}


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = -(-len(points) // _MOST)
    stretches = [points[first : first + size] for first in range(0, len(points), size)]
    return [(median(at for at, _ in one), median(value for _, value in one)) for one in stretches]


def _middle(points: Sequence[tuple[float, float]]) -> float:
    pairs = combinations(points, 2)
    return median((late[1] - early[1]) / (late[0] - early[0]) for early, late in pairs if late[0] != early[0])
