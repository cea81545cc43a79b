"""Treating one element: what each treatment of the rules does to a value. Pure but for what it remembers of one object."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import MappingProxyType
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes, content
from dicomnode.deidentification.ages import limited
from dicomnode.deidentification.binary import (
    format_of_wave,
    holds_text,
    is_identifier,
    is_text_in_signal,
    table_of,
    written_as,
)
from dicomnode.deidentification.characteristics import is_characteristic
from dicomnode.deidentification.descriptors import cleaned
from dicomnode.deidentification.icc import rebuilt
from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.issuers import issuer_of
from dicomnode.deidentification.labels import filtered, is_makers_own, is_plain, is_serial_number, looks_like_a_device
from dicomnode.deidentification.lengths import fitted
from dicomnode.deidentification.nesting import Node
from dicomnode.deidentification.policy import Option, Policy
from dicomnode.deidentification.pseudonyms import (
    WELL_KNOWN,
    Pseudonyms,
    Subject,
    is_class_uid,
    later,
    shifted_date,
    shifted_datetime,
)
from dicomnode.deidentification.rules import Rule, Treatment
from dicomnode.deidentification.traces import initials, traces
from dicomnode.deidentification.values import ASCII, STRING_VRS, SYNTAX, Element, dummy, is_number, numbers_in, texts
from dicomnode.deidentification.vocabulary import fold, is_called_too, is_official, is_technical, may_be_term, words_in

_TRACKING_IDENTIFIER: Final = ("DCM", "112039")
_PATIENT_ID: Final = 0x00100020
_CLOCK: Final = re.compile(
    r"(?P<date>\d{8}|\d{6}(?!\d)|\d{4}(?!\d))(?P<time>(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d+)?)?)?)?"
    r"(?P<zone>[+-](?:0\d|1[0-4])[0-5]\d)?"
)
_DAY_ALONE: Final = re.compile(r"\d{0,8}")
_STACK: Final = re.compile(r"\d{1,4}")
_ZONE: Final = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")
_SUSPICIOUS: Final = re.compile(
    r"@|://|\^|=|\d{7}|\b(19|20)\d\d[-/.]\d|\b(dr|mr|mrs|ms|prof|patient|name|mrn|dob)\b", re.IGNORECASE
)
_SUSPICIOUS_FOR_DEVICES: Final = re.compile(r"@|://|\^|\d{7}|(?<!\d)(19|20)\d\d[\W_]+\d|\d[\W_]+(19|20)\d\d(?!\d)")
#: Kernels and names of sequences mean something as a whole: a part of one is another one.
_ONE_TOKEN: Final = frozenset({0x00181210, 0x00180024, 0x00189005})
_WAVEFORM_DATA: Final = 0x54001010
#: Channel Minimum and Maximum Value, Waveform Padding Value: one sample each (PS3.3 C.10.9).
_SAMPLES: Final = frozenset({0x54000110, 0x54000112, 0x5400100A})
_LONGEST_SAMPLE: Final = 4
#: Series, Acquisition and Instance Number. Other numbers (of ROIs, beams) tell things within an object apart.
_COUNTERS: Final = frozenset({0x00200011, 0x00200012, 0x00200013})
_COUNTED: Final = re.compile(r" *[+-]?0*\d{0,8}(?:\.\d*)? *")
_MEASURED: Final = 8  # more values than an identifier has
PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # `pixels` looks after them
_IMAGE_GROUP: Final = 0x0028
#: Dates that say nothing; a source has not all of them.
_OTHER_DUMMIES: Final = tuple(f"{year}0101" for year in range(1901, 2100))
_LATEST: Final = 10  # seconds
_UID: Final = re.compile(r"[0-9.]{1,64}")
_NUMERIC: Final = frozenset({Treatment.KEEP, Treatment.TABLE, Treatment.PROFILE, Treatment.NUMBER})
_IN_LETTERS: Final = frozenset({"DS", "IS"})  # numbers, that is
#: What stands for one of several values that does not survive: the others keep their places.
_SEVERAL: Final = MappingProxyType(
    {Treatment.TERM: "OTHER", Treatment.VERBATIM: "", Treatment.PLAIN: "", Treatment.CLEAN: ""}
)


class Treater:
    """Treats the elements of one object."""

    def __init__(self, policy: Policy, pseudonyms: Pseudonyms, subject: Subject, identifiers: Identifiers) -> None:
        self.keeps_private = Option.SAFE_PRIVATE in policy.options
        self.uids: dict[str, str] = {}
        self.produced: set[str] = set()
        self._policy = policy
        self._letters = frozenset(policy.options)
        self._pseudonyms = pseudonyms
        self._subject = subject
        self._shift: timedelta = pseudonyms.shift(subject)
        self._identifiers = identifiers
        self._layers: dict[str, str] = {}
        self._by_tag: dict[Treatment, Callable[[str, int], str | None]] = {
            Treatment.PLAIN: self._plain,
            Treatment.CLEAN: self._clean,
            Treatment.DEVICE: self._device,
        }
        self._by_treatment: dict[Treatment, Callable[[str], str | None]] = {
            Treatment.AGE: self._age,
            Treatment.VERBATIM: self._verbatim,
            Treatment.CHARACTERISTIC: self._characteristic,
            Treatment.TOKEN: lambda value: pseudonyms.token("identifier", value),
            Treatment.STACK: self._stack,
            Treatment.LAYER: self._layer,
            Treatment.ZONE: lambda value: value if _ZONE.fullmatch(value) else None,
            Treatment.UID: self.uid,
            Treatment.KEEP_UID: lambda value: value if _UID.fullmatch(value) else None,
            Treatment.CLASS_UID: self._class_uid,
            Treatment.DATE: self._date,
            Treatment.DATETIME: self._datetime,
            Treatment.TIME: self._time,
        }

    def dummy(self, tag: BaseTag, vr: str) -> DataElement:
        """Element that says nothing; a date is none of the source's."""
        plain = vr.split(" or ", maxsplit=1)[0]
        value = Sequence() if plain == "SQ" else dummy(plain)
        if plain in ("DA", "DT") and value in self._identifiers.dates:
            value = next(date for date in _OTHER_DUMMIES if date not in self._identifiers.dates)
        return DataElement(tag, plain, value)

    def takes_out(self, node: Node, tag: int) -> bool:
        """Whether a value of a content item goes for its concept (PS3.15 Table E.3.4-1)."""
        return content.is_dropped(node, tag, self._letters)

    def treat(self, rule: Rule, tag: BaseTag, element: Element, node: Node) -> Element | None:
        """The element that takes this one's place; None where the rule's fallback does.

        An empty element stays empty: it says nothing and may be required (Type 2).
        """
        treatment = rule.treatment
        if treatment in _NUMERIC:
            return element if int(tag) in PIXELS else self._numeric(rule, tag, element, node)
        if treatment is Treatment.CONTENT:
            return self._content(tag, rule.vr, element, node)
        if treatment in (Treatment.EMPTY, Treatment.DUMMY):
            return None
        if treatment is Treatment.PSEUDONYM:
            return DataElement(tag, rule.vr, self._pseudonyms.patient_id(self._subject_of(node)))
        values = texts(element, rule.vr, node.encodings)
        if not values:
            return DataElement(tag, rule.vr, None)
        if content.is_dropped_date(node, int(tag)) or self._tells_birth(rule, int(tag), values):
            return self.dummy(tag, rule.vr) if int(tag) in content.DATES else None
        if treatment is Treatment.TERM:
            needed = rule.fallback is Treatment.DUMMY and len(values) == 1
            treated = [self._term(value, int(tag), needed=needed) if value else "" for value in values]
        elif by_tag := self._by_tag.get(treatment):
            treated = [by_tag(value, int(tag)) if value else "" for value in values]
        elif treatment is Treatment.VERBATIM and rule.origin == "site":
            treated = [self._as_asked(value, rule.vr, int(tag)) if value else "" for value in values]
        else:
            treated = [self._by_treatment[treatment](value) if value else "" for value in values]
        if len(values) > 1 and treatment in _SEVERAL:
            treated = [value if value is not None else _SEVERAL[treatment] for value in treated]
        if any(value is None for value in treated):
            return None
        kept = [str(value) for value in treated]
        return fitted(tag, rule.vr, kept, values)

    def _tells_birth(self, rule: Rule, tag: int, values: list[str]) -> bool:
        """Whether a date is that of birth, wherever it stands, or a year or month of it."""
        dated = tag in content.DATES or rule.treatment in (Treatment.DATE, Treatment.DATETIME)
        return dated and self._identifiers.tell_birth(values)

    def _numeric(self, rule: Rule, tag: BaseTag, element: Element, node: Node) -> Element | None:
        """Numbers and bulk data, judged by what they are written as, which need not be what the dictionary has."""
        vr = written_as(element, rule.vr)
        in_letters = vr in STRING_VRS
        if rule.treatment is Treatment.NUMBER and in_letters:
            vr = rule.vr
        elif not in_letters:
            return self._binary(rule._replace(vr=vr), tag, element, node)
        elif rule.treatment is not Treatment.KEEP or vr not in _IN_LETTERS:
            return None
        return element if is_number(element, vr) and not self._is_identifier(element, vr, int(tag)) else None

    def _binary(self, rule: Rule, tag: BaseTag, element: Element, node: Node) -> Element | None:
        """Numbers and bulk data: none that is text, no identifier as a number; tables cut to their length, profiles anew."""
        value = element.value
        if rule.treatment is Treatment.PROFILE:
            new = rebuilt(value) if isinstance(value, bytes) else None
            return None if new is None else DataElement(tag, "OB", new)
        if rule.treatment is Treatment.TABLE:
            return table_of(element, rule.vr, tag, node.dataset)
        if int(tag) in _SAMPLES and isinstance(value, bytes) and len(value) > _LONGEST_SAMPLE:
            return None
        if int(tag) == _WAVEFORM_DATA and isinstance(value, bytes):
            return None if is_text_in_signal(value, *format_of_wave(node.dataset)) else element
        if holds_text(element, rule.vr):
            return None
        described = int(tag) >> 16 == _IMAGE_GROUP  # Rows, bits and palettes: no number of anybody
        return None if not described and is_identifier(element, rule.vr, int(tag), self._identifiers) else element

    def _is_identifier(self, element: Element, vr: str, tag: int) -> bool:
        """Whether a number is one of the source's identifiers, as where an accession number serves as Series Number."""
        if isinstance(element.value, MultiValue) and len(element.value) > _MEASURED:
            hits = self._identifiers.codes.intersection(value.strip() for value in texts(element, vr, ASCII))
            return any(map(self._identifiers.spellings.tells, hits))  # what the leak check finds in bytes
        return any(self.is_somebodys(value, tag) for value in texts(element, vr, ASCII))

    def is_somebodys(self, value: str, tag: int) -> bool:
        """Whether a number is an identifier of the source, or has as many digits as nobody counts to, but accession numbers have."""
        return (tag in _COUNTERS and _COUNTED.fullmatch(value) is None) or self._identifiers.is_number(value, tag)

    def keeps_numbers(self, tag: int, vr: str, value: bytes) -> bool:
        """Whether `treat` leaves a DS or IS of numbers as it is, by the bytes of its value."""
        numbers = numbers_in(value, vr)
        return numbers is not None and not any(self.is_somebodys(number, tag) for number in numbers)

    def uid(self, old: str) -> str:
        """Pseudonym of a UID, remembered for the way back."""
        new = self._pseudonyms.uid(old)
        if new != old:
            self.uids[new] = old
        return new

    def code(self, node: Node, target: Dataset) -> None:
        """Coded concept of an item, canonical."""
        found = codes.read(node.dataset, node.encodings)
        canonical = codes.canonical(found, self._pseudonyms.token, self._identifiers.hit_by_code)
        codes.write(canonical, node.dataset, target, node.encodings, self._identifiers.hit_by_code)

    def _age(self, value: str) -> str | None:
        if not SYNTAX["AS"].fullmatch(value):
            return None
        return limited(value, self._policy.highest_age)

    def _term(self, value: str, tag: int, *, needed: bool) -> str | None:
        """A term; one that somebody of the source is called stays where the object is none without it."""
        known = self._identifiers
        if not may_be_term(value, tag) or known.spellings.stand_in(value):
            return None
        if is_official(value, tag):
            return value if needed or not is_called_too(value, tag, known.names) else None
        named = known.names_in(value) or known.initials_in(value)
        told = named or known.fragments.spans(value) or any(traces(value)) or any(initials(value))
        return None if told else value

    def _verbatim(self, value: str) -> str | None:
        return None if _SUSPICIOUS.search(value) else self._unless_own(value)

    def _unless_own(self, value: str) -> str | None:
        """A text whole, or nothing of it where it holds an identifier of the source."""
        known = self._identifiers
        own = known.spellings.stand_in(value) or known.fragments.spans(value)
        named = known.hit(value) or known.names_in(value)
        return None if own or (named and not is_technical(value)) else value

    def _as_asked(self, value: str, vr: str, tag: int) -> str | None:
        """What a site keeps, whatever it looks like; a Code String that is a name goes, though it be a technical word."""
        if vr == "CS" and self._identifiers.names_in(value) and not is_official(value, tag):
            return None
        return self._unless_own(value)

    def _plain(self, value: str, tag: int) -> str | None:
        """A maker's text without any word that is not known to be one, and without the source's own identifiers."""
        known = self._identifiers
        if "://" in value or "@" in value or known.spellings.stand_in(value):
            return None
        if is_makers_own(value, tag):
            return value
        also, own = self._policy.words | words_in(tag), known.fragments.spans
        left = filtered(value, lambda token: is_plain(token, also) and not known.names_somebody(token), also, own)
        if int(tag) in _ONE_TOKEN and left != " ".join(value.split()):
            return None
        return left if left and (not known.hit(left) or is_technical(left)) else None

    def _characteristic(self, value: str) -> str | None:
        """What a patient is like, whole or not at all: half a list of allergies is worse than none."""
        known = self._identifiers
        if (
            not is_characteristic(value, self._policy.words)
            or known.names_somebody(value)
            or known.fragments.spans(value)
        ):
            return None
        return None if known.hit(value) and not is_technical(value) else value

    def _device(self, value: str, tag: int = 0) -> str:
        """A device's own name or number where it has the form of one; else what stands for it, the same for the same."""
        known = self._identifiers
        plain = looks_like_a_device(value, self._policy.words) and not _SUSPICIOUS_FOR_DEVICES.search(value)
        plain = plain or is_serial_number(value, tag)
        named = known.hit(value) or known.names_in(value) or known.names_somebody(value) or known.initials_in(value)
        if plain and not (named or known.fragments.spans(value)):
            return value
        return self._pseudonyms.token("device", value)

    def _clean(self, value: str, tag: int = 0) -> str | None:
        known, also = self._identifiers, self._policy.words | words_in(tag)
        own = known.fragments.spans
        clean = partial(cleaned, value, suspect=known.places, also=also, own=own, letters=known.initials)
        left = clean(known.words)
        if left and (parts := known.parts_of_codes_in(left)):
            left = clean(known.words | parts)
        return left if left and fold(left) not in known.short and not known.spellings.stand_in(left) else None

    def _subject_of(self, node: Node) -> Subject:
        """Whom an item is about: one of a group of patients has an id of its own (PS3.3 C.7.1.4)."""
        item, tag = node.dataset, _PATIENT_ID
        patient_id = next(iter(texts(item.get_item(tag), "LO", node.encodings)), "") if tag in item else ""
        kind, *known = self._subject.parts
        own = known if kind == "patient" else ["", ""]
        if not node.depth or patient_id.strip() in ("", own[1]):
            return self._subject
        return self._pseudonyms.subject(patient_id, issuer_of(node) or own[0], "")  # those of a house have one issuer

    def _stack(self, value: str) -> str:
        """Numbers of stacks stay; what else names one is linked by a token."""
        named = self._identifiers.hit(value) or self._identifiers.fragments.spans(value)
        return value if _STACK.fullmatch(value) and not named else self._pseudonyms.token("stack", value)

    def _class_uid(self, value: str) -> str:
        """A UID that says what something is stays; one that is not registered must not end in the source's own number."""
        *_, before, leaf = ["", *value.split(".")]
        own = self._identifiers.hit(leaf) or self._identifiers.hit(before + leaf)
        registered = value in WELL_KNOWN or (is_class_uid(value) and not own)
        return value if registered else self.uid(value)

    def _layer(self, value: str) -> str:
        """Graphic layers and their references stay consistent within the object."""
        return self._layers.setdefault(value, f"LAYER{len(self._layers) + 1}")

    def _date(self, value: str) -> str | None:
        if Option.FULL_DATES in self._letters:
            kept = shifted_date(value, timedelta())
            self.produced.update([kept] if kept else [])  # newborns are examined on the day of birth
            return value if kept else None
        if Option.MODIFIED_DATES not in self._letters:
            return None
        moved = shifted_date(value, self._shift)
        self.produced.update([moved] if moved else [])
        return moved

    def keeps_time(self, value: str) -> bool:
        """Whether a well-formed time of day stays as it is."""
        return not self._identifiers.is_number_of_time(value.rstrip())

    def _time(self, value: str) -> str | None:
        """A time of day; one whose digits are an identifier of the source is some seconds later."""
        if not SYNTAX["TM"].fullmatch(value):
            return None
        if self._identifiers.is_number_of_time(value.partition(".")[2]):
            value = value.partition(".")[0]
        for seconds in range(_LATEST):
            new = later(value, seconds)
            if not self._identifiers.is_number_of_time(new):
                return new
        return None

    def _datetime(self, value: str) -> str | None:
        if Option.FULL_DATES in self._letters:
            kept = shifted_datetime(value, timedelta())
            self.produced.update([kept[:8]] if kept else [])
            return self._clock(value) if kept else None
        if Option.MODIFIED_DATES not in self._letters:
            return None
        moved = shifted_datetime(value, self._shift)
        self.produced.update([moved[:8]] if moved else [])
        return self._clock(moved) if moved is not None else None

    def _clock(self, value: str) -> str:
        """A date and time without hours or an offset that there are none of (PS3.5 6.2), and without a number of somebody's."""
        if (match := _CLOCK.fullmatch(value.rstrip())) is None:
            return "".join(_DAY_ALONE.findall(value)[:1])
        time = match["time"] and self._time(match["time"])
        return match["date"] + (time or "") + (match["zone"] or "")

    def _content(self, tag: BaseTag, vr: str, element: Element, node: Node) -> DataElement:
        """Text or person name of a content item, by its concept (PS3.15 Table E.3.4-1)."""
        value = " ".join(texts(element, vr, node.encodings))
        concept, row = content.concept(node), content.row(node, content.TEXTS[int(tag)])
        new: str | None = None
        if (concept.scheme, concept.value) == _TRACKING_IDENTIFIER:
            new = self._pseudonyms.token("identifier", value)
        elif (
            vr != "PN" and row is not None and (kept := self._letters & {x.lower() for x in row.options if x.isupper()})
        ):
            new = self._device(value) if kept == {Option.DEVICE} else self._verbatim(value)
        elif vr != "PN" and (row is None or "e" in row.options) and Option.CLEAN_DESCRIPTORS in self._letters:
            new = self._clean(value)
        return DataElement(tag, vr, new) if new else self.dummy(tag, vr)
