"""Ratios of paired turns: median, 95 % interval, and whether a floor is reached. Pure: numbers in, rows of a table out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

_RESAMPLES = 10_000
_SEED = 20260101


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Median of some values, and what holds the true one with 95 %."""

    middle: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Turn by turn: only what ran beside each other is compared."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def interval(values: Sequence[float]) -> Interval:
    """Median and its percentile bootstrap interval of 95 % (Efron), seeded: the same values give the same bounds."""
    if not values:
        raise ValueError("no values")
    generator = random.Random(_SEED)
    medians = sorted(median(generator.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Interval(
        middle=median(values),
        low=medians[round(0.025 * (_RESAMPLES - 1))],
        high=medians[round(0.975 * (_RESAMPLES - 1))],
    )


def verdict(found: Interval, *, least: float | None = None, most: float | None = None) -> str:
    """``above`` where the whole interval is on the right side of the bound, ``reached`` where it reaches it, else ``missed``.

    Without a bound: empty.
    """
    if least is not None:
        return "above" if found.low >= least else "reached" if found.high >= least else "missed"
    if most is not None:
        return "below" if found.high <= most else "reached" if found.low <= most else "missed"
    return ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: one receiver, one sender, one case."""

    case: str
    sender: str
    receiver: str
    value: str
    ratio: Interval | None = None
    least: float | None = None
    aim: float | None = None
    cpu: Interval | None = None
    cpu_most: float | None = None
    memory: Interval | None = None
    memory_most: float | None = None

    def cells(self) -> tuple[str, ...]:
        """What stands in the columns of `HEAD`."""
        floor = "" if self.least is None else f"{self.least:g} / {self.aim:g}" if self.aim else f"{self.least:g}"
        return (
            self.case,
            self.sender,
            self.receiver,
            self.value,
            str(self.ratio) if self.ratio else "",
            floor,
            verdict(self.ratio, least=self.least) if self.ratio else "",
            _bounded(self.cpu, self.cpu_most),
            _bounded(self.memory, self.memory_most, digits=0),
        )


HEAD = ("case", "sender", "receiver", "rate or time", "node ÷ it", "floor / aim", "floor", "CPU s/GB", "MB above idle")


def table(rows: Sequence[Row]) -> str:
    """Text in columns."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _bounded(found: Interval | None, most: float | None, digits: int = 2) -> str:
    if found is None:
        return ""
    text = f"{found.middle:.{digits}f}"
    return text if most is None else f"{text} (≤ {most:g}: {verdict(found, most=most)})"
