"""Tokens of free text, and what may be a name among them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from typing import Final

RUN: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
LETTERS: Final = re.compile(r"[^\W\d_]+|\d+")
_PREFIXES: Final = frozenset(
    {
        "Mc",
        "Mac",
        "La",
        "Le",
        "De",
        "Del",
        "Di",
        "Da",
        "Du",
        "Van",
        "Von",
        "St",
        "Fitz",
        "Jo",
        "Ann",
        "Mary",
        "El",
        "Al",
        "Ben",
    }
)
#: Abbreviations that are written in capitals or small; otherwise they are somebody.
_ABBREVIATED: Final = frozenset(
    {
        "Rao",
        "Lao",
        "Opp",
        "Mai",
        "Erm",
        "Omar",
        "Petra",
        "Ute",
        "Tia",
        "Bravo",
        "Thor",
        "Anke",
        "Anca",
        "Dias",
        "Kub",
        "Edw",
        "Rene",
        "Sasha",
        "Obi",
    }
)
_GREEK: Final = frozenset("αβγδεζηθικλμνξοπρςστυφχψωΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩµ")
#: Categories of signs between words, and such as are of others.
_BETWEEN: Final = frozenset({"Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Pc", "Sm", "Zs"})
_SIGNS: Final = frozenset("™℃→←↑↓")
_DEGREES: Final = re.compile(r"°[CF](?!\w)")
_FIRST_BEYOND: Final = "\u0100"  # Latin-1
#: Between escape sequences of ISO 2022 that a decoder left.
_UNDECLARED: Final = re.compile(r"\x1b\$.*?(?:\x1b\([BJ]|$)|\x1b..?", re.DOTALL)
_LETTER: Final = "\u00aa"
_SHAPES: Final = (("0", str.isdecimal), ("A", str.isupper), ("a", str.isalpha))
_DIGITS: Final = re.compile(r"\d{4,}")
#: Between these a name is not read on.
BREAK: Final = re.compile(r"[()\[\];:|/+\n]")


class Kind(Enum):
    """What a token is."""

    SURE = auto()  # known, and nobody's name
    NUMBER = auto()
    MAYBE = auto()  # known, and people are called so
    NAME = auto()  # letters that nobody knows: may be a name
    OUT = auto()  # does not survive, and is no name


@dataclass(slots=True)
class Token:
    """A token, where it stands, and what it is so far."""

    text: str
    start: int
    end: int
    kind: Kind

    @property
    def folded(self) -> str:
        """Its text, casefolded."""
        return self.text.casefold()

    @property
    def stays(self) -> bool:
        """Whether it survives."""
        return self.kind in (Kind.SURE, Kind.NUMBER, Kind.MAYBE)


def joined(text: str) -> str:
    """A text of the same length in which words hold together: marks are letters (vowels of Hindi, tones of Thai).

    So is whatever is no usual sign between words, such as letters in circles, and bytes of a character set that nobody
    declared: it goes with what it touches.
    """
    if text.isascii() and text.isprintable():
        return text
    shape = "".join(char if _stands_between(text, place) else _LETTER for place, char in enumerate(text))
    for match in _UNDECLARED.finditer(text):
        shape = shape[: match.start()] + _LETTER * len(match[0]) + shape[match.end() :]
    return shape


def _stands_between(text: str, place: int) -> bool:
    """Whether a character is a letter, a digit, or a sign that stands between words."""
    char = text[place]
    if char.isalnum() or char.isspace():
        return True
    if char.isascii():
        return char.isprintable()
    if char < _FIRST_BEYOND:  # with another byte behind it is a letter of Asia (GB18030, EUC, Big5)
        before, after = text[max(place - 1, 0) : place], text[place + 1 : place + 2]
        degrees = _DEGREES.match(text, place) is not None
        return char.isprintable() and before.isascii() and (degrees or after < "@")
    return char in _SIGNS or unicodedata.category(char) in _BETWEEN


def occurrences(pattern: re.Pattern[str], text: str) -> list[str]:
    """What a pattern without groups finds in a text, marks taken for letters."""
    if text.isascii() and text.isprintable():
        return pattern.findall(text)
    return [text[match.start() : match.end()] for match in pattern.finditer(joined(text))]


def is_letter(token: str) -> bool:
    """Whether a token is one letter that names a direction, a side or a unit: a name may have one of other alphabets."""
    return len(token) == 1 and token.isalpha() and (token.isascii() or token in _GREEK)


def is_surname(token: str) -> bool:
    """Whether a token is an abbreviation of views and phases, written as a name is: Rao, Opp."""
    return token in _ABBREVIATED


def has_prefix(runs: list[str]) -> bool:
    """Whether runs of a token begin somewhere as names do: McCord, LaForce, DelMar."""
    return any(one in _PREFIXES and other.istitle() for one, other in pairwise(runs))


def runs_of(token: str) -> list[str]:
    """Numbers and words of a token, a new one at each capital; letters of any alphabet."""
    if token.isascii():
        return RUN.findall(token)
    shape = "".join(next((sign for sign, fits in _SHAPES if fits(char)), " ") for char in joined(token))
    return [token[match.start() : match.end()] for match in RUN.finditer(shape)]


def mark(
    tokens: list[Token], spans: Iterable[tuple[int, int]], kind: Kind, *, unless: frozenset[str] = frozenset()
) -> None:
    """Give a kind to all tokens that stand within spans or over their ends, but to the casefolded words and numbers of `unless`."""
    for start, end in spans:
        some = [token for token in tokens if token.start < end and token.end > start]
        if all(unless.isdisjoint((token.folded, *_DIGITS.findall(token.text))) for token in some):
            for token in some:
                token.kind = kind


def spread(text: str, tokens: list[Token]) -> None:
    """A word that people are called too is a name where a name stands beside it; so forth in both directions."""
    pairs = list(pairwise(tokens))
    for one, other in (*pairs, *((b, a) for a, b in reversed(pairs))):
        if one.kind is Kind.NAME and other.kind is Kind.MAYBE and not is_broken(text, one, other):
            other.kind = Kind.NAME


def is_broken(text: str, one: Token, other: Token) -> bool:
    """Whether something stands between two tokens over which no name is read."""
    return BREAK.search(text[min(one.end, other.end) : max(one.start, other.start)]) is not None
