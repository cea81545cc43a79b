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
_ABBREVIATED: Final = frozenset({"Rao", "Lao", "Opp", "Mai", "Erm"})
_GREEK: Final = frozenset("αβγδεζηθικλμνξοπρςστυφχψωΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩµ")
_MARKS: Final = frozenset({"Mn", "Mc", "Me"})
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
    """A text of the same length whose marks are letters, so that a word holds together that has some: vowels of Hindi, tones of Thai."""
    if text.isascii():
        return text
    return "".join(_LETTER if unicodedata.category(char) in _MARKS else char for char in text)


def occurrences(pattern: re.Pattern[str], text: str) -> list[str]:
    """What a pattern without groups finds in a text, marks taken for letters."""
    if text.isascii():
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
