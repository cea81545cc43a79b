"""Policies: which options of PS3.15 Annex E apply, what is done beyond them, and what happens to a hit of the leak check.

Pure data; no rule of an attribute stands here (they are in the tables), but a site's own rules are handed in here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from dicomnode.coding import CodedConcept, dcm
from dicomnode.site_rules import DeviceRule


class Option(StrEnum):
    """Options of PS3.15 E.3; the value is the letter in our tables."""

    SAFE_PRIVATE = "p"
    UIDS = "u"
    DEVICE = "d"
    INSTITUTION = "i"
    PATIENT_CHARACTERISTICS = "c"
    FULL_DATES = "f"
    MODIFIED_DATES = "m"
    CLEAN_DESCRIPTORS = "e"
    CLEAN_STRUCTURED_CONTENT = "s"
    CLEAN_GRAPHICS = "g"


#: Options by the names that a configuration has for them.
OPTION_NAMES: Final = MappingProxyType(
    {
        "retain-safe-private": Option.SAFE_PRIVATE,
        "retain-uids": Option.UIDS,
        "retain-device-identity": Option.DEVICE,
        "retain-institution-identity": Option.INSTITUTION,
        "retain-patient-characteristics": Option.PATIENT_CHARACTERISTICS,
        "retain-full-dates": Option.FULL_DATES,
        "retain-modified-dates": Option.MODIFIED_DATES,
        "clean-descriptors": Option.CLEAN_DESCRIPTORS,
        "clean-structured-content": Option.CLEAN_STRUCTURED_CONTENT,
        "clean-graphics": Option.CLEAN_GRAPHICS,
    }
)


class OnLeak(StrEnum):
    """What follows when the leak check finds something."""

    WITHHOLD = "withhold"
    MINIMAL = "minimal"


class Faces(StrEnum):
    """What is done with heads in CT, MR, PET and cone beam, with captures, photographs and scans of surfaces of them."""

    PASS = "pass"  # noqa: S105
    FLAG = "flag"
    WITHHOLD = "withhold"
    DEFACE = "deface"

    @property
    def lets_no_face_out(self) -> bool:
        """Whether a series has to be known as a whole before one of its images may leave."""
        return self in (Faces.WITHHOLD, Faces.DEFACE)


class SiteAction(StrEnum):
    """What a site's own rule may ask for an attribute."""

    KEEP = "keep"
    CLEAN = "clean"
    REMOVE = "remove"
    EMPTY = "empty"


BASIC_PROFILE: Final = dcm("113100", "Basic Application Confidentiality Profile")
#: CID 7050, the options.
OPTION_CONCEPTS: Final = MappingProxyType(
    {
        Option.CLEAN_GRAPHICS: dcm("113103", "Clean Graphics Option"),
        Option.CLEAN_STRUCTURED_CONTENT: dcm("113104", "Clean Structured Content Option"),
        Option.CLEAN_DESCRIPTORS: dcm("113105", "Clean Descriptors Option"),
        Option.FULL_DATES: dcm("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
        Option.MODIFIED_DATES: dcm("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
        Option.PATIENT_CHARACTERISTICS: dcm("113108", "Retain Patient Characteristics Option"),
        Option.DEVICE: dcm("113109", "Retain Device Identity Option"),
        Option.UIDS: dcm("113110", "Retain UIDs Option"),
        Option.SAFE_PRIVATE: dcm("113111", "Retain Safe Private Option"),
        Option.INSTITUTION: dcm("113112", "Retain Institution Identity Option"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy.

    Attributes
    ----------
    name
        In (0012,0063) and in messages.
    options
        Options of PS3.15 E.3 that apply.
    on_leak
        What a hit of the leak check leads to.
    highest_age
        Years above which Patient's Age is written as one more than this (None: ages stay).
    withhold_recognizable
        Whether objects flagged with Recognizable Visual Features (0028,0302) stay in the house.
    site
        The site's own rules: keyword, or private attribute as (0019,"ACME 1.0",10) → action; they go before the tables, never before the leak check.
    words
        Casefolded words of makers that the site knows besides ours.
    look_at_every_image
        Whether images without any flag are searched for written text too.
    closely
        Whether each of them is read then, slices as scanners make them included.
    blank_text
        Whether text in pixels is blanked where it can be read; else such an object is withheld.
    headers_alone
        Whether a file of an image that has no pixels may pass: it may have been cut before them.
    faces
        What is done with heads: nothing, Recognizable Visual Features (0028,0302), withheld, or without their faces.
    devices
        What the site knows of devices that write into images.

    Raises
    ------
    ValueError
        If dates would be retained both full and modified.
    """

    name: str
    options: frozenset[Option]
    on_leak: OnLeak = OnLeak.WITHHOLD
    highest_age: int | None = None
    withhold_recognizable: bool = False
    site: Mapping[str, SiteAction] = field(default_factory=dict)
    words: frozenset[str] = frozenset()
    look_at_every_image: bool = False
    closely: bool = False
    blank_text: bool = True
    headers_alone: bool = False
    faces: Faces = Faces.PASS
    devices: tuple[DeviceRule, ...] = ()

    def __post_init__(self) -> None:
        if {Option.FULL_DATES, Option.MODIFIED_DATES} <= self.options:
            raise ValueError("dates are retained full or modified, not both")

    @property
    def concepts(self) -> tuple[CodedConcept, ...]:
        """Items of De-identification Method Code Sequence (0012,0064), CID 7050."""
        return BASIC_PROFILE, *(concept for option, concept in OPTION_CONCEPTS.items() if option in self.options)

    @property
    def temporal_information(self) -> str:
        """Longitudinal Temporal Information Modified (0028,0303)."""
        if Option.FULL_DATES in self.options:
            return "UNMODIFIED"
        return "MODIFIED" if Option.MODIFIED_DATES in self.options else "REMOVED"

    def changes(self, *, reads: bool) -> dict[str, Any]:
        """What of it is not as in the policy `ai` by itself, and decides what networks see: for digests of results.

        How a site writes it down does not count: names and the order of rules, defaults, rules for other policies.

        Parameters
        ----------
        reads
            Whether text in pixels is read: text that it finds is blanked where the site vouches that there is none.
        """
        own = AI.settings
        seen: dict[str, Any] = {name: value for name, value in self.settings.items() if value != own[name]}
        seen.pop("images_without_pixels", None)  # no network sees a header alone
        if self.site:
            seen["site"] = dict(self.site)
        if self.devices:
            seen["devices"] = sorted(map(_taken_and_done, self.devices))
        if any(rule.rest_is_clean for rule in self.devices):
            seen["reads"] = reads
        return seen

    @property
    def settings(self) -> dict[str, str | bool | int | list[str]]:
        """What decides besides the tables and a site's own rules, by the names that a configuration has for it."""
        return {
            "options": [name for name, option in OPTION_NAMES.items() if option in self.options],
            "faces": self.faces.value,
            "text_in_pixels": "blank" if self.blank_text else "withhold",
            "look_at_every_image": "closely" if self.closely else self.look_at_every_image,
            "images_without_pixels": "pass" if self.headers_alone else "withhold",
            "withhold_recognizable": self.withhold_recognizable,
            "on_leak": self.on_leak.value,
            "highest_age": self.highest_age or 0,
        }


def _taken_and_done(rule: DeviceRule) -> str:
    """What a rule takes and does, whatever it is called; neither conditions nor rectangles have an order."""
    said = rule.model_dump(mode="json", exclude_defaults=True, exclude={"name", "policies"})
    ordered = {key: sorted(one, key=json.dumps) if isinstance(one, list) else one for key, one in said.items()}
    return json.dumps(ordered, sort_keys=True)


_CLEAN: Final = frozenset(
    {
        Option.CLEAN_DESCRIPTORS,
        Option.CLEAN_STRUCTURED_CONTENT,
        Option.CLEAN_GRAPHICS,
        Option.MODIFIED_DATES,
        Option.PATIENT_CHARACTERISTICS,
        Option.SAFE_PRIVATE,
    }
)
#: What the network sees: nobody is identified, the device is.
AI: Final = Policy(name="ai", options=_CLEAN | {Option.DEVICE}, on_leak=OnLeak.MINIMAL)
#: What may leave the house: no device identity (maker, model and technique stay), ages above 89 in one class.
EXPORT: Final = Policy(
    name="export",
    options=_CLEAN,
    on_leak=OnLeak.WITHHOLD,
    highest_age=89,
    withhold_recognizable=True,
    look_at_every_image=True,
    faces=Faces.FLAG,
)
POLICIES: Final = MappingProxyType({"ai": AI, "export": EXPORT})
