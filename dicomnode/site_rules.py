"""What a site may change of a policy of de-identification, and what it says of devices: sections of the configuration, and what is wrong with one.

Floor 1, below `config`. What a rule does to an attribute, or to pixels, stands in `deidentification`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, model_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomnode.bounds import Looks, Name
from dicomnode.patterns import found
from dicomnode.routing_rules import Condition
from dicomnode.sections import Section

_NEEDED = frozenset(
    {
        "SpecificCharacterSet",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "PatientName",
        "PatientID",
        "Modality",
    }
)
_OF_PIXELS = frozenset({0x0028, 0x7FE0})  # Rows, bits, palettes, the pixels themselves
#: Written anew whatever a site says: flags of what was done, coded concepts, which are treated as a whole.
_WRITTEN_ANEW = frozenset(
    {
        "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "SpecificCharacterSet",
        "LongitudinalTemporalInformationModified", "CodeValue", "LongCodeValue", "URNCodeValue", "CodeMeaning",
        "CodingSchemeDesignator", "CodingSchemeVersion", "ContextGroupVersion", "ContextIdentifier",
        "BurnedInAnnotation", "RecognizableVisualFeatures",
    }
)  # fmt: skip
#: Left out whatever a site says: copies of what was there before, documents.
_LEFT_OUT = frozenset(
    {
        "IconImageSequence", "EncryptedAttributesSequence", "OriginalAttributesSequence", "ContextGroupLocalVersion",
        "DataSetTrailingPadding", "EncapsulatedDocument", "CodingSchemeIdentificationSequence",
    }
)  # fmt: skip
_FIRST_GROUP = 0x0008
_LAST_GROUP = 0xFFFF  # none of private attributes (PS3.5 7.8.1)
_PRIVATE = re.compile(r'\(([0-9a-f]{4}),"([^"\\]{1,64})",([0-9a-f]{2})(?:,([A-Z]{2}))?\)', re.IGNORECASE)
#: VRs of private attributes that a rule can keep: nobody can look into opaque bytes, and names of people never stay.
_OF_PRIVATE = frozenset({"LO", "SH", "ST", "LT", "UT", "UC", "CS", "DS", "IS", "AS", "DA", "DT", "TM", "UI", "SQ", "FL", "FD", "US", "UL",
                         "SS", "SL", "AT"})  # fmt: skip
_BULK = frozenset({"OB", "OW", "OB or OW", "UN"})
_TABLES = frozenset({"LUTData"})  # cut to the length that their descriptor says, or the object is withheld
#: Of whom a site may vouch for what is written into images: attributes that name the device, and such as name a kind of its images.
_DEVICES = frozenset({"ManufacturerModelName", "DeviceSerialNumber", "StationName"})
_KINDS = frozenset({"SOPClassUID", "ImageType"})
_ANYTHING = ("", *map(chr, range(0x20, 0x7F)))  # texts that name nothing
_Place = Annotated[int, Field(ge=0, le=65534)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Size = Annotated[int, Field(ge=1, le=65535)]
OptionName = Literal[
    "retain-safe-private", "retain-uids", "retain-device-identity", "retain-institution-identity",
    "retain-patient-characteristics", "retain-full-dates", "retain-modified-dates", "clean-descriptors",
    "clean-structured-content", "clean-graphics",
]  # fmt: skip


class PrivateAttribute(NamedTuple):
    """A private attribute of a site's rule; the VR where none comes with it, empty where the rule has none."""

    creator: str
    group: int
    element: int
    vr: str


def private_attribute(text: str) -> PrivateAttribute | None:
    """Private attribute as PS3.15 Table E.3.10-1 writes one, with or without its VR; None where a text is none."""
    match = _PRIVATE.fullmatch(text)
    if match is None:
        return None
    found = PrivateAttribute(match[2].strip(), int(match[1], 16), int(match[3], 16), (match[4] or "").upper())
    sound = found.group % 2 and _FIRST_GROUP < found.group < _LAST_GROUP and found.vr in _OF_PRIVATE | {""}
    return found if sound and found.creator else None


class PolicySection(Section):
    """How a site changes one policy of de-identification."""

    options: tuple[OptionName, ...] | None = Field(
        None, description="options of PS3.15 E.3 that apply, in place of the policy's own"
    )
    keep: tuple[str, ...] = Field(
        (),
        description='keywords of attributes, or private ones as (0019,"ACME 1.0",10,DS), that stay as they came, identifiers too: the leak check does not look for them',
    )
    clean: tuple[str, ...] = Field(
        (), description="keywords, or private attributes, of which only technical words stay"
    )
    empty: tuple[str, ...] = Field((), description="keywords of attributes that are emptied")
    remove: tuple[str, ...] = Field((), description="keywords, or private attributes, that are removed")
    faces: Literal["pass", "flag", "withhold", "deface"] | None = Field(
        None,
        description="heads, in scans, photographs and surface scans: pass (ai's own), flag in (0028,0302) (export's own), withhold, or deface: "
        "of whole volumes of CT and MR the face goes for good, all else that may show one is withheld",
    )
    text_in_pixels: Literal["blank", "withhold"] | None = Field(
        None, description="what is done where text is read in pixels; default: deidentification.text_in_pixels"
    )
    look_at_every_image: Looks | None = Field(
        None,
        description="look for written text in images without any flag, too (true, export's own), and read each, slices included, which takes "
        'a second for each ("closely"); ai\'s own: only where a flag, a kind of object or a description speaks of text',
    )
    images_without_pixels: Literal["withhold", "pass"] | None = Field(
        None,
        description="what is done with the header of an image alone; default: deidentification.images_without_pixels",
    )
    withhold_recognizable: bool | None = Field(
        None,
        description="withhold what came with Recognizable Visual Features (0028,0302) YES (export's own); ai's own: it passes",
    )
    on_leak: Literal["withhold", "minimal"] | None = Field(
        None,
        description="where the leak check finds something: withhold (export's own), or of ai alone minimal (its own): an allow-listed copy, checked again",
    )
    highest_age: int | None = Field(
        None,
        ge=0,
        le=129,
        description="years above which an age is written as one more than this (export's own: 89); 0: ages stay (ai's own)",
    )

    @model_validator(mode="after")
    def _rules_are_sound(self) -> Self:
        faults = [*_faults_of_rules(self), *_faults_of_private(self)]
        if self.options is not None and {"retain-full-dates", "retain-modified-dates"} <= set(self.options):
            faults.append("dates are retained full or modified, not both")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _faults_of_private(section: PolicySection) -> Iterator[str]:
    """What is wrong with its rules for private attributes."""
    seen: dict[tuple[str, int, int], str] = {}
    for action in ("keep", "clean", "empty", "remove"):
        for text in getattr(section, action):
            if (private := private_attribute(text)) is None:
                continue
            if action == "empty":
                yield f"empty: no object needs the private {text}: remove it"
            elif private[:3] in seen:
                yield f"{text} stands in {seen[private[:3]]} and in {action}"
            seen.setdefault(private[:3], action)


def _faults_of_rules(section: PolicySection) -> Iterator[str]:
    """What is wrong with a site's rules for attributes."""
    seen: dict[str, str] = {}
    for action in ("keep", "clean", "empty", "remove"):
        for keyword in getattr(section, action):
            tag = tag_for_keyword(keyword)
            if private_attribute(keyword) is not None:
                continue
            if tag is None or not keyword or dictionary_VR(tag) == "NONE":
                yield f"{action}: {keyword or 'an empty text'} is no keyword of an attribute, and no private one with its creator"
            elif keyword in seen:
                yield f"{keyword} stands in {seen[keyword]} and in {action}"
            elif (tag >> 16) < _FIRST_GROUP:
                yield f"{action}: {keyword} is no attribute of an object's Data Set"
            elif action in ("keep", "clean") and (keyword == "PatientID" or dictionary_VR(tag) in ("PN", "UI")):
                yield f"{action}: {keyword} names a person or an object and is always replaced"
            elif action in ("keep", "clean") and dictionary_VR(tag) in ("DA", "DT"):
                yield f"{action}: {keyword} is a date; the options retain-full-dates and retain-modified-dates keep dates"
            elif action in ("empty", "remove") and (keyword in _NEEDED or (tag >> 16) in _OF_PIXELS):
                yield f"{action}: without {keyword} there is no object, or nobody can show it"
            elif keyword in _WRITTEN_ANEW:
                yield f"{action}: {keyword} is always written anew"
            elif action != "remove" and keyword in _LEFT_OUT:
                yield f"{action}: {keyword} is always left out"
            elif action in ("keep", "clean") and (dictionary_VR(tag) in _BULK or keyword in _TABLES):
                yield f"{action}: {keyword} is bulk data; what of it is needed stays without a rule"
            seen.setdefault(keyword, action)


class DeviceRule(Section):
    """What a site knows of the images of a device, and what is done to their pixels; every rule that takes an image counts."""

    name: Name = Field(description="name in messages and in `dicomnode deidentify --explain`")
    policies: Annotated[tuple[Literal["ai", "export"], ...], Field(min_length=1)] = Field(
        ("ai", "export"), description="policies for which it counts"
    )
    where: Annotated[tuple[Condition, ...], Field(min_length=1, max_length=16)] = Field(
        description="conditions on attributes of the object itself, all of which it meets, written as in [[rules]]: "
        '{attribute = "ManufacturerModelName", one_of = ["Rhapsode 7"]}',
    )
    rows: _Size | None = Field(None, description="Rows of the images that it takes; none: any")
    columns: _Size | None = Field(None, description="Columns of the images that it takes; none: any")
    blank: Annotated[tuple[tuple[_Place, _Place, _Place, _Place], ...], Field(max_length=64)] = Field(
        (),
        description="rectangles that are blanked on every frame, each [x0, y0, x1, y1]: first and last column and row, from 0; "
        "they lie within rows and columns, which are then needed",
    )
    blank_fractions: Annotated[tuple[tuple[_Share, _Share, _Share, _Share], ...], Field(max_length=64)] = Field(
        (), description="the same for frames of any size: [x0, y0, x1, y1] from 0 to 1, of their columns and rows"
    )
    rest_is_clean: bool = Field(
        False,
        description="the site vouches that nothing is written outside of these rectangles: without the extra `ocr` such images pass, "
        "too, if a search for letters finds none",
    )
    withhold: bool = Field(False, description="such images are withheld")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if faults := [*_faults_of_conditions(self), *_faults_of_claims(self), *_faults_of_rectangles(self)]:
            raise ValueError("; ".join(faults))
        return self


def _faults_of_conditions(rule: DeviceRule) -> Iterator[str]:
    """What is wrong with conditions that no object can meet: with one of them a rule would be silent for ever."""
    for one in rule.where:
        if (tag_for_keyword(one.attribute) or 0) >> 16 < _FIRST_GROUP:
            yield f"where: {one.attribute} is no attribute of an object's Data Set: ask for another one, such as SOPClassUID"


def _faults_of_claims(rule: DeviceRule) -> Iterator[str]:
    """What is wrong with what a rule says of its images."""
    blanks = bool(rule.blank or rule.blank_fractions)
    if rule.withhold and (blanks or rule.rest_is_clean):
        yield "withhold stands alone: what is withheld is neither blanked nor vouched for"
    if not (blanks or rule.rest_is_clean or rule.withhold):
        yield "it says nothing: set blank, blank_fractions, rest_is_clean or withhold"
    if not rule.rest_is_clean:
        return
    named = {one.attribute for one in rule.where if not one.unless and _is_choosy(one)}
    how = ", with one_of or a pattern that a single character does not meet"
    if not named & _DEVICES:
        yield f"rest_is_clean is said of one device: where needs a condition on {_either(_DEVICES)}{how}"
    if not named & _KINDS:
        yield (
            f"rest_is_clean is said of one kind of image: where needs a condition on {_either(_KINDS)}; "
            f"the same device saves screens and reports{how}"
        )


def _is_choosy(condition: Condition) -> bool:
    """Whether a condition names something: a pattern that anything meets, or nothing at all, does not."""
    return bool(condition.one_of) or not any(found(condition.matches or "", one) for one in _ANYTHING)


def _either(names: frozenset[str]) -> str:
    return " or ".join(sorted(names))


def _faults_of_rectangles(rule: DeviceRule) -> Iterator[str]:
    """What is wrong with the places that a rule blanks: none is cut to the frame, since it was measured on another one."""
    if rule.blank and (rule.rows is None or rule.columns is None):
        yield "blank is measured on frames of one size: set rows and columns, or use blank_fractions"
    for x0, y0, x1, y1 in rule.blank:
        where = f"blank: [{x0}, {y0}, {x1}, {y1}]"
        if x0 > x1 or y0 > y1:
            yield f"{where} is the wrong way round: first column and row, then last column and row"
        elif x1 >= (rule.columns or x1 + 1) or y1 >= (rule.rows or y1 + 1):
            yield f"{where} is not within columns and rows, which count from 0"
    for shares in rule.blank_fractions:
        if shares[0] >= shares[2] or shares[1] >= shares[3]:
            yield f"blank_fractions: {list(shares)} is the wrong way round or empty: left, top, right, bottom"


def _apart(rules: tuple[DeviceRule, ...]) -> tuple[DeviceRule, ...]:
    """Rules that neither have the same name nor say several things of the same images.

    Raises
    ------
    ValueError
        Where they do.
    """
    for number, rule in enumerate(rules):
        for other in rules[:number]:
            if rule.name == other.name:
                raise ValueError(f"two have the name {rule.name}")
            if _takes(rule) == _takes(other) and set(rule.policies) & set(other.policies):
                raise ValueError(f"{other.name} and {rule.name} take the same images: make one of them")
    return rules


def _takes(rule: DeviceRule) -> tuple[frozenset[Condition], int | None, int | None]:
    return frozenset(rule.where), rule.rows, rule.columns


DeviceRules = Annotated[tuple[DeviceRule, ...], Field(max_length=256), AfterValidator(_apart)]
