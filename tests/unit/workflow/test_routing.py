from __future__ import annotations

import warnings
from collections import Counter
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from pydicom import DataElement, Dataset
from pydicom.datadict import tag_for_keyword

from dicomnode import routing_rules
from dicomnode.routing_rules import Condition, RoutingRule
from dicomnode.workflow.routing import (
    Route,
    SeriesFacts,
    Share,
    StudyFacts,
    age_of,
    destinations_of,
    holds,
    in_sample,
    route,
    series_of,
)

MODELS = ("lung", "liver")
SUNDAY_NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.Modality = "CT"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def series(key: str = "a", **more: Any) -> SeriesFacts:
    how = {"calling_ae_title": "CT1", "called_ae_title": "DICOMNODE", "address": "10.1.2.3"}
    return SeriesFacts(series_key=key, **{**how, "header": header(), **more})


def study(*members: SeriesFacts, key: str = "ab" * 16, began_at: datetime = SUNDAY_NOON) -> StudyFacts:
    return StudyFacts(study_key=key, began_at=began_at, series=members or (series(),))


def rule(name: str = "rule", **settings: Any) -> RoutingRule:
    return RoutingRule.model_validate({"name": name, **settings})


def decide(what: StudyFacts, *rules: RoutingRule) -> Route:
    return route(what, rules, MODELS, zone=UTC)


def missed(one: RoutingRule, *members: SeriesFacts, **more: Any) -> str | None:
    return decide(study(*members, **more), one).judgements[0].missed


def test_without_rules_every_model_gets_everything_and_every_destination_its_results() -> None:
    found = decide(study())
    assert found.shares == {"lung": Share(), "liver": Share()}
    assert found.priority is None
    assert [share.facts() for share in found.shares.values()] == [{}, {}]


def test_a_rule_that_asks_for_nothing_takes_all_of_it() -> None:
    found = decide(study(series("a"), series("b")), rule())
    assert found.shares == {model: Share(rules=("rule",)) for model in MODELS}
    assert found.shares["lung"].facts() == {"rules": "rule"}


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"calling_ae_titles": ["CT2", "MR*"]}, "calling_ae_titles"),
        ({"calling_ae_titles": ["ct1"]}, "calling_ae_titles"),
        ({"calling_ae_titles": ["CT[0-9]"]}, "calling_ae_titles"),
        ({"calling_ae_titles": ["CT?"]}, "calling_ae_titles"),
        ({"hours": ["11:00-12:00"]}, "hours"),  # the minute at which it ends is outside
        ({"hours": ["22:00-12:00"]}, "hours"),
        ({"called_ae_titles": ["STAT"]}, "called_ae_titles"),
        ({"addresses": ["10.2.0.0/16"]}, "addresses"),
        ({"modalities": ["MR"]}, "modalities"),
        ({"hours": ["22:00-06:00", "13:00-14:00"]}, "hours"),
        ({"weekdays": ["mon", "sat"]}, "weekdays"),
        ({"where": [{"attribute": "BodyPartExamined", "one_of": ["CHEST"]}]}, "where BodyPartExamined"),
    ],
)
def test_what_is_not_as_a_rule_asks_is_named(settings: dict[str, Any], setting: str) -> None:
    assert missed(rule(**settings)) == setting
    assert not decide(study(), rule(**settings)).shares


@pytest.mark.parametrize(
    "settings",
    [
        {"calling_ae_titles": ["MR1", "CT*"]},
        {"called_ae_titles": ["*NODE"]},
        {"addresses": ["10.9.0.0/16", "10.1.2.3"]},
        {"modalities": ["MR", "CT"]},
        {"modalities": ["CT "]},
        {"hours": ["12:00-12:01"]},
        {"hours": ["22:00-12:30"]},
        {"weekdays": ["sun"]},
        {"where": [{"attribute": "BodyPartExamined", "one_of": ["CHEST"], "unless": True}]},
    ],
)
def test_what_is_as_a_rule_asks_is_taken(settings: dict[str, Any]) -> None:
    assert missed(rule(**settings)) is None


def test_a_question_mark_is_a_legal_character_of_an_ae_title() -> None:
    assert missed(rule(calling_ae_titles=["CT?*"]), series(calling_ae_title="CT?1")) is None
    assert missed(rule(calling_ae_titles=["CT[1]"]), series(calling_ae_title="CT[1]")) is None


def test_times_of_day_are_those_of_the_zone_and_of_the_first_instance() -> None:
    night = rule(hours=["22:00-06:00"], weekdays=["mon"])
    began = datetime(2026, 3, 1, 21, 30, tzinfo=UTC)
    assert missed(night, began_at=began) == "hours"
    east = timezone(timedelta(hours=3))
    assert route(study(began_at=began), [night], MODELS, zone=east).judgements[0].missed is None


def test_an_address_of_ipv6_is_what_it_maps_and_one_that_is_none_is_in_no_network() -> None:
    inside = rule(addresses=["10.1.0.0/16"])
    assert missed(inside, series(address="::ffff:10.1.2.3")) is None
    assert missed(inside, series(address="fe80::1")) == "addresses"
    assert missed(inside, series(address="FOLDER")) == "addresses"


def test_a_model_sees_the_series_that_its_rules_take_and_no_other() -> None:
    thin = series("thin", header=header(SliceThickness=1))
    thick = series("thick", header=header(SliceThickness=5))
    found = decide(
        study(thin, thick),
        rule("thin", where=[{"attribute": "SliceThickness", "at_most": 3}], models=["lung"]),
        rule("any", models=["liver"]),
    )
    assert found.shares["lung"].series == {"thin"}
    assert found.shares["liver"].series is None
    assert series_of(found.shares["lung"].facts()) == {"thin"}
    assert series_of(found.shares["liver"].facts()) is None


def test_every_rule_that_takes_a_study_counts() -> None:
    found = decide(
        study(),
        rule("night", models=["lung"], destinations=["pacs"], priority="routine"),
        rule("trial", models=["lung"], destinations=["trial", "pacs"], priority="stat"),
    )
    assert found.shares == {"lung": Share(rules=("night", "trial"), destinations=("pacs", "trial"))}
    assert found.priority == "stat"
    assert destinations_of(found.shares["lung"].facts()) == {"pacs", "trial"}


def test_one_rule_that_means_all_destinations_means_all_and_none_at_all_is_none() -> None:
    assert decide(study(), rule("a", destinations=["pacs"]), rule("b")).shares["lung"].destinations is None
    sealed = decide(study(), rule("a", destinations=[])).shares["lung"]
    assert sealed.facts()["destinations"] == ""
    assert destinations_of(sealed.facts()) == frozenset()
    assert destinations_of({}) is None


def test_what_a_rule_ignores_no_later_rule_takes() -> None:
    phantom, patient = series("p", header=header(Modality="CT", BodyPartExamined="PHANTOM")), series("q")
    ignoring = rule("qa", action="ignore", where=[{"attribute": "BodyPartExamined", "one_of": ["phantom"]}])
    found = decide(study(phantom, patient), ignoring, rule("rest"))
    assert found.ignored == {"p": "qa"}
    assert found.shares["lung"].series == {"q"}
    assert [(one.rule, one.series_key, one.missed) for one in found.judgements] == [
        ("qa", "p", None),
        ("qa", "q", "where BodyPartExamined"),
        ("rest", "p", "ignored"),
        ("rest", "q", None),
    ]
    assert not decide(study(phantom), ignoring, rule("rest")).shares


def test_a_rule_before_the_one_that_ignores_counts() -> None:
    assert decide(study(), rule("first", models=["lung"]), rule("qa", action="ignore")).shares.keys() == {"lung"}


def test_a_series_that_nobody_can_read_goes_by_its_sender_alone() -> None:
    assert missed(rule(calling_ae_titles=["CT1"]), series(header=None)) is None
    assert missed(rule(modalities=["CT"]), series(header=None)) == "unreadable"


def test_a_sample_is_the_same_studies_always_and_about_as_many_as_it_says() -> None:
    tenth = rule("tenth", sample_percent=10)
    keys = [f"{number:032x}" for number in range(5000)]
    first = [key for key in keys if in_sample(tenth, key)]
    assert first == [key for key in reversed(keys) if in_sample(tenth, key)][::-1]
    assert 400 < len(first) < 600
    other = rule("another-tenth", sample_percent=10)
    both = Counter(in_sample(other, key) for key in first)
    assert 20 < both[True] < 90, "two samples of a tenth have a hundredth in common"
    assert all(in_sample(rule("all"), key) for key in keys)
    out = next(key for key in keys if not in_sample(tenth, key))
    assert missed(tenth, key=out) == "sample_percent"


@pytest.mark.parametrize(
    ("condition", "attributes", "so"),
    [
        ({"attribute": "BodyPartExamined", "one_of": ["lung", "chest"]}, {"BodyPartExamined": "CHEST "}, True),
        ({"attribute": "BodyPartExamined", "one_of": ["CHEST"]}, {"BodyPartExamined": ""}, False),
        ({"attribute": "ReferringPhysicianName", "matches": "smith"}, {"ReferringPhysicianName": "SMITH^JOHN"}, True),
        ({"attribute": "ReferringPhysicianName", "one_of": ["S"]}, {"ReferringPhysicianName": "SMITH^JOHN"}, False),
        ({"attribute": "ImageType", "one_of": ["AXIAL"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"]}, True),
        ({"attribute": "SeriesDescription", "matches": "^thorax"}, {"SeriesDescription": "Thorax 1.0"}, True),
        ({"attribute": "SeriesDescription", "matches": "^thorax"}, {"SeriesDescription": "CT Thorax"}, False),
        ({"attribute": "SliceThickness", "at_least": 1, "at_most": 3}, {"SliceThickness": "3"}, True),
        ({"attribute": "SliceThickness", "at_least": 1}, {"SliceThickness": "0.6"}, False),
        ({"attribute": "SliceThickness", "at_most": 3}, {"SliceThickness": "5"}, False),
        ({"attribute": "PatientAge", "at_least": 18}, {"PatientAge": "018Y"}, True),
        ({"attribute": "PatientAge", "at_least": 18}, {"PatientAge": "200M"}, False),
        ({"attribute": "PatientAge", "at_most": 1}, {"PatientAge": "030D"}, True),
        ({"attribute": "StudyDate", "at_least": 20260101}, {"StudyDate": "20260301"}, True),
        ({"attribute": "StudyDate", "at_least": 20260101}, {"StudyDate": date(2025, 3, 1)}, False),
        ({"attribute": "Rows", "at_least": 512}, {"Rows": 512}, True),
    ],
)
def test_conditions(condition: dict[str, Any], attributes: dict[str, Any], so: bool) -> None:
    assert holds(Condition.model_validate(condition), header(**attributes)) is so


@pytest.mark.parametrize("age", ["old", "Y", "018"])
def test_an_age_that_is_none_is_in_no_range(age: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = header(PatientAge=age)
    assert not holds(Condition.model_validate({"attribute": "PatientAge", "at_least": 0}), odd)


@pytest.mark.parametrize(
    ("vr", "value"), [("US", 7), ("SQ", [Dataset()]), ("OB", b"\x00CT"), ("FL", 1e300), ("LO", "")]
)
@pytest.mark.parametrize("keyword", ["Modality", "BodyPartExamined", "SliceThickness"])
def test_values_of_kinds_that_are_not_theirs_are_taken_by_no_rule(keyword: str, vr: str, value: Any) -> None:
    odd = header()
    odd[keyword] = DataElement(tag_for_keyword(keyword) or 0, vr, value)
    asking = rule(
        modalities=["CT"],
        where=[
            {"attribute": "BodyPartExamined", "matches": "chest"},
            {"attribute": "SliceThickness", "at_least": 1, "at_most": 3},
        ],
    )
    assert missed(asking, series(header=odd)) in ("modalities", "where BodyPartExamined")


def test_rules_that_export_are_named_with_what_they_say_and_need_no_model() -> None:
    rules = (
        rule("all"),
        rule("one", export="trial", models=[]),
        rule("two", export="trial", modalities=["CT"]),
        rule("three", export="registry", models=[]),
        rule("none", export="elsewhere", modalities=["MR"]),
    )
    found = decide(study(), *rules)
    assert found.exports == {"trial": ("one", "two"), "registry": ("three",)}
    assert found.shares["lung"].rules == ("all", "two")
    alone = decide(study(), rule("one", export="trial", models=[]))
    assert (alone.shares, dict(alone.exports)) == ({}, {"trial": ("one",)})


def test_what_a_rule_ignores_is_no_reason_to_export() -> None:
    found = decide(study(), rule("qa", action="ignore"), rule("one", export="trial", models=[]))
    assert found.exports == {}


def test_how_much_a_condition_costs_is_not_the_senders_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(routing_rules, "found", lambda pattern, text: asked.append(text))
    header = Dataset()
    header.ImageType = [f"VALUE{number % 100}" for number in range(10_000)]
    assert not holds(Condition(attribute="ImageType", matches="a.*b"), header)
    assert asked == [f"VALUE{number}" for number in range(16)]


def test_a_series_that_no_model_looks_at_goes_to_exports_and_to_no_model() -> None:
    pet = series("p", header=header(Modality="PT"), is_input=False)
    mine = rule("pet", modalities=["PT"], export="trial", priority="stat")
    found = decide(study(series("a"), pet), mine, rule("ct", modalities=["CT"]))
    assert found.shares == {model: Share(rules=("ct",)) for model in MODELS}, "all that they look at"
    assert (found.exports, found.priority) == ({"trial": ("pet",)}, "stat")
    assert decide(study(series("a"), pet), rule("all")).shares == {model: Share(rules=("all",)) for model in MODELS}


def test_what_is_ordered_of_some_series_is_ordered_by_the_rules_that_take_them() -> None:
    what = study(series("a"), series("p", header=header(Modality="PT"), is_input=False))
    all_, pet = rule("all", export="trial"), rule("pet", modalities=["PT"], export="trial")
    found = decide(what, all_, pet, rule("ct", modalities=["CT"], export="other"))
    assert found.exports_of({"p"}) == {"trial": ("all", "pet")}
    assert found.exports_of({"a"}) == {"trial": ("all",), "other": ("ct",)}
    assert found.exports_of({"gone"}) == {}


def test_results_that_come_back_are_taken_by_no_rule() -> None:
    own = series("s", is_input=False, is_own=True)
    found = decide(study(series("a"), own), rule("all", export="trial"))
    assert {one.series_key: one.missed for one in found.judgements} == {"a": None, "s": "own-output"}
    assert found.exports_of({"s"}) == {}


def test_a_series_that_no_model_looks_at_makes_no_study_young() -> None:
    report = series("s", header=header(StudyDate="20260301"), is_input=False)
    assert age_of(study(series(header=header(StudyDate="20250301")), report), zone=UTC) == 365
