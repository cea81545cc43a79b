"""What a site may change of a policy of de-identification: a section of the configuration, and what is wrong with one.

Floor 1, below `config`. What a rule does to an attribute stands in `deidentification`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, model_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

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
_BULK = frozenset({"OB", "OW", "OB or OW", "NONE"})
OptionName = Literal[
    "retain-safe-private", "retain-uids", "retain-device-identity", "retain-institution-identity",
    "retain-patient-characteristics", "retain-full-dates", "retain-modified-dates", "clean-descriptors",
    "clean-structured-content", "clean-graphics",
]  # fmt: skip


class PolicySection(Section):
    """How a site changes one policy of de-identification."""

    options: tuple[OptionName, ...] | None = Field(
        None, description="options of PS3.15 E.3 that apply, in place of the policy's own"
    )
    keep: tuple[str, ...] = Field(
        (),
        description="keywords of attributes that stay as they came, identifiers too: the leak check does not look for them",
    )
    clean: tuple[str, ...] = Field((), description="keywords of attributes of which only technical words stay")
    empty: tuple[str, ...] = Field((), description="keywords of attributes that are emptied")
    remove: tuple[str, ...] = Field((), description="keywords of attributes that are removed")
    faces: Literal["pass", "flag", "withhold", "deface"] | None = Field(
        None,
        description="heads, in scans, photographs and surface scans: pass (ai's own), flag in (0028,0302) (export's own), withhold, or deface: "
        "of whole volumes of CT and MR the face goes for good, all else that may show one is withheld",
    )

    @model_validator(mode="after")
    def _rules_are_sound(self) -> Self:
        faults = [*_faults_of_rules(self)]
        if self.options is not None and {"retain-full-dates", "retain-modified-dates"} <= set(self.options):
            faults.append("dates are retained full or modified, not both")
        if faults:
            raise ValueError("; ".join(faults))
        return self


def _faults_of_rules(section: PolicySection) -> Iterator[str]:
    """What is wrong with a site's rules for attributes."""
    seen: dict[str, str] = {}
    for action in ("keep", "clean", "empty", "remove"):
        for keyword in getattr(section, action):
            tag = tag_for_keyword(keyword)
            if tag is None:
                yield f"{action}: {keyword} is no keyword of an attribute"
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
            elif action in ("keep", "clean") and dictionary_VR(tag) in _BULK:
                yield f"{action}: {keyword} is bulk data; what of it is needed stays without a rule"
            seen.setdefault(keyword, action)
