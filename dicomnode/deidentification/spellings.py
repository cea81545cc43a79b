"""Spellings of identifiers: a number with leading zeros, a fraction or grouped digits; a date of birth as people write it.

Pure. For numbers of five digits and more alone: fewer stand everywhere. Words in disguise: `disguises`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Final

from dicomnode.deidentification import disguises

_LEAST: Final = 5
#: No exponent, and fewer digits before the point than an identifier has.
_FEW_DIGITS: Final = re.compile(r" *[+-]?\d{0,4}(\.\d*)? *", re.ASCII)
#: No measurement is written with zeros before it.
_WRITTEN_AS_A_CODE: Final = re.compile(r" *0\d")
_RUN: Final = 6
_ROUND: Final = 2
_LONGEST: Final = 40
#: Whatever people put between groups of digits.
_MARKS: Final = r"[\W_]+"
_NUMERIC: Final = re.compile(rf"\d+(?:{_MARKS}\d+)*")
_GROUPS: Final = re.compile(rf"\d+(?:{_MARKS}\d+)*")
_MOST_GROUPS: Final = 12
#: A code of few letters before or behind its number, which is found without them, too: K-90731, A55.102.
_LETTERED: Final = re.compile(
    rf"[^\W\d_]{{1,6}}[\-_./#:]?(?:\d+(?:{_MARKS}\d+)*)|(?:\d+(?:{_MARKS}\d+)*)[\-_./#:]?[^\W\d_]{{1,6}}"
)
#: The shortest such, whose parts may stand apart: Z19, Z-19.
_SHORT_LETTERED: Final = re.compile(r"([^\W\d_]{1,2})(\d{1,2})")
_ALNUM: Final = re.compile(r"[^\W_]+")
_SHORTEST_PLAIN: Final = 4
_SHORT_PAIR: Final = 3
_MOST_WORDS: Final = 6
_TRIPLE: Final = re.compile(rf"(?<!\d)(?=(\d{{1,4}}){_MARKS}(\d{{1,2}}){_MARKS}(\d{{1,4}})(?!\d))")  # they overlap
_MONTHS: Final = (
    ("jan",), ("feb",), ("mar", "mär", "mae"), ("apr", "avr"), ("may", "mai"), ("jun", "juin"), ("jul", "juil"),
    ("aug", "aoû", "aou"), ("sep",), ("oct", "okt"), ("nov",), ("dec", "dez", "déc"),
)  # fmt: skip
_MONTH: Final = "|".join(name for names in _MONTHS for name in names)
_NAMED: Final = re.compile(
    rf"(\d{{1,4}})?(?:st|nd|rd|th)?[\W_]*({_MONTH})[^\W\d_]*[\W_]*(\d{{1,4}})(?:st|nd|rd|th)?(?:[\W_]+(\d{{2,4}}))?"
)


def canonical(digits: str) -> str:
    """Digits without leading zeros; empty where too few are left to tell an identifier."""
    plain = digits.lstrip("0")
    return plain if len(plain) >= _LEAST else ""


def numbers_of(code: str) -> set[str]:
    """Numbers that an identifier is written by: all of its digits where it has nothing else, and its long runs."""
    found = {canonical(run) for run in re.findall(rf"\d{{{_RUN},}}", code)}
    if _NUMERIC.fullmatch(code) or _LETTERED.fullmatch(code):
        found.add(canonical("".join(filter(str.isdigit, code))))
    return found - {""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spellings:
    """Numbers and dates of birth of a source.

    Attributes
    ----------
    numbers
        Canonical.
    telling
        Those of them that few measurements are like: of six digits and more, no round ones; dates of birth in whole years.
    births
        Year, month, day.
    plain
        Identifiers of letters and digits, casefolded, without the marks between.
    led
        Digits of those that are short but for the zeros before them.
    pairs
        Identifiers of three letters and figures in their two parts, casefolded.
    names
        Words of names of four letters and more, casefolded: found in disguise.
    figured
        The same with figures for letters.
    """

    numbers: frozenset[str] = field(default=frozenset(), repr=False)
    telling: frozenset[str] = field(default=frozenset(), repr=False)
    births: frozenset[tuple[int, int, int]] = field(default=frozenset(), repr=False)
    plain: frozenset[str] = field(default=frozenset(), repr=False)
    led: frozenset[str] = field(default=frozenset(), repr=False)
    pairs: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    names: frozenset[str] = field(default=frozenset(), repr=False)
    figured: frozenset[str] = field(default=frozenset(), repr=False)

    @staticmethod
    def of(codes: Iterable[str], births: Iterable[str], names: Iterable[str] = ()) -> Spellings:
        """Spellings of identifiers, of dates YYYYMMDD, and of words of names."""
        codes = tuple(codes)
        written = {"".join(_ALNUM.findall(code.casefold())) for code in codes}
        short = (
            match for code in written if len(code) < _SHORTEST_PLAIN and (match := _SHORT_LETTERED.fullmatch(code))
        )
        long = frozenset(name for name in names if len(name) >= disguises.SHORTEST and name.isalpha())
        plain = {code for code in written if len(code) >= _SHORTEST_PLAIN and not code.isdigit() and not code.isalpha()}
        digits = {"".join(filter(str.isdigit, code)) for code in codes if _NUMERIC.fullmatch(code)}
        led = frozenset(one for one in digits if len(one) >= _RUN and not canonical(one))
        days = frozenset((int(date[:4]), int(date[4:6]), int(date[6:8])) for date in births)
        numbers = {number for code in codes for number in numbers_of(code)}
        born = {number for day in days for number in _undelimited(*day)}
        telling = {number for number in numbers if len(number) >= _RUN and len(number.rstrip("0")) > _ROUND}
        telling |= {number for number in born if len(number) > _RUN}
        return Spellings(
            numbers=frozenset(numbers | born),
            telling=frozenset(telling),
            births=days,
            plain=frozenset(plain),
            led=led,
            pairs=frozenset((match[1], match[2]) for match in short if len(match[0]) == _SHORT_PAIR),
            names=long,
            figured=frozenset(map(disguises.leet, long)),
        )

    def has_number(self, value: str, *, measured: bool = False) -> bool:
        """Whether a number is one of them (``0012345678``, ``12345678.0``), or of the telling ones where it is measured."""
        if value.strip() in self.led:
            return True
        numbers = self.telling if measured and not _WRITTEN_AS_A_CODE.match(value) else self.numbers
        if not numbers or len(value) > _LONGEST or _FEW_DIGITS.fullmatch(value):
            return False
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            return False
        return number.is_finite() and number == number.to_integral_value() and f"{abs(number):.0f}" in numbers

    def _is_led(self, run: str) -> bool:
        """Whether digits are one of the short identifiers, with more or fewer of its zeros."""
        if run in self.led:
            return True
        plain = run.lstrip("0")
        return plain != run and len(plain) >= _SHORTEST_PLAIN and any(one.lstrip("0") == plain for one in self.led)

    def tells(self, code: str) -> bool:
        """Whether finding an identifier among bytes tells something: not where it is a number like many measurements."""
        return not code.isdigit() or canonical(code) in self.telling

    def stand_in(self, text: str) -> bool:
        """Whether a text holds one of them (``1234-5678``, ``13 Jan 1962``, ``13.1.62``)."""
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
        if self.names and disguises.stand_in(text, self.names, self.figured):
            return True
        if not any(char.isdigit() for char in text):
            return False
        if self.plain and not self.plain.isdisjoint(_runs(text.casefold())):
            return True
        if self.pairs and not self.pairs.isdisjoint(pairwise(_ALNUM.findall(text.casefold()))):
            return True
        joined = any(canonical(run) in self.numbers or self._is_led(run) for run in _joined(text))
        return joined or bool(self.births and any(_days(text, self.births)))


def _undelimited(year: int, month: int, day: int) -> set[str]:
    """A date without anything between its parts, as a number; two digits of the year may stand for all."""
    parts = f"{day:02}", f"{month:02}"
    whole = set()
    for written in (f"{year:04}", f"{year % 100:02}"):
        whole |= {parts[0] + parts[1] + written, parts[1] + parts[0] + written, written + parts[1] + parts[0]}
    return {number for one in whole if (number := canonical(one))}


def _runs(text: str) -> Iterator[str]:
    """Neighbouring words of a text written together, and without a letter before or behind."""
    words = _ALNUM.findall(text)
    for first in range(len(words)):
        for last in range(first + 1, min(first + _MOST_WORDS, len(words)) + 1):
            run = "".join(words[first:last])
            yield run
            if run[0].isalpha():
                yield run[1:]
            if run[-1].isalpha():
                yield run[:-1]


def _joined(text: str) -> Iterator[str]:
    """Digits of a text, neighbouring groups read as one."""
    for match in _GROUPS.finditer(text):
        groups = re.findall(r"\d+", match[0])[:_MOST_GROUPS]
        for first in range(len(groups)):
            for last in range(first + 1, len(groups) + 1):
                yield "".join(groups[first:last])


def _days(text: str, births: frozenset[tuple[int, int, int]]) -> Iterator[bool]:
    """Whether each date that a text seems to hold is one of birth."""
    known = births | {(year % 100, month, day) for year, month, day in births}
    for match in _TRIPLE.finditer(text):
        one, two, three = int(match[1]), int(match[2]), int(match[3])
        yield not known.isdisjoint({(one, two, three), (three, two, one), (three, one, two)})
    for match in _NAMED.finditer(text.casefold()):
        month = next(n for n, names in enumerate(_MONTHS, 1) if match[2] in names)
        numbers = [int(part) for part in (match[1], match[3], match[4]) if part]
        if len(numbers) > 1:
            pairs = {(a, month, b) for a in numbers for b in numbers}
            yield not known.isdisjoint(pairs)
