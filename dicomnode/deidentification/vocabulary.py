"""Words that identify nobody: the terms of Code Strings, and what may survive in a cleaned descriptor.

Pure; reads the package's own lists once.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
#: Tokens that carry meaning by their form: slice thickness with its unit, kernels, field strengths, times of echo, b-values.
_TECHNICAL: Final = re.compile(
    r"\d{1,4}([.,]\d{1,3})?(mm|cm|ms|kv|kvp|ma|mas|mgy|gy|ml|hu|%|mhz|hz|sec|t|s|d|w)|[bhijqud][rvfslu]?\d{2}[a-z]?|fc\d{2}|t[12]w?|b\d{1,4}|[ctls]\d{1,2}|te\d{1,3}|tr\d{1,4}|x\d|\dx"
)
_TOKEN: Final = re.compile(r"[^\W_]+(?:[.,]\d+[^\W_]*)?%?")
_TERM_TOKEN: Final = re.compile(r"[A-Z]{1,2}|\d{1,4}|\d{1,2}[A-Z]|[A-Z]\d{1,2}")

#: Words of descriptors that people are called.
_NAMES_TOO: Final = frozenset(["dixon", "dot", "hu", "lin", "ma", "max", "min", "rod", "ge", "li", "may", "rose"])


def _read(name: str) -> list[str]:
    return (resources.files(__package__) / "tables" / name).read_text("utf-8").splitlines()


@cache
def terms() -> frozenset[str]:
    """Terms of Code Strings."""
    return frozenset(_read("terms.csv")[1:])


@cache
def words() -> frozenset[str]:
    """Words of descriptors, casefolded."""
    found: set[str] = set()
    for line in _read("words.txt"):
        if not line.startswith("#"):
            found.update(line.casefold().split())
    return frozenset(found)


@cache
def _term_words() -> frozenset[str]:
    return frozenset(word for term in terms() for word in re.split(r"[ _]", term)) | {word.upper() for word in words()}


@cache
def is_term(value: str) -> bool:
    """Whether a Code String is a term of the standard or made of technical words."""
    if value in terms():
        return True
    parts = re.split(r"[ _\-/.]+", value.upper())
    return all(part in _term_words() or _TERM_TOKEN.fullmatch(part) for part in parts if part)


def is_common(word: str) -> bool:
    """Whether a word is technical, so that finding it proves nothing."""
    return word.casefold() in words() or word.upper() in _term_words()


def is_technical(text: str) -> bool:
    """Whether every word of a text is of the descriptors' and none a family or given name too."""
    return all(word in words() and word not in _NAMES_TOO for word in split_words(text))


def cleaned(text: str, forbidden: frozenset[str]) -> str:
    """Descriptor with nothing left but technical words.

    Parameters
    ----------
    text
        Any descriptor.
    forbidden
        Casefolded words that go even where they are technical (the patient may be called Head).
    """
    kept = []
    for token in _TOKEN.findall(text):
        folded = token.casefold()
        if folded not in forbidden and (folded in words() or _TECHNICAL.fullmatch(folded)):
            kept.append(token)
    return " ".join(kept)


def split_words(text: str) -> list[str]:
    """Words of a text, casefolded."""
    return [word.casefold() for word in _WORD.findall(text)]
