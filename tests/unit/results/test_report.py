"""The report: groups, contours, units, remarks."""

from __future__ import annotations

import dataclasses
import functools

import pytest
from pydicom.dataset import Dataset

from dicomnode import findings
from dicomnode.errors import StudyError
from dicomnode.identity import SourceIdentity
from dicomnode.results import checks, report, segmentation
from dicomnode.results.report_groups import KeyContour
from dicomnode.texts import Words
from tests.unit.results import material


@functools.cache
def plain() -> Dataset:
    """The report of the material as it is, which no test changes."""
    return build()


def build(**changes: object) -> Dataset:
    given, context = material.input_for(), material.context_for()
    given = dataclasses.replace(given, **changes)  # type: ignore[arg-type]
    seg = segmentation.build(given.labels, given.sources, given.findings, context)
    made = report.build(seg, given.sources, given.findings, given.contours, context)
    return checks.decode(report.encode(made, SourceIdentity(attributes={}, uids={}))[1])


def items(dataset: Dataset) -> list[Dataset]:
    found = []
    for item in dataset.get("ContentSequence", ()):
        found += [item, *items(item)]
    return found


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def groups(dataset: Dataset) -> list[Dataset]:
    return [item for item in items(dataset) if name(item) == "Measurement Group"]


def values(group: Dataset, concept: str) -> list[tuple[float, str]]:
    return [
        (
            float(item.MeasuredValueSequence[0].NumericValue),
            str(item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue),
        )
        for item in group.ContentSequence
        if name(item) == concept
    ]


def test_head_of_the_document() -> None:
    dataset = plain()
    assert (dataset.CompletionFlag, dataset.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    found = {name(item): item for item in items(dataset)}
    device_uid = material.context_for().device_uid
    assert str(found["Device Observer UID"].UID) == device_uid
    assert found["Procedure reported"].ConceptCodeSequence[0].CodeValue == "25045-6"
    assert found["Language of Content Item and Descendants"].ConceptCodeSequence[0].CodeValue == "en"
    assert found["Algorithm Name"].TextValue == "ct-lung"
    assert found["Algorithm Version"].TextValue == "1.0.0"


def test_a_pair_of_groups_per_region_under_one_tracking_uid() -> None:
    made = groups(plain())
    assert [group.ContentTemplateSequence[0].TemplateIdentifier for group in made] == [
        "1410", "1411", "1410", "1411", "1410", "1501",
    ]  # fmt: skip
    tracking = [
        [item.UID for item in group.ContentSequence if name(item) == "Tracking Unique Identifier"] for group in made
    ]
    context = material.context_for()
    wanted = [context.tracking_uid(segments) for segments in ((1,), (2,), (1, 2))]
    assert tracking == [[uid] for uid in wanted for _ in range(2)]
    for first, second in zip(made[::2], made[1::2], strict=True):
        assert [item.ValueType for item in first.ContentSequence].count("SCOORD") == 1
        assert [item.ValueType for item in second.ContentSequence].count("SCOORD") == 0


def test_contours_are_closed_and_have_their_area() -> None:
    planar = groups(plain())[0]
    (region,) = [item for item in planar.ContentSequence if item.ValueType == "SCOORD"]
    assert region.GraphicType == "POLYLINE"
    assert list(region.GraphicData[:2]) == list(region.GraphicData[-2:]) == [3.0, 10.0]
    assert values(planar, "Area") == [(18 * 20 * 0.75 * 0.8, "mm2")]
    sources = material.copies(material.source_series())
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == sources[1].SOPInstanceUID


def test_values_have_ucum_units_and_private_codes_are_declared() -> None:
    dataset = plain()
    volumetric = groups(dataset)[1]
    assert values(volumetric, "Volume") == [(2875.5, "ml")]
    assert values(volumetric, "Mean lung density") == [(-845.25, "[hnsf'U]")]
    assert values(volumetric, "Low attenuation area < -950 HU") == [(3.125, "%")]
    assert values(volumetric, "15th percentile lung density") == [(-921.0, "[hnsf'U]")]
    (scheme,) = dataset.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99DICOMNODE"
    assert scheme.CodingSchemeResponsibleOrganization


def test_the_point_of_the_total_lies_in_the_largest_segment() -> None:
    (point,) = [item for item in groups(plain())[4].ContentSequence if item.ValueType == "SCOORD"]
    column, row = point.GraphicData
    assert point.GraphicType == "POINT"
    labels = material.labels_for()
    assert labels[1, int(row), int(column)] == 1


def test_truncation_and_caveats_stand_in_the_group() -> None:
    made = groups(plain())
    cut = [
        [
            item.ConceptCodeSequence[0].CodeMeaning
            for item in group.ContentSequence
            if name(item) == "Cut by the scan or field of view"
        ]
        for group in made
    ]
    assert cut == [[], ["Inferior"], [], [], [], ["Inferior"]]
    comments = [item.TextValue for item in made[1].ContentSequence if name(item) == "Comment"]
    assert comments == ["Low attenuation area < -950 HU: slice thickness 3 mm is above 1.5 mm"]


def test_remarks_are_comments_of_the_report_once_each() -> None:
    remark = "LAA-950 is left out: contrast was given."
    dataset = build(findings=material.findings_for(remarks=(remark, remark)))
    container = next(item for item in dataset.ContentSequence if name(item) == "Qualitative Evaluations")
    texts = [item.TextValue for item in container.ContentSequence]
    words = Words()
    assert texts == [words.say("not-reviewed-sentence"), words.say("research-only"), remark]
    clinical = build(findings=material.findings_for(research_only=False))
    assert Words().say("research-only") not in [item.get("TextValue") for item in items(clinical)]


def test_image_library_and_evidence_hold_the_key_slices_and_the_segmentation_alone() -> None:
    dataset = plain()
    named = [
        item.ReferencedSOPInstanceUID
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    assert len(named) == len(set(named)) == 3
    assert (
        len(
            [
                item
                for item in items(dataset)
                if name(item) == "Source" and item.ValueType == "IMAGE" and "ContentSequence" in item
            ]
        )
        == 2
    )


def test_a_region_without_measurements_is_drawn_all_the_same() -> None:
    given = material.findings_for()
    bare = dataclasses.replace(given.regions[0], measurements=(), truncated=("sideways",))
    dataset = build(findings=dataclasses.replace(given, regions=(bare,)))
    assert len(groups(dataset)) == 2


def test_a_segment_with_voxels_but_without_contour_is_refused() -> None:
    with pytest.raises(StudyError, match="segment-without-contour"):
        build(contours=material.input_for().contours[:1])


def test_a_report_without_any_group_is_refused() -> None:
    given = dataclasses.replace(material.findings_for(), regions=())
    with pytest.raises(StudyError, match="report-without-group"):
        build(findings=given)


@pytest.mark.parametrize(
    ("slice_index", "points", "check"),
    [
        (6, ((1, 1), (5, 1), (5, 5)), "contour-shape"),
        (-1, ((1, 1), (5, 1), (5, 5)), "contour-shape"),
        (1, ((1, 1), (5, 1)), "contour-shape"),
        (1, ((1, 1), (5, 1), (1, 1)), "contour-shape"),
        (1, ((1, 1), (5, float("nan")), (5, 5)), "contour-shape"),
        (1, ((1, 1), (49, 1), (5, 5)), "contour-outside"),
        (1, ((1, 1), (5, 41), (5, 5)), "contour-outside"),
        (1, ((-1, 1), (5, 1), (5, 5)), "contour-outside"),
        (1, ((1, 1), (5, 5), (9, 9)), "contour-outside"),
    ],
)
def test_contours_that_are_none_are_refused(
    slice_index: int, points: tuple[tuple[float, float], ...], check: str
) -> None:
    bad = KeyContour(segment=1, slice_index=slice_index, points=points)
    with pytest.raises(StudyError, match=check):
        build(contours=(bad, material.input_for().contours[1]))


def test_other_modalities_report_an_imaging_procedure() -> None:
    sources = material.copies(material.source_series())
    for source in sources:
        source.Modality = "XX"
    dataset = build(sources=sources)
    found = {name(item): item for item in items(dataset)}
    assert found["Procedure reported"].ConceptCodeSequence[0].CodeMeaning == "Imaging procedure"


def test_numbers_have_seven_digits() -> None:
    given = material.findings_for()
    volume = dataclasses.replace(given.regions[0].measurements[0], value=1234.56789012345)
    region: findings.Region = dataclasses.replace(given.regions[0], measurements=(volume,))
    dataset = build(findings=dataclasses.replace(given, regions=(region,)))
    assert values(groups(dataset)[1], "Volume") == [(1234.568, "ml")]
