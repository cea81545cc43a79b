"""What patients are like, in words: ethnic group, allergies, premedication, state, needs (PS3.3 C.7.1.3, C.7.2.2).

Pure. A value passes as a whole or not at all.
"""

from __future__ import annotations

import re
from typing import Final

from dicomnode.deidentification.traces import initials, traces
from dicomnode.deidentification.vocabulary import called, characteristics, known

_WORD: Final = re.compile(r"[^\W\d_]+(?:[-.][^\W\d_]+)*")
#: A number, with a decimal, of an amount; more digits are nobody's dose.
_NUMBER: Final = re.compile(r"(?<![\d.,])\d{1,4}(?:[.,]\d{1,2})?%?(?!\d)")
_MARKS: Final = re.compile(r"[ ,;:/()+&%<>=.\-]*")
_MOST_NUMBERS: Final = 4
#: Numbers with marks alone between them: seven figures, or six with a zero before a number, are a telephone's or somebody's.
_GROUPS: Final = re.compile(r"\d+(?:[ /()+\-]+\d+)+")
_FIGURES: Final = 7
_LED: Final = re.compile(r"(?<!\d)0\d")


def is_characteristic(value: str, also: frozenset[str] = frozenset()) -> bool:
    """Whether every word of a value is known to say what patients are like, and its numbers are amounts.

    Parameters
    ----------
    also
        Casefolded words that a site knows besides.
    """
    words = [word.casefold() for word in _WORD.findall(value)]
    rest = _WORD.sub(" ", value)
    numbers = _NUMBER.findall(rest)
    if not words or len(numbers) > _MOST_NUMBERS or not _MARKS.fullmatch(_NUMBER.sub(" ", rest)):
        return False
    if any(map(_is_somebodys, _GROUPS.findall(value))):
        return False
    if not all(_is_known(word) or word in also for word in words):
        return False
    return not any(traces(value)) and not any(initials(value))


def _is_somebodys(group: str) -> bool:
    """Whether numbers side by side are no strengths of a combination (875/125): too many figures, or a zero before one."""
    return sum(map(str.isdigit, group)) >= (_FIGURES - 1 if _LED.search(group) else _FIGURES)


def _is_known(word: str) -> bool:
    parts = {word, *re.split(r"[-.]", word)} if "-" in word or "." in word else {word}
    listed = characteristics()
    return word in listed or all(
        part in listed or (part in known() and part not in called()) for part in parts - {word} or parts
    )
