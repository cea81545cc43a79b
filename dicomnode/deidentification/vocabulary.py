"""Words that identify nobody: the terms of Code Strings, what may survive in a descriptor, what makers call things.

Pure; reads the package's own lists once.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final, cast

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

from dicomnode.deidentification.lengths import LIMITS
from dicomnode.deidentification.tokens import Kind, Token, occurrences
from dicomnode.deidentification.transliteration import transliterated

_WORD: Final = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_PART: Final = re.compile(r"[^\W_]+")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_TERM_TOKEN: Final = re.compile(r"[A-Z]{1,2}|\d{1,3}|\d{1,2}[A-Z]|[A-Z]{1,3}\d{1,2}")
_TERM_DIGITS: Final = 4
#: A number of more figures is a bed, a room or a part of somebody's number, unless a word beside it says what it counts.
_DIGITS_ALONE: Final = 1
_SHORTEST_WORD: Final = 3
#: Vertebrae have numbers by themselves.
_VERTEBRA: Final = re.compile(r"C[1-7]|T([1-9]|1[0-2])|L[1-5]|S[1-5]")
#: What has a number of a place, whatever stands beside.
_PLACES: Final = frozenset(["bay", "bed", "bett", "block", "building", "cath", "ccu", "clinic", "department", "dept", "desk",
                            "floor", "hall", "icu", "lab", "nicu", "office", "picu", "pod", "raum", "rm", "room", "saal",
                            "station", "suite", "theater", "theatre", "unit", "ward", "wing", "zimmer"])  # fmt: skip
_BETWEEN_PARTS: Final = re.compile(r"[ _\-/.,+&()]+")
_BODY_PART: Final = 0x00180015
#: Multiplex Group Label, Channel Label, Unformatted Text Value of an annotation (PS3.3 C.10.9, C.10.10).
_OF_WAVEFORMS: Final = frozenset({0x003A0020, 0x003A0203, 0x00700006})
#: Titles that are modalities, too.
_BEFORE_NAMES: Final = frozenset(["dr", "mr", "ms", "sr", "st"])
_LOWER: Final = re.compile(r"(?<=[ (/-])[a-z]{3,}")

#: Words of descriptors that people are called.
_NAMES_TOO: Final = frozenset(["dixon", "dot", "hu", "lin", "ma", "max", "min", "rod", "ge", "li", "may", "rose"])
#: Words of the standard's own language that people are called: no terms unless the list of terms has them.
_NAMES_ALONE: Final = frozenset(
    ["brown", "black", "cross", "fox", "gene", "green", "gross", "long", "mark", "may", "ray", "rose", "stone", "walker",
     "white", "young", "king", "lee", "price", "wells", "rich", "field", "bell", "hunter", "rod", "max", "will"]
)  # fmt: skip


#: Such as are terms by themselves; and letters of generations and directions in Image Type.
_TERMS_TOO: Final = frozenset(
    ["alpha", "beta", "delta", "gamma", "mu", "black", "red", "orange", "gray", "grey", "blood", "chin", "collar", "coil", "current",
     "dye", "fan", "field", "fit", "floor", "font", "guide", "halo", "hold", "iris", "ion", "laser", "light", "long", "loop", "plate",
     "pole", "pool", "prior", "pulse", "pump", "ring", "self", "severe", "sharp", "smooth", "speed", "square", "strong", "wall",
     "beams", "board", "band", "block", "core", "current", "fine", "new", "minor", "major", "palm", "tan", "violet", "less", "more"]
)  # fmt: skip
#: Parts of terms that are names wherever else they stand (JOSLIN_FLYNN, PROLEPTIC JULIAN).
_NAMES_IN_TERMS: Final = frozenset(
    ["ANN", "CID", "DOM", "FALCON", "FLETCHER", "FLYNN", "GENIE", "JOSLIN", "JULIAN", "PAM"]
)
_LETTERED: Final = frozenset({"SOM", "FH", "HF", "RL", "LR", "PA", "SI", "IS"})


_LONGEST_ABBREVIATION: Final = 3
_LONGEST_CODE: Final = 2  # letters of a coil or a kernel, which are somebody's elsewhere
#: Lists of words that survive in cleaned descriptors alone.
_CLEANED: Final = (
    "structures.txt", "radiotherapy.txt", "agents.txt", "series.txt", "meanings.txt", "languages.txt"
)  # fmt: skip


def _read(name: str) -> list[str]:
    return (resources.files(__package__) / "tables" / name).read_text("utf-8").splitlines()


def read_words(name: str) -> frozenset[str]:
    """Words of one of the package's own lists, casefolded; such with + within are phrases."""
    return frozenset(word for line in _read(name) if not line.startswith("#") for word in line.casefold().split())


@cache
def terms() -> frozenset[str]:
    """Terms of Code Strings."""
    return frozenset(_read("terms.csv")[1:])


@cache
def words() -> frozenset[str]:
    """Words of descriptors, casefolded."""
    return read_words("words.txt")


@cache
def makers() -> frozenset[str]:
    """Words of makers: models, programs, coils, sequences and kernels; and what patients are by kind. Casefolded."""
    return read_words("makers.txt")


@cache
def known() -> frozenset[str]:
    """Words of cleaned descriptors, casefolded: `words`, structures, findings, in letters of ASCII, too; the standard's language and makers' but for names."""
    language = frozenset(word.casefold() for word in _language())
    lists = frozenset[str]().union(*(read_words(name) for name in _CLEANED))
    of_makers = frozenset(word for word in makers() if len(word) > _LONGEST_CODE)
    plain = frozenset(form for word in lists if "+" not in word for form in transliterated(word))
    return words() | lists | ((language | of_makers | plain) - called())


@cache
def plain() -> frozenset[str]:
    """Words of makers' texts, casefolded: `words`, `makers`, and what descriptors know that nobody is called and is no abbreviation."""
    return words() | makers() | frozenset(word for word in known() - called() if len(word) > _LONGEST_ABBREVIATION)


@cache
def characteristics() -> frozenset[str]:
    """Words that say what patients are like: groups, allergies, substances, alerts, states and needs. Casefolded."""
    return read_words("characteristics.txt")


@cache
def called() -> frozenset[str]:
    """Words of descriptors and of makers that people are called too, casefolded."""
    return read_words("names.txt")


@cache
def waveforms() -> frozenset[str]:
    """Words of labels and annotations of waveforms, casefolded."""
    return read_words("waveforms.txt")


def words_in(tag: int) -> frozenset[str]:
    """Words that may stay in an attribute besides those of its kind, casefolded."""
    return waveforms() if tag in _OF_WAVEFORMS else frozenset()


@cache
def regions() -> frozenset[str]:
    """Regions of the body in several languages, in letters of ASCII, too, casefolded."""
    words = read_words("regions.txt")
    return words.union(*map(transliterated, words))


@cache
def phrases() -> frozenset[tuple[str, ...]]:
    """Words that a cleaned descriptor keeps beside one another."""
    return frozenset(tuple(entry.split("+")) for name in _CLEANED for entry in read_words(name) if "+" in entry)


@cache
def models() -> frozenset[tuple[str, ...]]:
    """Words of makers' texts that people are called too and that are nobody beside one another: Sola Fit."""
    return frozenset(tuple(entry.split("+")) for entry in makers() if "+" in entry)


@cache
def given() -> frozenset[str]:
    """Given names among the words that people are called too, casefolded."""
    return read_words("given.txt")


@cache
def _term_words() -> frozenset[str]:
    found = frozenset(word for term in terms() for word in re.split(r"[ _]", term)) - _NAMES_IN_TERMS
    return found | {word.upper() for word in words()}


@cache
def _language() -> frozenset[str]:
    """Words that the standard itself uses in lower case in meanings of codes, and words of names of attributes."""
    meanings = (
        str(meaning)
        for keywords in concepts.values()
        for entries in keywords.values()
        for meaning, _ in cast("dict[str, tuple[str, object]]", entries).values()
    )
    found = {word for meaning in meanings for word in _LOWER.findall(meaning)}
    found.update(word for entry in DicomDictionary.values() for word in re.findall(r"[a-z]{3,}", entry[2].casefold()))
    return frozenset(word.upper() for word in found - _NAMES_ALONE)


@lru_cache(4096)
def is_term(value: str) -> bool:
    """Whether a Code String is a term of the standard or made of technical words."""
    if value in terms():
        return True
    if sum(char.isdigit() for char in value) > _TERM_DIGITS:
        return False
    parts = [part for part in re.split(r"[ _\-/.]+", value.upper()) if part]
    if not all(part in _term_words() or part in _language() or _TERM_TOKEN.fullmatch(part) for part in parts):
        return False
    if any(map(_is_initials, parts)) or _is_somebody([part.casefold() for part in parts]):
        return False
    return not _is_numbered(parts)


def _is_numbered(parts: list[str]) -> bool:
    """Whether parts of a term have a number that no word beside it explains (102, 12B), or that of a place (ICU 2)."""
    known = _term_words() | _language()
    numbers = [part for part in parts if part.isdigit() or not (part in known or _VERTEBRA.fullmatch(part))]
    digits = sum(char.isdigit() for part in numbers for char in part)
    letters = {part.strip("0123456789").casefold() for part in parts}
    if digits and not letters.isdisjoint(_PLACES):
        return True
    words = (part for part in parts if part in known and part.isalpha() and len(part) >= _SHORTEST_WORD)
    return digits > _DIGITS_ALONE and next(words, None) is None


def _is_initials(part: str) -> bool:
    """Whether two letters and more, alone or before a number, are no word that anybody uses: AB, JD44."""
    letters = part.rstrip("0123456789")
    short = _TERM_TOKEN.fullmatch(part) is not None and len(letters) > 1 and letters.isalpha()
    return short and part not in _term_words() and not is_used(letters.casefold()) and letters not in _LETTERED


def _is_somebody(parts: list[str]) -> bool:
    """Whether words of a term are somebody's: given names beside such that people are called, or names that are seldom words."""
    names = [part for part in parts if part in called()]
    seldom = any(part not in words() and part not in _TERMS_TOO for part in names)
    return seldom or (len(names) > 1 and not given().isdisjoint(names))


@cache
def _modalities() -> frozenset[str]:
    """Modalities (PS3.16 CID 29 and others): codes of DCM that are words."""
    entries = cast("dict[str, dict[str, tuple[str, object]]]", concepts["DCM"]).values()
    return frozenset(value for values in entries for value in values if value.isalpha() and value.isupper())


#: Nuclei: no age with its letter.
_NUCLEI: Final = re.compile(
    r"[12]H|3HE|[67]LI|11B|13C|1[45]N|17O|19F|23NA|25MG|29SI|31P|33S|3[57]CL|39K|43CA|87RB|129XE|131XE|133CS"
)
#: Defined terms that are as short as names, by attribute: Scanning Sequence, Sequence Variant, Scan Options (PS3.3
#: C.8.3.1), View Position (C.8.1.1), Patient Orientation (C.7.6.1.1.1), lateralities.
_SHORT_TERMS: Final = MappingProxyType(
    {
        0x00080008: re.compile(r"0[0-7][0-7][0-9A-F]|[01]{4}|TTE"),  # values of ultrasound (C.8.5.6.1.1)
        0x0040DB00: re.compile(r"[1-9]\d{2,3}|1[0-2]\d{3}"),  # templates
        0x00189060: _NUCLEI,
        0x00189100: _NUCLEI,
        0x00181403: re.compile(r"\d{1,2}(?:CM|IN)X\d{1,2}(?:CM|IN)"),  # sizes of cassettes
        0x300A00B8: re.compile(r"MLC[XY]\d?"),  # two layers of leaves
        0x00282110: re.compile(r"0[01]"),  # lossy or not
        0x00282114: re.compile(r"ISO_\d{5}_\d{1,2}"),  # lossy methods
        0x00541001: re.compile(r"1?CM2ML|1CM"),  # units of PET (C.8.9.1.1.3)
        0x00187050: re.compile(r"SILVER|RHENIUM"),
        0x00181191: re.compile(r"SILVER|RHENIUM"),
        0x300A00D3: re.compile(r"MOTORIZED"),
        0x30060042: re.compile(r"CLOSEDPLANAR_XOR"),
        0x00700294: re.compile(r"ARROW"),  # drawn in a presentation state (C.10.5.1.2)
        0x00700228: re.compile(r"ISO_32000"),  # names of fonts
        0x54001006: re.compile(r"AB"),  # samples by the A-law (C.10.9.1.5)
        0x300600B2: re.compile(r"MEAN_EXCI_ENERGY"),
        0x00180020: re.compile(r"SE|IR|GR|EP|RM"),
        0x00180021: re.compile(r"SK|MTC|SS|TRSS|SP|MP|OSP|NONE"),
        0x00180022: re.compile(
            r"PER|RG|CG|PPG|FC|PFF|PFP|SP|FS|SFS|SURVIEW|(?:ACC|ARC|ASSET|BSP|CL|EDR|EPI|FAST|FC|FC_FREQ_AX|FC_SLICE_AX|FILTERED|FLEX|FR|"
            r"HYPERBAND|HYPERSENSE|IFLOW|IRM|IRP|MP|MTC|MULTIPHASE|PCA|PROP|PURE|RAMP_IS|SCIC|SEQ|SS|TRF|VASCTOF)_GEMS"
        ),
        0x00185101: re.compile(r"AP|PA|LL|RL|RLD|LLD|RLO|LLO|CC|ML|MLO|LM|LMO"),
        0x00200020: re.compile(r"[ALPRHF]{1,3}"),
    }
)
_MODALITIES: Final = frozenset({0x00080060, 0x00080061})


def is_official(value: str, tag: int = 0) -> bool:
    """Whether a Code String stands in the list of terms as it is, or is a short defined term of its attribute."""
    if value in terms():
        return True
    short = _SHORT_TERMS.get(tag)
    return (short is not None and short.fullmatch(value) is not None) or (tag in _MODALITIES and value in _modalities())


def is_region(value: str, tag: int) -> bool:
    """Whether a Body Part Examined is made of regions in any language and of words that nobody is called; and one figure."""
    parts = [part for part in _BETWEEN_PARTS.split(value.casefold()) if part and tag == _BODY_PART]
    good = regions() | (known() - called())
    figures = sum(map(str.isdigit, value))
    if not parts or parts[0] in _BEFORE_NAMES or figures > _DIGITS_ALONE or (figures and not _PLACES.isdisjoint(parts)):
        return False
    return all(part in good or part.isdigit() for part in parts)


def may_be_term(value: str, tag: int) -> bool:
    """Whether a value may stay in a Code String: a term, official or of known words; regions may be as long as a text."""
    if len(value) <= LIMITS["CS"] and (is_term(value) or is_official(value, tag)):
        return True
    return len(value) <= LIMITS["LO"] and is_region(value, tag)


def is_called_too(value: str, tag: int, names: frozenset[str]) -> bool:
    """Whether an official term has one of some names, and is none of those that its attribute alone has, nor as short as a flag."""
    short = tag in _SHORT_TERMS and _SHORT_TERMS[tag].fullmatch(value)
    if short or len(value) < _SHORTEST_WORD or tag in _MODALITIES:
        return False
    return not names.isdisjoint(run for part in split_parts(fold(value)) for run in (part, *_LETTERS.findall(part)))


def is_common(word: str) -> bool:
    """Whether a word is technical, so that finding it proves nothing."""
    return word.casefold() in words() or word.upper() in _term_words()


def is_used(letters: str) -> bool:
    """Whether letters are a word of one of the lists or a term, so that nobody's initials are meant by them."""
    return letters in known() or letters in makers() or is_common(letters)


def is_sure_word(token: Token) -> bool:
    """Whether a token is a word that is known and no single letter: beside what is somebody's it tells nothing."""
    word = token.text.isalpha() or token.folded in words()
    return token.kind is Kind.SURE and word and len(token.text) > 1


def is_technical(text: str) -> bool:
    """Whether every word of a text is of the descriptors' and none a family or given name too."""
    return all(word in words() and word not in _NAMES_TOO for word in split_words(text))


def split_words(text: str) -> list[str]:
    """Words of a text, folded."""
    return occurrences(_WORD, fold(text))


def split_parts(text: str) -> list[str]:
    """Parts of a text between all that is no letter, digit or mark."""
    return occurrences(_PART, text)


def fold(text: str) -> str:
    """A text casefolded, its characters of either width and any style as the plain ones (NFKC)."""
    return text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
