"""Fragments of a source's identifiers: a part of a date of birth, its count of days, numbers turned round or in hexadecimal, age with sex.

Pure. What a whole identifier looks like in other spellings is told in `spellings`. A fragment goes from texts where it
stands; only a long one is proof of a leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Final

from dicomnode.deidentification import infancy
from dicomnode.deidentification.days import Days, unmarked
from dicomnode.deidentification.disguises import encoded
from dicomnode.deidentification.forms import is_technical_form

Span = tuple[int, int]

_ATOM: Final = re.compile(r"\d+|[^\W\d_]+")
_WORD: Final = re.compile(r"[^\W_]+")
_JOINT: Final = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
#: A figure, or what may be figures in base64 or hexadecimal.
_TELLING: Final = re.compile(r"\d|[A-Za-z+/]{8}")
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_ORDINAL: Final = re.compile(r"\d+(?:st|nd|rd|th)")
#: What may stand between the parts of a fragment, and between age and sex.
_GAP: Final = re.compile(r"[\W_]{0,3}")
_APART: Final = re.compile(r"[ _\-/(),:=.]{0,2}")
#: A year of birth with a mark that b-values have, and their last figure.
_B_VALUE: Final = re.compile(r"b[ =]{1,2}[1-9]\d*[05]")
#: Letters that stand by themselves, with marks between them.
_APART_LETTERS: Final = re.compile(r"(?<![^\W_])[^\W\d_](?:[\W_]{1,9}[^\W\d_](?![^\W_]))+")
_LETTER: Final = re.compile(r"[^\W\d_]")
_PAIR: Final = 2
_MOST_LETTERS: Final = 4
#: Sides, axes: any two of them tell a direction.
_DIRECTIONS: Final = (frozenset("aplrhfsi"), frozenset("xyz"))
_SHORTEST: Final = 4
_SHORTEST_MIXED: Final = 3
_NUMBER: Final = 5
_CUT: Final = 6  # characters of an identifier that is found without its first or its last one
_REMEMBERED: Final = 1024
_LONGEST: Final = 64  # characters of an identifier; what is longer is a remark
_PROOF: Final = 7
_MEASURED: Final = 6
_LONG_DECIMALS: Final = 8
_ROUND: Final = 2
_HEXADECIMAL: Final = range(5, 13)  # digits of a number that somebody writes so
_YOUNGEST: Final = 10
_MOST_PARTS: Final = 12
_MONTHS: Final = (
    ("jan",), ("feb",), ("mar", "mrz"), ("apr",), ("may", "mai"), ("jun",), ("jul",), ("aug",), ("sep",), ("oct", "okt"),
    ("nov",), ("dec", "dez"),
)  # fmt: skip
#: What a sex is called beside an age, by Patient's Sex (0010,0040).
_SEXES: Final = {"F": ("f", "w", "female", "frau", "woman", "girl"), "M": ("m", "male", "mann", "man", "boy")}
#: From when days are counted: calendars of spreadsheets, Julian Days, modified ones, Unix, day one.
_EPOCHS: Final = tuple(
    day.toordinal() for day in (date(1899, 12, 30), date(1899, 12, 31), date(1904, 1, 1), date(1858, 11, 17), date(1970, 1, 1))
)  # fmt: skip
_JULIAN: Final = 1721425
_UNIX: Final = date(1970, 1, 1).toordinal()
_SECONDS: Final = 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragments:
    """Fragments of one source, casefolded.

    Attributes
    ----------
    joined
        Found whatever stands beside them and between their parts.
    apart
        Age and sex, year of birth and sex: found where nothing else is joined to them.
    tight
        The same with one letter: nothing stands between (``v77``, ``73y``).
    days
        Dates, of birth and of whatever else.
    letters
        Initials that are found apart (``J-D``), but such as name a direction.
    """

    joined: frozenset[str] = field(default=frozenset(), repr=False)
    apart: frozenset[str] = field(default=frozenset(), repr=False)
    tight: frozenset[str] = field(default=frozenset(), repr=False)
    days: Days = field(default_factory=Days, repr=False)
    letters: frozenset[str] = field(default=frozenset(), repr=False)
    _known: dict[str, tuple[Span, ...]] = field(default_factory=dict, repr=False, compare=False)  # by text

    def spans(self, text: str) -> tuple[Span, ...]:
        """Where a text has fragments."""
        found = tuple(_letters_apart(self.letters, text)) if self.letters else ()
        if not (self.joined or self.apart or self.days.whole) or not _TELLING.search(text):
            return found
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[text] = _spans(self, text)
        return found + known

    def prove(self, text: str) -> bool:
        """Whether a text holds a fragment that is too long to be there by chance."""
        found = ("".join(filter(str.isalnum, text[start:end].casefold())) for start, end in self.spans(text))
        return any(len(piece) >= _PROOF and piece not in self.apart for piece in found)

    def has_number(self, value: str, *, measured: bool) -> bool:
        """Whether a whole number is one of them; of what is measured only such as few measurements are like."""
        whole, _, decimals = value.strip().partition(".")
        digits = whole + decimals.rstrip("0")
        if not digits.isdigit() or digits not in self.joined:
            return False
        if whole[:1] == "0" and len(whole) > 1:  # no measurement is written with zeros before it
            return True
        least = _LONG_DECIMALS if digits != whole else _MEASURED if measured else _NUMBER
        return len(digits) >= least and len(digits.rstrip("0")) > _ROUND


@lru_cache(64)
def fragments_of(
    codes: frozenset[str],
    births: frozenset[str],
    ages: frozenset[int],
    sexes: frozenset[str],
    initials: frozenset[str],
    *,
    dates: frozenset[str] = frozenset(),
    streets: frozenset[str] = frozenset(),
    infants: frozenset[infancy.Age] = frozenset(),
) -> Fragments:
    """Fragments of identifiers, of dates of birth YYYYMMDD, of ages in years with Patient's Sex, of initials with a year; of other dates, of addresses, of ages that are not in years."""
    joined = {piece for code in codes for piece in _of_code(code)}
    joined.update(dates)
    joined.update(piece for day in dates | births for piece in unmarked(day))
    joined.update(piece for street in streets for piece in _of_street(street))
    numbers = {f"{age}" for age in ages if age >= _YOUNGEST}
    of_all = {f"{age}" for age in ages}
    tight = set[str]()
    years = set[str]()
    for day in births:
        joined.update(_of_birth(day))
        years.update((day[:4], day[2:4]))
    for number in numbers | years:
        tight.add(f"v{number}")
        joined.update(piece for letters in initials for piece in (letters + number, number + letters))
    tight.update(f"b{year}" for year in years if len(year) > 2 or not year.endswith("0"))  # those are b-values
    tight.update(f"{year}b" for year in years)
    called = {word for sex in sexes for word in _SEXES.get(sex, ())}
    apart = {piece for one in numbers | years for word in called for piece in (one + word, word + one)}
    apart.update(f"b{year}" for year in years if len(year) == _PAIR and not year.endswith("0"))
    for number in of_all:
        padded = number.zfill(3)
        apart.update(number + word for word in (*called, "y", "j"))
        apart.update(word + number for word in called if word != "m")  # M1 is a stage, and a segment
        tight.update(piece for one in (number, padded) for piece in (f"{one}y", f"y{one}", f"{one}yo", f"{one}j"))
        tight.update(f"{number}y{more}{word}" for more in ("", "o") for word in called)
        apart.update(piece for word in called for piece in (padded + word, word + padded))
        apart.update((f"age{number}", f"aged{number}", f"alter{number}"))
    for age in infants:
        apart.update(infancy.apart(age))
        tight.update(infancy.tight(age))
    kept = frozenset(piece for piece in joined if not _YEAR.fullmatch(piece))
    return Fragments(
        joined=kept,
        apart=frozenset(apart),
        tight=frozenset(tight),
        days=Days.of(dates, births),
        letters=frozenset(
            some for some in initials if len(some) >= _PAIR and not any(axes.issuperset(some) for axes in _DIRECTIONS)
        ),
    )


def _letters_apart(known: frozenset[str], text: str) -> Iterator[Span]:
    """Where a text has letters that are initials with marks between them, whatever marks: all of a few, since a part would say something else."""
    for run in _APART_LETTERS.finditer(text):
        letters = list(_LETTER.finditer(text, *run.span()))
        found = []
        for first in range(len(letters) - 1):
            for some in (letters[first:last] for last in range(first + _PAIR, first + _MOST_LETTERS + 1)):
                if "".join(letter[0] for letter in some).casefold() in known:
                    found.append((some[0].start(), some[-1].end()))
        yield from [run.span()] if found and len(letters) <= _MOST_LETTERS else found


def _of_birth(day: str) -> Iterator[str]:
    """Parts of a date of birth, its days counted, its figures turned round."""
    try:
        born = date(int(day[:4]), int(day[4:6]), int(day[6:8]))
    except ValueError:
        return
    year, short, month, of_month = day[:4], day[2:4], day[4:6], day[6:8]
    yield year[::-1]
    yield from (short + month, month + short, of_month + month, month + of_month, year + month, month + year)
    for written in (year, short):
        for whole in (of_month + month + written, month + of_month + written, written + month + of_month):
            yield from (whole, whole[::-1])
        yield f"{written}{born.timetuple().tm_yday:03}"
        for name in _MONTHS[born.month - 1]:
            yield from (name + written, written + name, of_month + name, name + of_month)
    days = born.toordinal()
    counts = {days, days + _JULIAN - 1, days + _JULIAN, *(abs(days - epoch) for epoch in _EPOCHS)}
    counts |= {abs(days - _UNIX) * _SECONDS, abs(days - _UNIX) * _SECONDS * 1000}
    for count in counts:
        if len(str(count)) >= _SHORTEST:
            yield str(count)
    yield from _in_hexadecimal(int(day))
    yield from _in_hexadecimal(days - _EPOCHS[0])


def _in_hexadecimal(number: int) -> Iterator[str]:
    written = f"{number:x}"
    if len(written) > _SHORTEST or (len(written) == _SHORTEST and not written.isdigit()):
        yield written


def _of_code(code: str) -> Iterator[str]:
    """An identifier's figures, turned round, cut, in hexadecimal; words with figures of one that is an address."""
    words = _WORD.findall(code)
    yield from (run for one in re.findall(r"\d+", code) if len(one) >= _SHORTEST for run in (one, one[::-1]))
    for word in words:
        if (
            len(word) >= _SHORTEST_MIXED
            and not is_technical_form(word)
            and not _ORDINAL.fullmatch(word)
            and _is_mixed(word)
        ):
            yield word
    for one, other in pairwise(words):
        both = one + other
        if len(both) >= _NUMBER and all(map(_has_digit, (one, other))):
            yield from (both, both[::-1])
    if len(code) > _LONGEST:
        return
    plain, digits = "".join(words), "".join(filter(str.isdigit, code))
    if _has_digit(plain) and len(plain) >= (_SHORTEST if plain.isdigit() else _SHORTEST_MIXED):
        yield plain
        if len(plain) >= _SHORTEST:
            yield plain[::-1]
        if len(plain) >= _CUT:
            yield from (one for one in (plain[1:], plain[:-1]) if _has_digit(one))
    yield from _of_digits(digits)


def _of_street(address: str) -> Iterator[str]:
    """A house number with the word beside it, either first; the abbreviation of a kind of street is no such word."""
    for one, other in pairwise(_WORD.findall(address)):
        for number, word in ((one, other), (other, one)):
            if number.rstrip("abcdef").isdigit() and word.isalpha() and len(word) >= _SHORTEST_MIXED:
                yield from (number + word, word + number)


def _of_digits(digits: str) -> Iterator[str]:
    if len(digits) >= _SHORTEST and digits.strip("0"):
        yield from (digits, digits[::-1])
        if len(digits.lstrip("0")) >= _SHORTEST:
            yield digits.lstrip("0")
    if len(digits) >= _CUT:
        yield from (one for one in (digits[1:], digits[:-1], *_ends(digits)) if len(one.lstrip("0")) >= _SHORTEST)
    if digits.isascii() and len(digits) in _HEXADECIMAL:
        yield from _in_hexadecimal(int(digits))


def _ends(digits: str) -> Iterator[str]:
    """Last figures of an identifier, as of a telephone number; first ones from six on: fewer are those of all in a house."""
    yield from (digits[-count:] for count in range(_SHORTEST, len(digits)))
    yield from (digits[:count] for count in range(_CUT, len(digits)))


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _is_mixed(word: str) -> bool:
    return _has_digit(word) and not word.isdigit()


def _spans(known: Fragments, text: str) -> tuple[Span, ...]:
    hidden = (
        span
        for span, plain in encoded(text)
        if any(map(str.isdigit, plain)) and (_plain_spans(known, plain) or _plain_spans(known, _JOINT.sub(" ", plain)))
    )
    return (*_plain_spans(known, text), *hidden)


def _plain_spans(known: Fragments, text: str) -> tuple[Span, ...]:
    folded = text.casefold()
    if len(folded) != len(text):
        folded = text.lower() if len(text.lower()) == len(text) else text
    atoms = list(_ATOM.finditer(folded))
    longest = max(map(len, known.joined), default=0)
    found = list(known.days.spans(folded))
    for first in range(len(atoms)):
        whole = digits = ""
        for last in range(first, min(first + _MOST_PARTS, len(atoms))):
            atom = atoms[last][0]
            if last > first and not _GAP.fullmatch(folded, atoms[last - 1].end(), atoms[last].start()):
                break
            whole += atom
            digits += atom if atom.isdigit() else ""
            if len(digits) > longest or len(whole) > longest + _MOST_PARTS:
                break
            if _is_one(known, folded, atoms[first : last + 1], whole, digits):
                found.append((atoms[first].start(), atoms[last].end()))
    return tuple(found)


def _is_one(known: Fragments, text: str, atoms: list[re.Match[str]], whole: str, digits: str) -> bool:
    """Whether neighbouring parts of a text are a fragment, read as one; a letter may be joined before it."""
    if not digits:
        return False
    led = len(atoms[0][0]) > 1 and atoms[0][0].isalpha()
    less = whole[1:] if led else whole.lstrip("0") if whole.isdigit() else ""
    if whole in known.joined or (len(less) >= _SHORTEST and less in known.joined):
        return True
    ends_in_digits = atoms[0][0].isdigit() and atoms[-1][0].isdigit()
    if ends_in_digits and digits in known.joined and all(len(atom[0]) == 1 or atom[0].isdigit() for atom in atoms):
        return True  # 300x417
    versioned = less if led and whole[0] == "v" else whole
    return any(_stands_alone(known, text, atoms, piece) for piece in {whole, versioned})


def _stands_alone(known: Fragments, text: str, atoms: list[re.Match[str]], piece: str) -> bool:
    """Whether parts are an age with its sex or the like, with nothing joined to it."""
    if not (piece in known.apart or piece in known.tight) or sum(atom[0].isdigit() for atom in atoms) != 1:
        return False
    start, end = atoms[0].start(), atoms[-1].end()
    if _B_VALUE.fullmatch(text, start, end):
        return False
    if start and text[start - 1] == "v" and piece == "".join(atom[0] for atom in atoms):
        start -= 1  # as of a version
    if _is_joined(text[max(start - 2, 0) : start][::-1]) or _is_joined(text[end : end + 2]):
        return False
    gaps = [text[one.end() : other.start()] for one, other in pairwise(atoms)]
    return not any(gaps) or (piece in known.apart and all(map(_APART.fullmatch, gaps)))


def _is_joined(beside: str) -> bool:
    """Whether what stands beside a fragment goes on with it: a letter, a figure, the decimals of a number."""
    if beside[:1].isalnum():
        return True
    return beside[:1] in (".", ",") and beside[1:2].isdigit()


def ages_between(born: str, day: str) -> Iterable[int]:
    """Age in years on a day, both YYYYMMDD; none where there is no such age."""
    age = int(day[:4]) - int(born[:4]) - (day[4:8] < born[4:8])
    return (age,) if 0 <= age < 130 else ()
