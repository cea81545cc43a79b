"""The source's own identifiers: what the walk screens kept values for, and what the leak check looks for.

Pure. Collected from every Data Set of the object, nested ones included; never logged, no repr.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset

from dicomnode.deidentification import infancy, profile
from dicomnode.deidentification.days import beginnings, days_of, parts_of
from dicomnode.deidentification.forms import is_technical_form
from dicomnode.deidentification.fragments import Fragments, ages_between, fragments_of
from dicomnode.deidentification.names import STOP, initials, is_label, is_nobodys, user_names, words_of
from dicomnode.deidentification.nesting import Node, datasets
from dicomnode.deidentification.spellings import Spellings, canonical
from dicomnode.deidentification.tokens import occurrences, runs_of
from dicomnode.deidentification.transliteration import transliterated
from dicomnode.deidentification.values import Element, texts
from dicomnode.deidentification.vocabulary import fold, is_common, is_technical, is_used, split_parts, split_words

_LETTERS: Final = re.compile(r"[^\W\d_]+")
_NUMBERED: Final = re.compile(r"([^\W\d_]{2,4})\d+|\d+([^\W\d_]{2,4})")
_FOUR_DIGITS: Final = re.compile(r"(?<!\d)\d{4,}(?!\d)")
_YEAR: Final = re.compile(r"(?:19|20)\d\d")
_SHORT_NAME: Final = 3
_MEASURE: Final = re.compile(r"\d{1,2}[a-z]{2,}")
_COUNT: Final = 2  # figures of a model or of a sequence, whoever is called Phantom 64
_LONG_NAME: Final = 5
_LONG_CODE: Final = 8
_PHONE: Final = 7
_DIGITS: Final = re.compile(r"(?<!\d)(?!(?:19|20)\d{6}(?!\d))\d{7,}")  # a run of digits that is no date
_SHORT_IDEOGRAPHIC: Final = 2
_FIRST_IDEOGRAPH: Final = 0x2E80
_SHORT_NUMBER: Final = 6
_SHORT_CODE: Final = 4
_SHORTEST_POSTCODE: Final = 5
_HAS_DIGIT: Final = re.compile(r"\d").search
_MOST_INITIALS: Final = 4
_DESCRIPTORS: Final = frozenset("esgm")  # options of rows that describe or date, and name nobody
#: Attributes that something is remembered of: more than the dictionary has, and an end, since a file may have any.
REMEMBERED_TAGS: Final = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """What identifies somebody in a source.

    Attributes
    ----------
    names
        Words of person names, casefolded: searched as words.
    people
        Words of person names, short ones too, and each part of what a hyphen joins: no text keeps them.
    places
        Words of all other identifiers, addresses and remarks: no text keeps them where people are called so.
    codes
        Other identifiers, casefolded: patient ids, accession numbers, phones, institutions: searched with borders.
    short
        Names and identifiers too short to be searched: compared with whole values.
    dates
        Dates, in DICOM's form: of birth, and all others that the policy does not keep.
    initials
        Of persons, in the orders that people write them, but such as say something else wherever they stand: whole tokens that no text keeps.
    mixed
        Of the codes, those of letters and digits alone: no token holds them, whatever stands beside.
    runs
        Of the codes, runs of four digits and more, but years: of no token a run.
    spellings
        Numbers and dates of birth, to be found however they are written.
    fragments
        Parts of them, counted, turned round or in other figures, and ages with sexes.
    births
        Dates of birth, their years and months, but such as the study has: newborns are examined then.
    """

    names: frozenset[str] = field(repr=False)
    codes: frozenset[str] = field(repr=False)
    short: frozenset[str] = field(repr=False)
    dates: frozenset[str] = field(repr=False)
    people: frozenset[str] = field(default=frozenset(), repr=False)
    places: frozenset[str] = field(default=frozenset(), repr=False)
    initials: frozenset[str] = field(default=frozenset(), repr=False)
    mixed: frozenset[str] = field(default=frozenset(), repr=False)
    runs: frozenset[str] = field(default=frozenset(), repr=False)
    spellings: Spellings = field(default_factory=Spellings, repr=False)
    fragments: Fragments = field(default_factory=Fragments, repr=False)
    births: frozenset[str] = field(default=frozenset(), repr=False)

    def tell_birth(self, values: Iterable[str]) -> bool:
        """Whether one of some dates is that of birth, or a part of one, as of a DT (PS3.5 6.2)."""
        return not self.births.isdisjoint(days_of(values) | parts_of(values))

    @property
    def words(self) -> frozenset[str]:
        """Words that no descriptor keeps, technical ones included."""
        return self.names | self.short | self.people

    def parts_of_codes_in(self, text: str) -> frozenset[str]:
        """Words of the identifiers that stand in a text."""
        folded = fold(text)
        return frozenset(word for code in self.codes if holds(folded, code) for word in split_parts(code) if word)

    def hit(self, text: str) -> bool:
        """Whether a text holds an identifier; words that are technical prove nothing."""
        folded = fold(text).strip()
        if folded in self.short or any(holds(folded, code) for code in self.codes):
            return True
        if any(date in folded for date in self.dates) or self.spellings.stand_in(text):
            return True
        return any(self._names(word) for word in split_words(text) if not is_technical(word))

    def names_in(self, text: str) -> bool:
        """Whether one of the words of a text is a name, however short, or the whole an identifier."""
        folded = fold(text).strip()
        words = {run for part in split_parts(folded) for run in (part, *occurrences(_LETTERS, part))}
        short = any(word in self.short and not word.isdigit() for word in words)
        whole = folded in self.codes or (folded in self.short and not folded.isdigit())
        return whole or short or any(word in self.names for word in words)

    def names_somebody(self, text: str) -> bool:
        """Whether a text holds a person's name, technical ones too, or another identifier in words that are not technical."""
        parts = split_parts(fold(text))
        if not self.initials.isdisjoint(parts) or any(map(self._are_numbered_initials, parts)):
            return True
        if any(run in self.runs for part in parts for run in _FOUR_DIGITS.findall(part)):
            return True  # P4711
        folded = "".join(parts)
        if any(code in folded for code in self.mixed):
            return True  # xK12
        runs = {run for part in parts for run in (part, *occurrences(_LETTERS, part))}
        cut = [run for part in split_parts(text) for run in runs_of(part)]  # WuT2, CTAmy
        runs |= set(map(fold, cut))
        if any(run.istitle() and fold(run) in self.people for run in cut):
            return True
        named = any(run in self.people and not (len(run) < _SHORT_NAME and is_technical(run)) for run in runs)
        return named or (not is_technical(text) and self.hit(text))

    def _are_numbered_initials(self, part: str) -> bool:
        """Whether a part of a text is somebody's initials with a number (JB1); an abbreviation's, and what has a kernel's form, are none."""
        match = _NUMBERED.fullmatch(part)
        letters = match and (match[1] or match[2])
        return bool(letters) and letters in self.initials and not (is_used(str(letters)) or is_technical_form(part))

    def initials_in(self, text: str) -> bool:
        """Whether letters that stand by themselves in a text, or beside figures alone, are somebody's initials."""
        return not self.initials.isdisjoint(_LETTERS.findall(fold(text)))

    def is_number(self, value: str, tag: int) -> bool:
        """Whether a number is an identifier, as where an accession number serves as Series Number.

        What an attribute measures is one only where few measurements are like it.
        """
        measured = not is_counter(tag)
        if self.fragments.has_number(value, measured=measured):
            return True
        if measured:
            return self.spellings.has_number(value, measured=True)
        return value in self.codes or value in self.dates or self.spellings.has_number(value)

    def is_number_of_time(self, value: str) -> bool:
        """Whether the digits of a time of day are an identifier, with or without the fraction of its seconds, or this alone."""
        whole, _, fraction = value.strip().replace(":", "").partition(".")
        numbers = self.spellings.numbers
        return any(run in self.codes or canonical(run) in numbers for run in (whole, whole + fraction, fraction) if run)

    def hit_by_code(self, text: str) -> bool:
        """Whether a code that no table has is an identifier; a name is one though it be a technical word."""
        return self.hit(text) or any(self._names(word) for word in split_parts(fold(text)) if word)

    def _names(self, word: str) -> bool:
        if word in self.names:
            return True
        return any(name in word for name in self.names if len(name) >= _LONG_NAME or ord(name[0]) >= _FIRST_IDEOGRAPH)


def holds(text: str, code: str) -> bool:
    """Whether `code` stands in `text`: a long one anywhere, a shorter one with no letter or digit beside it."""
    if len(code) >= _LONG_CODE and code in text:
        return True
    start = text.find(code)
    while start >= 0:
        end = start + len(code)
        if not text[start - 1 : start].isalnum() and not text[end : end + 1].isalnum():
            return True
        start = text.find(code, start + 1)
    return False


@lru_cache(REMEMBERED_TAGS)
def is_counter(tag: int) -> bool:
    """Whether an attribute numbers things, rather than measuring them."""
    return dictionary_has_tag(tag) and keyword_for_tag(tag).endswith("Number")


@lru_cache(REMEMBERED_TAGS)
def is_identifying(tag: int) -> bool:
    """Whether values of an attribute identify somebody."""
    row = profile.attributes().get(tag)
    if row is None or _DESCRIPTORS & set(row.options):
        return False
    return dictionary_VR(tag) in {"LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE"} and row.action != "U"


def collect(source: Dataset, kept: frozenset[int] = frozenset(), *, dates: bool = True) -> Identifiers:
    """Identifiers of a source.

    Parameters
    ----------
    source
        The Data Set as received.
    kept
        Tags whose values the policy keeps: no identifiers then.
    dates
        Whether dates other than that of birth identify: not where the policy keeps them.
    """
    found = _Found()
    for node in datasets(source):
        for tag in node.dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            if not tag.is_private and tag not in kept:
                _gather(node, int(tag), found, dates=dates)
    return found.frozen()


def _gather(node: Node, tag: int, found: _Found, *, dates: bool) -> None:
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return
    dated = tag in _DATES_OF_BIRTH or (dates and vr in ("DA", "DT") and tag not in _VERSIONS)
    if vr != "PN" and not (dated or tag in _ABOUT or is_identifying(tag)):
        return
    element: Element = node.dataset.get_item(tag)
    values = texts(element, vr, node.encodings)
    if tag in _ABOUT:
        found.add_about(tag, values)
    if tag in _ABOUT and not dated:
        return
    if vr == "PN":
        found.add_names(values, of_patient=tag in _OF_PATIENTS)
    elif tag in _DATES_OF_BIRTH:
        found.add_births(values)
    elif dated:
        found.dates |= days_of(values)
    else:
        found.add_codes(values)
        if tag in _ADDRESSES:
            found.streets.update(values)


#: Patient's, institutions' and other persons' addresses: a house number beside a word tells where.
_ADDRESSES: Final = frozenset({0x00080081, 0x00080092, 0x00101040, 0x00401102})
_DATES_OF_BIRTH: Final = frozenset({0x00100030})
#: Names of patients: now, at birth, and others.
_OF_PATIENTS: Final = frozenset({0x00100010, 0x00101001, 0x00101005})
_SEX: Final = 0x00100040
_AGE: Final = 0x00101010
_STUDY_DATE: Final = 0x00080020
#: What people write with an age: Patient's Sex and Age, and when the patient was so old.
_ABOUT: Final = frozenset({_SEX, _AGE, _STUDY_DATE})
_IN_YEARS: Final = re.compile(r"(\d{1,3})[Yy]")
#: Versions of context groups are dates of the standard's own.
_VERSIONS: Final = frozenset({0x00080106, 0x00080107})


class _Found:
    """Identifiers while they are gathered."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.codes: set[str] = set()
        self.short: set[str] = set()
        self.dates: set[str] = set()
        self.people: set[str] = set()
        self.places: set[str] = set()
        self.streets: set[str] = set()
        self._initials: set[str] = set()
        self._births: set[str] = set()
        self._sexes: set[str] = set()
        self._ages: set[int] = set()
        self._infants: set[infancy.Age] = set()
        self._studied: set[str] = set()

    def add_about(self, tag: int, values: Iterable[str]) -> None:
        """Patient's Sex and Age, and days of studies."""
        if tag == _SEX:
            self._sexes.update(values)
        elif tag == _AGE:
            self._ages.update(int(match[1]) for value in values if (match := _IN_YEARS.fullmatch(value)))
            self._infants.update(age for value in values if (age := infancy.age_of(value)))
        else:
            self._studied |= days_of(values)

    def _fragments(self) -> Fragments:
        ages = {age for born in self._births for day in self._studied for age in ages_between(born, day)}
        young = {age for born in self._births for day in self._studied for age in infancy.ages_of_infants(born, day)}
        return fragments_of(
            frozenset(self.codes | self.short),
            frozenset(self._births),
            frozenset(self._ages | ages),
            frozenset(self._sexes),
            frozenset(self._initials),
            dates=frozenset(self.dates - self._births),
            streets=frozenset(map(fold, self.streets)),
            infants=frozenset(self._infants | young),
        )

    def add_births(self, values: Iterable[str]) -> None:
        """Dates of birth, which people write in many ways."""
        days = days_of(values)
        self.dates |= days
        self._births |= days

    def add_names(self, values: Iterable[str], *, of_patient: bool = False) -> None:
        """Every component of every group of a person name (PS3.5 6.2.1), and what users are called after them."""
        for value in values:
            for group in value.split("="):
                if is_label(group):
                    self.add_codes([group.replace("^", " ")])
                    continue
                self._initials |= initials(group)
                words = words_of(group, of_patient=of_patient)
                as_it_came = (
                    [] if group.isascii() else [part for part in split_parts(group.casefold()) if part not in STOP]
                )
                for word in (*words, *user_names(words), *as_it_came):  # bytes hold it in its own width
                    for written in {word, *transliterated(word)}:
                        self._add_name(written)

    def _add_name(self, word: str) -> None:
        if (len(word) < 2 and word.isascii()) or (
            word[0].isdigit() and (len(word) <= _COUNT or (_MEASURE.fullmatch(word) and is_technical_form(word)))
        ):
            return  # nobody is called 64, or 1.5mm
        parts = (part for part in (word, *split_parts(word)) if len(part) > 1 and (part == word or part not in STOP))
        self.people.update(part for part in parts if len(part) > _COUNT or not part.isdigit())
        least = _SHORT_NAME if word.isascii() else _SHORT_IDEOGRAPHIC
        (self.names if len(word) >= least and not word.isdigit() else self.short).add(word)

    def add_codes(self, values: Iterable[str]) -> None:
        """Whole values: long ones are searched, short ones compared."""
        for value in values:
            folded = " ".join(fold(value).split())
            self.places.update(split_parts(folded))
            plain = sum(char.isalnum() for char in folded)
            if plain < 2 or folded in STOP or is_common(folded) or not folded.strip("0 -./"):
                continue
            long = _SHORT_NUMBER if folded.replace("-", "").isdigit() else _SHORT_CODE
            (self.codes if plain >= long else self.short).add(folded)
            self.codes.update(_DIGITS.findall(folded))
            self.codes.update(_written_together(folded))
            digits = "".join(char for char in folded if char.isdigit())
            if len(digits) >= _PHONE:
                self.codes.add(digits)

    def frozen(self) -> Identifiers:
        """What was gathered."""
        return Identifiers(
            names=frozenset(self.names),
            codes=frozenset(self.codes),
            short=frozenset(self.short),
            dates=frozenset(self.dates),
            people=frozenset(self.people),
            places=frozenset(self.places),
            initials=frozenset(letters for letters in self._initials if not is_nobodys(letters)),
            runs=frozenset(
                run
                for code in self.codes | self.short
                for run in _FOUR_DIGITS.findall(code)
                if not _YEAR.fullmatch(run)
            ),
            mixed=frozenset(filter(_is_mixed, self.codes | self.short)),
            spellings=Spellings.of(self.codes | self.short, self._births, self.people),
            fragments=self._fragments(),
            births=frozenset(beginnings(self._births) - beginnings(self._studied)),
        )


def _written_together(code: str) -> set[str]:
    """Neighbouring words with figures and letters of an identifier without what is between: a postcode of an address."""
    pairs = ((one, other) for one, other in pairwise(split_parts(code)) if _HAS_DIGIT(one) and _HAS_DIGIT(other))
    return {one + other for one, other in pairs if len(one + other) >= _SHORTEST_POSTCODE and _is_mixed(one + other)}


def _is_mixed(code: str) -> bool:
    return len(code) >= _SHORT_NAME and code.isalnum() and not (code.isalpha() or code.isdigit())
