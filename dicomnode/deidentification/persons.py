"""How persons are spoken of in free text: titles before a name, titles behind one, particles, given names.

Pure. What stands after a title, or before its like, is a name.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from dicomnode.deidentification.tokens import Kind, Token
from dicomnode.deidentification.vocabulary import called, given, models

#: What follows is a name whatever it is.
STRONG: Final = "strong"
#: What follows is a name where people are called so.
WEAK: Final = "weak"

_STRONG: Final = frozenset(
    [
        "dr",
        "dres",
        "prof",
        "professor",
        "doctor",
        "mrs",
        "miss",
        "mister",
        "messrs",
        "herr",
        "frau",
        "mme",
        "mlle",
        "monsieur",
        "madame",
        "dott",
        "dottore",
        "dottoressa",
        "dra",
        "sig",
        "signor",
        "signora",
        "senor",
        "señor",
        "senora",
        "señora",
        "dhr",
        "mevr",
        "sir",
        "lady",
        "rev",
        "schwester",
        "pfleger",
        "nurse",
        "arzt",
        "ärztin",
        "hausarzt",
        "überweiser",
        "ueberweiser",
        "zuweiser",
        "zuweisender",
        "einweiser",
        "befunder",
        "operateur",
        "docteur",
        "médecin",
        "physician",
        "radiologist",
        "radiographer",
        "technologist",
        "technician",
        "surgeon",
        "consultant",
        "referrer",
        "attending",
        "mtra",
        "mta",
        "sra",
        "srta",
        "fam",
        "capt",
        "sgt",
        "rabbi",
        "imam",
        "pastor",
        "pater",
    ]
)
_WEAK: Final = frozenset(
    [
        "by",
        "durch",
        "par",
        "tech",
        "operator",
        "sister",
        "mother",
        "father",
        "mutter",
        "vater",
        "wife",
        "husband",
        "ehemann",
        "ehefrau",
        "son",
        "daughter",
        "sohn",
        "tochter",
        "brother",
        "bruder",
        "aunt",
        "uncle",
        "tante",
        "onkel",
        "spouse",
        "parent",
        "guardian",
        "cousin",
        "grandmother",
        "grandfather",
        "oma",
        "opa",
        "sibling",
        "partner",
        "name",
        "named",
        "patient",
        "patientin",
        "pat",
        "referred",
        "referring",
        "requested",
        "attn",
        "contact",
        "called",
        "signed",
        "witness",
        "author",
        "chaperone",
        "interpreter",
        "attended",
        "carer",
        "caregiver",
        "per",
        "via",
        "cc",
        "dictated",
        "reported",
        "reviewed",
        "verified",
        "approved",
        "performed",
        "mtr",
        "rt",
        "rta",
        "initials",
    ]
)
#: Titles where a full stop follows, or a capital and a small letter are written, before letters.
_DOTTED: Final = frozenset(["hr", "fr", "sr"])
#: What may stand between a title and the name.
_BETWEEN: Final = frozenset(
    ["of", "von", "de", "du", "der", "the", "is", "for", "med", "priv", "doz", "dipl", "ing", "ra", "ssa"]
)
_ARTICLES: Final = frozenset(["der", "den", "de", "la", "le", "las", "los", "het", "ter", "ten"])
#: Before what people are called these are parts of their names.
_PARTICLES: Final = frozenset(
    ["la", "le", "las", "los", "von", "van", "de", "del", "della", "di", "da", "du", "el", "bin", "ibn", "mac", "mc", "st", "saint", "san", "santa", "zu", "zur"]
)  # fmt: skip
#: Titles that are modalities too, where they are written in capitals.
_MODALITIES: Final = frozenset(["mr", "ms", "dr"])
#: What stands before is a name where people are called so.
SUFFIXES: Final = frozenset(
    [
        "md",
        "phd",
        "mph",
        "frcr",
        "frcp",
        "frcs",
        "mrcp",
        "rtr",
        "arrt",
        "dmd",
        "dds",
        "mbbs",
        "mbchb",
        "jr",
        "junior",
        "esq",
        "msc",
        "bsc",
        "mphil",
        "facr",
    ]
)


#: Titles behind a name that are techniques where nothing before them may be one.
_TECHNICAL_TOO: Final = frozenset({"MRCP", "MPH", "MD"})


def titled(text: str, tokens: list[Token]) -> None:
    """Mark what stands after a title, or before its like, as a name; the title goes too."""
    for place, token in enumerate(tokens):
        after = text[token.end : token.end + 1]
        title = title_at(token.text, after, first=place == 0)
        if title == STRONG and not _is_called(text, tokens, place):
            title = ""
        if title == STRONG:
            token.kind = Kind.OUT
        if title:
            _name_after(tokens, place + 1, surely=title == STRONG or after == ":")
        elif token.folded in SUFFIXES and (
            token.text not in _TECHNICAL_TOO or _may_be_called(tokens[place - 1 : place])
        ):
            token.kind = Kind.OUT
            _name_before(tokens[:place])
        elif token.folded in _PARTICLES and after == " " and not token.text.isupper():
            _name_of(tokens[place:])
        elif len(token.text) == 1 and after == ".":
            _initial(text, tokens, place)


def pairs(text: str, tokens: list[Token]) -> None:
    """Mark a given name and another word that people are called as somebody (Max Power), but where a model is called so."""
    for one, other in pairwise(tokens):
        both = (one.folded, other.folded)
        people = called().issuperset(both) and not given().isdisjoint(both) and both not in models()
        if people and text[one.end : other.start].strip(" ,") == "":
            one.kind = other.kind = Kind.NAME


def title_at(token: str, after: str, *, first: bool) -> str:
    """Whether a token is a title: `STRONG`, `WEAK` or empty.

    Parameters
    ----------
    after
        The character behind it.
    first
        Whether the text begins with it, as with a modality.
    """
    folded = token.casefold()
    written = after == "." or (token[0].isupper() and token[1:].islower())
    if folded in _MODALITIES:
        return STRONG if written else WEAK if folded == "dr" and not first else ""
    if folded in _DOTTED:
        return STRONG if written else ""
    if folded == "rt":  # a technologist's, or right
        return WEAK if after == ":" else ""
    if folded in _STRONG:
        return STRONG
    return WEAK if folded in _WEAK else ""


def _is_called(text: str, tokens: list[Token], place: int) -> bool:
    """Whether somebody may be called after a title: a number or a single letter follows none (Rev 2, Sig. B)."""
    token = tokens[place]
    following = tokens[place + 1 : place + 2]
    if token.folded in _DOTTED:
        return bool(following) and following[0].text.isalpha() and len(following[0].text) > 1
    single = following and len(following[0].text) == 1 and text[following[0].end : following[0].end + 1] != "."
    return not (
        token.folded in ("rev", "sig", "mr", "ms") and (not following or single or following[0].text[0].isdigit())
    )


def _initial(text: str, tokens: list[Token], place: int) -> None:
    """Mark an initial and the name beside it (J. Head, Head J.); a side behind a part is none (Hand L.)."""
    token = tokens[place]
    if _may_be_called(tokens[place + 1 : place + 2]):
        token.kind = tokens[place + 1].kind = Kind.NAME
        return
    alone = token.text.isupper() and token.text not in "LR" and not text[token.end + 1 : token.end + 2].isalpha()
    if alone and place and tokens[place - 1].kind is Kind.MAYBE:
        token.kind = tokens[place - 1].kind = Kind.NAME


def _name_of(tokens: list[Token]) -> None:
    """Mark particles as names where something behind them may be one (van der Hand)."""
    last = next((n for n, token in enumerate(tokens) if n > 0 and token.folded not in _ARTICLES), len(tokens))
    if _may_be_called(tokens[last : last + 1]):
        for token in tokens[: last + 1]:
            token.kind = Kind.NAME


def _may_be_called(tokens: list[Token]) -> bool:
    return any(token.kind in (Kind.MAYBE, Kind.NAME) for token in tokens)


def _name_before(tokens: list[Token]) -> None:
    for token in reversed(tokens):
        if token.kind not in (Kind.MAYBE, Kind.NAME):
            return
        token.kind = Kind.NAME


def _name_after(tokens: list[Token], start: int, *, surely: bool) -> None:
    for token in tokens[start:]:
        if token.kind is Kind.NUMBER or (token.kind is Kind.SURE and any(map(str.isdigit, token.text))):
            return
        if token.folded in _BETWEEN or token.kind is Kind.OUT:
            continue
        if token.kind is Kind.SURE and not surely and len(token.text) > 1:
            return
        surely = surely and len(token.text) == 1
        token.kind = Kind.NAME
