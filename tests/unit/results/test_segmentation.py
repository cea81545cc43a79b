"""The segmentation object."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode import study
from dicomnode.errors import StudyError
from dicomnode.results import geometry, segmentation
from dicomnode.results.equipment import contributing_equipment
from dicomnode.study import ResultRole
from tests.unit.results import material


def build(**geometry: object) -> tuple[Dataset, np.ndarray, list[Dataset]]:
    labels = material.labels_for()
    sources = material.copies(material.source_series(**geometry))  # type: ignore[arg-type]
    return segmentation.build(labels, sources, material.findings_for(), material.context_for()), labels, sources


def test_segments_are_coded_tracked_and_coloured() -> None:
    dataset, _, _ = build()
    context = material.context_for()
    for number, item in enumerate(dataset.SegmentSequence, start=1):
        assert item.SegmentNumber == number
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.TrackingUID == context.tracking_uid((number,))
        assert item.TrackingID == item.SegmentLabel == material.findings_for().segments[number - 1].label
        assert item.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
        laterality = {1: "24028007", 2: "7771000"}[number]
        modifiers = item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence
        assert modifiers[0].CodeValue == laterality
        assert item.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == laterality
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ct-lung", "1.0.0")
        assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    first, second = (item.RecommendedDisplayCIELabValue for item in dataset.SegmentSequence)
    assert list(first) != list(second)


def test_colour_is_the_srgb_asked_for() -> None:
    from highdicom.color import CIELabColor

    dataset, _, _ = build()
    red = CIELabColor.from_dicom_value(list(dataset.SegmentSequence[0].RecommendedDisplayCIELabValue)).to_rgb()
    assert np.allclose(red, (70, 130, 180), atol=2)


def test_empty_frames_are_left_out_and_each_frame_names_its_source() -> None:
    dataset, labels, sources = build()
    assert dataset.NumberOfFrames == sum(int((labels == number).any(axis=(1, 2)).sum()) for number in (1, 2))
    assert dataset.SegmentsOverlap == "NO"
    for group in dataset.PerFrameFunctionalGroupsSequence:
        position = [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient]
        named = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        (source,) = [s for s in sources if np.allclose([float(v) for v in s.ImagePositionPatient], position)]
        assert named == source.SOPInstanceUID
    referenced = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {item.ReferencedSOPInstanceUID for item in referenced} == {s.SOPInstanceUID for s in sources}
    assert dataset.FrameOfReferenceUID == sources[0].FrameOfReferenceUID


@pytest.mark.parametrize("width", [41, 43, 45, 47])
def test_pixel_data_is_even_and_padded_with_zero(width: int) -> None:
    labels = np.zeros((3, 9, width), dtype=np.uint8)
    labels[1] = 1
    sources = material.copies(material.source_series(3, rows=9, columns=width))
    dataset = segmentation.build(labels, sources, material.findings_for(), material.context_for())
    assert len(dataset.PixelData) % 2 == 0
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
    assert bits[: 9 * width].all()
    assert not bits[9 * width :].any()
    geometry.prove_segmentation(dataset, labels, sources)


OBLIQUE = (0.9510565163, 0.0, -0.3090169944, 0.0955, 0.9510565163, 0.29389)


@pytest.mark.parametrize(
    "orientation", [material.AXIAL, (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0)]
)
def test_geometry_round_trips_by_position(orientation: tuple[float, ...]) -> None:
    dataset, labels, sources = build(orientation=orientation)
    geometry.prove_segmentation(dataset, labels, sources)


def test_highdicom_reads_the_same_mask_back() -> None:
    from highdicom.seg import Segmentation

    dataset, labels, sources = build()
    again = Segmentation.from_dataset(dataset)
    uids = [source.SOPInstanceUID for source in sources]
    pixels = again.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=False)
    assert np.array_equal(pixels, labels)


def test_research_only_and_review_are_told_in_the_content_description() -> None:
    dataset, _, _ = build()
    assert dataset.ContentDescription.startswith("AI result, not reviewed")
    assert dataset.ContentDescription.endswith("(research only)")
    assert len(dataset.ContentDescription) <= 64
    assert dataset.ContentLabel == "CT_LUNG"


def test_a_distance_between_slices_is_told_where_it_is_the_same_between_all() -> None:
    dataset, _, _ = build()
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 2.5
    originals = material.source_series(7)
    uneven = material.copies([*originals[:4], *originals[5:]])
    dataset = segmentation.build(material.labels_for(), uneven, material.findings_for(), material.context_for())
    assert "SpacingBetweenSlices" not in dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]


def test_lossy_compression_is_inherited() -> None:
    sources = material.copies(material.source_series())
    sources[0].LossyImageCompression = "01"
    sources[0].LossyImageCompressionRatio = ["10.5", "2"]
    sources[0].LossyImageCompressionMethod = "ISO_10918_1"
    dataset = segmentation.build(material.labels_for(), sources, material.findings_for(), material.context_for())
    assert dataset.LossyImageCompression == "01"
    assert list(dataset.LossyImageCompressionRatio) == [10.5, 2.0]
    assert dataset.LossyImageCompressionMethod == "ISO_10918_1"
    clean, _, _ = build()
    assert clean.LossyImageCompression == "00"


def test_a_label_that_nobody_described_is_refused() -> None:
    labels = material.labels_for()
    labels[2, 0, 0] = 9
    with pytest.raises(StudyError, match="undescribed-label"):
        segmentation.segment_numbers(labels, material.findings_for().segments)


def test_values_with_gaps_become_numbers_without() -> None:
    given = material.findings_for()
    left = dataclasses.replace(given.segments[1], number=200)
    labels = material.labels_for()
    labels[labels == 2] = 200
    changed = dataclasses.replace(given, segments=(given.segments[0], left))
    sources = material.copies(material.source_series())
    dataset = segmentation.build(labels, sources, changed, material.context_for())
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [1, 2]
    geometry.prove_segmentation(dataset, labels, sources)


@pytest.mark.parametrize("labels", [np.zeros((6, 40, 47), np.uint8), np.ones((6, 40, 48), np.int16)])
def test_a_map_that_does_not_fit_its_sources_is_refused(labels: np.ndarray) -> None:
    sources = material.copies(material.source_series())
    with pytest.raises(StudyError, match="label-map-shape"):
        segmentation.build(labels, sources, material.findings_for(), material.context_for())


def test_a_segment_that_is_no_organ_has_no_anatomic_region_of_its_own() -> None:
    given = material.findings_for()
    from dicomnode.coding import sct

    nodule = dataclasses.replace(
        given.segments[0],
        category=sct("49755003", "Morphologically Altered Structure"),
        type=sct("27925004", "Nodule"),
        laterality=None,
    )
    changed = dataclasses.replace(given, segments=(nodule, given.segments[1]))
    sources = material.copies(material.source_series())
    dataset = segmentation.build(material.labels_for(), sources, changed, material.context_for())
    assert "AnatomicRegionSequence" not in dataset.SegmentSequence[0]


def test_sources_without_position_reference_indicator_give_an_empty_one() -> None:
    sources = material.copies(material.source_series())
    for source in sources:
        del source.PositionReferenceIndicator
    dataset = segmentation.build(material.labels_for(), sources, material.findings_for(), material.context_for())
    assert "PositionReferenceIndicator" in dataset


def test_equipment_of_node_and_model() -> None:
    dataset, _, _ = build()
    context = material.context_for()
    assert dataset.ManufacturerModelName == "dicomnode"
    assert dataset.DeviceUID == context.device_uid
    assert dataset.StationName == "DICOMNODE"
    (item,) = dataset.ContributingEquipmentSequence
    assert item.ManufacturerModelName == "ct-lung"
    assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert item.DeviceUID.startswith("2.25.")
    other = dataclasses.replace(context, mint=lambda role, *parts: study.mint_uid(b"o" * 32, role, *parts))
    again = contributing_equipment(material.findings_for().algorithm, other)
    assert again.DeviceUID == item.DeviceUID
    nameless = dataclasses.replace(context, institution_name="")
    sources = material.copies(material.source_series())
    dataset = segmentation.build(material.labels_for(), sources, material.findings_for(), nameless)
    assert "InstitutionName" not in dataset
    assert dataset.SeriesNumber == context.series_number(ResultRole.SEGMENTATION) == 9000
