"""What is left of a text that anybody may have typed: a word survives for being known and for what stands beside it.

Pure. A word that people are called too (`tables/names.txt`) survives only where nothing beside it may be a name; what
follows a title goes; numbers survive where they measure something. Which words are known is told in `vocabulary`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import filterfalse, pairwise
from typing import Final

from dicomnode.deidentification import unspaced
from dicomnode.deidentification.forms import groups, is_technical_form
from dicomnode.deidentification.persons import pairs, titled
from dicomnode.deidentification.tokens import (
    LETTERS,
    Kind,
    Token,
    has_prefix,
    is_broken,
    is_letter,
    is_surname,
    joined,
    mark,
    runs_of,
    spread,
)
from dicomnode.deidentification.traces import initials, traces
from dicomnode.deidentification.vocabulary import called, is_sure_word, known, phrases, words

_TOKEN: Final = re.compile(r"[^\W_]+(?:[.,]\d+[^\W_]*)?%?")
_NUMBER: Final = re.compile(r"\d{1,3}(?:[.,]\d{1,3})?")
#: Between two tokens that are kept this stays, where something else was dropped.
_JOINTS: Final = re.compile(r"[ _/+\-.,;:%=]{1,3}")
#: Numbers with no more than this between them are dates, telephone numbers and other people's identifiers.
_GROUPED: Final = re.compile(r"[ ./\-]{0,3}")
#: Volumes whose name ends in a dose.
_DOSED: Final = re.compile(r"(ptv|ctv|gtv|itv|hrctv|boost|bst|isodose|dose|idl|sib)[a-z]{0,4}\d?")
_YEARS: Final = frozenset(
    [
        "y",
        "yo",
        "yr",
        "yrs",
        "year",
        "years",
        "old",
        "j",
        "jahre",
        "jährig",
        "ans",
        "anos",
        "años",
        "anni",
        "a",
        "f",
        "m",
        "w",
    ]
)
#: After these a number is somebody's or some place's.
_COUNTED: Final = frozenset(
    [
        "no",
        "nr",
        "num",
        "number",
        "id",
        "mrn",
        "tel",
        "phone",
        "fax",
        "acc",
        "accession",
        "case",
        "pat",
        "patient",
        "room",
        "bed",
        "ward",
        "zimmer",
        "bett",
        "station",
        "age",
        "aged",
        "alter",
        "geb",
        "dob",
        "born",
        "geboren",
        "né",
        "née",
        "raum",
        "saal",
        "haus",
        "floor",
    ]
)
#: Names of techniques that people have too, and what must stand beside them.
_TECHNIQUES: Final = frozenset(["dixon", "max", "min", "dot", "ge", "rod", "lin", "ma", "hu", "li", "mo", "ed", "may"])
_BESIDE: Final = frozenset(
    [
        "t1",
        "t2",
        "t1w",
        "t2w",
        "pd",
        "pdw",
        "fs",
        "fat",
        "water",
        "in",
        "opp",
        "op",
        "out",
        "ip",
        "f",
        "w",
        "tse",
        "fse",
        "vibe",
        "gre",
        "se",
        "flair",
        "spgr",
        "lava",
        "flash",
        "vista",
        "2d",
        "3d",
        "ffe",
        "tfe",
        "turbo",
        "te",
        "suv",
        "mip",
        "map",
        "dose",
        "intensity",
        "engine",
        "mod",
        "e",
        "2pt",
        "3pt",
        "q",
    ]
)
#: Small letters before names of sequences: single shot, dynamic, exponential, modified, isotropic, variable, balanced, fast, reference.
_PREFIXES: Final = frozenset("sdemivbfrcp")
_SHORTEST_PREFIXED: Final = 3
_LONGEST_NUMBER: Final = 4
_WHOSE: Final = frozenset(["for", "by", "per", "von", "für"])
_MOST_INITIALS: Final = 2
_PASSES: Final = 8


def cleaned(
    text: str,
    forbidden: frozenset[str] = frozenset(),
    suspect: frozenset[str] = frozenset(),
    also: frozenset[str] = frozenset(),
    own: Callable[[str], Iterable[tuple[int, int]]] = lambda _: (),
    *,
    letters: frozenset[str] = frozenset(),
) -> str:
    """Descriptor with nothing left but technical words; the text as it is where every word of it is one.

    Parameters
    ----------
    text
        Any descriptor.
    forbidden
        Casefolded words that go even where they are technical (the patient may be called Head).
    suspect
        Casefolded words that the source has in addresses and the like: they go where people are called so.
    also
        Casefolded words that a site knows as technical; they are as good as the tables' own.
    own
        Where a text has fragments of the source's own identifiers.
    letters
        Somebody's initials, casefolded: they go as whole words, known abbreviations or not.
    """
    for _ in range(_PASSES):
        tokens = _tokens(text, forbidden, suspect, also, letters)
        mark(list(filterfalse(is_sure_word, tokens)), own(text), Kind.OUT)
        if all(token.stays for token in tokens):
            return text.strip() if tokens else ""
        text = "".join(_left(text, tokens))  # what now stands side by side may be a name
    return ""


def _tokens(
    text: str, forbidden: frozenset[str], suspect: frozenset[str], also: frozenset[str], letters: frozenset[str]
) -> list[Token]:
    tokens = [
        Token(
            token,
            match.start(),
            match.end(),
            Kind.NAME if token.casefold() in letters else _kind(token, forbidden, suspect, also),
        )
        for match in _TOKEN.finditer(joined(text))
        if (token := text[match.start() : match.end()])
    ]
    _phrases(tokens, forbidden | letters)
    mark(tokens, groups(text), Kind.SURE, unless=forbidden | letters)
    _joined(text, tokens)
    titled(text, tokens)
    pairs(text, tokens)
    _behind(tokens)
    mark(tokens, traces(text), Kind.OUT)
    mark(tokens, initials(text), Kind.NAME)
    _techniques(tokens)
    spread(text, tokens)
    _numbers(text, tokens)
    return tokens


def _left(text: str, tokens: list[Token]) -> Iterator[str]:
    end = -1
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.stays:
            between = text[end : token.start] if before is not None and before.stays else " "
            if end >= 0:
                yield between if _JOINTS.fullmatch(between) else " "
            yield token.text
            end = token.end


def _kind(token: str, forbidden: frozenset[str], suspect: frozenset[str], also: frozenset[str]) -> Kind:
    """What a token is by itself."""
    folded = token.casefold()
    by_capital, by_digit = runs_of(token), LETTERS.findall(token)
    runs = [*by_capital, *by_digit]
    if folded in forbidden or any(
        len(run) > (_LONGEST_NUMBER - 1 if run.isdigit() else 1) and run.casefold() in forbidden for run in runs
    ):
        return Kind.NAME if folded.isalpha() else Kind.OUT
    if _NUMBER.fullmatch(token):
        return Kind.NUMBER
    if any(map(is_surname, by_capital)) and (len(by_capital) == 1 or folded not in known()):
        return Kind.NAME
    if folded in also and folded not in suspect:
        return Kind.SURE
    if folded in called() and folded in known():
        return Kind.NAME if folded in suspect else Kind.MAYBE
    if folded in known() or is_technical_form(token):
        return Kind.SURE
    if _is_prefixed(token) or any(_is_compound(some) for some in (by_capital, by_digit) if "".join(some) == token):
        return Kind.SURE
    if not token.isascii() and (kind := unspaced.kind_of(token, forbidden)):
        return kind
    return Kind.OUT if any(char.isdigit() for char in token) else Kind.NAME


def _is_prefixed(token: str) -> bool:
    """Whether a token is a word of technique in capitals with a maker's small letter before it (sBTFE, dSENSE, mFFE)."""
    rest = token[1:]
    if not (token[:1] in _PREFIXES and len(rest) >= _SHORTEST_PREFIXED and rest[:2].isupper()):
        return False
    return rest.casefold() in known() and rest.casefold() not in called()


def _is_compound(runs: list[str]) -> bool:
    """Whether a token is made of words that are known, of which one is nobody's name, and numbers."""
    folded = [run.casefold() for run in runs]
    if has_prefix(runs):
        return False
    if not any(len(run) > 2 and run in known() and run not in called() for run in folded):
        return False
    return all(len(run) < _LONGEST_NUMBER if run.isdigit() else run in known() for run in folded)


def _phrases(tokens: list[Token], forbidden: frozenset[str]) -> None:
    """Words that survive beside one another alone: white matter."""
    for length in (3, 2):
        for first in range(len(tokens) - length + 1):
            some = tokens[first : first + length]
            if tuple(token.folded for token in some) in phrases() and all(x.folded not in forbidden for x in some):
                for token in some:
                    token.kind = Kind.SURE


def _joined(text: str, tokens: list[Token]) -> None:
    """A letter that is joined to what survives is a part of it (Esophagus_S, E-PTV)."""
    for one, other in pairwise(tokens):
        if text[one.end : other.start] in ("_", "-"):
            for letter, word in ((one, other), (other, one)):
                if is_letter(letter.text) and word.kind is Kind.SURE and len(word.text) > 1:
                    letter.kind = Kind.SURE


def _behind(tokens: list[Token]) -> None:
    """Two letters behind what says whose something is are somebody's, where they are no common abbreviation."""
    for before, token in pairwise(tokens):
        short = token.text.isupper() and len(token.text) <= _MOST_INITIALS
        if short and before.folded in _WHOSE and token.folded not in words():
            token.kind = Kind.NAME


def _techniques(tokens: list[Token]) -> None:
    """Dixon and its like stay beside what they are a technique with, and units behind a number."""
    for place, token in enumerate(tokens):
        if token.folded in _TECHNIQUES and token.kind in (Kind.MAYBE, Kind.SURE):
            beside = [other.folded for other in (*tokens[max(place - 1, 0) : place], *tokens[place + 1 : place + 2])]
            counts = place > 0 and tokens[place - 1].kind is Kind.NUMBER
            least = token.folded == "min" and any(other.kind is Kind.NUMBER for other in tokens[place + 1 : place + 2])
            good = counts or least or any(other in _BESIDE or is_technical_form(other) for other in beside)
            token.kind = Kind.SURE if good else Kind.NAME


def _numbers(text: str, tokens: list[Token]) -> None:
    """Numbers survive where no other stands with them, no name beside them and nothing says whose they are."""
    digits = [bool(_NUMBER.fullmatch(token.text)) or token.text.isdigit() for token in tokens]
    for place, token in enumerate(tokens):
        if not digits[place] or token.kind is Kind.SURE:  # a part of something technical
            continue
        before, after = (tokens[n] if 0 <= n < len(tokens) else None for n in (place - 1, place + 1))
        grouped = (before and digits[place - 1] and _GROUPED.fullmatch(text[before.end : token.start])) or (
            after and digits[place + 1] and _GROUPED.fullmatch(text[token.end : after.start])
        )
        joined = before is not None and before.stays and text[before.end : token.start] in ("_", "-")
        dosed = before is not None and before.stays and _DOSED.fullmatch(before.folded) and len(token.text) == 4
        near = before is not None and text[before.end : token.start] == " " and token.text[:2] not in ("19", "20")
        if dosed and (joined or near):
            token.kind = Kind.NUMBER
        whose = (before and before.folded in _COUNTED) or (after and after.folded in _YEARS)
        beside = not joined and any(
            other is not None and other.kind is Kind.NAME and not is_broken(text, other, token)
            for other in (before, after)
        )
        if grouped or whose or beside:
            token.kind = Kind.OUT
