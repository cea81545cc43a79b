"""Writes spellings of a person into objects: texts, sequences, private blocks, codes, contents, and what has another VR.

Nothing of the engine is used here but the standard's list of private places, its leak check neither: what came out is searched as bytes
and as pydicom reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

from pydicom import config
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.profile import SafePrivate, safe_private
from tests.unit.deidentification.identities import Person, Spelling, squashed
from tests.unit.deidentification.kinds_planted import Object, code, forms

#: Longest value of each VR that holds words.
LONGEST: Final = {
    "LO": 64,
    "SH": 16,
    "LT": 1024,
    "ST": 1024,
    "UT": 1024,
    "UC": 1024,
    "PN": 64,
    "AE": 16,
    "CS": 16,
    "UR": 1024,
}
_ASCII: Final = ("AE", "CS", "UR")
#: Without these an object is none, is another one, or shows other pixels.
_STRUCTURE: Final = frozenset(
    {0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x00080064, 0x0020000D, 0x0020000E}
)
_KNOWN: Final = [
    (tag, entry[0])
    for tag, entry in DicomDictionary.items()
    if 2 < tag >> 16 < 0x7FE0 and tag >> 16 != 0x28 and tag not in _STRUCTURE and entry[4]
]
_TEXTS: Final = [(tag, vr) for tag, vr in _KNOWN if vr in LONGEST]
_OTHERS: Final = [(tag, vr) for tag, vr in _KNOWN if vr in ("DA", "DT", "IS", "OB")]
_UIDS: Final = [(tag, vr) for tag, vr in _KNOWN if vr == "UI" and "Device" not in DicomDictionary[tag][4]]
_SEQUENCES: Final = [tag for tag, vr in _KNOWN if vr == "SQ"]
_CREATORS: Final = ("SIEMENS CSA HEADER", "SIEMENS MR HEADER", "GEMS_PARM_01", "Philips PET Private Group", "ACME 1.0")
_PRIVATE_VRS: Final = ("LO", "SH", "LT", "ST", "UT", "PN", "UN", "OB", "SQ")
_CONCEPTS: Final = ("121106", "121071", "113870", "121022", "121030")
_AROUND: Final = (
    "{}",
    "{}",
    "CT chest {}",
    "{} thorax 1.5mm",
    "seen by {}",
    "T1_{}_ax",
    "for {}, see chart",
    "({})",
    "lung {} B31s",
)
_PLACES: Final = (
    "text",
    "text",
    "text",
    "nested",
    "nested",
    "deep",
    "private",
    "safe private",
    "private sequence",
    "UN",
    "code",
    "content",
    "other VR",
)
#: Private places of Table E.3.10-1 that hold words.
_SAFE: Final = [(row, vr) for row, vr in safe_private().items() if vr in LONGEST]
_BY_CHANCE: Final = 7
_LONG_NAME: Final = 6
#: What the engine makes itself, of which any letters and figures may be a part.
_OURS: Final = re.compile(r"DN-[A-Z2-7]{16}|ID[0-9A-F]{10}|2\.25\.[0-9]+")
_CONTENT: Final = 0x0040A730
_ACQUISITION_CONTEXT: Final = 0x00400555
_PIXEL_DATA: Final = 0x7FE00010


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """One identifier at one place.

    Attributes
    ----------
    place
        Kind of place.
    path
        Tags and numbers of items from the top.
    text
        The whole value.
    """

    spelling: Spelling
    place: str
    path: tuple[int, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.spelling.how}, {self.place} {shown(self.path)}: {self.text!r}"


@dataclass
class Planting:
    """Puts what there is of a person into an object."""

    one: Object
    person: Person
    random: Random
    plants: list[Plant] = field(default_factory=list)

    def identify(self) -> None:
        """Make the object this person's."""
        ds, person = self.one.dataset, self.person
        ds.PatientName, ds.PatientID, ds.OtherPatientIDs = person.name, person.patient_id, person.other_id
        ds.AccessionNumber, ds.StudyID = person.accession, person.study_id
        ds.PatientBirthDate, ds.StudyDate = person.birth.strftime("%Y%m%d"), person.studied.strftime("%Y%m%d")
        ds.PatientAddress = f"{person.street} {person.number}, {person.postcode} {person.city}"
        ds.PatientTelephoneNumbers, ds.InstitutionName = person.phone, person.institution
        ds.ReferringPhysicianName, ds.OperatorsName = person.referrer, person.operator
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.FrameOfReferenceUID = person.uids

    def put(self, spelling: Spelling) -> None:
        """Plant one spelling somewhere."""
        top, random = self.one.dataset, self.random
        text = random.choice(_AROUND).format(spelling.text)
        kind = random.choice(_PLACES)
        path: tuple[int, ...] = ()
        if kind in ("nested", "deep", "code", "content", "private sequence"):
            path = self._item(top, kind)
        for _ in range(random.randint(1, 3) if kind == "deep" else 0):
            path += self._item(at(top, path), kind)
        tag = self._in(kind, at(top, path), spelling, text)
        self.plants.append(Plant(spelling=spelling, place=kind, path=(*path, tag), text=text))

    def _in(self, kind: str, target: Dataset, spelling: Spelling, text: str) -> int:
        """Write into a Data Set; gives the tag."""
        if kind == "code":
            target.update(code(spelling.text[:16], "99SITE", text[:64]))
            return 0x00080104
        if kind == "content":
            target.RelationshipType, target.ValueType = "CONTAINS", "TEXT"
            target.ConceptNameCodeSequence = Sequence([code(self.random.choice(_CONCEPTS), "DCM", "Comment")])
            target.TextValue = text
            return 0x0040A160
        if kind in ("private", "private sequence"):
            return self._private(target, self.random.choice(_PRIVATE_VRS[:-1]), text)
        if kind == "safe private":
            row, vr = self.random.choice(_SAFE)
            fits = len(text) <= LONGEST[vr] and (text.isascii() or vr not in _ASCII)
            return self._block(target, row, vr if fits else "UN", text)
        if kind == "other VR" and (done := self._other(target, spelling)):
            return done
        tag, vr = self._free(
            target,
            [
                (tag, vr)
                for tag, vr in self._drawn(_TEXTS)
                if len(text) <= LONGEST[vr] and (text.isascii() or vr not in _ASCII)
            ],
        )
        value = text.upper() if vr == "CS" else spelling.text if vr == "PN" else text  # nobody is called CT chest
        if kind == "UN":
            target[tag] = DataElement(tag, "OB", self._bytes(value))
            target[tag].VR = "UN"
        else:
            target[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
        return tag

    def _other(self, target: Dataset, spelling: Spelling) -> int:
        """Where a date, a UID, a number or bytes stand as what they are."""
        figures = squashed(spelling.text)
        for tag, vr in self._drawn(_UIDS if spelling.what == "UID" else _OTHERS):
            fits = {"UI": spelling.how == "plain", "DA": spelling.how == "%Y%m%d", "DT": spelling.how == "%Y%m%d", "OB": True,
                    "IS": figures.isdecimal() and len(figures) < 10 and spelling.what.endswith(("id", "number"))}  # fmt: skip
            if fits[vr] and tag not in target:
                value = self._bytes(spelling.text) if vr == "OB" else figures if vr == "IS" else spelling.text
                target[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
                return tag
        return 0

    def _private(self, target: Dataset, vr: str, text: str) -> int:
        random = self.random
        group = random.choice((0x0009, 0x0019, 0x0029, 0x0043, 0x7053))
        return self._block(target, SafePrivate(random.choice(_CREATORS), group, random.randint(0, 255)), vr, text)

    def _block(self, target: Dataset, place: SafePrivate, vr: str, text: str) -> int:
        """Write into a private block of its own; gives the tag."""
        group = place.group << 16
        block = next(number for number in range(0x20, 0x100) if group | number not in target)
        target.add_new(group | block, "LO", place.creator)
        tag = group | block << 8 | place.element
        value = Sequence([Dataset()]) if vr == "SQ" else self._bytes(text) if vr in ("UN", "OB") else text
        target[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
        return tag

    def _item(self, target: Dataset, kind: str) -> tuple[int, int]:
        """A new item of a sequence: its tag, and its number there."""
        if kind == "private sequence":
            return self._private(target, "SQ", ""), 0
        tag = self._free(target, [(tag, "SQ") for tag in self.random.sample(_SEQUENCES, 50)])[0]
        if kind == "content":
            tag = _CONTENT if _CONTENT in target else _ACQUISITION_CONTEXT
        if tag not in target:
            target[tag] = DataElement(tag, "SQ", Sequence())
        target[tag].value.append(Dataset())
        return tag, len(target[tag].value) - 1

    def _drawn(self, tags: list[tuple[int, str]]) -> list[tuple[int, str]]:
        return self.random.sample(tags, min(len(tags), 200))

    def _free(self, target: Dataset, tags: list[tuple[int, str]]) -> tuple[int, str]:
        return next((tag, vr) for tag, vr in tags if tag not in target)

    def _bytes(self, text: str) -> bytes:
        sets = self.one.dataset.SpecificCharacterSet
        encodings = convert_encodings(sets if isinstance(sets, str) else list(sets))
        data = encode_string(text, encodings)
        return data + b" " * (len(data) % 2)


def at(dataset: Dataset, path: tuple[int, ...]) -> Dataset:
    """The item at a path."""
    for tag, number in zip(path[::2], path[1::2], strict=True):
        dataset = dataset[tag].value[number]
    return dataset


def shown(path: tuple[int, ...]) -> str:
    """A path as people read it."""
    return ".".join(f"{tag:08x}[{number}]" for tag, number in zip(path[::2], (*path[1::2], 0), strict=True))


def left(planting: Planting, data: bytes, output: Dataset) -> Iterator[tuple[Plant, str]]:
    """Plants that came out, and where: by the bytes of the file, by every value that pydicom reads, and at their places."""
    raw = _OURS.sub("", data.decode("latin-1")).lower().encode("latin-1")
    values = [(path, _OURS.sub("", text).casefold()) for path, text in _values(output)]
    for plant in planting.plants:
        found = dict(values)
        if plant.path in found and found[plant.path] == plant.text.casefold():
            yield plant, "as it was"
        for needle in plant.spelling.needles:
            wanted, letters = needle.casefold(), squashed(needle)
            alone = _alone(wanted)
            for where, text in values:
                stands = alone.search(text) is not None if alone else wanted in text
                if stands or (len(letters) >= _BY_CHANCE and letters in squashed(text)):
                    yield plant, f"in {shown(where)}: {text!r}"
                    break
            if len(letters) >= _BY_CHANCE and any(form in raw for form in forms(needle)):
                yield plant, "in the bytes"


def _alone(needle: str) -> re.Pattern[str] | None:
    """Pattern of a number, or of a short name, by itself: 11310 in 113100 is chance, and so is king in tracking."""
    if needle.isdecimal():
        return re.compile(rf"(?<!\d){needle}(?!\d)")
    return re.compile(rf"(?<![^\W\d_]){needle}(?![^\W\d_])") if needle.isalpha() and len(needle) < _LONG_NAME else None


def _values(dataset: Dataset, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], str]]:
    """Every value with its path as a text; dates and times, which are shifted, but for those that stand at a path of their own."""
    for element in dataset:
        here = (*path, int(element.tag))
        if element.VR == "SQ":
            for number, item in enumerate(element.value):
                yield from _values(item, (*here, number))
        elif isinstance(element.value, bytes):
            yield here, "" if element.tag == _PIXEL_DATA else element.value.decode("latin-1")
        elif element.value in _CONCEPTS:
            continue  # 121106 is a concept, not the sixth of November 2012
        elif element.VR in LONGEST or element.VR in ("UI", "IS", "DS"):
            yield here, "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)
        elif element.VR in ("DA", "DT"):
            yield here, f"{element.VR} {element.value}"
