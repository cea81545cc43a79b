"""The leak check, which asks whether an identifier of the source stands in the output, decoded or as bytes.

Pure, and independent of the rules: it knows what the source held and what came out. A hit names a kind and a tag, never
the value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.deidentification import codes
from dicomnode.deidentification.identifiers import Identifiers, collect, holds
from dicomnode.deidentification.needles import Needles, forms_of
from dicomnode.deidentification.nesting import datasets
from dicomnode.deidentification.pseudonyms import is_class_uid
from dicomnode.deidentification.values import DUMMIES, STRING_VRS, Element, texts
from dicomnode.deidentification.vocabulary import fold, is_official, is_technical, split_words
from dicomnode.deidentification.vocabulary import words as words_of_descriptors
from dicomnode.encoded import encode_dataset

_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"})
_FREE: Final = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "UR", "PN", "AE"})
#: Values that this package writes itself: no word of them is the source's.
_OURS: Final = frozenset({0x00100010, 0x00100020, 0x00120063, 0x00120062, 0x00280303})


_NUMBERS: Final = frozenset({"DS", "IS"})
_MEASURED: Final = 8  # more values than an identifier has
#: Mapping Resource and Context Identifier, which have a form of their own; and what stands for terms.
_FORMAL: Final = frozenset({0x00080105, 0x0008010F})
_STAND_INS: Final = frozenset({"OTHER", DUMMIES["CS"]})


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

    def needles(self, ours: Collection[str]) -> Needles:
        """What is looked for in bytes; `ours`: words that this package wrote itself."""
        return Needles(self.identifiers, self.uids, self.identifiers.dates - self.produced, ours)


def find_leaks(source: Dataset, output: Dataset, kept: frozenset[int] = frozenset()) -> tuple[Leak, ...]:
    """Leaks of a source into an output that anybody made.

    Parameters
    ----------
    source, output
        The Data Set as received, and what is to leave.
    kept
        Tags whose values the policy keeps.
    """
    uids = frozenset(uid for uid, _ in _uids_of(source) if not is_class_uid(uid))
    return leaks_of(Source(identifiers=collect(source, kept), uids=uids), output)


def leaks_of(source: Source, output: Dataset) -> tuple[Leak, ...]:
    """Leaks of a known source into an output: by decoded values, then by the bytes outside pixel data."""
    ours: set[str] = set()
    found = set(_in_values(source, output, ours))
    found.update(Leak(kind=kind, tag=0) for kind in source.needles(ours).kinds(encoded_without_pixels(output)))
    return tuple(sorted(found))


def located(source: Source, output: Dataset, found: Collection[Leak]) -> tuple[Leak, ...]:
    """Leaks with those of the encoded bytes named by the attributes, sequences as a whole, whose bytes they are."""
    needles = source.needles(words_of_ours(output))
    places = {leak for leak in found if leak.tag}
    for kind in {leak.kind for leak in found if not leak.tag} - {leak.kind for leak in places}:
        tags = [int(tag) for tag in output.keys() if kind in needles.kinds(_encoded_alone(output, tag))]  # noqa: SIM118
        places.update(Leak(kind=kind, tag=tag) for tag in tags or [0])
    return tuple(sorted(places))


def _encoded_alone(output: Dataset, tag: BaseTag) -> bytes:
    alone = Dataset()
    alone[tag] = output.get_item(tag)
    alone.file_meta = output.file_meta
    implicit, little = output.original_encoding
    alone.set_original_encoding(implicit, little, output.original_character_set)
    return encoded_without_pixels(alone)


def _in_values(source: Source, output: Dataset, ours: set[str]) -> Iterator[Leak]:
    """Leaks by decoded values; `ours` takes the words of the values that this package wrote itself."""
    for node in datasets(output):
        code = frozenset[int]()
        if codes.is_code(node.dataset):
            code = yield from _in_code(source, node.dataset, ours)
        for tag in node.dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            if int(tag) in _PIXELS or int(tag) in code:
                continue
            element: Element = node.dataset.get_item(tag)
            if int(tag) in _OURS:
                ours.update(split_words(" ".join(texts(element, "LO", ("utf-8",)))))
                continue
            vr = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
            if vr not in STRING_VRS or int(tag) in _FORMAL:
                continue
            values = texts(element, vr, ("utf-8",))
            if vr in _NUMBERS and len(values) > _MEASURED:
                continue
            for value in values:
                if kind := _kind(source, value, vr, int(tag)):
                    yield Leak(kind=kind, tag=int(tag))


def _in_code(source: Source, item: Dataset, ours: set[str]) -> Generator[Leak, None, frozenset[int]]:
    """Leaks of a coded concept; returns which of its attributes need no other look: those that the tables vouch for."""
    code = codes.read(item, ("utf-8",))
    if codes.is_standard(code):
        ours.update(split_words(" ".join(code)))
        return codes.CONCEPT
    if not codes.is_by_form(code):
        return frozenset()
    ours.update(split_words(code.scheme))
    for part in codes.free(code):
        if kind := _kind(source, part, "SH"):
            yield Leak(kind=kind, tag=codes.CODE_VALUE)
    return codes.CONCEPT


def _kind(source: Source, value: str, vr: str, tag: int = 0) -> str:
    """Kind of leak that a value is; empty where it is none."""
    if vr == "UI":
        return "uid" if value in source.uids else ""
    folded = fold(value)
    known = source.identifiers
    if re.search(forms_of(known.dates - source.produced), folded):
        return "date"
    if vr in _NUMBERS:
        return "code" if known.is_number(value, tag) else ""
    if vr in _FREE | {"CS"} and (known.spellings.stand_in(value) or known.fragments.prove(value)):
        return "code"
    if vr == "CS":
        return "" if value in _STAND_INS or is_official(value, tag) or not known.names_in(value) else "name"
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


def words_of_ours(output: Dataset) -> frozenset[str]:
    """Words of the values that this package wrote into an output itself."""
    ours: set[str] = set()
    nothing = frozenset[str]()
    known = Identifiers(names=nothing, codes=nothing, short=nothing, dates=nothing)
    for _ in _in_values(Source(identifiers=known, uids=nothing), output, ours):
        pass
    return frozenset(ours)


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
