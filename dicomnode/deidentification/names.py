"""How names of persons are written: as names of users, as initials; and words of names that name nobody. Pure."""

from __future__ import annotations

import re
from typing import Final

from dicomnode.deidentification.vocabulary import called, is_used, known, split_parts, split_words

#: Words of names and addresses that name nobody.
STOP: Final = frozenset(
    [
        "dr",
        "md",
        "phd",
        "prof",
        "mr",
        "mrs",
        "ms",
        "miss",
        "jr",
        "sr",
        "anonymous",
        "anonymized",
        "anonymised",
        "anon",
        "deidentified",
        "none",
        "unknown",
        "patient",
        "name",
        "no",
        "id",
        "test",
        "phantom",
        "na",
        "street",
        "st",
        "road",
        "rd",
        "avenue",
        "ave",
        "city",
        "hospital",
        "clinic",
        "university",
        "center",
        "centre",
        "institute",
        "department",
        "dept",
        "of",
        "the",
        "and",
        "de",
        "la",
        "von",
        "van",
        "der",
        "der",
        "den",
        "el",
        "al",
        "bin",
        "ii",
        "iii",
        "male",
        "female",
    ]
)
#: Of these, what somebody may be called beside another name: Phantom^Laura, while Phantom^64 and Test^Phantom are nobody.
_CALLED_TOO: Final = frozenset(
    ["phantom", "test", "male", "female", "center", "centre", "road", "street", "city", "name", "patient", "hospital", "clinic"]
)  # fmt: skip
_SHORT_NAME: Final = 3
_LABELLED: Final = 2  # figures of a label
_FEWEST_INITIALS: Final = 2
_MOST_INITIALS: Final = 4
#: Two letters that stay whoever has them for initials: modalities, planes and directions, parts of sequences and of the
#: heart, contrast, corrections, units, kernels, makers and their versions, small words. Others, though they are known
#: abbreviations, go where they are the source's own.
_NOBODYS: Final = frozenset(
    ["ct", "mr", "pt", "nm", "us", "cr", "dx", "mg", "xa", "xr", "rf", "ot", "sr", "rt",
     "ap", "pa", "ll", "rl", "lr", "hf", "fh", "si", "is", "lt", "re", "ax", "sa", "lm", "cc",
     "in", "op", "ip", "fs", "fl", "se", "gr", "ep", "ir", "te", "tr", "ti", "fa", "bh", "pd", "tb", "fp", "sw",
     "gd", "ce", "nc", "ac", "hd", "hr", "lv", "rv", "ra", "pv", "wb", "ff", "fb", "pc", "gm", "wm", "vr",
     "lx", "mx", "px", "rx", "dv",
     "iv", "kv", "ms", "mm", "cm", "ml", "mg", "hu", "hz", "gy", "id", "no", "nr",
     "ya", "yb", "yc", "yd", "ye", "ua", "ub", "uc", "ud", "xb", "xc", "xd", "eb", "ec", "ia", "ib",
     "ge", "ag", "of", "on", "or", "to", "up", "by", "wo", "de", "la", "le", "el", "et", "en", "am", "im", "os"]
)  # fmt: skip
#: Where the second of two given names begins that are written as one: XiaoDong.
_SECOND: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def is_label(name: str) -> bool:
    """Whether a group of a person's name is a label of a collection, made of words of technique and a number (Breast_MRI_001): all of it is an identifier, none of its words a name."""
    parts = split_parts(name.casefold())
    words = [part for part in parts if part.isalpha()]
    numbers = [part for part in parts if part.isdigit()]
    if not (words and numbers and len(words) + len(numbers) == len(parts)) or max(map(len, numbers)) < _LABELLED:
        return False
    return all(len(word) >= _SHORT_NAME and word in known() and word not in called() for word in words)


def words_of(name: str, *, of_patient: bool) -> list[str]:
    """Words of one group of a person's name that name somebody, folded.

    Parameters
    ----------
    of_patient
        Whether it is the patient's: beside a word that is no technical one a patient may be called Phantom.
    """
    words = split_words(name.replace("^", " "))
    others = (word for word in words if word not in STOP and word.isalpha() and len(word) > 1)
    somebody = of_patient and any(not is_used(word) or word in called() for word in others)
    if of_patient and "phantom" in words and not somebody:
        return []  # of lungs
    return [word for word in words if word not in STOP or (somebody and word in _CALLED_TOO)]


def user_names(words: list[str]) -> list[str]:
    """Family and given name written together, and with initials; figures have none (1000 of ``000 164``)."""
    if len(words) < 2 or not (words[0].isascii() and words[1].isascii()):
        return []
    family, given = words[0], words[1]
    whole = [family + given, given + family]
    figures = family.isdigit() or given.isdigit()
    return whole if len(family) < _SHORT_NAME or figures else [*whole, given[0] + family, family + given[0]]


def is_nobodys(letters: str) -> bool:
    """Whether letters say something else wherever they stand, so that nobody's initials are meant by them."""
    return letters in _NOBODYS if len(letters) == _FEWEST_INITIALS else is_used(letters)


def initials(group: str) -> set[str]:
    """First letters of family and given names in the orders that people write them: JD, DJ, JMD, DJM."""
    family, *given = group.split("^")[:3]
    return _initials([family, *given]) | _initials([family, *(_SECOND.sub(" ", one) for one in given)])


def _initials(components: list[str]) -> set[str]:
    family, *others = (
        [part for word in split_words(component) for part in split_parts(word) if part not in STOP and part.isalpha()]
        for component in components
    )
    names = [name for component in others for name in component]
    if not names:
        family, names = family[-1:], family[:-1]
    if not (family and names):
        return set()
    first, rest, last = names[0][0], "".join(name[0] for name in names), family[0][0]
    return {
        letters for letters in (first + last, last + first, rest + last, last + rest) if len(letters) <= _MOST_INITIALS
    }
