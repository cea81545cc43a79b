"""Days of a source in texts: its dates as people write them, with a year of two digits, without zeros, without a day or a year.

Pure. What is a date by its form alone, whoever's, is told in `traces`; a date of birth has more spellings (`fragments`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Final

Span = tuple[int, int]

_START: Final = r"(?<![^\W_])(?<!\d[.,/\-])"
_END: Final = r"(?![^\W_]|[.,]\d)"
#: Three numbers that are no part of a longer row, such as an address or a version.
_TRIPLE: Final = re.compile(rf"{_START}(\d{{1,4}})[\W_]{{1,3}}(\d{{1,2}})[\W_]{{1,3}}(\d{{1,4}})(?![\-/]\d){_END}")
#: A day and a month: both of two digits, or with a stroke between; with full stops it would be a decimal without its zeros.
_PAIR: Final = re.compile(
    rf"{_START}(?:(\d\d)[/\-](\d\d)|(\d\d?)/(\d\d?)|(\d\d?)\.(\d\d?)(?=\.(?!\d))|(0\d)\.(\d\d))(?![\-/]\d){_END}"
)
#: A month and a year.
_MONTH: Final = re.compile(
    rf"{_START}(?:(\d\d?)[/.\-_ ]{{1,2}}((?:19|20)\d\d)|((?:19|20)\d\d)[/.\-_ ]{{1,2}}(\d\d?))(?![\-/]\d){_END}"
)
#: A month and a year of two digits: a month with its zero; any behind a word that says that a date comes.
_SHORT: Final = re.compile(
    rf"{_START}(?:(0\d)[/\-](\d\d)|(\d\d)[/\-](0\d)|"
    r"(?:dated?|exam|since|until|prior|seit|vom|bis)[\W_]{1,2}(\d\d?)[/.\-](\d\d)(?! ?(?:mm|cm|ms)(?![^\W\d_])))"
    rf"(?![\-/]\d){_END}"
)
_FOUR: Final = re.compile(r"(?<![^\W_])(?<!\d[.,])(\d\d)(\d\d)(?![^\W_]|[.,]\d)")
#: A year of two digits and a day of it from 100 on, without another mark: 25/100 is something else.
_OF_YEAR: Final = re.compile(rf"{_START}(\d\d)-?([1-3]\d\d){_END}")
_DAY: Final = re.compile(r"((?:18|19|20)\d\d)[-./]?(\d\d)[-./]?(\d\d)")
_PART: Final = re.compile(r"(\d{4}(?:\d\d)?)(?:[+-]\d{4})? *")
_DIGITS: Final = 8
_NAMES: Final = (
    ("jan",), ("feb",), ("mar", "mrz", "mär"), ("apr",), ("may", "mai"), ("jun",), ("jul",), ("aug",), ("sep",), ("oct", "okt"),
    ("nov",), ("dec", "dez"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Days of one source.

    Attributes
    ----------
    whole
        Year, month and day, the year of four digits and of two.
    months
        Year and month.
    pairs
        Month and day, either first; month and year of a birth.
    of_year
        Year of two digits, and day of it.
    """

    whole: frozenset[tuple[int, int, int]] = field(default=frozenset(), repr=False)
    months: frozenset[tuple[int, int]] = field(default=frozenset(), repr=False)
    pairs: frozenset[tuple[int, int]] = field(default=frozenset(), repr=False)
    of_year: frozenset[tuple[int, int]] = field(default=frozenset(), repr=False)

    @staticmethod
    def of(dates: frozenset[str], births: frozenset[str] = frozenset()) -> Days:
        """Days of dates YYYYMMDD; of births month and year, too, with two digits for the year (``2/51``)."""
        whole = {(int(date[:4]), int(date[4:6]), int(date[6:8])) for date in dates | births if len(date) == _DIGITS}
        pairs = {pair for _, month, day in whole for pair in ((month, day), (day, month))}
        born = {(int(date[4:6]), int(date[2:4])) for date in births if len(date) == _DIGITS}
        pairs |= born | {(year, month) for month, year in born}
        months = frozenset((year, month) for year, month, _ in whole)
        short = {(year % 100, month, day) for year, month, day in whole}
        of_year = frozenset(
            (int(one[2:4]), int(_day_of_year(one) or 0)) for one in dates | births if len(one) == _DIGITS
        )
        return Days(whole=frozenset(whole | short), months=months, pairs=frozenset(pairs), of_year=of_year)

    def spans(self, text: str) -> Iterator[Span]:
        """Where a text has one of them in figures with marks between, or a month and a day of four figures."""
        if not self.whole:
            return
        for match in _TRIPLE.finditer(text):
            one, two, three = map(int, match.groups())
            if not self.whole.isdisjoint({(one, two, three), (three, two, one), (three, one, two)}):
                yield match.span()
        for match in _PAIR.finditer(text):
            one, two = (int(part) for part in match.groups() if part is not None)
            if (one, two) in self.pairs:
                yield match.span()
        for match in _MONTH.finditer(text):
            one, two = (int(part) for part in match.groups() if part is not None)
            if (one, two) in self.months or (two, one) in self.months:
                yield match.span()
        for match in _SHORT.finditer(text):
            numbers = [group for group in range(1, 7) if match[group]]
            one, two = (int(match[group]) for group in numbers)
            if not self.months.isdisjoint({(2000 + one, two), (2000 + two, one)}):
                yield match.start(numbers[0]), match.end()
        for pattern, known in ((_OF_YEAR, self.of_year), (_FOUR, self.pairs)):
            yield from (match.span() for match in pattern.finditer(text) if (int(match[1]), int(match[2])) in known)


def days_of(values: Iterable[str]) -> set[str]:
    """Days of DA and DT as YYYYMMDD, also of those with marks between their parts."""
    return {"".join(match.groups()) for value in values if (match := _DAY.match(value))}


def parts_of(values: Iterable[str]) -> set[str]:
    """Years and months of DT that have no day (PS3.5 6.2)."""
    return {match[1] for value in values if (match := _PART.fullmatch(value))}


def beginnings(days: Iterable[str]) -> set[str]:
    """Days, their months and their years."""
    return {day[:count] for day in days for count in (4, 6, 8)}


def unmarked(written: str) -> Iterator[str]:
    """Spellings of a date YYYYMMDD without marks, that hardly anything else has: six figures, the name of its month, the day of the year."""
    year, month, day = written[:4], written[4:6], written[6:8]
    if not "01" <= month <= "12":
        return
    yield from (year + month, month + year)
    if of_year := _day_of_year(written):
        yield from (year + of_year, of_year + year)
        if of_year < "100":  # 25/100 and 100/20 are something else
            yield from (year[2:] + of_year, of_year + year[2:])
    for one in (day + month, month + day):
        yield from (one + year[2:], year[2:] + one, one + year)
    for name in _NAMES[int(month) - 1]:
        for number in {day, str(int(day)), year[2:], year}:
            yield from (name + number, number + name)


def _day_of_year(written: str) -> str:
    try:
        return f"{date(int(written[:4]), int(written[4:6]), int(written[6:8])).timetuple().tm_yday:03}"
    except ValueError:
        return ""
