"""Words of Japanese, Chinese and Korean, which stand together without blanks, and what a token made of them is.

Pure. A run of these letters is known where it is made of known words alone (`tables/asian.txt`); letters of others beside it,
as in 胸部CT, are judged by themselves.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Final

from dicomnode.deidentification.forms import is_technical_form
from dicomnode.deidentification.tokens import LETTERS, RUN, Kind
from dicomnode.deidentification.vocabulary import called, known, read_words

#: Ideographs, kana, hangul.
_RUN: Final = re.compile(r"[\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]+")
_LONGEST: Final = 32
_LONGEST_NUMBER: Final = 3


@cache
def _words() -> frozenset[str]:
    return read_words("asian.txt")


def kind_of(token: str, forbidden: frozenset[str]) -> Kind | None:
    """What a token is that has such letters: `SURE`, `MAYBE` where people may be called so; None where it is not made of known words.

    Parameters
    ----------
    forbidden
        Casefolded words that go: a run that has one of them in it is not known.
    """
    runs = _RUN.findall(token)
    if not runs or not all(_is_known(rest, forbidden) for rest in _RUN.split(token) if rest):
        return None
    if any(name in token for name in forbidden if len(name) > 1 and _RUN.match(name)):
        return None
    parts = [_parts(run) for run in runs]
    if any(some is None for some in parts):
        return None
    words = [word for some in parts for word in some or ()]
    return Kind.SURE if max(map(len, words)) > 1 and called().isdisjoint(words) else Kind.MAYBE


@lru_cache(4096)
def _parts(run: str) -> tuple[str, ...] | None:
    """The fewest known words that a run is made of."""
    if len(run) > _LONGEST:
        return None
    best: list[tuple[str, ...] | None] = [()]
    for end in range(1, len(run) + 1):
        found = [
            (*before, run[start:end])
            for start in range(end)
            if (before := best[start]) is not None and run[start:end] in _words()
        ]
        best.append(min(found, key=len, default=None))
    return best[-1]


def _is_known(rest: str, forbidden: frozenset[str]) -> bool:
    """Whether what stands beside such letters is technical."""
    folded = rest.casefold()
    if folded in forbidden:
        return False
    if is_technical_form(rest) or _is_word(folded):
        return True
    return any(
        all(_is_part(run.casefold(), forbidden) for run in runs)
        for runs in (RUN.findall(rest), LETTERS.findall(rest))
        if "".join(runs) == rest
    )


def _is_part(folded: str, forbidden: frozenset[str]) -> bool:
    if folded.isdigit():
        return len(folded) <= _LONGEST_NUMBER
    return folded not in forbidden and _is_word(folded)


def _is_word(folded: str) -> bool:
    return folded in known() and folded not in called()
