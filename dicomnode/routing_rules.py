"""Rules of routing: the sections of the configuration that say which studies go to which models and destinations.

Floor 1, below `config`. What a rule makes of a study stands in `workflow.routing`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydicom.datadict import dictionary_VR, tag_for_keyword

from dicomnode.bounds import AETitle, Name, Network, Seconds
from dicomnode.patterns import bounded_pattern, found
from dicomnode.sections import Section

#: Value representations that a condition may ask for (PS3.5 6.2): texts, and those that are numbers, too.
_TEXTS: Final = frozenset({"CS", "LO", "SH", "ST", "LT", "UC", "UT", "UI", "AE", "DT", "TM", "PN"})
_NUMBERS: Final = frozenset({"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AS", "DA"})
_YEARS: Final = MappingProxyType({"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25})
#: Different values of an attribute that a condition looks at: more than any attribute has that says what an image is.
_MOST_VALUES: Final = 16
_SPECIAL: Final = re.compile(r"[\[?]")
Pattern = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(bounded_pattern)]
#: A Code String (PS3.5 6.2): spaces at its ends are none of it.
Modality = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^[A-Z0-9_ ]{1,16}$")]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Priority = Literal["stat", "routine", "research"]


def _keyword(value: str) -> str:
    tag = tag_for_keyword(value)
    if tag is None or dictionary_VR(tag) not in _TEXTS | _NUMBERS:
        raise ValueError("the keyword of a DICOM attribute that is a text or a number, such as BodyPartExamined")
    return value


def _hours(value: str) -> str:
    minutes_of(value)
    return value


def title_matches(pattern: str, title: str) -> bool:
    """Whether an AE title is as a pattern says: `*` is any characters, every other character itself (`?` is a legal one)."""
    return fnmatchcase(title.strip(), _SPECIAL.sub(r"[\g<0>]", pattern))


def minutes_of(hours: str) -> tuple[int, int]:
    """Minutes of the day at which a time window begins and ends; one that ends before it begins goes over midnight.

    Raises
    ------
    ValueError
        If it is not written as 22:00-06:00.
    """
    said = 'a time of day as in "22:00-06:00"'
    ends = []
    for part in hours.split("-"):
        hour, colon, minute = part.strip().partition(":")
        if not (colon and hour.isdecimal() and minute.isdecimal() and len(hour) <= 2 and len(minute) == 2):
            raise ValueError(said)
        if not (int(hour) <= 24 and int(minute) < 60 and int(hour) * 60 + int(minute) <= 24 * 60):
            raise ValueError(said)
        ends.append(int(hour) * 60 + int(minute))
    if len(ends) != 2 or ends[0] in (ends[1], 24 * 60):
        raise ValueError(said)
    return ends[0], ends[1]


class Condition(Section):
    """What an attribute of a series must be, for a rule to take the series."""

    attribute: Annotated[str, AfterValidator(_keyword)] = Field(description="keyword of the attribute")
    one_of: tuple[str, ...] = Field((), description="values, upper and lower case being the same")
    matches: Pattern | None = Field(
        None, description="regular expression that occurs in the value, upper and lower case being the same"
    )
    at_least: float | None = Field(None, allow_inf_nan=False, description="least number; an age in years")
    at_most: float | None = Field(None, allow_inf_nan=False, description="greatest number; an age in years")
    unless: bool = Field(False, description="turn it round: the series is taken unless the attribute is so")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        numeric = self.at_least is not None or self.at_most is not None
        if not all(map(str.strip, self.one_of)):
            raise ValueError(f"{self.attribute}: one_of holds an empty text, which no value is: leave it out")
        if not (self.one_of or self.matches or numeric):
            raise ValueError("a condition has one_of, matches, at_least or at_most")
        if numeric and dictionary_VR(self.attribute) not in _NUMBERS:
            raise ValueError(f"{self.attribute} is a text: ask for one_of or matches")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is more than at_most")
        return self


def meets(condition: Condition, values: Iterable[str]) -> bool:
    """Whether any of an attribute's values, without spaces at their ends, is as a condition says, `unless` aside; none is not."""
    wanted = {_folded(one.strip()) for one in condition.one_of}
    vr = dictionary_VR(condition.attribute)
    texts = list(dict.fromkeys(values))[:_MOST_VALUES]  # how many there are is the sender's choice
    return any(_is_so(condition, text, wanted, vr) for text in texts)


def _folded(text: str) -> str:
    """A text without case; letters with marks are the same in one sign or in several (NFC)."""
    return unicodedata.normalize("NFC", text).casefold()


def _is_so(condition: Condition, text: str, wanted: set[str], vr: str) -> bool:
    if wanted and _folded(text) not in wanted:
        return False
    if condition.matches is not None and not found(condition.matches, text):
        return False
    if condition.at_least is None and condition.at_most is None:
        return True
    number = _number(text, vr)
    if number is None:
        return False
    least, most = condition.at_least, condition.at_most
    return (least is None or number >= least) and (most is None or number <= most)


def _number(text: str, vr: str) -> float | None:
    """Number of a value; an age in years (AS of PS3.5 6.2), a date as 20260301."""
    try:
        if vr == "AS":
            return float(text[:-1]) * _YEARS[text[-1:].upper()]
        return float(text)
    except (ValueError, KeyError):
        return None


class RoutingRule(Section):
    """Which studies go to which models and destinations; every rule that takes a study counts."""

    name: Name = Field(description="name in logs, in the ledger and in `dicomnode explain`")
    calling_ae_titles: tuple[AETitle, ...] = Field((), description="AE titles of senders, * for any part; empty: any")
    called_ae_titles: tuple[AETitle, ...] = Field((), description="AE titles that they called us; empty: any")
    addresses: tuple[Network, ...] = Field((), description="addresses and networks of senders; empty: any")
    modalities: tuple[Modality, ...] = Field((), description="modalities of the series, such as CT; empty: any")
    where: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        (),
        description="conditions on attributes, all of which a series meets: "
        '{attribute = "BodyPartExamined", one_of = ["CHEST"]}, {attribute = "SeriesDescription", matches = "thorax"}, '
        '{attribute = "SliceThickness", at_most = 3}, each with unless = true for the contrary',
    )
    hours: tuple[Annotated[str, AfterValidator(_hours)], ...] = Field(
        (), description="times of day, of this machine's clock, at which the study began to come; empty: any"
    )
    weekdays: tuple[Weekday, ...] = Field((), description="days on which it began to come: mon to sun; empty: any")
    sample_percent: float = Field(
        100, gt=0, le=100, allow_inf_nan=False, description="share of the studies that is taken: always the same ones"
    )
    action: Literal["process", "ignore"] = Field(
        "process", description="ignore: what it takes is stored and goes to no model, whatever later rules say"
    )
    models: tuple[str, ...] | None = Field(None, description="models that get the series; default: all enabled ones")
    destinations: tuple[Name, ...] | None = Field(
        None, description="destinations of their results; default: all; empty: results stay sealed"
    )
    export: Name | None = Field(
        None,
        description="export of `[[exports]]` to which whole studies go of which a series is taken, once nothing more comes; "
        "with models = [] to no model. Every series is judged, whether a model looks at its kind or not",
    )
    priority: Priority | None = Field(
        None, description="stat goes before all else, research after it; default: that of the sender in [[peers]]"
    )

    @model_validator(mode="after")
    def _ignores_or_processes(self) -> Self:
        if self.models == () and self.export is None:
            raise ValueError('models is empty: name some, an export, or set action = "ignore"')
        given = [name for name in ("models", "destinations", "export", "priority") if getattr(self, name) is not None]
        if self.action == "ignore" and given:
            raise ValueError(f"a rule that ignores studies has no {given[0]}")
        return self


class LoopGuardSection(Section):
    """What is never worked on, whatever rules say: results of this node, and of other AI."""

    ai_output: Literal["refuse", "take"] = Field(
        "refuse", description="images that another AI made, by what they say of their derivation and equipment"
    )
    ai_equipment: Annotated[tuple[Pattern, ...], Field(max_length=64)] = Field(
        (), description="regular expressions for manufacturers, models, software and stations that are AI"
    )
    maximum_hops: int = Field(
        8,
        ge=1,
        le=64,
        description="times that an image may have been processed (Contributing Equipment) before it came",
    )


class FloodGuardSection(Section):
    """Studies that are kept and not worked on unless somebody orders it: prefetched priors, migrations of an archive."""

    maximum_age_days: float = Field(
        0,
        ge=0,
        le=36_500,
        allow_inf_nan=False,
        description="days since the newest date of a study (study, series, acquisition) after which it is kept and held, "
        "until `dicomnode release`; 0: any age is worked on",
    )
    burst_studies: int = Field(
        20,
        ge=0,
        le=1_000_000,
        description="old studies within burst_seconds that are worked on; more are a flood, and kept and held until "
        "`dicomnode release`; 0: any number is worked on",
    )
    burst_age_days: float = Field(
        30,
        ge=1,
        le=36_500,
        allow_inf_nan=False,
        description="days since its newest date after which a study counts as old",
    )
    burst_seconds: Seconds = Field(3600, description="time in which old studies are counted")


def faults_of_rules(
    rules: Sequence[RoutingRule],
    destinations: Sequence[str],
    models: Sequence[str] = (),
    exports: Sequence[str] = (),
) -> Iterator[str]:
    """What is wrong with rules beside what else is configured.

    Parameters
    ----------
    models
        Enabled models; empty: not known yet.
    exports
        Names of exports.
    """
    known: Mapping[str, Sequence[str]] = MappingProxyType({"destinations": destinations, "models": models})
    for rule in rules:
        for setting, names in known.items():
            for name in getattr(rule, setting) or ():
                if name not in names and (setting == "destinations" or names):
                    said = ", ".join(names) or "none"
                    yield f"rules.{rule.name}.{setting}: there is no {name} (there is: {said})"
        if rule.export is not None and rule.export not in exports:
            yield f"rules.{rule.name}.export: there is no {rule.export} (there is: {', '.join(exports) or 'none'})"
