from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dicomnode import coding
from dicomnode.findings import Algorithm, Findings, Measurement, Region, Segment

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
