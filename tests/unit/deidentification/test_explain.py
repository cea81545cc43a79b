"""Explaining names who decided for every attribute, at every depth, and tells no value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement

from dicomnode.config import ConfigErrors, parse
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.explain import explain
from dicomnode.deidentification.policy import AI, EXPORT, OPTION_NAMES, POLICIES, Faces, SiteAction
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.rules import Rules, Treatment
from dicomnode.encoded import Limits, read_part10
from dicomnode.service.policies import notes_of_policies, policy_of
from dicomnode.site_rules import PolicySection
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import mr, report

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
#: What always goes: that a site asks for it changes nothing.
LEFT_OUT = frozenset(
    {
        "IconImageSequence", "EncryptedAttributesSequence", "OriginalAttributesSequence", "ContextGroupLocalVersion",
        "DataSetTrailingPadding", "EncapsulatedDocument", "CodingSchemeIdentificationSequence",
    }
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [mr, report])
def test_every_attribute_is_explained_and_no_value_told(make: object) -> None:
    one = make()  # type: ignore[operator]
    one.dataset[0x00091001] = DataElement(0x00091001, "LO", "x")
    source = read_part10(planted.encoded(one.dataset), Limits())
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset
    lines = list(explain(source, output, EXPORT, str(source.SOPClassUID)))
    text = "\n".join(str(line) for line in lines).casefold()
    assert not [where for where, plant in one.plants.items() if plant.casefold() in text]
    by_place = {line.where: line for line in lines}
    assert by_place["(0010,0020)"].outcome == "changed"
    assert by_place["(0010,1040)"].outcome == "removed"
    assert by_place["(0020,000D)"].decided == "table: U (uids)"
    assert by_place["(0009,1001)"].decided == "private: not safe"
    assert by_place["(0012,0062)"].outcome == "added"
    assert by_place["(0010,0040)"].outcome == "kept"
    if make is report:
        assert by_place["(0040,A730)[9](0040,A300)[1](0040,A30A)"].outcome == "kept"
    else:
        assert by_place["(0019,100C)"].decided == "private: Table E.3.10-1"
        assert by_place["(0019,100C)"].outcome == "kept"


def test_a_site_changes_a_policy() -> None:
    tree = parse({"deidentification": {
        "known_words": ["Rhapsode"], "text_in_pixels": "withhold",
        "export": {"keep": ["RequestedProcedureDescription"], "remove": ["BodyPartExamined"], "faces": "withhold",
                   "options": ["clean-descriptors", "retain-modified-dates"]},
    }})  # fmt: skip
    policy = policy_of(tree, "export")
    assert policy.site == {
        "RequestedProcedureDescription": SiteAction.KEEP, "BodyPartExamined": SiteAction.REMOVE,
    }  # fmt: skip
    assert policy.options == {OPTION_NAMES["clean-descriptors"], OPTION_NAMES["retain-modified-dates"]}
    assert (policy.words, policy.blank_text, policy.faces) == (frozenset({"rhapsode"}), False, Faces.WITHHOLD)
    assert policy_of(tree, "ai").site == {}
    ds = planted.slice_of_ct()
    ds.RequestedProcedureDescription, ds.ManufacturerModelName = "Lunge 3", "RHAPSODE"
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert output.RequestedProcedureDescription == "Lunge 3"
    assert output.ManufacturerModelName == "RHAPSODE"
    assert "BodyPartExamined" not in output


#: Every setting of a policy beside its options, and what neither policy has of its own.
CHANGED = {
    "ai": {"faces": "withhold", "text_in_pixels": "withhold", "look_at_every_image": True, "images_without_pixels": "pass",
           "withhold_recognizable": True, "on_leak": "withhold", "highest_age": 89},
    "export": {"faces": "pass", "text_in_pixels": "withhold", "look_at_every_image": False, "images_without_pixels": "pass",
               "withhold_recognizable": False, "highest_age": 0},
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_each_setting_changes_its_policy_alone(name: str) -> None:
    """And without a word of the site a policy is what it is without a configuration, or what both of them have."""
    plain = parse({})
    assert {one: policy_of(plain, one) for one in POLICIES} == POLICIES
    (other,) = set(CHANGED) - {name}
    for setting, value in CHANGED[name].items():
        tree = parse({"deidentification": {name: {setting: value}}})
        assert policy_of(tree, name).settings == {**POLICIES[name].settings, setting: value}
        assert policy_of(tree, other) == POLICIES[other]
    both = parse(
        {
            "deidentification": {
                "text_in_pixels": "withhold",
                "images_without_pixels": "pass",
                name: {"text_in_pixels": "blank"},
            }
        }
    )
    assert [policy_of(both, one).blank_text for one in (name, other)] == [True, False]
    assert policy_of(both, name).headers_alone
    assert set(CHANGED["ai"]) | {"options"} == set(POLICIES[name].settings)
    assert set(PolicySection.model_fields) - set(SiteAction) == set(POLICIES[name].settings)


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_setting_costs_is_told_where_a_site_chose_it(name: str) -> None:
    assert list(notes_of_policies(parse({}))) == []
    for setting, value in CHANGED[name].items():
        notes = list(notes_of_policies(parse({"deidentification": {name: {setting: value}}})))
        harmless = setting in ("text_in_pixels", "images_without_pixels") or (name, setting) == ("ai", "highest_age")
        assert [note.split(":")[0] for note in notes] == ([] if harmless else [f"deidentification.{name}.{setting}"])
    safe = {
        "faces": "deface",
        "look_at_every_image": True,
        "withhold_recognizable": True,
        "on_leak": "withhold",
        "highest_age": 80,
    }
    assert list(notes_of_policies(parse({"deidentification": {"export": safe}}))) == []


def test_what_identifies_somebody_in_exports_is_told() -> None:
    def told(**section: object) -> list[str]:
        return list(notes_of_policies(parse({"deidentification": {"export": section}})))

    assert "retain-full-dates" in told(options=["retain-full-dates"])[0]
    assert "retain-uids" in told(options=["retain-uids"])[0]
    assert "InstitutionName leave as they came" in told(keep=["InstitutionName"], remove=["BodyPartExamined"])[0]
    assert told(options=["clean-descriptors"], remove=["BodyPartExamined"]) == []


@pytest.mark.parametrize("reads", [True, False])
def test_what_networks_see_of_images_that_look_written_on(reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dicomnode.service.policies.installed_reader", lambda: object() if reads else None)
    for text, expected in (
        ("blank", "markers of sides" if reads else "gets no result"),
        ("withhold", "gets no result"),
    ):
        section = {"look_at_every_image": True, "text_in_pixels": text}
        (told,) = notes_of_policies(parse({"deidentification": {"ai": section}}))
        assert expected in told


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"highest_age": -1}, "highest_age: at least 0"),
        ({"highest_age": 130}, "highest_age: at most 129"),
        ({"highest_age": 89.5}, "highest_age: a whole number"),
        ({"on_leak": "minimal"}, "export.on_leak is not minimal"),
        ({"on_leak": "pass"}, "on_leak: 'withhold' or 'minimal'"),
        ({"text_in_pixels": "keep"}, "text_in_pixels: 'blank' or 'withhold'"),
        ({"look_at_every_image": "perhaps"}, 'look_at_every_image: true or false, or "closely"'),
        ({"look_at_every_image": 1}, 'look_at_every_image: true or false, or "closely"'),
        ({"withhold_recognizable": 7}, "withhold_recognizable: true or false"),
        ({"images_without_pixels": "blank"}, "images_without_pixels: 'withhold' or 'pass'"),
        ({"keep": ["NoSuchThing"]}, "keep: NoSuchThing is no keyword of an attribute"),
        ({"keep": ["PatientName"]}, "is always replaced"),
        ({"clean": ["StudyInstanceUID"]}, "is always replaced"),
        ({"remove": ["SOPClassUID"]}, "without SOPClassUID there is no object"),
        ({"keep": ["StudyDate"]}, "is a date"),
        ({"keep": ["PatientBirthDate"]}, "is a date"),
        ({"remove": ["SpecificCharacterSet"]}, "there is no object"),
        ({"remove": ["PixelData"]}, "without PixelData there is no object"),
        ({"empty": ["Rows"]}, "without Rows there is no object"),
        ({"keep": ["BodyPartExamined"], "empty": ["BodyPartExamined"]}, "stands in keep and in empty"),
        ({"keep": ["PixelData"]}, "keep: PixelData is bulk data"),
        ({"clean": ["ICCProfile"]}, "is bulk data"),
        ({"keep": ["CodeMeaning"]}, "is always written anew"),
        ({"remove": ["PatientIdentityRemoved"]}, "is always written anew"),
        ({"keep": ["OriginalAttributesSequence"]}, "is always left out"),
        ({"empty": ["IconImageSequence"]}, "is always left out"),
        ({"keep": ["MoveOriginatorApplicationEntityTitle"]}, "no attribute of an object's Data Set"),
        *(
            ({"keep": [text]}, "no private one with its creator")
            for text in (
                '(0018,"ACME 1.0",10)',
                '(0007,"ACME 1.0",10)',
                '(ffff,"ACME 1.0",10)',
                '(0019,"",10)',
                '(0019," ",10)',
                "(0019,ACME,10)",
                '(0019,"ACME 1.0",1010)',
                '(0019,"ACME 1.0",10,PN)',
                '(0019,"ACME 1.0",10,OB)',
            )
        ),
        ({"empty": ['(0019,"ACME 1.0",10)']}, "remove it"),
        ({"keep": ['(0019,"ACME 1.0",1a)'], "remove": ['(0019,"ACME 1.0",1A,DS)']}, "stands in keep and in remove"),
        ({"options": ["retain-full-dates", "retain-modified-dates"]}, "full or modified, not both"),
        ({"options": ["retain-everything"]}, "retain-safe-private"),
    ],
)
def test_rules_that_make_no_sense_are_told(section: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({"deidentification": {"export": section}})
    assert any(problem in line and "deidentification" in line for line in caught.value.problems)


@pytest.mark.parametrize("action", SiteAction)
def test_every_rule_that_is_taken_is_obeyed(action: SiteAction) -> None:
    """No rule of a site is passed over in silence, and nothing goes that was to stay."""
    taken = 0
    for tag, (_, _, _, _, keyword) in DicomDictionary.items():
        section = {action.value: [keyword]}
        if not keyword or (action is SiteAction.REMOVE and keyword in LEFT_OUT):
            continue
        try:
            PolicySection.model_validate(section)
        except ValidationError:
            continue
        rule = Rules(replace(EXPORT, site={keyword: action}), planted.CT).rule("", tag)
        taken += 1
        assert rule.origin == "site", keyword
        assert (rule.treatment is Treatment.REMOVE) is (action is SiteAction.REMOVE), keyword
    assert taken > 3000


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_every_option_has_a_name_in_the_configuration(name: str) -> None:
    assert PolicySection.model_validate({"options": [name]}).options == (name,)


def test_the_character_set_is_said_to_be_written_anew() -> None:
    source = planted.slice_of_ct()
    source.SpecificCharacterSet = "ISO_IR 100"
    output = Deidentifier(AI, Pseudonyms(bytes(range(32)), "p")).deidentify(source).dataset
    told = {one.keyword: one for one in explain(source, output, AI, planted.CT)}
    assert (told["SpecificCharacterSet"].decided, told["SpecificCharacterSet"].outcome) == ("always", "kept")
