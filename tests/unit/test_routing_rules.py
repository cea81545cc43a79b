from __future__ import annotations

from typing import Any

import pytest

from dicomnode.config import Config, ConfigErrors, parse
from dicomnode.routing_rules import faults_of_rules, minutes_of

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def tree(*rules: dict[str, Any], **more: Any) -> Config:
    return parse({"rules": list(rules), "destinations": [PACS], **more})


def problems(*rules: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ConfigErrors) as caught:
        tree(*rules, **more)
    return "\n".join(caught.value.problems)


def test_a_rule_needs_nothing_but_a_name_and_then_takes_everything_everywhere() -> None:
    (rule,) = tree({"name": "all"}).rules
    assert rule.models is None
    assert rule.destinations is None
    assert rule.priority is None
    assert (rule.sample_percent, rule.action) == (100, "process")


def test_an_address_of_ipv4_that_is_written_as_ipv6_is_that_address() -> None:
    (rule,) = tree({"name": "all", "addresses": ["::ffff:10.1.0.0/112", "::ffff:10.1.2.3", "2001:db8::/32"]}).rules
    assert rule.addresses == ("10.1.0.0/16", "10.1.2.3/32", "2001:db8::/32")


def test_without_rules_there_are_none() -> None:
    assert Config().rules == ()


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"where": [{"attribute": "BodyPart", "one_of": ["CHEST"]}]}, "keyword of a DICOM attribute"),
        ({"where": [{"attribute": "PixelData", "one_of": ["CHEST"]}]}, "keyword of a DICOM attribute"),
        ({"where": [{"attribute": "ContributingEquipmentSequence", "one_of": ["x"]}]}, "keyword of a DICOM attribute"),
        ({"where": [{"attribute": "BodyPartExamined", "one_of": ["CHEST", " "]}]}, "one_of holds an empty text"),
        ({"modalities": [" "]}, "modalities.0"),
        ({"where": [{"attribute": "BodyPartExamined"}]}, "one_of, matches, at_least or at_most"),
        ({"where": [{"attribute": "BodyPartExamined", "at_most": 3}]}, "is a text"),
        ({"where": [{"attribute": "SliceThickness", "at_most": 3, "at_least": 4}]}, "at_least is more than at_most"),
        ({"where": [{"attribute": "SeriesDescription", "matches": "(a+)+$"}]}, "could take too long"),
        ({"where": [{"attribute": "SeriesDescription", "matches": "("}]}, "no regular expression"),
        ({"where": [{"attribute": "SliceThickness", "at_most": float("nan")}]}, "not infinite"),
        ({"hours": ["22:00"]}, "time of day"),
        ({"hours": ["22:00-25:00"]}, "time of day"),
        ({"hours": ["22:00-24:01"]}, "time of day"),
        ({"hours": ["22-06"]}, "time of day"),
        ({"hours": ["24:00-00:00"]}, "time of day"),
        ({"hours": ["24:00-06:00"]}, "time of day"),
        ({"hours": ["7:00-7:00"]}, "time of day"),
        ({"hours": ["07:00-08:00-09:00"]}, "time of day"),
        ({"weekdays": ["monday"]}, "'mon'"),
        ({"addresses": ["10.1.0.1/16"]}, "an address or a network"),
        ({"modalities": ["ct"]}, "modalities.0"),
        ({"sample_percent": 0}, "more than 0"),
        ({"sample_percent": 101}, "at most 100"),
        ({"models": []}, "models is empty"),
        ({"action": "ignore", "priority": "stat"}, "ignores studies has no priority"),
        ({"priority": "urgent"}, "'stat'"),
        ({"action": "ignore", "export": "trial"}, "has no export"),
        ({"colour": "red"}, "no such setting"),
        ({"name": "A B"}, "lower-case letters"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said_where_it_stands(rule: dict[str, Any], said: str) -> None:
    found = problems({"name": "odd", **rule})
    assert said in found
    assert "rules.0" in found


def test_destinations_and_models_that_are_not_there_are_named_with_those_that_are() -> None:
    assert "rules.a.destinations: there is no archive (there is: pacs)" in problems(
        {"name": "a", "destinations": ["archive"]}
    )
    found = problems({"name": "a", "models": ["brain"]}, models={"enabled": ["ct-lung"]})
    assert "rules.a.models: there is no brain (there is: ct-lung)" in found
    assert "rules.a.export: there is no trial (there is: none)" in problems({"name": "a", "export": "trial"})
    rules = tree({"name": "a", "models": ["brain"]}).rules  # which are installed is not known yet
    assert list(faults_of_rules(rules, ["pacs"], ["ct-lung"])) == [
        "rules.a.models: there is no brain (there is: ct-lung)"
    ]


def test_two_rules_of_one_name_are_told_beside_other_errors() -> None:
    assert "rules: two have the same name" in problems({"name": "a"}, {"name": "a", "hours": ["x"]})
    assert "two rules have the same name" in problems({"name": "a"}, {"name": "a"})


def test_minutes_of_the_day() -> None:
    assert minutes_of("22:00-06:30") == (1320, 390)
    assert minutes_of("0:00 - 24:00") == (0, 1440)
