"""Rules for devices in the configuration: what is wrong with one is told with what to do, and `check` says what one costs."""

from __future__ import annotations

from typing import Any

import pytest

from dicomnode.config import ConfigErrors, parse
from dicomnode.service.policies import notes_of_policies, policy_of

MODEL = {"attribute": "ManufacturerModelName", "one_of": ["Rhapsode 7"]}
KIND = {"attribute": "SOPClassUID", "one_of": ["1.2.840.10008.5.1.4.1.1.6.1"]}
SIZE = {"rows": 768, "columns": 1024}
SOUND: dict[str, Any] = {"name": "banner", "where": [MODEL, KIND], **SIZE, "blank": [[0, 0, 1023, 59]]}


def problems(*rules: dict[str, Any]) -> str:
    with pytest.raises(ConfigErrors) as caught:
        parse({"deidentification": {"devices": list(rules)}})
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"where": []}, "devices.0.where: a list of 1 or more"),
        ({"where": [{"attribute": "NoSuchThing", "one_of": ["x"]}]}, "the keyword of a DICOM attribute"),
        ({"where": [{**MODEL, "matches": "("}]}, "this is no regular expression"),
        ({"blank": [[0, 0, 1024, 59]]}, "blank: [0, 0, 1024, 59] is not within columns and rows, which count from 0"),
        ({"blank": [[0, 0, 1023, 768]]}, "is not within columns and rows"),
        ({"blank": [[9, 0, 8, 59]]}, "is the wrong way round"),
        ({"blank": [[0, 60, 1023, 59]]}, "is the wrong way round"),
        ({"blank": [[0, 0, 1023]]}, "devices.0.blank.0.3: is missing"),
        ({"blank": [[0, 0, 1023, 59, 1]]}, "devices.0.blank.0: a list of at most 4"),
        ({"blank": [[-1, 0, 1023, 59]]}, "devices.0.blank.0.0: at least 0"),
        ({"blank": [[0, 0, 0.5, 59]]}, "a whole number"),
        ({"rows": None}, "set rows and columns, or use blank_fractions"),
        ({"columns": None}, "set rows and columns, or use blank_fractions"),
        ({"rows": 0}, "devices.0.rows: at least 1"),
        ({"blank": [], "blank_fractions": [[0, 0, 1.5, 1]]}, "at most 1"),
        ({"blank": [], "blank_fractions": [[0, 0.5, 1, 0.5]]}, "is the wrong way round or empty"),
        ({"blank": [], "blank_fractions": [[1, 0, 1, 1]]}, "is the wrong way round or empty"),
        ({"blank": []}, "it says nothing: set blank, blank_fractions, rest_is_clean or withhold"),
        ({"withhold": True}, "withhold stands alone"),
        ({"blank": [], "withhold": True, "rest_is_clean": True}, "withhold stands alone"),
        ({"rest_is_clean": True, "where": [KIND]}, "DeviceSerialNumber or ManufacturerModelName or StationName"),
        ({"rest_is_clean": True, "where": [KIND, {**MODEL, "unless": True}]}, "said of one device"),
        ({"rest_is_clean": True, "where": [MODEL]}, "ImageType or SOPClassUID; the same device saves screens"),
        *(
            (
                {"rest_is_clean": True, "where": [{"attribute": "StationName", "matches": pattern}, KIND]},
                "is said of one device",
            )
            for pattern in (".", "", "x*", r"\d?", r"\w", "^", "x|ACME 1", "(?i).")
            if pattern
        ),
        (
            {"rest_is_clean": True, "where": [MODEL, {"attribute": "ImageType", "matches": "."}]},
            "is said of one kind of image",
        ),
        (
            {"where": [{**MODEL, "one_of": ["Rhapsode 7", " "]}]},
            "ManufacturerModelName: one_of holds an empty text, which no value is: leave it out",
        ),
        ({"where": [{**MODEL, "one_of": [""], "unless": True}]}, "one_of holds an empty text"),
        *(
            (
                {"where": [{"attribute": keyword, "one_of": ["1.2"]}]},
                f"{keyword} is no attribute of an object's Data Set",
            )
            for keyword in ("TransferSyntaxUID", "MediaStorageSOPClassUID", "AffectedSOPClassUID", "FileSetID")
        ),
        ({"policies": []}, "devices.0.policies: a list of 1 or more"),
        ({"policies": ["research"]}, "'ai' or 'export'"),
        ({"name": "Banner!"}, "devices.0.name"),
        ({"keep": True}, "devices.0.keep: no such setting"),
    ],
)
def test_a_rule_that_makes_no_sense_is_told(changes: dict[str, Any], problem: str) -> None:
    parse({"deidentification": {"devices": [SOUND]}})
    said = problems({**SOUND, **changes})
    assert problem in said
    assert said.startswith("deidentification.devices.0")


@pytest.mark.parametrize("pattern", ["^Rhapsode [78]$", "us-", "ACME .*"])
def test_a_pattern_that_asks_for_something_names_a_device(pattern: str) -> None:
    where = [{"attribute": "StationName", "matches": pattern}, KIND]
    parse({"deidentification": {"devices": [{**SOUND, "rest_is_clean": True, "where": where}]}})


def test_rules_beside_one_another() -> None:
    assert "two have the name banner" in problems(SOUND, {**SOUND, "rows": 900})
    same = {**SOUND, "name": "other", "where": [KIND, MODEL], "blank": [[0, 700, 1023, 767]]}
    assert "banner and other take the same images: make one of them" in problems(SOUND, same)
    for other in ({**same, "rows": 900}, {**same, "policies": ["ai"]}):
        first = {**SOUND, "policies": ["export"]}
        assert len(parse({"deidentification": {"devices": [first, other]}}).deidentification.devices) == 2


def test_a_policy_has_its_own_rules() -> None:
    tree = parse(
        {"deidentification": {"devices": [SOUND, {**SOUND, "name": "ours", "where": [KIND], "policies": ["ai"]}]}}
    )
    assert [one.name for one in policy_of(tree, "ai").devices] == ["banner", "ours"]
    assert [one.name for one in policy_of(tree, "export").devices] == ["banner"]


@pytest.mark.parametrize("reads", [True, False])
def test_what_a_rule_costs_is_told(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.service.policies.installed_reader", lambda: object() if reads else None)
    rules = [
        SOUND,
        {**SOUND, "name": "trusted", "where": [MODEL, KIND, {**KIND, "unless": True}], "rest_is_clean": True},
        {"name": "none", "where": [MODEL], "withhold": True},
        {"name": "none-out", "where": [KIND], "withhold": True, "policies": ["export"]},
    ]
    notes = [note.split(": ")[0] for note in notes_of_policies(parse({"deidentification": {"devices": rules}}))]
    trusted = [] if reads else ["deidentification.devices.trusted.rest_is_clean"]
    assert notes == [*trusted, "deidentification.devices.none.withhold"]
