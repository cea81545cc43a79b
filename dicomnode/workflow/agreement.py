"""Whether what a PACS shows of a study is what our results say of it: patient, issuer, name, birth date, accession number.

Pure. What a PACS does not say is no disagreement, and a name may be spelt otherwise: it loses accents, components at its end
and groups on its way through systems. Names of attributes leave here, never their values.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Final

from pydicom import Dataset

#: Attributes that are asked for (PS3.4 Table C.6-5), and how a difference of each is called.
KEYS: Final = {
    "PatientID": "id",
    "IssuerOfPatientID": "issuer",
    "PatientName": "name",
    "PatientBirthDate": "birth-date",
    "AccessionNumber": "accession",
}
_MOST_ANSWERS: Final = 1000
_CHARACTERS: Final = 256
_PADDING: Final = "\0 "
_PARTS: Final = re.compile(r"[\^ ,]+")
#: What decoders put where they could not read a character, and what encoders write for one that they do not have.
_LOST: Final = frozenset("\ufffd?")
_ANY: Final = "*"
_DIAERESIS: Final = "\u0308"
#: Letters that Unicode does not take apart.
_LETTERS: Final = {"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ı": "i", "þ": "th", "ð": "d"}


def said_of(dataset: Dataset) -> dict[str, str]:
    """What a Data Set says of patient and study, as an answer to C-FIND would."""
    return {key: str(dataset.get(key) or "") for key in (*KEYS, "StudyInstanceUID")}


def of_study(answers: Iterable[Mapping[str, str]], study_instance_uid: str) -> list[Mapping[str, str]]:
    """Answers that are about the study that was asked for."""
    shown = list(answers)[:_MOST_ANSWERS]
    return [one for one in shown if one.get("StudyInstanceUID", "").strip(_PADDING) in ("", study_instance_uid)]


def differences(ours: Mapping[str, str], shown: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    """What any of several answers says otherwise; two patients under one Study Instance UID differ from ours in any case."""
    found = {name for answer in shown for key, name in KEYS.items() if not _agree(key, ours, answer)}
    return tuple(name for name in KEYS.values() if name in found)


def _agree(key: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    here, there = (one.get(key, "").strip(_PADDING)[:_CHARACTERS] for one in (ours, theirs))
    if not there or (not here and key != "PatientID"):  # an id that was given later is another patient's, or a new one
        return True
    return same_name(here, there) if key == "PatientName" else here.casefold() == there.casefold()


def same_name(one: str, other: str) -> bool:
    """Whether two person names (PS3.5 6.2.1) may be one: each group that both have, component by component."""
    pairs = [pair for pair in zip_longest(one.split("="), other.split("="), fillvalue="") if all(map(_is_said, pair))]
    return all(_same_group(*pair) for pair in pairs)


def _is_said(group: str) -> bool:
    return bool(group.strip("^ "))


def _same_group(one: str, other: str) -> bool:
    here, there = ([part.strip() for part in group.split("^")] for group in (one, other))
    both = [pair for pair in zip(here, there, strict=False) if all(pair)]
    if both and all(_same(*pair) for pair in both) and here[0] and there[0]:
        return True
    return _same("^".join(filter(None, _PARTS.split(one))), "^".join(filter(None, _PARTS.split(other))))


def _same(one: str, other: str) -> bool:
    """Whether two texts are one, with or without accents and as they are transcribed; lost characters may have been any."""
    if any(_spellings(here) & _spellings(there) for here, there in ((one, other), (_repaired(one), _repaired(other)))):
        return True
    here, there = _folded(one), _folded(other)
    if here.isascii() == there.isascii() and not _is_damaged(one) and not _is_damaged(other):
        return False
    return _fits(_pattern(here), there) or _fits(_pattern(there), here)


def _spellings(text: str) -> set[str]:
    return {_folded(text), _folded(_plain(text, "e"))}


def _folded(text: str) -> str:
    """Without case, accents and repeated spaces."""
    return " ".join(_plain(text, "").split())


def _plain(text: str, umlaut: str) -> str:
    """Letters without their marks, `umlaut` behind those that had a diaeresis."""
    plain = []
    for one in unicodedata.normalize("NFKD", text.casefold()):
        if one == _DIAERESIS:
            plain.append(umlaut)
        elif not unicodedata.combining(one):
            plain.append(_LETTERS.get(one, one))
    return "".join(plain)


def _repaired(text: str) -> str:
    """UTF-8 that was read as Latin-1, read as UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _is_damaged(text: str) -> bool:
    return any(one in _LOST or "\ud800" <= one <= "\udfff" for one in text)


def _pattern(text: str) -> str:
    """The text with `_ANY` for every run of characters that systems lose or transcribe."""
    plain = ["" if one == _ANY else _ANY if not one.isascii() or one in _LOST else one for one in text]
    return " ".join(re.sub(r"\*+", _ANY, "".join(plain)).split())


def _fits(pattern: str, text: str) -> bool:
    """Whether a text is as a pattern says, in a time that grows with their lengths alone; of `_ANY` alone it says nothing."""
    if _ANY not in pattern:
        return False
    at = place = 0
    star = mark = -1
    while at < len(text):
        if place < len(pattern) and pattern[place] == _ANY:
            star, mark, place = place, at, place + 1
        elif place < len(pattern) and pattern[place] == text[at]:
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = mark, star + 1
        else:
            return False
    return not pattern[place:].strip(_ANY)
