from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import StorageError, StudyError
from dicomnode.inference import standin
from dicomnode.routing_rules import RoutingRule
from dicomnode.study import InstanceRow, RecordMetadata
from dicomnode.workflow.explaining import CHOSEN, NOT_GIVEN, OTHER_KIND, SECOND, Explainer, StudyExplained
from dicomnode.workflow.provenance import Guard
from dicomnode.workflow.router import Router
from tests.unit.workflow.samples import STUDY, metadata, row
from tests.unit.workflow.test_selection import CHEST, image, series

MODEL = "stand-in"
INPUTS = {MODEL: standin.package().manifest.input}


class Study:
    """Instances that are read by their key."""

    def __init__(self) -> None:
        self.rows: list[InstanceRow] = []
        self.headers: dict[str, Dataset | Exception] = {}

    def add(self, key: str, positions: list[float], **attributes: Any) -> Study:
        for header in series(key, positions, **{"PatientID": "1", **attributes}):
            self.rows.append(replace(row(len(self.rows)), series_key=key, instance_key=header.instance_key))
            self.headers[header.instance_key] = header.dataset
        return self

    def read(self, wanted: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        found = self.headers[wanted.instance_key]
        if isinstance(found, Exception):
            raise found
        return metadata(found, b""), found

    def explain(self, *rules: dict[str, Any], beside: str = "") -> StudyExplained:
        made = [RoutingRule.model_validate(one) for one in rules]
        router = Router(made, [MODEL], read=self.read, zone=UTC)
        explainer = Explainer(router, INPUTS, guard=Guard(device_uid="2.25.9"), read=self.read)
        others = [one for one in self.rows if one.series_key == beside]
        return explainer.explain(STUDY, [one for one in self.rows if one not in others], others)


def test_the_best_series_wins_and_every_other_is_told_why_not() -> None:
    study = Study().add("a", [0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]).add("b", CHEST, SliceThickness=1)
    study.add("c", CHEST).add("d", CHEST[:10] + CHEST[12:])
    found = study.explain()
    said = {one.series_key: one.models[MODEL] for one in found.series}
    assert said == {"a": "no-suitable-series", "b": CHOSEN, "c": SECOND, "d": "geometry-gap"}
    assert found.outcomes == {MODEL: None}
    (best,) = [one for one in found.series if one.series_key == "b"]
    assert (best.modality, best.images, best.slice_spacing_mm, best.extent_mm) == ("CT", 30, 10.0, 290.0)
    assert (best.calling_ae_title, best.judgements) == ("SENDER", ())


def test_a_model_gets_only_what_rules_give_it() -> None:
    study = Study().add("b", CHEST, SliceThickness=1).add("c", CHEST)
    thick = {"name": "thick", "where": [{"attribute": "SliceThickness", "at_least": 3}]}
    found = study.explain(thick)
    assert {one.series_key: one.models[MODEL] for one in found.series} == {"b": NOT_GIVEN, "c": CHOSEN}
    assert [(one.series_key, one.missed) for one in found.route.judgements] == [
        ("b", "where SliceThickness"),
        ("c", None),
    ]


def test_a_study_that_no_rule_takes_has_no_outcome() -> None:
    found = Study().add("b", CHEST).explain({"name": "mr", "modalities": ["MR"]})
    assert found.outcomes == {}
    assert found.series[0].models == {}


def test_what_a_model_refuses_altogether_has_its_code() -> None:
    assert Study().add("b", CHEST[:3]).explain().outcomes == {MODEL: "geometry-too-few-slices"}


def test_two_patients_under_one_study_are_told_as_the_node_tells_them() -> None:
    study = Study().add("b", CHEST)
    study.headers["b-3"] = image(30.0, PatientID="2")
    found = study.explain()
    assert found.outcomes == {MODEL: "patient-mismatch"}


def test_an_issuer_that_one_image_does_not_say_makes_no_second_patient() -> None:
    study = Study().add("b", CHEST)
    study.headers["b-3"] = image(30.0, PatientID="1", IssuerOfPatientID="HOSPITAL")
    assert study.explain().outcomes == {MODEL: None}
    study.headers["b-4"] = image(40.0, PatientID="1", IssuerOfPatientID="CLINIC")
    assert study.explain().outcomes == {MODEL: "patient-mismatch"}


def test_a_series_that_is_in_nobodys_name_is_told_as_the_node_tells_it() -> None:
    study = Study().add("b", CHEST).add("c", CHEST[:20])
    study.headers["b-3"] = image(30.0, PatientID="1", PatientSex="M")
    study.headers["b-4"] = image(40.0, PatientID="1", PatientSex="F")
    found = study.explain()
    assert found.outcomes == {MODEL: "patient-mismatch"}, "no other series is surer to be of whom it says"
    assert [one.models[MODEL] for one in found.series] == ["patient-mismatch", "not-the-best"]


def test_objects_that_cannot_be_read_are_counted() -> None:
    study = Study().add("b", CHEST).add("z", [1.0])
    study.headers["b-0"] = StudyError("object-malformed")
    study.headers["z-0"] = StorageError("sealed-damaged")
    found = study.explain({"name": "all"})
    assert [(one.series_key, one.images, one.unreadable) for one in found.series] == [("b", 29, 1), ("z", 0, 1)]


def test_a_disk_that_refuses_explains_nothing() -> None:
    study = Study().add("b", CHEST)
    study.headers["b-29"] = StorageError("storage-failed")
    with pytest.raises(StorageError, match="storage-failed"):
        study.explain()


def test_what_an_ai_made_is_told() -> None:
    study = Study().add("b", CHEST, ImageType=["DERIVED", "PRIMARY", "AI"])
    found = study.explain()
    assert found.series[0].models == {MODEL: "ai-output"}
    assert found.outcomes == {MODEL: "ai-output"}


def test_a_series_that_no_model_looks_at_is_named_with_what_rules_say_of_it() -> None:
    """Another patient's report makes no other study of the images."""
    study = Study().add("b", CHEST).add("p", CHEST[:2], Modality="PT", PatientID="2").add("s", [1.0])
    study.headers["s-0"] = StudyError("object-malformed")
    found = study.explain({"name": "pet", "modalities": ["PT"]}, {"name": "all"}, beside="p")
    assert found.outcomes == {MODEL: None}
    (pet,) = [one for one in found.series if one.series_key == "p"]
    assert (pet.modality, pet.images, pet.is_input, pet.models) == ("PT", 2, False, {MODEL: OTHER_KIND})
    assert [item.missed for item in pet.judgements] == [None, None]
    (odd,) = [one for one in study.explain(beside="s").series if one.series_key == "s"]
    assert (odd.modality, odd.images, odd.models) == ("", 1, {MODEL: OTHER_KIND})
