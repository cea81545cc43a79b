"""Which rule an attribute falls under: the tables and a policy, resolved to one treatment.

Pure, and cached per SOP Class: a series asks the same questions for every slice.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword

from dicomnode.deidentification import profile
from dicomnode.deidentification.policy import Option, Policy, SiteAction
from dicomnode.deidentification.values import BINARY_VRS, BULK_VRS, TEXT_VRS
from dicomnode.site_rules import private_attribute


class Treatment(Enum):
    """What is done to an element."""

    REMOVE = auto()
    EMPTY = auto()
    DUMMY = auto()
    KEEP = auto()
    PROFILE = auto()
    TABLE = auto()
    NUMBER = auto()
    AGE = auto()
    TERM = auto()
    VERBATIM = auto()
    DEVICE = auto()
    PLAIN = auto()
    CHARACTERISTIC = auto()
    CLEAN = auto()
    TOKEN = auto()
    STACK = auto()
    LAYER = auto()
    ZONE = auto()
    CONTENT = auto()
    PSEUDONYM = auto()
    UID = auto()
    KEEP_UID = auto()
    CLASS_UID = auto()
    DATE = auto()
    DATETIME = auto()
    TIME = auto()
    SEQUENCE = auto()


class Rule(NamedTuple):
    """A treatment, what follows where the value does not survive it, and who decided.

    Attributes
    ----------
    fallback
        ``REMOVE``, ``EMPTY`` or ``DUMMY``.
    origin
        ``table``, ``site``, ``default``: for explanations.
    """

    treatment: Treatment
    fallback: Treatment
    vr: str
    origin: str


_T: Final = Treatment
_HOW: Final = MappingProxyType(
    {
        "plain": _T.PLAIN,
        "clean": _T.CLEAN,
        "token": _T.TOKEN,
        "stack": _T.STACK,
        "layer": _T.LAYER,
        "zone": _T.ZONE,
        "drop": _T.REMOVE,
    }
)
_BY_VR: Final = MappingProxyType(
    {
        "SQ": _T.SEQUENCE,
        "UI": _T.UID,
        "DA": _T.DATE,
        "DT": _T.DATETIME,
        "TM": _T.TIME,
        "DS": _T.NUMBER,
        "IS": _T.NUMBER,
        "AS": _T.AGE,
        "CS": _T.TERM,
        **dict.fromkeys(BINARY_VRS, _T.KEEP),
    }
)


def _tags(*keywords: str) -> frozenset[int]:
    return frozenset(tag for keyword in keywords if (tag := tag_for_keyword(keyword)) is not None)


_KEPT: Final = frozenset({_T.VERBATIM, _T.DEVICE, _T.PLAIN, _T.CHARACTERISTIC})
#: How text is retained where one option alone asks for it.
_RETAINED: Final = MappingProxyType({Option.PATIENT_CHARACTERISTICS: _T.CHARACTERISTIC, Option.DEVICE: _T.DEVICE})
#: Bulk data that a researcher needs and that is made of numbers.
_BULK: Final = _tags(
    "PixelData",
    "WaveformData",
    "ChannelMinimumValue",
    "ChannelMaximumValue",
    "WaveformPaddingValue",
    "TrianglePointIndexList",
    "EdgePointIndexList",
    "VertexPointIndexList",
    "PrimitivePointIndexList",
    "CoordinateSystemAxisValues",
)
#: Lookup tables, without which the values or colours of pixels are others.
_TABLES: Final = _tags(
    "LUTData",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "AlphaPaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "BlendingLookupTableData",
)
_PROFILES: Final = _tags("ICCProfile")
_CLASS_UIDS: Final = _tags(
    "SOPClassUID",
    "ReferencedSOPClassUID",
    "RelatedGeneralSOPClassUID",
    "OriginalSpecializedSOPClassUID",
    "SOPClassesInStudy",
    "CodingSchemeUID",
    "ContextUID",
    "MappingResourceUID",
    "ReferencedTransferSyntaxUIDInFile",
    "EncryptedContentTransferSyntaxUID",
    "MACCalculationTransferSyntaxUID",
    "StoredInstanceTransferSyntaxUID",
    "AvailableTransferSyntaxUID",
    "PertinentSOPClassesInStudy",
    "PertinentSOPClassesInSeries",
)
#: Part of the times, though none itself.
_ZONE: Final = 0x00080201
_PSEUDONYMS: Final = _tags("PatientName", "PatientID")
_CONTENT: Final = _tags("TextValue", "PersonName")
#: Says what a patient is like, though the table has it among descriptors.
_ALERTS: Final = _tags("MedicalAlerts")
#: Written anew at the end, or never: method, flags, character set, icons, what other software left behind.
_NEVER: Final = _tags(
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "SpecificCharacterSet",
    "IconImageSequence",
    "EncryptedAttributesSequence",
    "OriginalAttributesSequence",
    "ContextGroupLocalVersion",
    "DataSetTrailingPadding",
    "EncapsulatedDocument",
    "CodingSchemeIdentificationSequence",
)
#: Elements of a coded concept; `codes` treats the item as a whole.
_CODE: Final = _tags(
    "CodeValue",
    "LongCodeValue",
    "URNCodeValue",
    "CodeMeaning",
    "CodingSchemeDesignator",
    "CodingSchemeVersion",
    "ContextGroupVersion",
    "ContextIdentifier",
)


class Rules:
    """Rules of one policy for one SOP Class."""

    def __init__(self, policy: Policy, sop_class_uid: str) -> None:
        self._policy = policy
        self._sop_class_uid = sop_class_uid
        self._letters = frozenset(policy.options)
        self._known: dict[tuple[str, int], Rule] = {}
        self._site = {tag_for_keyword(keyword): action for keyword, action in policy.site.items()}
        private = ((private_attribute(name), action) for name, action in policy.site.items())
        self._private = {profile.SafePrivate(*one[:3]): (one.vr, action) for one, action in private if one}

    @cached_property
    def kept(self) -> frozenset[int]:
        """Text attributes that the policy keeps as they are: their values are no identifiers."""
        return frozenset(tag for tag in profile.attributes() if self.rule("", tag).treatment in _KEPT)

    def rule(self, sequence: str, tag: int) -> Rule:
        """Rule for a standard attribute.

        Parameters
        ----------
        sequence
            Keyword of the sequence that it stands in; empty at the top.
        """
        key = (sequence, tag)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._decide(sequence, tag)
        return found

    def private(self, place: profile.SafePrivate, on_wire: str | None) -> Rule | None:
        """A site's rule for a private attribute; None where it has none.

        Parameters
        ----------
        on_wire
            VR that it came with; None or UN where that is not known.
        """
        if place not in self._private:
            return None
        vr, action = self._private[place]
        vr = (vr or profile.safe_private().get(place, "")) if on_wire in (None, "UN") else str(on_wire)
        known = vr in _BY_VR or (vr in TEXT_VRS and vr not in ("PN", "UN"))
        return Rule(self._by_site(action, vr) if known else _T.REMOVE, _T.REMOVE, vr, "site")

    def _asked(self, action: SiteAction, fallback: Treatment, vr: str, kind: int) -> Rule:
        """A site's rule for a standard attribute: what it wants empty is empty, but where the object would be none then."""
        if action is SiteAction.EMPTY and not (kind == 1 and fallback is _T.DUMMY):
            fallback = _T.EMPTY
        return Rule(self._by_site(action, vr), fallback, vr, "site")

    def _decide(self, sequence: str, tag: int) -> Rule:
        group, element = tag >> 16, tag & 0xFFFF
        if group < 8 or element == 0 or 0x5000 <= group <= 0x50FF or 0x6000 <= group <= 0x60FF:
            return Rule(_T.REMOVE, _T.REMOVE, "", "default")
        if not dictionary_has_tag(tag) or tag in _NEVER or tag in _CODE:
            return Rule(_T.REMOVE, _T.REMOVE, "", "default")
        vr = dictionary_VR(tag)
        kind = profile.type_of(sequence, keyword_for_tag(tag), self._sop_class_uid)
        row = profile.attributes().get(tag)
        if site := self._site.get(tag):
            return self._asked(site, _by_type(row, kind), vr, kind)
        if tag in _PSEUDONYMS:
            return Rule(_T.PSEUDONYM, _T.EMPTY, vr, "table")
        if tag in _CONTENT:
            return Rule(_T.CONTENT, _T.DUMMY, vr, "table")
        if row is not None:
            return self._by_table(tag, row, vr, kind)
        return self._by_default(tag, vr, kind)

    def _by_site(self, action: SiteAction, vr: str) -> Treatment:
        if action is SiteAction.REMOVE:
            return _T.REMOVE
        if action is SiteAction.EMPTY:
            return _T.EMPTY
        if action is SiteAction.CLEAN and vr in TEXT_VRS:
            return _T.CLEAN
        by_word = vr in TEXT_VRS or (vr == "CS" and action is SiteAction.KEEP)
        return _T.VERBATIM if by_word else self._kept(vr)

    def _by_table(self, tag: int, row: profile.Row, vr: str, kind: int) -> Rule:
        fallback = _by_type(row, kind)
        if vr in ("DA", "DT", "TM") and {"m", "f"} & self._letters and "m" in row.options:
            return Rule(self._kept(vr), fallback, vr, "table")
        if tag == _ZONE and "f" in self._letters:
            return Rule(_T.ZONE, fallback, vr, "table")
        retained = self._letters & {letter.lower() for letter in row.options if letter.isupper()} - {"f"}
        if retained:
            text = _RETAINED.get(Option(*retained), _T.VERBATIM) if len(retained) == 1 else _T.VERBATIM
            return Rule(text if vr in TEXT_VRS else self._kept(vr), fallback, vr, "table")
        if self._letters & {letter for letter in row.options if letter.islower()}:
            treatment = self._cleaned(tag, row, vr)
            return Rule(treatment or fallback, fallback, vr, "table")
        if "U" in row.actions:
            return Rule(self._kept(vr) if vr == "UI" else _T.SEQUENCE, fallback, vr, "table")
        if vr == "UI" and fallback is _T.DUMMY:
            return Rule(_T.UID, fallback, vr, "table")
        if vr == "SQ" and fallback is _T.DUMMY:
            return Rule(_T.SEQUENCE, fallback, vr, "table")
        if tag in profile.allowed_text() and fallback is _T.DUMMY:
            return Rule(_HOW[profile.allowed_text()[tag]], fallback, vr, "table")
        return Rule(fallback, fallback, vr, "table")

    def _cleaned(self, tag: int, row: profile.Row, vr: str) -> Treatment | None:
        if vr == "SQ":
            return _T.SEQUENCE if set(row.options) & {"s", "g"} else None
        if tag in profile.allowed_text():
            return _HOW[profile.allowed_text()[tag]]
        if Option.PATIENT_CHARACTERISTICS in self._letters and ("c" in row.options or tag in _ALERTS) and vr == "LO":
            return _T.CHARACTERISTIC
        if vr in ("LO", "SH"):
            return _T.CLEAN
        return _T.TERM if vr == "CS" else None

    def _by_default(self, tag: int, vr: str, kind: int) -> Rule:
        fallback = {1: _T.DUMMY, 2: _T.EMPTY}.get(kind, _T.REMOVE)
        if tag in _CLASS_UIDS:
            return Rule(_T.CLASS_UID, fallback, vr, "default")
        if tag in _TABLES or tag in _PROFILES:
            return Rule(_T.TABLE if tag in _TABLES else _T.PROFILE, _T.REMOVE, vr, "default")
        if vr in BULK_VRS:
            return Rule(_T.KEEP if tag in _BULK else _T.REMOVE, _T.REMOVE, vr, "default")
        how = _HOW.get(profile.allowed_text().get(tag, ""), fallback)
        if vr in TEXT_VRS or how is _T.LAYER:  # a Code String with whatever terms its author made up
            return Rule(how, fallback, vr, "default")
        return Rule(self._kept(vr), fallback, vr, "default")

    def _kept(self, vr: str) -> Treatment:
        if vr == "UI" and Option.UIDS in self._letters:
            return _T.KEEP_UID
        return _BY_VR.get(vr, _T.REMOVE)


def _by_type(row: profile.Row | None, kind: int) -> Treatment:
    """Action of the Basic Profile by type (PS3.15 E.3, Table E.1-1a): removing never breaks a Type 1 or 2."""
    actions = row.actions if row is not None else frozenset({"X"})
    if kind == 1:
        return _T.EMPTY if actions == {"Z"} else _T.DUMMY
    if kind == 2:
        return _T.DUMMY if "Z" not in actions and "D" in actions else _T.EMPTY
    if "X" in actions:
        return _T.REMOVE
    return _T.EMPTY if "Z" in actions else _T.DUMMY
