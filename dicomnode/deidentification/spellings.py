"""Spellings of identifiers: a number with leading zeros, a fraction or grouped digits; a date of birth as people write it.

Pure. For identifiers of five digits and more alone: fewer stand everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

_LEAST: Final = 5
#: No exponent, and fewer digits before the point than an identifier has.
_FEW_DIGITS: Final = re.compile(r" *[+-]?\d{0,4}(\.\d*)? *", re.ASCII)
_RUN: Final = 6
_LONGEST: Final = 40
_NUMERIC: Final = re.compile(r"\d+(?:[ ./\-]\d+)*")
_GROUPS: Final = re.compile(r"\d+(?:[ ./\-]\d+)+|\d+")
_MOST_GROUPS: Final = 12
_TRIPLE: Final = re.compile(r"(?<!\d)(\d{1,4})(?P<mark>[ ./\-]) ?(\d{1,2})(?P=mark) ?(\d{1,4})(?!\d)")
_MONTHS: Final = (
    ("jan",), ("feb",), ("mar", "mär", "mae"), ("apr", "avr"), ("may", "mai"), ("jun", "juin"), ("jul", "juil"),
    ("aug", "aoû", "aou"), ("sep",), ("oct", "okt"), ("nov",), ("dec", "dez", "déc"),
)  # fmt: skip
_MONTH: Final = "|".join(name for names in _MONTHS for name in names)
_NAMED: Final = re.compile(
    rf"(\d{{1,4}})?[ .,\-/]{{0,2}}({_MONTH})[^\W\d_]*[ .,\-/]{{0,2}}(\d{{1,4}})(?:[ .,\-/]{{1,2}}(\d{{2,4}}))?"
)


def canonical(digits: str) -> str:
    """Digits without leading zeros; empty where too few are left to tell an identifier."""
    plain = digits.lstrip("0")
    return plain if len(plain) >= _LEAST else ""


def numbers_of(code: str) -> set[str]:
    """Numbers that an identifier is written by: all of its digits where it has nothing else, and its long runs."""
    found = {canonical(run) for run in re.findall(rf"\d{{{_RUN},}}", code)}
    if _NUMERIC.fullmatch(code):
        found.add(canonical("".join(filter(str.isdigit, code))))
    return found - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spellings:
    """Numbers and dates of birth of a source.

    Attributes
    ----------
    numbers
        Canonical.
    births
        Year, month, day.
    """

    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    births: frozenset[tuple[int, int, int]] = field(default=frozenset(), repr=False)

    @staticmethod
    def of(codes: Iterable[str], births: Iterable[str]) -> Spellings:
        """Spellings of identifiers, and of dates YYYYMMDD."""
        days = frozenset((int(date[:4]), int(date[4:6]), int(date[6:8])) for date in births)
        numbers = {number for code in codes for number in numbers_of(code)}
        return Spellings(numbers=frozenset(numbers | {n for day in days for n in _undelimited(*day)}), births=days)

    def has_number(self, value: str) -> bool:
        """Whether a number is one of them (``0012345678``, ``12345678.0``)."""
        if not self.numbers or len(value) > _LONGEST or _FEW_DIGITS.fullmatch(value):
            return False
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return False
        return number.is_finite() and number == number.to_integral_value() and f"{abs(number):.0f}" in self.numbers

    def stand_in(self, text: str) -> bool:
        """Whether a text holds one of them (``1234-5678``, ``13 Jan 1962``, ``13.1.62``)."""
        if not any(char.isdigit() for char in text):
            return False
        return any(run in self.numbers for run in _joined(text)) or bool(self.births and any(_days(text, self.births)))


def _undelimited(year: int, month: int, day: int) -> set[str]:
    """A date without anything between its parts, as a number; two digits of the year may stand for all."""
    parts = f"{day:02}", f"{month:02}"
    whole = set()
    for written in (f"{year:04}", f"{year % 100:02}"):
        whole |= {parts[0] + parts[1] + written, parts[1] + parts[0] + written, written + parts[1] + parts[0]}
    return {number for one in whole if (number := canonical(one))}


def _joined(text: str) -> Iterator[str]:
    """Canonical numbers of the digits of a text, neighbouring groups read as one."""
    for match in _GROUPS.finditer(text):
        groups = re.findall(r"\d+", match[0])[:_MOST_GROUPS]
        for first in range(len(groups)):
            for last in range(first + 1, len(groups) + 1):
                yield canonical("".join(groups[first:last]))


def _days(text: str, births: frozenset[tuple[int, int, int]]) -> Iterator[bool]:
    """Whether each date that a text seems to hold is one of birth."""
    known = births | {(year % 100, month, day) for year, month, day in births}
    for match in _TRIPLE.finditer(text):
        one, two, three = int(match[1]), int(match[3]), int(match[4])
        yield not known.isdisjoint({(one, two, three), (three, two, one), (three, one, two)})
    for match in _NAMED.finditer(text.casefold()):
        month = next(n for n, names in enumerate(_MONTHS, 1) if match[2] in names)
        numbers = [int(part) for part in (match[1], match[3], match[4]) if part]
        if len(numbers) > 1:
            pairs = {(a, month, b) for a in numbers for b in numbers}
            yield not known.isdisjoint(pairs)
