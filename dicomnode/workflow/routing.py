"""Which models and destinations a study goes to: the rules of the configuration, applied to what its headers say.

Pure: no clock, no disk. A decision names rules, models, destinations and keys; no value of an attribute leaves here.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from typing import Final

from pydicom import Dataset
from pydicom.multival import MultiValue

from dicomnode.errors import Fact
from dicomnode.routing_rules import Condition, Priority, RoutingRule, meets, minutes_of, title_matches
from dicomnode.study import PRIORITIES

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_BUCKETS: Final = 1_000_000
#: What stands in the way of every rule where a dicomnode made a series that is of no kind that models look at.
OWN: Final = "own-output"
#: Facts of a work in which its share of a decision is kept.
RULES, DESTINATIONS, SERIES = "rules", "destinations", "series"
#: SOP Classes with which the input of a work was closed: other models may look at others by the time it runs.
CLASSES = "sop_classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFacts:
    """One series as the rules see it.

    Attributes
    ----------
    calling_ae_title, called_ae_title, address
        How the first of its instances came.
    header
        Of one of its instances, without pixels; None where none can be read.
    is_input
        Whether models look at it; of any other kind it goes to exports alone.
    is_own
        Whether it is of no such kind and a dicomnode made it: results that come back order nothing.
    """

    series_key: str
    calling_ae_title: str = field(repr=False)
    called_ae_title: str
    address: str = field(repr=False)
    header: Dataset | None = field(repr=False)
    is_input: bool = True
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """One study as the rules see it; `began_at` is when its first instance came, aware."""

    study_key: str
    began_at: datetime
    series: tuple[SeriesFacts, ...]

    @property
    def inputs(self) -> frozenset[str]:
        """Series that models look at."""
        return frozenset(one.series_key for one in self.series if one.is_input)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a rule says of a series.

    Attributes
    ----------
    missed
        First condition that the series does not meet, as the rule's setting, with the keyword for `where`; None where
        it is taken.
    """

    rule: str
    series_key: str
    missed: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one model gets, and who gets its results; None: all."""

    rules: tuple[str, ...] = ()
    series: frozenset[str] | None = None
    destinations: tuple[str, ...] | None = None

    def facts(self) -> dict[str, Fact]:
        """What is kept with the work."""
        facts: dict[str, Fact] = {}
        if self.rules:
            facts[RULES] = ",".join(self.rules)
        if self.destinations is not None:
            facts[DESTINATIONS] = ",".join(self.destinations)
        if self.series is not None:
            facts[SERIES] = ",".join(sorted(self.series))
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A decision on a study.

    Attributes
    ----------
    shares
        By model; models that get nothing are not there.
    priority
        None: that of its sender.
    ignored
        Series that a rule keeps from all models, with its name.
    exports
        Exports that the whole study goes to, each with the rules that say so.
    old_days
        Age of a study that is too old to be worked on by itself; None where it is not.
    age_days
        Age of the study; None where nothing says it, or nobody asked.
    """

    shares: Mapping[str, Share]
    priority: Priority | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    exports: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    judgements: tuple[Judgement, ...] = ()
    old_days: int | None = None
    age_days: int | None = None

    def exports_of(self, series: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Exports that are ordered by a rule that takes any of these series, each with the rules that do."""
        takers = {one.rule for one in self.judgements if one.missed is None and one.series_key in series}
        named = {export: tuple(rule for rule in rules if rule in takers) for export, rules in self.exports.items()}
        return {export: rules for export, rules in named.items() if rules}


def age_of(study: StudyFacts, *, zone: tzinfo | None) -> int | None:
    """Days between the newest date of a study's images and the day on which it began to come; None where no image says one.

    Of what models look at alone: a report of today makes no images young.
    """
    keywords = ("StudyDate", "SeriesDate", "AcquisitionDate")
    dates = [
        text[:8]
        for series in study.series
        if series.header is not None and series.is_input
        for keyword in keywords
        for text in _texts(series.header, keyword)
    ]
    known = [found for text in dates if (found := _day_of(text)) is not None]
    return (study.began_at.astimezone(zone).date() - max(known)).days if known else None


def _day_of(text: str) -> date | None:
    try:
        return datetime.strptime(text, "%Y%m%d").date()  # noqa: DTZ007 (a day has no zone)
    except ValueError:
        return None


def destinations_of(facts: Mapping[str, Fact]) -> frozenset[str] | None:
    """Destinations of a work's results; None: all that are configured."""
    return _names(facts, DESTINATIONS)


def series_of(facts: Mapping[str, Fact]) -> frozenset[str] | None:
    """Series that a work may look at; None: all of its study."""
    return _names(facts, SERIES)


def classes_of(facts: Mapping[str, Fact], now: Collection[str]) -> Collection[str]:
    """SOP Classes with which a work's input was closed; those of `now` where nothing was noted."""
    return _names(facts, CLASSES) or now


def _names(facts: Mapping[str, Fact], name: str) -> frozenset[str] | None:
    kept = facts.get(name)
    return None if kept is None else frozenset(one for one in str(kept).split(",") if one)


def every(models: Sequence[str]) -> Route:
    """To every model, and its results to every destination."""
    return Route(shares={model: Share() for model in models})


def route(study: StudyFacts, rules: Sequence[RoutingRule], models: Sequence[str], *, zone: tzinfo | None) -> Route:
    """Where a study goes. Without rules: to every model, and its results to every destination.

    Parameters
    ----------
    models
        Enabled models.
    zone
        In which times of day are meant; None: this machine's.
    """
    if not rules:
        return every(models)
    judgements: list[Judgement] = []
    ignored: dict[str, str] = {}
    taken: list[tuple[RoutingRule, frozenset[str]]] = []
    for rule in rules:
        here = [judge(rule, study, series, ignored, zone=zone) for series in study.series]
        judgements += here
        keys = frozenset(one.series_key for one in here if one.missed is None)
        if rule.action == "ignore":
            ignored |= dict.fromkeys(sorted(keys), rule.name)
        elif keys:
            taken.append((rule, keys))
    exports: dict[str, tuple[str, ...]] = {}
    for rule, _ in taken:
        if rule.export is not None:
            exports[rule.export] = (*exports.get(rule.export, ()), rule.name)
    priorities = [rule.priority for rule, _ in taken if rule.priority is not None]
    return Route(
        shares={model: share for model in models if (share := _share(model, taken, study)) is not None},
        priority=min(priorities, key=PRIORITIES.index, default=None),
        ignored=ignored,
        exports=exports,
        judgements=tuple(judgements),
    )


def _share(model: str, taken: Sequence[tuple[RoutingRule, frozenset[str]]], study: StudyFacts) -> Share | None:
    inputs = study.inputs
    mine = [(rule, keys & inputs) for rule, keys in taken if rule.models is None or model in rule.models]
    mine = [(rule, keys) for rule, keys in mine if keys]
    if not mine:
        return None
    series = frozenset[str]().union(*(keys for _, keys in mine))
    named = [rule.destinations for rule, _ in mine]
    everywhere = any(one is None for one in named)
    return Share(
        rules=tuple(rule.name for rule, _ in mine),
        series=None if series == inputs else series,
        destinations=None if everywhere else tuple(dict.fromkeys(name for one in named for name in one or ())),
    )


def judge(
    rule: RoutingRule, study: StudyFacts, series: SeriesFacts, ignored: Mapping[str, str], *, zone: tzinfo | None
) -> Judgement:
    """Whether a rule takes a series, and what stands in its way; a series that an earlier rule ignores no rule takes."""
    if series.is_own:
        missed: str | None = OWN
    elif series.series_key in ignored:
        missed = "ignored"
    else:
        missed = _missed(rule, study, series, study.began_at.astimezone(zone))
    return Judgement(rule=rule.name, series_key=series.series_key, missed=missed)


def _missed(rule: RoutingRule, study: StudyFacts, series: SeriesFacts, began_at: datetime) -> str | None:
    """First thing that stands in the way."""
    plain = (
        ("calling_ae_titles", _any_title(rule.calling_ae_titles, series.calling_ae_title)),
        ("called_ae_titles", _any_title(rule.called_ae_titles, series.called_ae_title)),
        ("addresses", _any_network(rule.addresses, series.address)),
        ("hours", not rule.hours or any(_within(hours, began_at) for hours in rule.hours)),
        ("weekdays", not rule.weekdays or _day(began_at) in rule.weekdays),
        ("sample_percent", in_sample(rule, study.study_key)),
    )
    for setting, met in plain:
        if not met:
            return setting
    if series.header is None:
        return "unreadable" if rule.modalities or rule.where else None
    if rule.modalities and not set(rule.modalities) & set(_texts(series.header, "Modality")):
        return "modalities"
    header = series.header
    return next((f"where {one.attribute}" for one in rule.where if holds(one, header) is one.unless), None)


def in_sample(rule: RoutingRule, study_key: str) -> bool:
    """Whether a study is among those that a rule takes: the same answer on every day.

    Of this node alone: a study's key is blinded by the node's own secret, so another node, or this one with new keys, takes
    others.
    """
    digest = hashlib.sha256(f"{rule.name}:{study_key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % _BUCKETS < rule.sample_percent / 100 * _BUCKETS


def holds(condition: Condition, header: Dataset) -> bool:
    """Whether any value of an attribute is as a condition says, `unless` aside; an absent one is not."""
    return meets(condition, _texts(header, condition.attribute))


def _texts(header: Dataset, keyword: str) -> list[str]:
    """Values of an attribute as texts, without spaces at their ends; none where it is absent or empty."""
    value = header.get(keyword)
    if value is None:
        return []
    values = list(value) if isinstance(value, MultiValue) else [value]  # a name can be iterated over, too: by letters
    texts = [one.strftime("%Y%m%d") if isinstance(one, date) else str(one).strip() for one in values]
    return [text for text in texts if text]


def _any_title(patterns: Sequence[str], title: str) -> bool:
    return not patterns or any(title_matches(one, title) for one in patterns)


def _any_network(networks: Sequence[str], address: str) -> bool:
    if not networks:
        return True
    try:
        here = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(here, "ipv4_mapped", None)
    return any((mapped or here) in ipaddress.ip_network(one) for one in networks)


def _within(hours: str, moment: datetime) -> bool:
    begin, end = minutes_of(hours)
    minute = moment.hour * 60 + moment.minute
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _day(moment: datetime) -> str:
    return _DAYS[moment.weekday()]
