"""Ages that are told in months, weeks or days, and what people write with them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from types import MappingProxyType
from typing import Final

#: Patient's Age (0010,1010) in another unit than years (PS3.5 6.2, AS).
_AGE: Final = re.compile(r"(\d{3})([DWMdwm])")
_WORDS: Final = MappingProxyType(
    {
        "d": ("day", "days", "tag", "tage", "jour", "jours", "dol"),
        "w": ("week", "weeks", "wk", "wks", "woche", "wochen"),
        "m": ("month", "months", "mo", "mos", "mth", "mths", "monat", "monate", "mois"),
    }
)
#: 2D, 3D and 4D are dimensions.
_DIMENSIONS: Final = frozenset({"2d", "3d", "4d"})
_MOST: Final = MappingProxyType({"d": 60, "w": 26, "m": 36})
_DAYS_OF_A_WEEK: Final = 7

Age = tuple[int, str]


def age_of(value: str) -> Age | None:
    """Number and unit of an age that is not in years."""
    match = _AGE.fullmatch(value)
    return (int(match[1]), match[2].lower()) if match else None


def ages_of_infants(born: str, day: str) -> Iterator[Age]:
    """Ages on a day, both YYYYMMDD, in every unit that people would tell them in."""
    try:
        begin, end = (date(int(one[:4]), int(one[4:6]), int(one[6:8])) for one in (born, day))
    except ValueError:
        return
    days = (end - begin).days
    months = (end.year - begin.year) * 12 + end.month - begin.month - (end.day < begin.day)
    for number, unit in ((days, "d"), (days // _DAYS_OF_A_WEEK, "w"), (months, "m")):
        if 0 < number <= _MOST[unit]:
            yield number, unit


def apart(age: Age) -> Iterator[str]:
    """What may stand with a mark between number and word, casefolded."""
    number, unit = age
    yield f"{number:03}{unit}"
    yield from tight(age)
    for word in _WORDS[unit]:
        yield from (f"{number}{word}", f"{word}{number}")


def tight(age: Age) -> Iterator[str]:
    """What stands with nothing between, casefolded."""
    piece = f"{age[0]}{age[1]}"
    if piece not in _DIMENSIONS:
        yield piece
