"""Makers' texts: how an image was made and by what, word by word; and the names and numbers of devices.

Pure. A word survives for being known (`vocabulary`), numbers and short runs of letters for their form; where people are
called so too, what stands beside it decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import filterfalse, pairwise
from typing import Final

from pydicom.datadict import tag_for_keyword

from dicomnode.deidentification.disguises import SHORTEST, is_leet, leet
from dicomnode.deidentification.persons import pairs, titled
from dicomnode.deidentification.tokens import (
    LETTERS,
    RUN,
    Kind,
    Token,
    has_prefix,
    is_letter,
    is_surname,
    joined,
    mark,
    occurrences,
    spread,
)
from dicomnode.deidentification.traces import initials, traces
from dicomnode.deidentification.vocabulary import called, given, is_sure_word, known, models, plain, split_words

_TOKEN: Final = re.compile(r"(?<![\w.])\d{1,4}\.\d{1,6}(?![\w.])|[^\W_]+")
_DECIMAL: Final = re.compile(r"\d{1,4}\.\d{1,6}")
#: Telephone numbers and dates in groups; numbers of versions have full stops between theirs.
_PHONE: Final = re.compile(r"(?<![\w.])\d{1,6}(?:(?:[^\w.]|_|\.{2})[\W_]*\d{1,6}){1,5}(?![\w.])")
#: A number of that year, an extension.
_FILED: Final = re.compile(r"(?<![\w./])(?:\d{4,6}/\d{2}|x\d{3,5})(?![\w./])")
_HOUSE: Final = re.compile(r"\d{1,4}[a-z]?")
_PHONE_DIGITS: Final = 7
_CAPITALS: Final = 2
_LONGEST_RUN: Final = 3
_PASSES: Final = 4
_LONGEST_NUMBER: Final = 4
_BARE: Final = re.compile(
    r"^[_\-.,:;+]+|_[_\-.,:;]*$|[\-:]{2,}$|-$"
)  # marks that stood between what went and what stays
#: Attributes that hold a maker's name whoever else is called so.
_MAKERS: Final = frozenset(
    tag
    for keyword in (
        "Manufacturer", "ManufacturerModelName", "DetectorManufacturerName", "DetectorManufacturerModelName",
        "SecondaryCaptureDeviceManufacturer", "SecondaryCaptureDeviceManufacturerModelName", "ApplicationManufacturer",
        "ReceiveCoilManufacturerName", "TransmitCoilManufacturerName",
    )
    if (tag := tag_for_keyword(keyword)) is not None
)  # fmt: skip
#: Makers that people may be called after, and words of their names. Other words of a model go where the patient is called so.
_FIRMS: Final = frozenset(
    ["agfa", "bruker", "canon", "carestream", "elekta", "fuji", "fujifilm", "ge", "healthcare", "healthineers", "hitachi", "hologic",
     "imaging", "kodak", "konica", "marconi", "medical", "minolta", "neusoft", "philips", "picker", "planmed", "samsung", "shimadzu",
     "siemens", "systems", "toshiba", "united", "varian", "ag", "co", "corporation", "electronics", "gmbh", "inc", "ltd", "nv"]
)  # fmt: skip
#: Rescale Type (0028,1054), Modality LUT Type (0028,3004) and their defined terms (PS3.3 C.11.1.1.2).
_TYPES: Final = frozenset({0x00281054, 0x00283004})
_TYPE_TERMS: Final = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})
_SERIAL: Final = re.compile(r"[^\W_]*\d[^\W_]*")
_LONGEST_PREFIX: Final = 4
#: Attributes that tell one device of a kind from another by a number.
_SERIAL_NUMBERS: Final = frozenset(
    tag
    for keyword in (
        "DeviceSerialNumber", "DetectorID", "GantryID", "PlateID", "CassetteID", "GeneratorID", "GridID", "XRaySourceID",
        "SourceSerialNumber", "XRayDetectorID", "LensSerialNumber", "CameraSerialNumber", "TransducerID", "UniqueDeviceIdentifier",
    )
    if (tag := tag_for_keyword(keyword)) is not None
)  # fmt: skip
_LONG_SERIAL: Final = re.compile(r"(?:[A-Za-z]{1,4}[ \-]?)?\d{5,14}(?:[ \-]?[A-Za-z]{1,4}\d{0,4})?")
_SHORTEST_JUMBLE: Final = 8
_RUNS_OF_JUMBLES: Final = 3
_ASCII: Final = 0x7F
_HEXADECIMAL: Final = re.compile(r"[0-9a-fA-F]+")
#: Where these stand a text is a list, such as of coils.
_LISTED: Final = re.compile(r"[()\[\];,|+\n]")
#: Abbreviations of techniques that people are called too, where they are not written as a name is.
_TECHNIQUES: Final = frozenset(["art", "ed", "max", "rod", "ute"])
#: After these, and after a colon, letters that nobody knows are somebody's.
_WHOSE: Final = frozenset(["for", "by", "per", "von", "from", "with", "für"])


def filtered(
    text: str,
    passes: Callable[[str], bool],
    also: frozenset[str] = frozenset(),
    own: Callable[[str], Iterable[tuple[int, int]]] = lambda _: (),
) -> str:
    """A maker's text without the tokens that do not pass and without names beside them; empty where none is left.

    Parameters
    ----------
    also
        Casefolded words that a site knows besides: whoever is called so.
    own
        Where a text has fragments of the source's own identifiers.
    """
    for _ in range(_PASSES):
        text = _filtered(text, passes, also, own)
        if not any(own(text)):  # what now stands side by side may be a fragment
            return text
    return ""


def _filtered(
    text: str, passes: Callable[[str], bool], also: frozenset[str], own: Callable[[str], Iterable[tuple[int, int]]]
) -> str:
    tokens = []
    for match in _TOKEN.finditer(joined(text)):
        token = text[match.start() : match.end()]
        kind = Kind.NUMBER if _DECIMAL.fullmatch(token) else _plain_kind(token, passes, also)
        tokens.append(Token(token, match.start(), match.end(), kind))
    _numbered(text, tokens)
    if not _LISTED.search(text):
        _lonely(tokens)
    titled(text, tokens)
    pairs(text, tokens)
    _given(tokens, also)
    _phones(text, tokens)
    mark(tokens, (match.span() for match in _FILED.finditer(text)), Kind.OUT)
    mark(tokens, traces(text), Kind.OUT)
    mark(list(filterfalse(is_sure_word, tokens)), own(text), Kind.OUT)
    mark(tokens, initials(text), Kind.NAME)
    spread(text, tokens)
    _beside_names(text, tokens)
    return _left(text, tokens)


def _given(tokens: list[Token], also: frozenset[str]) -> None:
    """A given name is somebody's, but for a model that is called so beside another word (Symphony TIM), and techniques."""
    for place, token in enumerate(tokens):
        if token.stays and token.folded in given() - also:
            beside = pairwise(tokens[max(place - 1, 0) : place + 2])
            technique = token.folded in _TECHNIQUES and not token.text.istitle()
            if not technique and not any((one.folded, other.folded) in models() for one, other in beside):
                token.kind = Kind.NAME


def _numbered(text: str, tokens: list[Token]) -> None:
    """Capitals that a number follows with a hyphen between are a model (DC-8), as those are that have nothing between."""
    for one, other in pairwise(tokens):
        short = one.text.isascii() and one.text.isupper() and len(one.text) <= _LONGEST_RUN
        if short and one.kind is Kind.NAME and other.text.isdigit() and text[one.end : other.start] == "-":
            one.kind = Kind.MAYBE


def _left(text: str, tokens: list[Token]) -> str:
    """The text without the tokens that go, and without marks that stood between such alone."""
    dropped = [token for token in tokens if not token.stays]
    if len(dropped) == len(tokens):
        return ""
    for token in reversed(dropped):
        text = text[: token.start] + text[token.end :]
    if not dropped:
        return " ".join(text.split())
    return " ".join(_BARE.sub("", part) for part in text.split() if any(map(str.isalnum, part)))


def _beside_names(text: str, tokens: list[Token]) -> None:
    """Whole numbers beside a name, and letters that nobody knows behind what says whose they are."""
    for one, other in pairwise(tokens):
        between = text[one.end : other.start]
        whose = one.folded in _WHOSE or between in (": ", ":  ")
        if whose and _is_short(other.text) and other.text.isalpha():
            other.kind = Kind.NAME
        if between.strip(" ,.") == "":
            for number, name in ((one, other), (other, one)):
                if (number.text.isdigit() or _HOUSE.fullmatch(number.text)) and name.kind is Kind.NAME:
                    number.kind = Kind.OUT


def _phones(text: str, tokens: list[Token]) -> None:
    for phone in _PHONE.finditer(text):
        if sum(map(str.isdigit, phone[0])) >= _PHONE_DIGITS:
            for token in tokens:
                if phone.start() <= token.start < phone.end():
                    token.kind = Kind.OUT


def _plain_kind(token: str, passes: Callable[[str], bool], also: frozenset[str]) -> Kind:
    if not passes(token):
        return Kind.NAME if joined(token).isalpha() else Kind.OUT
    folded = token.casefold()
    if is_leet(token) and folded not in also and folded not in plain() and leet(folded) in _figured():
        return Kind.NAME
    if token.casefold() not in also and token.isalpha() and (token.casefold() in called() or _is_short(token)):
        return Kind.MAYBE
    return Kind.SURE


@cache
def _figured() -> frozenset[str]:
    """Words that people are called too, with figures for letters."""
    return frozenset(leet(word) for word in called() if len(word) >= SHORTEST and word.isalpha())


def _is_short(token: str) -> bool:
    """Whether a token passes for being short and in capitals alone."""
    folded = token.casefold()
    return 1 < len(token) <= _LONGEST_RUN and folded not in plain()


def _lonely(tokens: list[Token]) -> None:
    """Two and more words in a text that has nothing else are names, where people are called so (`DOE JOY`)."""
    if all((one.folded, other.folded) in models() for one, other in pairwise(tokens)):
        return
    if all(token.kind in (Kind.MAYBE, Kind.NAME) for token in tokens):
        for token in tokens:
            token.kind = Kind.NAME


def is_makers_own(value: str, tag: int) -> bool:
    """Whether a value stays whoever is called so: a defined term of its attribute, a maker or model in those for it."""
    return (tag in _TYPES and value in _TYPE_TERMS) or (tag in _MAKERS and _FIRMS.issuperset(split_words(value)))


def is_plain(token: str, also: frozenset[str] = frozenset()) -> bool:
    """Whether a token of a maker's text names nobody: known words, numbers, short runs of letters beside them.

    Parameters
    ----------
    also
        Casefolded words that a site knows besides.
    """
    folded = token.casefold()
    if any(map(is_surname, RUN.findall(token))):
        return False
    if folded in plain() or folded in also or is_letter(token) or (len(token) == 1 and token.isdigit()):
        return True
    if not (token.isascii() and token.isalnum()):
        return False
    if is_jumble(token):
        return False
    if token.isalpha() and len(token) <= _LONGEST_RUN:
        return folded in known() and sum(char.isupper() for char in token) >= _CAPITALS
    return _known_runs(RUN.findall(token)) or _known_runs(LETTERS.findall(token))


def is_jumble(token: str) -> bool:
    """Whether a token is what base64 makes of a text, whoever's, or letters in hexadecimal: short runs of either case that nobody knows."""
    if len(token) < _SHORTEST_JUMBLE or token.isdigit():
        return False
    if _HEXADECIMAL.fullmatch(token) and len(token) % 2 == 0:
        return all(chr(one).isprintable() and one < _ASCII for one in bytes.fromhex(token))
    if token.islower() or token.isupper():
        return False
    runs = [run for run in RUN.findall(token) if not (run.isdigit() or run.casefold() in plain())]
    return len(runs) >= _RUNS_OF_JUMBLES and all(len(run) <= _LONGEST_PREFIX for run in runs)


def _known_runs(runs: list[str]) -> bool:
    """Whether one of the runs is a word or a number, and the others are short."""
    if has_prefix(runs):
        return False
    of_makers = [run.casefold() in plain() and not (run.istitle() and run.casefold() in called()) for run in runs]
    short = [len(run) <= (_LONGEST_NUMBER if run.isdigit() else _LONGEST_RUN if run.isupper() else 2) for run in runs]
    return any(of_makers[n] or run.isdigit() for n, run in enumerate(runs)) and all(map(max, of_makers, short))


def looks_like_a_device(text: str, also: frozenset[str] = frozenset()) -> bool:
    """Whether a text has the form of a device's name or number: words of makers, and numbers with few letters beside them.

    Parameters
    ----------
    also
        Casefolded words that a site knows besides.
    """
    if filtered(text, lambda token: is_plain(token, also) or _is_serial(token), also) != " ".join(text.split()):
        return False
    tokens = occurrences(_TOKEN, text)
    if any(_is_short(token) for token in tokens if token.isalpha()):
        return False
    if all(token.isalpha() and token.casefold() in called() for token in tokens):
        return False
    digits = [part for part in re.split(r"[^\W\d_]+", text) if sum(map(str.isdigit, part)) >= _PHONE_DIGITS]
    return not any(len(re.findall(r"\d+", part)) > 1 for part in digits) or "(01)" in text  # telephone numbers; a UDI


def is_serial_number(value: str, tag: int) -> bool:
    """Whether a value has the form of a serial number of any length (000000035402), in an attribute for one."""
    return tag in _SERIAL_NUMBERS and _LONG_SERIAL.fullmatch(value) is not None


def _is_serial(token: str) -> bool:
    """Whether a token holds a number, and its letters are few or words that are known."""
    if not token.isascii() or not _SERIAL.fullmatch(token):
        return False
    if is_jumble(token):
        return False
    letters = [run for run in LETTERS.findall(token) if run.isalpha()]
    return all(len(run) <= _LONGEST_PREFIX or run.casefold() in plain() for run in letters)
