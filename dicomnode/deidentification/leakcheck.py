"""The leak check, which asks whether an identifier of the source stands in the output, decoded or as bytes.

Pure, and independent of the rules: it knows what the source held and what came out. A hit names a kind and a tag, never
the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.deidentification.identifiers import Identifiers, collect, holds
from dicomnode.deidentification.nesting import datasets
from dicomnode.deidentification.pseudonyms import WELL_KNOWN
from dicomnode.deidentification.values import STRING_VRS, Element, encodings_of, texts
from dicomnode.deidentification.vocabulary import is_common, is_technical, split_words
from dicomnode.deidentification.vocabulary import words as words_of_descriptors
from dicomnode.encoded import encode_dataset

_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
_UIDS: Final = re.compile(rb"(?<![0-9.])[0-2](?:\.[0-9]+){3,}")
_FREE: Final = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "UR", "PN", "AE"})
#: Values that this package writes itself: no word of them is the source's.
_OURS: Final = frozenset(
    {0x00100010, 0x00100020, 0x00120063, 0x00080100, 0x00080102, 0x00080104, 0x00080005, 0x00120062, 0x00280303}
)
_LONG_ENOUGH: Final = 4
_GLUE: Final = re.compile(rb"[0-9a-z.]")
_ALPHABETS: Final = ("utf-8", "iso8859", "utf-16-le", "utf-16-be")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Leak:
    """One hit: ``name``, ``code``, ``short``, ``date`` or ``uid``, and where; tag 0 stands for the encoded bytes."""

    kind: str
    tag: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What of a source must not come out.

    Attributes
    ----------
    uids
        UIDs that were replaced.
    produced
        Dates that the shift wrote: they may equal another date of the source.
    """

    identifiers: Identifiers
    uids: frozenset[str] = field(repr=False)
    produced: frozenset[str] = field(default=frozenset(), repr=False)


def find_leaks(source: Dataset, output: Dataset, kept: frozenset[int] = frozenset()) -> tuple[Leak, ...]:
    """Leaks of a source into an output that anybody made.

    Parameters
    ----------
    source, output
        The Data Set as received, and what is to leave.
    kept
        Tags whose values the policy keeps.
    """
    uids = frozenset(
        uid for uid, _ in _uids_of(source) if uid not in WELL_KNOWN and not uid.startswith("1.2.840.10008.")
    )
    return leaks_of(Source(identifiers=collect(source, kept), uids=uids), output)


def leaks_of(source: Source, output: Dataset) -> tuple[Leak, ...]:
    """Leaks of a known source into an output: by decoded values, then by the bytes outside pixel data."""
    ours: set[str] = set()
    found = set(_in_values(source, output, ours))
    found.update(_in_bytes(source, encoded_without_pixels(output), ours))
    return tuple(sorted(found))


def _in_values(source: Source, output: Dataset, ours: set[str]) -> Iterator[Leak]:
    """Leaks by decoded values; `ours` takes the words of the values that this package wrote itself."""
    for node in datasets(output):
        for tag in node.dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            if int(tag) in _PIXELS:
                continue
            element: Element = node.dataset.get_item(tag)
            if int(tag) in _OURS:
                ours.update(split_words(" ".join(texts(element, "LO", ("utf-8",)))))
                continue
            vr = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            if vr not in STRING_VRS:
                continue
            for value in texts(element, vr, ("utf-8",)):
                if kind := _kind(source, value, vr):
                    yield Leak(kind=kind, tag=int(tag))


def _kind(source: Source, value: str, vr: str) -> str:
    """Kind of leak that a value is; empty where it is none."""
    if vr == "UI":
        return "uid" if value in source.uids else ""
    folded = value.casefold()
    known = source.identifiers
    if any(form in folded for date in known.dates - source.produced for form in forms_of(date)):
        return "date"
    if vr not in _FREE:
        return ""
    if folded in known.short and folded not in words_of_descriptors():
        return "short"
    if is_technical(folded):
        return ""
    if any(word in known.names and not is_technical(word) for word in split_words(value)):
        return "name"
    if any(holds(folded, code) for code in known.codes):
        return "code"
    return ""


def leaks_in_bytes(source: Source, data: bytes, ours: set[str]) -> bool:
    """Whether encoded elements hold an identifier of a source; `ours`: words that this package wrote itself."""
    return next(_in_bytes(source, data, ours), None) is not None


def words_of_ours(output: Dataset) -> frozenset[str]:
    """Words of the values that this package wrote into an output itself."""
    ours: set[str] = set()
    nothing = frozenset[str]()
    known = Identifiers(names=nothing, codes=nothing, short=nothing, dates=nothing)
    for _ in _in_values(Source(identifiers=known, uids=nothing), output, ours):
        pass
    return frozenset(ours)


def forms_of(date: str) -> tuple[str, ...]:
    """A date as DICOM and as people write it, with four digits for the year."""
    year, month, day = date[:4], date[4:6], date[6:]
    written = {
        f"{a}{mark}{b}{mark}{c}"
        for mark in "-/."
        for a, b, c in ((year, month, day), (day, month, year), (month, day, year))
    }
    return date, *sorted(written)


def _in_bytes(source: Source, data: bytes, ours: set[str]) -> Iterator[Leak]:
    known = source.identifiers
    lower = data.lower()
    if any(match.decode() in source.uids for match in _UIDS.findall(data)):
        yield Leak(kind="uid", tag=0)
    dates = known.dates - source.produced
    if any(_stands(lower, form.encode()) for date in dates for form in forms_of(date)):
        yield Leak(kind="date", tag=0)
    for kind, words in (("name", known.names), ("code", known.codes)):
        if any(_any_alphabet(data, lower, word) for word in words - ours if not is_common(word)):
            yield Leak(kind=kind, tag=0)


def _any_alphabet(data: bytes, lower: bytes, word: str) -> bool:
    if word.isascii():
        if len(word) < _LONG_ENOUGH:
            return False
        return _stands(lower, word.encode()) or word.encode("utf-16-le") in lower or word.encode("utf-16-be") in lower
    return any(pattern in data for pattern in _patterns(word))


def _patterns(word: str) -> set[bytes]:
    """Bytes of a word that is not ASCII, in the character sets of DICOM (PS3.3 C.12.1.1.2), in either case."""
    found = set()
    for form in {word, word.upper(), word.capitalize()}:
        for encoding in (*_ALPHABETS, *_character_sets()):
            try:
                data = form.encode(encoding)
            except UnicodeEncodeError:
                continue
            found.add(data.removeprefix(b"\x1b$B").removesuffix(b"\x1b(B"))
    return {data for data in found if len(data) >= _LONG_ENOUGH}


def _character_sets() -> tuple[str, ...]:
    terms = (
        "ISO_IR 101",
        "ISO_IR 109",
        "ISO_IR 110",
        "ISO_IR 144",
        "ISO_IR 127",
        "ISO_IR 126",
        "ISO_IR 138",
        "ISO_IR 148",
    )
    asian = ("shift_jis", "iso2022_jp", "euc_kr", "gb18030", "gbk", "iso8859_11")
    return (*(encodings_of([term])[0] for term in terms), *asian)


def _stands(data: bytes, word: bytes) -> bool:
    """Whether a word stands in lower-case bytes with no letter, digit or full stop beside it."""
    start = data.find(word)
    while start >= 0:
        end = start + len(word)
        if not _GLUE.fullmatch(data[max(start - 1, 0) : start]) and not _GLUE.fullmatch(data[end : end + 1]):
            return True
        start = data.find(word, start + 1)
    return False


def _uids_of(source: Dataset) -> Iterator[tuple[str, int]]:
    for node in datasets(source):
        for tag in node.dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            element: Element = node.dataset.get_item(tag)
            if (element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")) == "UI":
                for value in texts(element, "UI", ("ascii",)):
                    yield value, int(tag)


def encoded_without_pixels(output: Dataset) -> bytes:
    """The Data Set as it will be encoded, but inflated and without its pixel data."""
    slim = Dataset()
    for tag in output.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        if int(tag) not in _PIXELS:
            slim[tag] = output.get_item(tag)
    implicit, little = output.original_encoding
    slim.set_original_encoding(implicit, little, output.original_character_set)
    syntax = str(output.file_meta.get("TransferSyntaxUID", ExplicitVRLittleEndian))
    return encode_dataset(slim, ExplicitVRLittleEndian if syntax in _DEFLATED else syntax)
