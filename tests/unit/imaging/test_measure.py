"""Measurements: numbers by hand, conditions of density, and what cuts a region."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode import coding
from dicomnode.findings import Segment
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.measure import Acquisition, acquisition_of, measure, percentile_15
from dicomnode.manifest import Density
from dicomnode.texts import LANGUAGES, Words

SOFT = Acquisition(slice_thickness_mm=1.0, kernel="B30f", contrast=False)
DENSITY = Density(maximum_slice_thickness_mm=5.0, soft_kernels=("^B[23]", "STANDARD"))


def segment(number: Any, laterality: Any, kind: Any = coding.LUNG) -> Any:
    label = {coding.RIGHT: "Right lung", coding.LEFT: "Left lung", None: "Thing"}[laterality]
    return Segment(
        number=number,
        label=label,
        category=coding.ANATOMICAL_STRUCTURE,
        type=kind,
        laterality=laterality,
        colour=(1, 2, 3),
    )


LUNGS = (segment(1, coding.RIGHT), segment(2, coding.LEFT))


def geometry_of(shape: Any, spacing: Any = (2.0, 0.5, 1.0), slice_direction: Any = (0.0, 0.0, 1.0)) -> Any:
    return VolumeGeometry(
        origin=(0.0, 0.0, 0.0),
        row_direction=(1.0, 0.0, 0.0),
        column_direction=(0.0, 1.0, 0.0),
        slice_direction=slice_direction,
        spacing=spacing,
        shape=shape,
        frame_of_reference_uid="1",
        order=tuple(range(shape[0])),
    )


ENGLISH = Words()


def run(
    values: Any,
    labels: Any,
    *,
    padding: Any = None,
    segments: Any = LUNGS,
    density: Any = DENSITY,
    acquisition: Any = SOFT,
    spacing: Any = (2.0, 0.5, 1.0),
    words: Any = ENGLISH,
) -> Any:
    geometry = geometry_of(labels.shape, spacing)
    return measure(values, labels, padding, geometry, segments, density=density, acquisition=acquisition, words=words)


def numbers(region: Any) -> Any:
    return {item.concept: item.value for item in region.measurements}


def lungs() -> Any:
    random = np.random.default_rng(1)
    labels = np.zeros((40, 12, 12), np.uint8)
    labels[1:-1, 2:10, 1:5] = 1
    labels[1:-1, 2:10, 7:11] = 2
    return random.integers(-1050, -600, labels.shape).astype(np.int16), labels


def test_what_the_node_calls_several_regions_is_in_the_language_of_the_results() -> None:
    values, labels = lungs()
    for language, label in (("de", "Beide Lungen"), ("zh", "双肺")):
        regions, _ = run(values, labels, words=Words(language))
        assert regions[-1].label == label


def test_both_lungs_and_their_total() -> None:
    values, labels = lungs()
    regions, remarks = run(values, labels)
    assert [region.label for region in regions] == ["Right lung", "Left lung", "Both lungs"]
    assert [region.segments for region in regions] == [(1,), (2,), (1, 2)]
    assert remarks == ()
    for region in regions:
        inside = values[np.isin(labels, region.segments)].astype(float)
        assert numbers(region) == {
            coding.VOLUME: pytest.approx(len(inside) / 1000),
            coding.MEAN_LUNG_DENSITY: pytest.approx(inside.mean(), rel=1e-12),
            coding.LAA_950: pytest.approx(100 * (inside < -950).mean()),
            coding.PERC15: np.percentile(inside, 15, method="inverted_cdf"),
        }
        assert region.truncated == ()
    total = regions[-1]
    assert (total.site, total.laterality) == (coding.BOTH_LUNGS, None)
    assert [item.concept for item in total.measurements] == [
        coding.VOLUME,
        coding.MEAN_LUNG_DENSITY,
        coding.LAA_950,
        coding.PERC15,
    ]
    assert total.measurements[1].derivation == coding.MEAN
    assert [item.unit for item in total.measurements] == [
        coding.MILLILITRE,
        coding.HOUNSFIELD_UNIT,
        coding.PERCENT,
        coding.HOUNSFIELD_UNIT,
    ]
    assert {item.caveat for item in total.measurements} == {""}


def test_minus_950_itself_is_no_low_attenuation() -> None:
    values = np.full((4, 3, 3), -950, np.int16)
    values[1, 1, 1] = -951
    labels = np.zeros(values.shape, np.uint8)
    labels[1, 1, :] = 1
    assert numbers(run(values, labels)[0][0])[coding.LAA_950] == pytest.approx(100 / 3)


def test_floats_keep_the_threshold_and_the_mean() -> None:
    values = np.full((4, 3, 3), -950.0, np.float32)
    values[1, 1, 0] = -950.25
    labels = np.zeros(values.shape, np.uint8)
    labels[1, 1, :] = 1
    found = numbers(run(values, labels)[0][0])
    assert found[coding.LAA_950] == pytest.approx(100 / 3)
    assert found[coding.MEAN_LUNG_DENSITY] == pytest.approx(-950 - 0.25 / 3)
    assert found[coding.PERC15] == -951


def test_padding_counts_as_volume_but_not_as_density() -> None:
    values, labels = lungs()
    padding = np.zeros(labels.shape, bool)
    padding[5, 3, 2:4] = True
    values[padding] = -1024
    region = run(values, labels, padding=padding)[0][0]
    inside = values[(labels == 1) & ~padding]
    assert numbers(region)[coding.VOLUME] == pytest.approx((labels == 1).sum() / 1000)
    assert numbers(region)[coding.MEAN_LUNG_DENSITY] == pytest.approx(inside.mean())


def test_a_region_of_padding_alone_has_a_volume_alone() -> None:
    values, labels = lungs()
    regions, _ = run(values, labels, padding=labels == 1)
    assert list(numbers(regions[0])) == [coding.VOLUME]
    assert len(numbers(regions[1])) == 4


def test_a_segment_that_is_not_there_is_named() -> None:
    values, labels = lungs()
    labels[labels == 1] = 0
    regions, remarks = run(values, labels)
    assert [region.label for region in regions] == ["Left lung"]
    assert remarks == ("Right lung was not found.",)


def test_nothing_found() -> None:
    values, labels = lungs()
    regions, remarks = run(
        values, labels * 0, acquisition=Acquisition(slice_thickness_mm=None, kernel=None, contrast=True)
    )
    assert regions == ()
    assert remarks == ("Right lung was not found.", "Left lung was not found.")


def test_totals_of_other_organs() -> None:
    values, labels = lungs()
    liver = coding.sct("10200004", "Liver")
    same = (segment(1, None, liver), segment(2, None, liver))
    assert [(r.label, r.site) for r in run(values, labels, segments=same)[0]][-1] == ("Total", liver)
    mixed = (segment(1, None, liver), segment(2, coding.LEFT))
    assert [(r.label, r.site) for r in run(values, labels, segments=mixed)[0]][-1] == (
        "Total",
        coding.ANATOMICAL_STRUCTURE,
    )


def test_without_conditions_volumes_alone() -> None:
    regions, remarks = run(
        *lungs(), density=None, acquisition=Acquisition(slice_thickness_mm=9.0, kernel=None, contrast=True)
    )
    assert {tuple(numbers(region)) for region in regions} == {(coding.VOLUME,)}
    assert remarks == ()


@pytest.mark.parametrize(
    ("acquisition", "concepts", "mean_caveat", "laa_caveat", "remark"),
    [
        ({"slice_thickness_mm": 7.5}, 2, "", None, "slices are 7.5 mm thick, the limit is 5 mm"),
        ({"slice_thickness_mm": None}, 2, "", None, "thickness is not stated"),
        ({"kernel": "B70f"}, 4, "", "kernel is sharp", "kernel is sharp"),
        ({"kernel": None}, 4, "", "kernel is sharp", "kernel is sharp"),
        ({"contrast": True}, 4, "Contrast agent was given", "Contrast agent was given", "Contrast agent was given"),
        ({"contrast": None}, 4, "may have been", "may have been", "may have been"),
        ({"contrast": True, "slice_thickness_mm": 9.0}, 2, "Contrast agent was", None, "Contrast agent was"),
    ],
)
def test_conditions_of_density(acquisition: Any, concepts: Any, mean_caveat: Any, laa_caveat: Any, remark: Any) -> None:
    given = {"slice_thickness_mm": 1.0, "kernel": "STANDARD", "contrast": False} | acquisition
    regions, remarks = run(*lungs(), acquisition=Acquisition(**given))
    assert any(remark in text for text in remarks)
    for region in regions:
        assert len(region.measurements) == concepts
        assert region.measurements[0].caveat == ""
        assert mean_caveat in region.measurements[1].caveat
        assert bool(region.measurements[1].caveat) == bool(mean_caveat)
        for item in region.measurements[2:]:
            assert laa_caveat in item.caveat


def test_lenient_conditions_say_nothing() -> None:
    lenient = Density(maximum_slice_thickness_mm=10.0, soft_kernels=(), contrast_allowed=True)
    regions, remarks = run(
        *lungs(), density=lenient, acquisition=Acquisition(slice_thickness_mm=9.0, kernel=None, contrast=True)
    )
    assert remarks == ()
    assert len(regions[0].measurements) == 4


def box(where: Any, shape: Any = (30, 30, 30)) -> Any:
    labels = np.zeros(shape, np.uint8)
    labels[where] = 1
    return np.full(shape, -800, np.int16), labels


SOME = slice(8, 22)


@pytest.mark.parametrize(
    ("where", "name", "sentence"),
    [
        ((slice(0, 9), SOME, SOME), "inferior", "inferior end of the scan"),
        ((slice(20, 30), SOME, SOME), "superior", "superior end of the scan"),
        ((SOME, slice(0, 9), SOME), "anterior", "anterior edge of the field of view"),
        ((SOME, slice(20, 30), SOME), "posterior", "posterior edge of the field of view"),
        ((SOME, SOME, slice(0, 9)), "right", "right edge of the field of view"),
        ((SOME, SOME, slice(20, 30)), "left", "left edge of the field of view"),
    ],
)
def test_what_cuts_a_region(where: Any, name: Any, sentence: Any) -> None:
    regions, remarks = run(*box(where), spacing=(1.0, 1.0, 1.0))
    assert regions[0].truncated == (name,)
    assert remarks == (
        "Left lung was not found.",
        f"Right lung is cut by the {sentence}: its volume is a lower bound.",
    )


def test_several_ends() -> None:
    regions, remarks = run(*box((slice(None), SOME, slice(0, 20))), spacing=(1.0, 1.0, 1.0))
    assert regions[0].truncated == ("superior", "inferior", "right")
    assert "the superior and inferior ends of the scan and the right edge of the field of view" in remarks[1]


def test_a_few_voxels_at_the_end_cut_nothing() -> None:
    assert run(*box((slice(0, 9), slice(5, 15), slice(5, 15))), spacing=(1.0, 1.0, 1.0))[0][0].truncated == ()


def test_the_circle_of_the_reconstruction_cuts() -> None:
    values, labels = box((SOME, SOME, SOME))
    padding = np.zeros(labels.shape, bool)
    padding[:, :, 22:] = True
    padding[:, :4, :] = True
    assert run(values, labels, padding=padding, spacing=(1.0, 1.0, 1.0))[0][0].truncated == ("left",)
    values, labels = box((SOME, SOME, SOME))
    padding = np.zeros(labels.shape, bool)
    padding[:, :8, :] = True
    assert run(values, labels, padding=padding, spacing=(1.0, 1.0, 1.0))[0][0].truncated == ("anterior",)


def test_the_total_is_cut_where_a_part_is() -> None:
    values, labels = box((slice(0, 9), SOME, slice(2, 14)))
    labels[8:20, SOME, 16:28] = 2
    regions, remarks = run(values, labels, spacing=(1.0, 1.0, 1.0))
    assert [region.truncated for region in regions] == [("inferior",), (), ("inferior",)]
    assert len(remarks) == 1


def test_percentile_by_its_definition() -> None:
    counts = np.zeros(50, np.int64)
    counts[10], counts[20] = 15, 85
    assert percentile_15(counts) == 10
    counts[10], counts[20] = 14, 86
    assert percentile_15(counts) == 20
    assert percentile_15(np.array([0, 1])) == 1


def test_shapes_and_labels_must_agree() -> None:
    values, labels = lungs()
    with pytest.raises(ValueError, match="shape"):
        run(values[1:], labels)
    with pytest.raises(ValueError, match="shape"):
        run(values, labels, padding=np.zeros((1, 1, 1), bool))
    labels[0, 0, 0] = 9
    with pytest.raises(ValueError, match="no segment"):
        run(values, labels)
    with pytest.raises(ValueError, match="no segment"):
        run(values, labels, segments=())


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, (None, None, False)),
        ({"SliceThickness": 1.5, "ConvolutionKernel": "B30f", "ContrastBolusAgent": "APPLIED"}, (1.5, "B30f", True)),
        ({"SliceThickness": 0, "ConvolutionKernel": ["I31f", "3"], "ContrastBolusAgent": ""}, (None, "I31f\\3", None)),
        ({"ContrastBolusAgentSequence": [Dataset()]}, (None, None, True)),
    ],
)
def test_acquisition_of_a_slice(attributes: Any, expected: Any) -> None:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    found = acquisition_of(dataset)
    assert (found.slice_thickness_mm, found.kernel, found.contrast) == expected


def test_acquisition_of_a_damaged_slice() -> None:
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    dataset = Dataset()
    tag = Tag("SliceThickness")
    dataset._dict[tag] = RawDataElement(tag, "DS", 3, b"one", 0, False, True)
    assert acquisition_of(dataset) == Acquisition(slice_thickness_mm=None, kernel=None, contrast=None)


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_remark_is_in_the_language_that_was_asked_for(language: str) -> None:
    """What qualifies a measurement, and what a sentence is put together of: nothing English is left in it."""
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[0, :, 2:4] = 1
    labels[1:, 2:4, 2:4] = 1
    heights = (0.0, 2.0, 4.0, 7.0, 9.0, 11.0)
    geometry = replace(geometry_of(labels.shape, (2.2, 5.0, 5.0)), heights=heights)
    for acquisition in (
        Acquisition(slice_thickness_mm=None, kernel="B31f", contrast=True),
        Acquisition(slice_thickness_mm=7.5, kernel="B31f", contrast=None),
        Acquisition(slice_thickness_mm=1.0, kernel="B70f", contrast=False),
    ):
        said = {}
        for one in ("en", language):
            regions, remarks = measure(
                np.zeros(labels.shape, np.int16), labels, None, geometry, LUNGS, density=DENSITY,
                acquisition=acquisition, words=Words(one),
            )  # fmt: skip
            caveats = [item.caveat for region in regions for item in region.measurements if item.caveat]
            said[one] = [*remarks, *caveats]
        assert len(said["en"]) == len(said[language]) >= 4  # not found, cut, uneven, and what the acquisition is
        assert not set(said["en"]) & set(said[language])
        english = re.compile(r"\b(the|of|is|and|slices?|edges?|ends?|scan|view|given|may)\b")
        if language != "fr":  # whose words these may be
            assert not [text for text in said[language] if english.search(text)]


def test_a_slab_in_which_all_that_is_labelled_is_padding_has_a_volume_and_no_density() -> None:
    labels = np.zeros((20, 4, 4), np.uint8)
    labels[0] = labels[16] = 1
    padding = np.zeros(labels.shape, np.bool_)
    padding[0] = True
    values = np.full(labels.shape, -850, np.int16)
    (region,), _ = run(values, labels, padding=padding, segments=LUNGS[:1])
    found = {item.concept: item.value for item in region.measurements}
    assert found[coding.VOLUME] == pytest.approx(32 * 2.0 * 0.5 * 1.0 / 1000)
    assert found[coding.MEAN_LUNG_DENSITY] == -850
