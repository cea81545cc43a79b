"""What a site asks for an attribute is done: what is kept stays as it came but for the source's other identifiers, what is emptied is there and empty."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Literal

import pytest
from pydantic import ValidationError
from pydicom.dataset import Dataset

from dicomnode.config import parse
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy, SiteAction
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.service.policies import policy_of
from dicomnode.site_rules import PolicySection
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)


def out(policy: Policy, action: str, keyword: str, value: object, **also: object) -> Dataset:
    """The output of a slice with a value under one rule, which the configuration takes."""
    PolicySection.model_validate({action: [keyword]})
    ds = planted.slice_of_ct()
    for name, other in {**also, keyword: value}.items():
        setattr(ds, name, other)
    done = Deidentifier(replace(policy, site={keyword: SiteAction(action)}), PSEUDONYMS).deidentify(ds)
    assert done.leaks == ()
    return done.dataset


@POLICIES
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AccessionNumber", "20240012345"),
        ("StudyID", "1234567"),
        ("InstitutionName", "Klinikum Prof. Berg"),
        ("InstitutionName", "info@klinik.example"),
        ("ModalitiesInStudy", ["CT", "ZZTOP"]),
        ("GraphicLayer", "LUNGCAD"),
        ("BodyPartExamined", "ZWERCHFELL"),
    ],
)
def test_what_a_site_keeps_stays_as_it_came(policy: Policy, keyword: str, value: object) -> None:
    assert out(policy, "keep", keyword, value)[keyword].value == value


@POLICIES
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyDescription", "CT Li Na"),
        ("StudyDescription", "CT Li"),
        ("InstitutionName", "House of Li"),
        ("BodyPartExamined", "LI"),
        ("BodyPartExamined", "LUNG TOP"),
        ("PatientComments", "MRN-778812 again"),
    ],
)
def test_nobody_s_name_is_kept_with_it(policy: Policy, keyword: str, value: str) -> None:
    done = out(policy, "keep", keyword, value, PatientName="Li^Na^Lung")
    assert value not in str(done.get(keyword, ""))


@POLICIES
def test_a_technical_word_is_kept_whoever_is_called_so(policy: Policy) -> None:
    done = out(policy, "keep", "StudyDescription", "Lung routine", PatientName="Lung^Routine")
    assert done.StudyDescription == "Lung routine"
    assert out(policy, "keep", "BodyPartExamined", "LUNG", PatientName="Lung^Amy").BodyPartExamined == "LUNG"


@POLICIES
@pytest.mark.parametrize(
    "keyword", ["SeriesDescription", "InstitutionName", "PatientAge", "SliceLocation", "ScanOptions"]
)
def test_what_a_site_empties_is_there_and_empty(policy: Policy, keyword: str) -> None:
    value = {"PatientAge": "069Y", "SliceLocation": "-40", "ScanOptions": "HELIX"}.get(keyword, "Lung")
    done = out(policy, "empty", keyword, value)
    assert keyword in done
    assert done[keyword].is_empty


@POLICIES
def test_what_no_object_lacks_gets_a_dummy(policy: Policy) -> None:
    assert out(policy, "empty", "ImageType", ["ORIGINAL", "PRIMARY"]).ImageType == "REMOVED"
    ds = planted.slice_of_ct()
    del ds.SliceLocation
    done = Deidentifier(replace(policy, site={"SliceLocation": SiteAction.EMPTY}), PSEUDONYMS).deidentify(ds)
    assert "SliceLocation" not in done.dataset  # nor does a rule make what was not there


@pytest.mark.parametrize("action", ["keep", "clean", "empty", "remove"])
@pytest.mark.parametrize("keyword", ["", "Item", "SequenceDelimitationItem", " PatientComments", "patientComments"])
def test_what_is_no_attribute_is_refused(action: str, keyword: str) -> None:
    with pytest.raises(ValidationError, match="is no keyword of an attribute"):
        PolicySection.model_validate({action: [keyword]})


@pytest.mark.parametrize("action", ["keep", "clean"])
@pytest.mark.parametrize("keyword", ["LUTData", "SelectorUNValue"])
def test_what_nobody_can_look_into_is_not_kept(action: str, keyword: str) -> None:
    with pytest.raises(ValidationError, match="is bulk data"):
        PolicySection.model_validate({action: [keyword]})


@pytest.mark.parametrize(
    "issuer",
    ["HOSP", " HOSP ", "R\u00f6ntgen", unicodedata.normalize("NFD", "R\u00f6ntgen"), "\uff28\uff2f\uff33\uff30"],
)
def test_an_id_without_an_issuer_is_the_default_issuer_s_however_that_is_written(issuer: str) -> None:
    """Else somebody had two pseudonyms and two shifts of dates."""
    pseudonyms = Pseudonyms(bytes(range(32)), "project", default_issuer=issuer)
    found = set()
    for said in ("", issuer):
        ds = planted.slice_of_ct()
        ds.SpecificCharacterSet, ds.IssuerOfPatientID = "ISO_IR 192", said
        done = Deidentifier(EXPORT, pseudonyms).deidentify(ds).dataset
        found.add((done.PatientID, done.StudyDate))
    assert len(found) == 1


@POLICIES
@pytest.mark.parametrize("word", ["Rh\u00e4psode", "\uff32\uff28\uff21\uff30\uff33\uff2f\uff24\uff25"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_word_that_a_site_knows_stays_however_it_is_written(
    policy: Policy, word: str, form: Literal["NFC", "NFD"]
) -> None:
    tree = parse({"deidentification": {"known_words": [unicodedata.normalize(form, word)]}})
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet, ds.ManufacturerModelName = "ISO_IR 192", word
    done = Deidentifier(policy_of(tree, policy.name), PSEUDONYMS).deidentify(ds).dataset
    assert done.ManufacturerModelName in (word, "RHAPSODE")


@pytest.mark.parametrize("action", ["keep", "clean"])
@pytest.mark.parametrize("keyword", ["BurnedInAnnotation", "RecognizableVisualFeatures"])
def test_no_rule_says_what_is_seen_in_pixels(action: str, keyword: str) -> None:
    with pytest.raises(ValidationError, match="is always written anew"):
        PolicySection.model_validate({action: [keyword]})
