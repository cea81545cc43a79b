"""What is left of a text that anybody may have typed: a word survives for being known and for what stands beside it.

Pure. A word that people are called too (`tables/names.txt`) survives only where nothing beside it may be a name; what
follows a title goes; numbers survive where they measure something. Which words are known is told in `vocabulary`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from dicomnode.deidentification.persons import STRONG, SUFFIXES, title_at
from dicomnode.deidentification.tokens import LETTERS, RUN, Kind, Token, is_broken, spread
from dicomnode.deidentification.vocabulary import called, known, phrases

#: Tokens that carry meaning by their form: thickness with its unit, kernels, field strengths, times of echo, b-values.
_TECHNICAL: Final = re.compile(
    r"\d{1,4}([.,]\d{1,3})?(mm|cm|cm2|ms|kv|kvp|ma|mas|mgy|c?gy|ml|hu|%|mhz|hz|sec|min|t|s|w|d|ns|i)|"
    r"[bhijqud][rvfslu]?\d{2}[a-z]?|fc\d{2}|t[12]w?|b\d{1,4}|[a-z]\d{1,2}|te\d{1,3}|tr\d{1,4}|x\d|\d{1,2}x|\d{1,4}(x\d{1,4}){1,2}|"
    r"(ptv|ctv|gtv|itv|prv|hrctv|ring|opt|z)[pnt]?\d{0,4}([.,]\d{1,2})?(c?gy)?"
)
_TOKEN: Final = re.compile(r"[^\W_]+(?:[.,]\d+[^\W_]*)?%?")
_NUMBER: Final = re.compile(r"\d{1,3}(?:[.,]\d{1,3})?")
_AGE: Final = re.compile(r"0?\d{1,3}(y|yo|yr|yrs|j|jahre|ans|a)|y0?\d{1,3}")
#: Between two tokens that are kept this stays, where something else was dropped.
_JOINTS: Final = frozenset(["_", "/", "+", "-", "."])
#: Numbers with no more than this between them are dates, telephone numbers and other people's identifiers.
_GROUPED: Final = re.compile(r"[ ./\-]{0,3}")
#: Volumes whose name ends in a dose.
_DOSED: Final = re.compile(r"(ptv|ctv|gtv|itv|hrctv|boost|bst)[a-z]{0,4}\d?")
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
        "2pt",
        "3pt",
        "q",
    ]
)
_LONGEST_NUMBER: Final = 4


def cleaned(
    text: str,
    forbidden: frozenset[str] = frozenset(),
    suspect: frozenset[str] = frozenset(),
    also: frozenset[str] = frozenset(),
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
    """
    tokens = [
        Token(match[0], match.start(), match.end(), _kind(match[0], forbidden, suspect, also))
        for match in _TOKEN.finditer(text)
    ]
    _phrases(tokens, forbidden)
    _titles(text, tokens)
    _techniques(tokens)
    spread(text, tokens)
    _numbers(text, tokens)
    if not any(token.stays for token in tokens):
        return ""
    return text.strip() if all(token.stays for token in tokens) else "".join(_left(text, tokens))


def _left(text: str, tokens: list[Token]) -> Iterator[str]:
    end = -1
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.stays:
            between = text[end : token.start] if before is not None and before.stays else " "
            if end >= 0:
                yield between if between in _JOINTS else " "
            yield token.text
            end = token.end


def _kind(token: str, forbidden: frozenset[str], suspect: frozenset[str], also: frozenset[str]) -> Kind:
    """What a token is by itself."""
    folded = token.casefold()
    runs = [*RUN.findall(token), *LETTERS.findall(token)]
    if folded in forbidden or any(len(run) > 1 and run.casefold() in forbidden for run in runs if not run.isdigit()):
        return Kind.NAME if folded.isalpha() else Kind.OUT
    if _NUMBER.fullmatch(token):
        return Kind.NUMBER
    if folded in also and folded not in suspect:
        return Kind.SURE
    if folded in called() and folded in known():
        return Kind.NAME if folded in suspect else Kind.MAYBE
    if folded in known() or (_TECHNICAL.fullmatch(folded) and not _AGE.fullmatch(folded)):
        return Kind.SURE
    if _is_compound(RUN.findall(token)) or _is_compound(LETTERS.findall(token)):
        return Kind.SURE
    return Kind.OUT if any(char.isdigit() for char in token) else Kind.NAME


def _is_compound(runs: list[str]) -> bool:
    """Whether a token is made of words that are known, of which one is nobody's name, and numbers."""
    folded = [run.casefold() for run in runs]
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


def _titles(text: str, tokens: list[Token]) -> None:
    """What stands after a title, or before its like, is a name; the title goes too."""
    for place, token in enumerate(tokens):
        after = text[token.end : token.end + 1]
        title = title_at(token.text, after, first=place == 0)
        if title == STRONG:
            token.kind = Kind.OUT
        if title:
            _name_after(tokens, place + 1, surely=title == STRONG)
        elif token.folded in SUFFIXES:
            token.kind = Kind.OUT
            for other in reversed(tokens[:place]):
                if other.kind not in (Kind.MAYBE, Kind.NAME):
                    break
                other.kind = Kind.NAME
        elif len(token.text) == 1 and after == "." and _may_be_called(tokens[place + 1 : place + 2]):  # J. Head
            token.kind = tokens[place + 1].kind = Kind.NAME


def _may_be_called(tokens: list[Token]) -> bool:
    return any(token.kind in (Kind.MAYBE, Kind.NAME) for token in tokens)


def _name_after(tokens: list[Token], start: int, *, surely: bool) -> None:
    for token in tokens[start:]:
        if token.kind is Kind.NUMBER or (token.kind is Kind.SURE and not surely and len(token.text) > 1):
            return
        if token.kind is Kind.OUT:
            continue
        surely = surely and len(token.text) == 1
        token.kind = Kind.NAME


def _techniques(tokens: list[Token]) -> None:
    """Dixon and its like stay beside what they are a technique with, and units behind a number."""
    for place, token in enumerate(tokens):
        if token.folded in _TECHNIQUES and token.kind in (Kind.MAYBE, Kind.SURE):
            beside = [other.folded for other in (*tokens[max(place - 1, 0) : place], *tokens[place + 1 : place + 2])]
            counts = place > 0 and tokens[place - 1].kind is Kind.NUMBER
            least = token.folded == "min" and any(other.kind is Kind.NUMBER for other in tokens[place + 1 : place + 2])
            good = counts or least or any(other in _BESIDE or _TECHNICAL.fullmatch(other) for other in beside)
            token.kind = Kind.SURE if good else Kind.NAME


def _numbers(text: str, tokens: list[Token]) -> None:
    """Numbers survive where no other stands with them, no name beside them and nothing says whose they are."""
    digits = [bool(_NUMBER.fullmatch(token.text)) or token.text.isdigit() for token in tokens]
    for place, token in enumerate(tokens):
        if not digits[place]:
            continue
        before, after = (tokens[n] if 0 <= n < len(tokens) else None for n in (place - 1, place + 1))
        grouped = (before and digits[place - 1] and _GROUPED.fullmatch(text[before.end : token.start])) or (
            after and digits[place + 1] and _GROUPED.fullmatch(text[token.end : after.start])
        )
        joined = before is not None and before.stays and text[before.end : token.start] in ("_", "-")
        dosed = before is not None and before.stays and _DOSED.fullmatch(before.folded) and len(token.text) == 4
        if dosed and joined:
            token.kind = Kind.NUMBER
        whose = (before and before.folded in _COUNTED) or (after and after.folded in _YEARS)
        beside = not joined and any(
            other is not None and other.kind is Kind.NAME and not is_broken(text, other, token)
            for other in (before, after)
        )
        if grouped or whose or beside:
            token.kind = Kind.OUT
