from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dicomnode import coding
from dicomnode.coding import CodedConcept
from dicomnode.findings import Algorithm, Detection, Evaluation, Findings, Measurement, Region, Segment

SEGMENT = Segment(
    number=1,
    label="Right lung",
    category=coding.ANATOMICAL_STRUCTURE,
    type=coding.LUNG,
    laterality=coding.RIGHT,
    colour=(1, 2, 3),
)
FINDINGS = Findings(
    algorithm=Algorithm(
        name="m", version="1", title="t", manufacturer="p", digest="d", engine="e fp32", research_only=True
    ),
    segments=(SEGMENT, replace(SEGMENT, number=2, laterality=None)),
    regions=(
        Region(
            label="Both",
            segments=(1, 2),
            site=coding.BOTH_LUNGS,
            laterality=None,
            measurements=(
                Measurement(concept=coding.VOLUME, value=1.5, unit=coding.MILLILITRE),
                Measurement(
                    concept=coding.MEAN_LUNG_DENSITY,
                    value=-850.25,
                    unit=coding.HOUNSFIELD_UNIT,
                    derivation=coding.MEAN,
                    caveat="thick slices",
                ),
            ),
            truncated=("inferior",),
        ),
        Region(label="Right", segments=(1,), site=coding.LUNG, laterality=coding.RIGHT, measurements=()),
    ),
    remarks=("The scan cuts the lungs.",),
)


def test_findings_survive_json_whole() -> None:
    assert Findings.from_json(json.loads(json.dumps(FINDINGS.to_json()))) == FINDINGS


@pytest.mark.parametrize("change", [{"number": 0}, {"label": "x" * 65}])
def test_a_segment_that_no_object_can_hold_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a segment has"):
        replace(SEGMENT, **change)  # type: ignore[arg-type]


def test_a_detection_that_cannot_be_is_refused() -> None:
    code = CodedConcept(value="27925004", scheme="SCT", meaning="Nodule")
    place = (1.0, 2.0, 3.0)
    assert (
        Detection(label="x", number=1, finding=code, site=None, position=place, diameter_mm=4.0, probability=0.5).number
        == 1
    )
    with pytest.raises(ValueError, match="number from 1"):
        Detection(label="x", number=0, finding=code, site=None, position=place)
    with pytest.raises(ValueError, match="diameter"):
        Detection(label="x", number=1, finding=code, site=None, position=place, diameter_mm=0.0)
    with pytest.raises(ValueError, match="probability"):
        Detection(label="x", number=1, finding=code, site=None, position=place, probability=1.5)


def test_judgements_and_places_survive_json_whole() -> None:
    judged = Evaluation(concept=coding.LUNG, value=coding.RIGHT, probability=0.25)
    place = Detection(
        label="x", number=1, finding=coding.LUNG, site=coding.BOTH_LUNGS, position=(1.0, -2.5, 3.0), diameter_mm=4.5,
        measurements=FINDINGS.regions[0].measurements,
    )  # fmt: skip
    bare = replace(place, number=2, site=None, laterality=coding.RIGHT, diameter_mm=None, probability=1.0)
    regions = (replace(FINDINGS.regions[0], evaluations=(judged,)),)
    found = replace(FINDINGS, regions=regions, evaluations=(judged,), detections=(place, bare))
    assert Findings.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("probability", [-0.01, 1.01])
def test_a_probability_lies_between_nothing_and_all(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        Evaluation(concept=coding.LUNG, value=coding.RIGHT, probability=probability)
