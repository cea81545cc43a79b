"""Coded concepts (PS3.3 8.8): a code says what its scheme says, whatever meaning a source wrote beside it.

Pure. Known codes get their scheme's own meaning; codes of standard schemes that we lack keep their value; everything
else becomes a token under a scheme that says so. What has the form of a code may still be an identifier of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final, NamedTuple, cast

from pydicom.dataset import Dataset
from pydicom.sr._cid_dict import name_for_cid
from pydicom.sr._concepts_dict import concepts
from pydicom.sr._snomed_dict import mapping as snomed

from dicomnode import coding
from dicomnode.deidentification.values import Element, texts
from dicomnode.deidentification.vocabulary import is_common

CODE_VALUE: Final = 0x00080100
SCHEME: Final = 0x00080102
SCHEME_VERSION: Final = 0x00080103
MEANING: Final = 0x00080104
MAPPING_RESOURCE: Final = 0x00080105
GROUP_VERSION: Final = 0x00080106
CONTEXT_IDENTIFIER: Final = 0x0008010F
LONG_CODE_VALUE: Final = 0x00080119
URN_CODE_VALUE: Final = 0x00080120
_VALUES: Final = (CODE_VALUE, LONG_CODE_VALUE, URN_CODE_VALUE)
#: What stands beside a concept and is written with it.
BESIDE: Final = frozenset({SCHEME_VERSION, MAPPING_RESOURCE, GROUP_VERSION, CONTEXT_IDENTIFIER})
#: What makes a concept.
CONCEPT: Final = frozenset({*_VALUES, SCHEME, MEANING})
PARTS: Final = frozenset(
    {*_VALUES, SCHEME, SCHEME_VERSION, MEANING, MAPPING_RESOURCE, GROUP_VERSION, CONTEXT_IDENTIFIER}
)
UNKNOWN_SCHEME: Final = "99UNKNOWN"
WITHHELD_MEANING: Final = "Withheld"

#: Forms of codes of schemes whose whole content nobody ships. Digits may be anybody's: they are screened besides.
_FORMS: Final = MappingProxyType(
    {
        "SCT": r"\d{6,18}",
        "SRT": r"[A-Z][0-9A-F]?-?[0-9A-F]{3,6}|R-[0-9A-F]{4,5}|[A-Z]-[0-9A-F]{4,6}",
        "SNM3": r"[A-Z][0-9A-F]?-[0-9A-F]{3,6}",
        "99SDM": r"[A-Z][0-9A-F]?-[0-9A-F]{3,6}|Y-X\d{4}",
        "DCM": r"\d{6}",
        "LN": r"\d{1,7}-\d",
        "UCUM": r"[A-Za-z0-9%\[\]{}./*'^()+\-_ \":#]{1,24}",
        "FMA": r"\d{3,7}",
        "RADLEX": r"RID\d{1,6}",
        "RadLex": r"RID\d{1,6}",
        "LOINC": r"\d{1,7}-\d",
        "ICD10": r"[A-Z]\d{2}(\.[0-9A-Z]{1,4})?",
        "SNOMED-RT": r"[A-Z][0-9A-F]?-[0-9A-F]{3,6}",
        "NCIt": r"C\d{3,7}",
        "UMLS": r"C\d{7}",
        "I10": r"[A-Z]\d{2}(\.[0-9A-Z]{1,4})?",
        "I10P": r"(?=(?:[A-Z]*\d){2})[0-9BCDFGHX][0-9A-HJ-NP-Z]{6}",
        "I9C": r"[EV]?\d{2,3}(\.\d{1,2})?",
        "MDC": r"\d{1,8}|\d{1,3}:\d{1,6}",
        "SCPECG": r"5\.\d{1,2}(?:\.\d{1,2}){0,2}(?:-\d{1,3}){1,3}",
        "ISO639_1": r"[a-z]{2}",
        "ISO639_2": r"[a-z]{3}",
        "ISO3166_1": r"[A-Z]{2,3}",
        "RFC5646": r"[a-z]{2,3}(-[A-Z]{2})?",
        "RFC3066": r"[a-z]{2,3}(-[A-Z]{2})?",
        "NEU": r"\d{1,6}",
        "UBERON": r"\d{7}",
        "ITIS_TSN": r"\d{5,7}",
        "PUBCHEM_CID": r"\d{1,9}",
        "RXNORM": r"\d{1,8}",
        "C4": r"\d{5}",
        "CD4": r"\d{5}",
        "CPT": r"\d{5}",
        "MSH": r"[CD]\d{6,9}",
        "IBSI": r"(?=[A-Z]*\d)[0-9A-Z]{3,4}",
        "DICOM_QIICR": r"QIICR:\d+",
        coding.PRIVATE_SCHEME: r"LAA950|MLD|PERC15|NOFINDING|NOTPROCESSED|OUTCOME|REASON|PROBABILITY|SALIENCY|TRUNCATED|WHOLECASE",
    }
)
_TOKEN: Final = re.compile(r"ID[0-9A-F]{10}")
_BRACKETS: Final = re.compile(r"[\[{]([^\]}]*)[\]}]")
#: Versions of schemes are numbers with full stops, or dates of the years in which there are such versions.
_VERSION: Final = re.compile(r"\d{1,2}(\.\d{1,3}){0,3}|(19[89]|20\d)\d(-?[01]\d(-?[0-3]\d)?)?")
_RESOURCE: Final = frozenset({"DCMR", "SDM", "FMA", "UCUM", "NCIT", "LN"})
_CONTEXT: Final = re.compile(r"(?:CID ?)?(\d{1,5})")


class Code(NamedTuple):
    """A concept as written."""

    value: str
    scheme: str
    meaning: str


@cache
def _meanings() -> MappingProxyType[tuple[str, str], tuple[str, ...]]:
    """Meanings of each code: those that its scheme or a context group gives, the shortest first, then those that it had or has in other words."""
    found: dict[tuple[str, str], set[str]] = {}
    for scheme, keywords in concepts.items():
        for entries in keywords.values():
            for value, (meaning, _) in cast("dict[str, tuple[str, object]]", entries).items():
                found.setdefault((scheme, value), set()).add(str(meaning))
    found.update(_electrocardiography(found))
    known = {key: sorted(meanings, key=lambda meaning: (len(meaning), meaning)) for key, meanings in found.items()}
    for scheme, value, meaning in _rows("synonyms.csv"):
        known.setdefault((scheme, value), []).append(meaning)
    for old, new in snomed["SRT"].items():
        for scheme in ("SRT", "SNM3", "99SDM"):
            known.setdefault((scheme, old), []).extend(known.get(("SCT", new), ()))
    return MappingProxyType({key: tuple(dict.fromkeys(meanings)) for key, meanings in known.items() if meanings})


def _rows(name: str) -> list[list[str]]:
    lines = (resources.files(__package__) / "tables" / name).read_text("utf-8").splitlines()[1:]
    return [line.split(";") for line in lines]


def _electrocardiography(found: Mapping[tuple[str, str], set[str]]) -> dict[tuple[str, str], set[str]]:
    """Codes of SCP-ECG, which DICOM had for leads and measurements before those of MDC; leads have the same numbers in both."""
    leads = {
        ("SCPECG", f"5.6.3-9-{code[2:]}"): meanings
        for (scheme, code), meanings in found.items()
        if scheme == "MDC" and code.startswith("2:")
    }
    for value, meaning in _rows("scpecg.csv"):
        leads["SCPECG", value] = {meaning, *leads.get(("SCPECG", value), ())}
    return leads


def is_code(item: Dataset) -> bool:
    """Whether an item is a coded concept."""
    return any(tag in item for tag in (*_VALUES, MEANING))


def read(item: Dataset, encodings: tuple[str, ...]) -> Code:
    """Concept of an item."""

    def first(tag: int, vr: str) -> str:
        element: Element | None = item.get_item(tag)
        values = texts(element, vr, encodings) if element is not None else []
        return values[0] if values else ""

    value = first(CODE_VALUE, "SH") or first(LONG_CODE_VALUE, "UC") or first(URN_CODE_VALUE, "UR")
    return Code(value, first(SCHEME, "SH"), first(MEANING, "LO"))


def is_standard(code: Code) -> bool:
    """Whether a concept stands in the tables, meaning and all, or is the one that stands for others."""
    if code.scheme == UNKNOWN_SCHEME:
        return code.meaning == WITHHELD_MEANING and _TOKEN.fullmatch(code.value) is not None
    meanings = _meanings().get((code.scheme, code.value))
    return meanings is not None and code.meaning.casefold() in (meaning[:64].casefold() for meaning in meanings)


def canonical(
    code: Code, token: Callable[[str, str], str], identifies: Callable[[str], bool] = lambda _: False
) -> Code:
    """Concept that can hold nothing of a person.

    Parameters
    ----------
    code
        As the source wrote it.
    token
        Stands for values of unknown schemes, so that equal ones stay equal.
    identifies
        Whether a text is an identifier of the source.
    """
    meanings = _meanings().get((code.scheme, code.value))
    if meanings is not None:
        return code if is_standard(code) else code._replace(meaning=meanings[0][:64])
    if _has_form(code) and not any(identifies(part) for part in free(code)):
        meaning = code.value if code.scheme == "UCUM" else f"{code.scheme} {code.value}"
        return code._replace(meaning=meaning[:64])
    return Code(token("code", f"{code.scheme}:{code.value}")[:16], UNKNOWN_SCHEME, WITHHELD_MEANING)


def _has_form(code: Code) -> bool:
    """Whether a code that the tables lack has the form of its scheme's codes."""
    form = _FORMS.get(code.scheme)
    if form is None or not re.fullmatch(form, code.value):
        return False
    return _CHECKED.get(code.scheme, lambda _: True)(code.value)


def is_by_form(code: Code) -> bool:
    """Whether a concept is one that was kept for its form: its meaning says nothing more."""
    return code.scheme in _FORMS and code.meaning in (code.value[:64], f"{code.scheme} {code.value}"[:64])


def free(code: Code) -> list[str]:
    """What of a code its scheme leaves free: all of it, and of units what stands in brackets."""
    return [code.value, *_BRACKETS.findall(code.value)] if code.scheme == "UCUM" else [code.value]


#: Units of UCUM that stand in brackets; what else does may be anybody.
_BRACKETED: Final = (
    r"\[(?:arb'U|iU|IU|hnsf'U|wood'U|PRU|Ch|Hg|H2O|pH|ppm|ppb|ppth|pptr|degF|degR|in_i|ft_i|yd_i|mi_i|lb_av|oz_av|"
    r"psi|Cal|cal|drp|pi|e|c|h|k|g|100|CFU|PFU|mV|uV|nV|B|p'diop|diop|smoot|car_m|MET|USP'U|GPL'U|MPL'U|APL'U)\]"
)
#: Ways to reckon a Standardized Uptake Value (PS3.16 CID 85), two of them named after people.
_UPTAKE: Final = r"\{SUV(?:bw|lbm|bsa|ibw)?(?:\((?:Morris|James(?:128)?|Janma)\))?\}"
_NOTE: Final = rf"(?:{_UPTAKE}|\{{[a-zA-Z0-9.:/*_ #]{{1,14}}\}})"
_ATOM: Final = (
    rf"(?:[fpnumcdhkMGT]?{_BRACKETED}|"
    r"[fpnumcdhkMGT]?(?:m\[Hg\]|m\[H2O\]|mol|kat|cal|bar|rad|deg|Cel|Ohm|min|Hz|Pa|Gy|Bq|eV|Sv|mo|wk|ar|st|As|lm|lx|sr|"
    r"[mgslLVAJWKhdaTNCFSBU])(?:-?\d)?)"
)
#: With a number right before a unit (mL/min/1.73m2), and with a note before one, as many write them.
_TERM: Final = rf"(?:{_NOTE})?(?:10\*-?\d+|[0-9.]{{1,4}}(?:{_ATOM})?|%|{_ATOM})(?:{_NOTE})?|{_NOTE}"
_UNIT: Final = re.compile(rf"[(/]?(?:{_TERM})[)]?(?:[./][(]?(?:{_TERM})[)]?)*")

_NOTES: Final = frozenset(
    [
        "bpm",
        "no",
        "units",
        "unit",
        "pixels",
        "pixel",
        "voxels",
        "voxel",
        "wbc",
        "rbc",
        "hb",
        "bw",
        "creat",
        "creatinine",
        "presence",
        "asu",
        "score",
        "cells",
        "beats",
        "events",
        "m2",
        "mm2",
        "ml",
        "s",
        "min",
    ]
)
_FEW_DIGITS: Final = re.compile(r"\d{1,3}")
_ANNOTATION: Final = re.compile(r"\{[^}]*\}")


def _is_unit(value: str) -> bool:
    """Whether a text is made of units of UCUM; an `{annotation}` is free text and passes where it is technical."""
    notes = "".join(note for note in _ANNOTATION.findall(value) if not re.fullmatch(_UPTAKE, note))
    return _UNIT.fullmatch(value) is not None and all(
        is_common(word) or word in _NOTES or _FEW_DIGITS.fullmatch(word)
        for word in re.findall(r"[^\W_]+", notes.casefold())
    )


#: The dihedral group of ten elements, and the permutation of a digit by its place (J. Verhoeff, 1969).
_MULTIPLIED: Final = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTED: Final = (
    "0123456789", "1576283094", "5803796142", "8916043527", "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def _is_sctid(value: str) -> bool:
    """Whether the last digit of a SNOMED CT identifier checks the others, and its partition is of concepts."""
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_MULTIPLIED[check][int(_PERMUTED[place % 8][int(digit)])])
    return check == 0 and value[0] != "0" and value[-3:-1] in ("00", "10")


_CHECKED: Final = MappingProxyType({"SCT": _is_sctid, "UCUM": _is_unit})


def _is_context_group(value: str) -> bool:
    match = _CONTEXT.fullmatch(value)
    return match is not None and int(match[1]) in name_for_cid


def write(
    code: Code,
    source: Dataset,
    target: Dataset,
    encodings: tuple[str, ...],
    identifies: Callable[[str], bool] = lambda _: False,
) -> None:
    """Fill an item: the concept, and beside it its scheme's version and the context group where they have their form.

    A version of a context group is a date, which Table E.1-1 takes away; what needs it (PS3.3 Table 8.8-1) goes with it.
    """
    if len(code.value) <= 16:
        target.add_new(CODE_VALUE, "SH", code.value)
    else:
        target.add_new(LONG_CODE_VALUE, "UC", code.value)
    target.add_new(SCHEME, "SH", code.scheme)
    target.add_new(MEANING, "LO", code.meaning)
    beside: list[tuple[int, str, Callable[[str], object]]] = [(SCHEME_VERSION, "SH", _VERSION.fullmatch)]
    if GROUP_VERSION not in source:
        beside += [(MAPPING_RESOURCE, "CS", _RESOURCE.__contains__), (CONTEXT_IDENTIFIER, "CS", _is_context_group)]
    for tag, vr, allowed in beside:
        element: Element | None = source.get_item(tag)
        values = texts(element, vr, encodings) if element is not None else []
        if len(values) == 1 and allowed(values[0]) and not identifies(values[0]):
            target.add_new(tag, vr, values[0])
