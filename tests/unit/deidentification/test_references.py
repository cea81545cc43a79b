"""References from one study to another: de-identified apart, in whatever order, they name the same instances."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted


def item(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, Sequence(value) if isinstance(value, list) else value)
    return ds


def referring(sop_class: str, modality: str, image: Dataset) -> Dataset:
    """An object of another study that refers to an image."""
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.SOPClassUID, ds.Modality = f"1.2.840.10008.5.1.4.1.1.{sop_class}", modality
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = "1.2.3.77", "1.2.3.77.1", "1.2.3.77.1.1"
    named = item(ReferencedSOPClassUID=planted.CT, ReferencedSOPInstanceUID=image.SOPInstanceUID)
    series = item(SeriesInstanceUID=image.SeriesInstanceUID)
    if modality == "PR":
        series.ReferencedImageSequence = Sequence([named])
        ds.ReferencedSeriesSequence = Sequence([series])
        return ds
    series.ReferencedSOPSequence = Sequence([named])
    study = item(StudyInstanceUID=image.StudyInstanceUID, ReferencedSeriesSequence=[series])
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    ds.ValueType = "CONTAINER"
    ds.ContentSequence = Sequence([item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[named])])
    return ds


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize(("sop_class", "modality"), [("88.11", "SR"), ("88.59", "KO"), ("11.1", "PR")])
def test_what_another_study_says_of_an_image_still_names_it(policy: Policy, sop_class: str, modality: str) -> None:
    key = bytes(range(32))
    source = planted.slice_of_ct()
    image = Deidentifier(policy, Pseudonyms(key, "project")).deidentify(source).dataset
    other = Deidentifier(policy, Pseudonyms(key, "project")).deidentify(referring(sop_class, modality, source)).dataset
    if modality == "PR":
        series = other.ReferencedSeriesSequence[0]
        named = [series.ReferencedImageSequence[0]]
    else:
        study = other.CurrentRequestedProcedureEvidenceSequence[0]
        assert study.StudyInstanceUID == image.StudyInstanceUID
        series = study.ReferencedSeriesSequence[0]
        named = [series.ReferencedSOPSequence[0], other.ContentSequence[0].ReferencedSOPSequence[0]]
    assert series.SeriesInstanceUID == image.SeriesInstanceUID
    assert {one.ReferencedSOPInstanceUID for one in named} == {image.SOPInstanceUID}
    assert other.PatientID == image.PatientID
