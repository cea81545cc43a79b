"""De-identification of one object: what is withheld, the walk, the pixels, the flags, the leak check.

The room's facade. Pure but for what it remembers to be quick: same object, same policy, same key, same result.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

from cryptography.x509 import Certificate
from pydicom._uid_dict import UID_dictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from dicomnode.coding import CodedConcept, dcm
from dicomnode.deidentification import devices, pixels
from dicomnode.deidentification.ages import limit_ages
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.encrypted import enclose
from dicomnode.deidentification.flags import declare_burned_in, declare_recognizable
from dicomnode.deidentification.frames import EXPLICIT_LITTLE
from dicomnode.deidentification.heads import Head, look, shows_a_head
from dicomnode.deidentification.identifiers import collect
from dicomnode.deidentification.issuers import issuer_of
from dicomnode.deidentification.kinds import Kind, kind_of, lacks_pixels
from dicomnode.deidentification.leakcheck import Leak, Source, leaks_of, located
from dicomnode.deidentification.minimal import minimal
from dicomnode.deidentification.nesting import CHARACTER_SET, Node, own_encodings
from dicomnode.deidentification.policy import Faces, OnLeak, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms, Subject
from dicomnode.deidentification.reader import Reader
from dicomnode.deidentification.rules import Rules
from dicomnode.deidentification.stored import BIG_ENDIAN, swap_words, syntax_of
from dicomnode.deidentification.treat import PIXELS, Treater
from dicomnode.deidentification.values import ASCII, STRING_VRS, defined_terms, texts
from dicomnode.deidentification.walk import Walked, walk
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError, StudyError

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_CLEAN_PIXEL_DATA: Final = dcm("113101", "Clean Pixel Data Option")
_CLEAN_FACE: Final = dcm("113102", "Clean Recognizable Visual Features Option")
_CLASSES_REMEMBERED: Final = 64
_SOP_CLASS: Final = 0x00080016
_SOP_INSTANCE: Final = 0x00080018
_PATIENT_ID: Final = 0x00100020
_STUDY_INSTANCE: Final = 0x0020000D


class Seen(Enum):
    """What is known of a face in an object from its whole series."""

    UNKNOWN = auto()
    NO_HEAD = auto()
    TAKEN_OFF = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentified:
    """A de-identified object.

    Attributes
    ----------
    dataset
        New Data Set, with new File Meta Information whose Transfer Syntax it is to be encoded in.
    uids
        New UID → old UID, for the vault.
    leaks
        What the leak check found in the full copy, where the policy answers that with a minimal one; else empty.
    held
        Whether it is withheld for them: of `examine` alone.
    read
        Why text was looked for in its pixels; empty where it was not.
    """

    dataset: Dataset
    uids: dict[str, str] = field(repr=False)
    leaks: tuple[Leak, ...] = ()
    held: bool = False
    read: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """By what an object was de-identified.

    Attributes
    ----------
    rules, treater
        Rules of its class, and what treats its elements.
    known
        What must not come out.
    looked
        Whether its pixels were looked at one by one, blanked, read or vouched for: what another image shows, nobody knows.
    """

    rules: Rules
    treater: Treater
    known: Source
    looked: bool


class Deidentifier:
    """De-identifies objects under one policy.

    Parameters
    ----------
    policy, pseudonyms
        What is done, and by which key names and dates are replaced.
    reader
        Reads text in pixels; without one, pixels that may show text are withheld.
    decoding
        What decoding the frames of one object may take.
    recipients
        For whom the original attributes are enclosed, encrypted; for nobody by default.
    """

    def __init__(
        self,
        policy: Policy,
        pseudonyms: Pseudonyms,
        *,
        reader: Reader | None = None,
        decoding: DecodingLimits | None = None,
        recipients: tuple[Certificate, ...] = (),
    ) -> None:
        self.recipients = recipients
        self.policy = policy
        self._looking = pixels.Looking(
            reader=reader,
            blanks_text=policy.blank_text,
            every_image=policy.look_at_every_image,
            closely=policy.closely,
            recognizable=not policy.withhold_recognizable,
            decoding=decoding or DecodingLimits(),
        )
        self._pseudonyms = pseudonyms
        self._rules: OrderedDict[str, Rules] = OrderedDict()

    def refuse_header(self, dataset: Dataset) -> None:
        """Refuse the header of an image alone, of which nobody knows whether its pixels were cut off.

        Raises
        ------
        StudyError
            ``withheld-pixels`` where policy lets none pass.
        """
        if not self.policy.headers_alone and lacks_pixels(dataset) and not any(tag in dataset for tag in PIXELS):
            raise StudyError("withheld-pixels", because="missing")

    @property
    def faces(self) -> Faces:
        """What is done with heads."""
        return self.policy.faces

    def deidentify(self, dataset: Dataset, seen: Seen = Seen.UNKNOWN) -> Deidentified:
        """De-identify one object; the source stays as it is.

        Parameters
        ----------
        dataset
            As read by `dicomnode.encoded`, with File Meta Information that names the Transfer Syntax.
        seen
            What its series told of a face (`faces`); where nothing did, its header decides.

        Raises
        ------
        StudyError
            ``withheld-*`` with the reason; ``object-too-complex``; ``object-without-uids``.
        """
        with _withholding():
            done, _ = self._deidentify(dataset, seen)
            if self.recipients:
                enclose(dataset, done.dataset, self.recipients)
            return done

    def examine(self, dataset: Dataset, seen: Seen = Seen.UNKNOWN) -> Deidentified:
        """De-identify one object to explain it: nothing is withheld for what the leak check finds, but where that stands is told.

        Raises
        ------
        StudyError
            As `deidentify`, but never ``withheld-leak``.
        """
        with _withholding():
            return self._deidentify(dataset, seen, examining=True)[0]

    def _deidentify(
        self, dataset: Dataset, seen: Seen = Seen.UNKNOWN, *, examining: bool = False
    ) -> tuple[Deidentified, Means]:
        sop_class = _first(dataset, _SOP_CLASS, "UI")
        if not (sop_class and _first(dataset, _SOP_INSTANCE, "UI")):
            raise StudyError("object-without-uids")
        _refuse(kind_of(sop_class))
        if self.policy.faces.lets_no_face_out and seen is Seen.UNKNOWN:
            refuse_heads(look(dataset))
        source, (dataset, plan, cleaned) = dataset, self._planned(dataset, sop_class)
        rules = self._rules_of(sop_class)
        identifiers = collect(dataset, rules.kept, dates=Option.FULL_DATES not in self.policy.options)
        subject = self._subject(dataset)
        treater = Treater(self.policy, self._pseudonyms, subject, identifiers)
        walked = walk(dataset, rules, treater)
        if self.policy.highest_age is not None:
            limit_ages(walked.dataset, self.policy.highest_age)
        seeds = identifiers.names | identifiers.codes | identifiers.dates
        done = pixels.carry_out(plan, dataset, walked.dataset, seeds, self._looking)
        flag = _flag_of_face(self.policy.faces, seen, dataset)
        declare_burned_in(walked.dataset, sop_class, plan, done)
        declare_recognizable(walked.dataset, sop_class, flag, looked=seen is not Seen.UNKNOWN)
        self._finish(dataset, walked.dataset, cleaned=cleaned, anew=done.anew, flag=flag)
        if syntax_of(source) == BIG_ENDIAN != syntax_of(walked.dataset):
            swap_words(walked.dataset, leaving=PIXELS)
        known = Source(
            identifiers=identifiers, uids=frozenset(walked.uids.values()), produced=frozenset(walked.produced)
        )
        looked = plan.blanks or plan.vouched or dataset is not source
        checked = self._examined(known, walked) if examining else self._checked(known, walked)
        means = Means(rules=rules, treater=treater, known=known, looked=looked)
        return replace(checked, read=plan.read), means

    def _planned(self, dataset: Dataset, sop_class_uid: str) -> tuple[Dataset, pixels.Plan, bool]:
        """The object without what the site's rules for its device blank, what is done to the rest, and whether its pixels are cleaned."""
        reads = self._looking.reader is not None
        known = devices.known(self.policy.devices, dataset)
        left = devices.without(known, dataset, self._looking.decoding, reads=reads)
        plan = pixels.plan(left, sop_class_uid, self._looking, vouched=known.vouched)
        looked = known.vouched or self._looking.every_image
        return left, plan, plan.blanks or (left is not dataset and looked)

    @property
    def asked_of_devices(self) -> frozenset[int]:
        """Attributes that the site's rules for devices ask about."""
        return devices.asked(self.policy.devices)

    @property
    def changes(self) -> dict[str, object]:
        """What of its policy is not the usual for networks (`Policy.changes`)."""
        return self.policy.changes(reads=self._looking.reader is not None)

    def learn(self, dataset: Dataset) -> tuple[Deidentified, Means]:
        """De-identify one object, and hand out by what: for others with the same identities.

        Raises
        ------
        StudyError
            As `deidentify`.
        """
        with _withholding():
            return self._deidentify(dataset)

    def _checked(self, known: Source, walked: Walked) -> Deidentified:
        found = leaks_of(known, walked.dataset)
        if not found:
            return Deidentified(dataset=walked.dataset, uids=walked.uids)
        if self.policy.on_leak is OnLeak.WITHHOLD:
            raise StudyError("withheld-leak", kind=found[0].kind, hits=len(found))
        least = minimal(walked.dataset)
        if left := leaks_of(known, least):
            raise StudyError("withheld-leak", kind=left[0].kind, hits=len(left))
        return Deidentified(dataset=least, uids=walked.uids, leaks=found)

    def _examined(self, known: Source, walked: Walked) -> Deidentified:
        found = located(known, walked.dataset, leaks_of(known, walked.dataset))
        least = minimal(walked.dataset) if found and self.policy.on_leak is OnLeak.MINIMAL else None
        held = bool(found) and (least is None or bool(leaks_of(known, least)))
        dataset = walked.dataset if least is None or held else least
        return Deidentified(dataset=dataset, uids=walked.uids, leaks=found, held=held)

    def _subject(self, dataset: Dataset) -> Subject:
        encodings = own_encodings(dataset)
        return self._pseudonyms.subject(
            _first(dataset, _PATIENT_ID, "LO", encodings),
            issuer_of(Node(dataset, encodings)),
            _first(dataset, _STUDY_INSTANCE, "UI"),
        )

    def _rules_of(self, sop_class_uid: str) -> Rules:
        rules = self._rules.get(sop_class_uid)
        if rules is None:
            rules = self._rules[sop_class_uid] = Rules(self.policy, sop_class_uid)
            if len(self._rules) > _CLASSES_REMEMBERED:
                self._rules.popitem(last=False)
        return rules

    def _finish(self, source: Dataset, target: Dataset, *, cleaned: bool, anew: bool, flag: str) -> None:
        concepts = list(self.policy.concepts)
        if flag == "NO":
            concepts.insert(1, _CLEAN_FACE)
        if cleaned:
            concepts.insert(1, _CLEAN_PIXEL_DATA)
        target.PatientIdentityRemoved = "YES"
        target.DeidentificationMethod = f"dicomnode {self.policy.name}"
        target.DeidentificationMethodCodeSequence = Sequence([_code_item(concept) for concept in concepts])
        target.LongitudinalTemporalInformationModified = self.policy.temporal_information
        _declare_character_set(source, target)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = target.SOPClassUID
        meta.MediaStorageSOPInstanceUID = target.SOPInstanceUID
        syntax = getattr(getattr(source, "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and UID_dictionary.get(str(syntax), ("", ""))[1] != "Transfer Syntax":
            raise StudyError("withheld-malformed")
        if anew or syntax is not None:
            meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE if anew and syntax != IMPLICIT_LITTLE else str(syntax))
        target.file_meta = meta


@contextmanager
def _withholding() -> Iterator[None]:
    try:
        with hushed():
            yield
    except NodeError:
        raise
    except Exception:  # noqa: BLE001 - a foreign error may quote a value; nothing proves the object clean
        raise StudyError("withheld-malformed") from None


def _refuse(kind: Kind) -> None:
    if kind is Kind.DOCUMENT:
        raise StudyError("withheld-document")
    if kind is Kind.UNSUPPORTED:
        raise StudyError("withheld-sop-class")


def _first(dataset: Dataset, tag: int, vr: str, encodings: tuple[str, ...] = ASCII) -> str:
    if tag not in dataset:
        return ""
    values = texts(dataset.get_item(tag), vr, encodings)
    return values[0] if values else ""


def _code_item(concept: CodedConcept) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = concept.value, concept.scheme, concept.meaning
    return item


def refuse_heads(head: Head) -> None:
    """Refuse what may show a head.

    Raises
    ------
    StudyError
        ``withheld-face`` where a head is named, ``withheld-face-unsaid`` where nothing is.
    """
    if head >= Head.STUDY:
        raise StudyError("withheld-face")
    if head is Head.UNSAID:
        raise StudyError("withheld-face-unsaid")


def _flag_of_face(faces: Faces, seen: Seen, source: Dataset) -> str:
    """Recognizable Visual Features (0028,0302): NO where the face was taken off, YES where a head is told of."""
    if seen is Seen.TAKEN_OFF:
        return "NO"
    return "YES" if faces is Faces.FLAG and shows_a_head(source) else ""


def _declare_character_set(source: Dataset, target: Dataset) -> None:
    """The source's character set where all kept text is in its default repertoire, else UTF-8 (PS3.3 C.12.1.1.2)."""
    if not all(_is_ascii(item) for item in _with_items(target)):
        target.SpecificCharacterSet = "ISO_IR 192"
    elif CHARACTER_SET in source and own_encodings(source) != ("utf-8",):
        terms = defined_terms(texts(source.get_item(CHARACTER_SET), "CS", ASCII))
        if terms:
            target[CHARACTER_SET] = DataElement(CHARACTER_SET, "CS", terms[0] if len(terms) == 1 else terms)
    implicit, little = target.original_encoding
    if implicit is not None:
        target.set_original_encoding(implicit, little, target._character_set)


def _with_items(dataset: Dataset) -> list[Dataset]:
    found, pending = [], [dataset]
    while pending:
        one = pending.pop()
        found.append(one)
        for tag in one.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
            element = one.get_item(tag)
            if element.VR == "SQ":
                pending += list(element.value)
    return found


def _is_ascii(dataset: Dataset) -> bool:
    for tag in dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        element = dataset.get_item(tag)
        if isinstance(element, DataElement) and element.VR in STRING_VRS and not str(element.value).isascii():
            return False
    return True
