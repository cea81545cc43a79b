"""Parametric Maps, label maps and fractions, and what an RT Structure Set says of its regions: what is read from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.forms import Form
from dicomnode.results import parametric_map, rtstruct, segmentation, segmentation_forms
from dicomnode.results.parametric_map import PROBABILITY, SALIENCY, VoxelMap
from dicomnode.results.sources import read_sources
from tests.unit.results import material


def sources() -> list[Dataset]:
    made = material.copies(material.source_series())
    made[0].LossyImageCompression, made[0].LossyImageCompressionRatio = "01", "8"
    return made


def mapped(quantity: Any = PROBABILITY, *, research_only: bool = True) -> tuple[Dataset, np.ndarray]:
    values = np.linspace(0, 1, 6 * 40 * 48).reshape(6, 40, 48)
    given = VoxelMap(values=values, quantity=quantity, label="Lungs")
    found = material.findings_for(research_only=research_only)
    return parametric_map.build(given, sources(), found, material.context_for()), values


def test_a_map_gives_its_values_back_through_its_mapping() -> None:
    dataset, values = mapped()
    group = dataset.get("SharedFunctionalGroupsSequence")[0]
    holder = group if "RealWorldValueMappingSequence" in group else dataset.PerFrameFunctionalGroupsSequence[0]
    (mapping,) = holder.RealWorldValueMappingSequence
    stored = np.frombuffer(dataset.PixelData, "<u2")[: values.size].reshape(values.shape)
    read = stored * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    places = [
        float(item.PlanePositionSequence[0].ImagePositionPatient[2])
        for item in dataset.PerFrameFunctionalGroupsSequence
    ]
    expected = values[np.argsort(np.argsort(places))] if places[0] < places[-1] else values[::-1]
    assert np.abs(read - expected).max() < 1e-5
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"


@pytest.mark.parametrize(("quantity", "code"), [(PROBABILITY, "PROBABILITY"), (SALIENCY, "SALIENCY")])
def test_a_map_says_what_its_values_mean(quantity: Any, code: str) -> None:
    assert f"'{code}'" in str(mapped(quantity)[0].to_json_dict())


def test_a_map_says_whence_it_comes() -> None:
    dataset, _ = mapped()
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 8)
    assert dataset.ContentDescription == "AI result, not reviewed: Lungs (research only)"
    product = mapped(research_only=False)[0]
    assert product.ContentDescription == "AI result, not reviewed: Lungs"
    assert (dataset.ContentQualification, product.ContentQualification) == ("RESEARCH", "PRODUCT")
    with pytest.raises(StudyError, match="map-values"):
        parametric_map.build(
            VoxelMap(values=np.full((6, 40, 48), 1.5), quantity=PROBABILITY, label="x"),
            sources(),
            material.findings_for(),
            material.context_for(),
        )


def other(form: Form) -> Dataset:
    series, labels, found = read_sources(sources()), material.labels_for(), material.findings_for()
    binary = segmentation.build(labels, series, found, material.context_for())
    return segmentation_forms.build(
        binary, form, labels, series=series, findings=found, context=material.context_for().written_as(form.value)
    )


def test_a_label_map_describes_its_background() -> None:
    dataset = other(Form.LABELMAP)
    assert [int(item.SegmentNumber) for item in dataset.SegmentSequence] == [0, 1, 2]
    background = dataset.SegmentSequence[0]
    assert background.SegmentedPropertyTypeCodeSequence[0].CodeValue == "125040"
    assert "TrackingUID" not in background
    assert dataset.PixelPaddingValue == 0
    assert dataset.SegmentationType == "LABELMAP"


def test_fractions_are_occupancy() -> None:
    dataset = other(Form.FRACTIONAL)
    assert (dataset.SegmentationFractionalType, dataset.MaximumFractionalValue) == ("OCCUPANCY", 255)
    assert set(np.unique(np.frombuffer(dataset.PixelData, np.uint8))) == {0, 255}


def test_regions_of_a_structure_set_are_those_of_the_model() -> None:
    found = material.findings_for()
    structures = rtstruct.build(material.labels_for(), read_sources(sources()), found, material.context_for())
    regions = structures.StructureSetROISequence
    assert [item.ROIName for item in regions] == ["AI Right lung", "AI Left lung"]
    assert [list(item.ROIDisplayColor) for item in structures.ROIContourSequence] == [
        list(segment.colour) for segment in found.segments
    ]
    kinds = [item.RTROIIdentificationCodeSequence[0].CodeValue for item in structures.RTROIObservationsSequence]
    assert kinds == ["39607008", "39607008"]
    long = dataclasses.replace(
        found, segments=(dataclasses.replace(found.segments[0], label="x" * 64), found.segments[1])
    )
    structures = rtstruct.build(material.labels_for(), read_sources(sources()), long, material.context_for())
    assert len(structures.StructureSetROISequence[0].ROIName) == 64
