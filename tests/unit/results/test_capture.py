"""The key image object."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.results import capture
from dicomnode.texts import Words
from tests.unit.results import material


def build(rgb: np.ndarray, **options: object) -> tuple[Dataset, list[Dataset]]:
    sources = material.copies(material.source_series())
    options = {"key_slices": (3, 1, 1), **options}
    return capture.build(rgb, sources, material.findings_for(), material.context_for(), **options), sources  # type: ignore[arg-type]


def test_picture_and_references() -> None:
    rgb = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    dataset, sources = build(rgb)
    assert (dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation) == (5, 7, "RGB")
    assert len(dataset.PixelData) == 106
    assert np.array_equal(np.frombuffer(dataset.PixelData, np.uint8)[:105].reshape(5, 7, 3), rgb)
    assert dataset.PixelData[-1] == 0
    named = [item.ReferencedSOPInstanceUID for item in dataset.SourceImageSequence]
    assert named == [sources[1].SOPInstanceUID, sources[3].SOPInstanceUID]
    assert (dataset.BurnedInAnnotation, dataset.ConversionType) == ("NO", "WSD")
    assert dataset.ImageComments == "AI result, not reviewed"
    assert dataset.LossyImageCompression == "00"
    assert "FrameOfReferenceUID" not in dataset


def test_frames_are_named() -> None:
    sources = material.copies(material.source_series())
    for number, one in enumerate(sources, start=1):
        one.SOPInstanceUID, one.ReferencedFrameNumber = sources[0].SOPInstanceUID, number
    rgb = np.zeros((4, 4, 3), np.uint8)
    dataset = capture.build(rgb, sources, material.findings_for(), material.context_for(), key_slices=(1, 3))
    assert [int(item.ReferencedFrameNumber) for item in dataset.SourceImageSequence] == [2, 4]


def test_burned_in_annotation_tells_the_truth() -> None:
    dataset, _ = build(np.zeros((4, 4, 3), np.uint8), shows_identity=True)
    assert dataset.BurnedInAnnotation == "YES"


def test_a_picture_of_lossy_images_is_lossy_and_in_the_language_of_the_results() -> None:
    sources = material.copies(material.source_series())
    sources[0].LossyImageCompression, sources[0].LossyImageCompressionRatio = "01", "10"
    context = dataclasses.replace(material.context_for(), words=Words("de"))
    rgb = np.zeros((4, 4, 3), np.uint8)
    dataset = capture.build(rgb, sources, material.findings_for(), context, key_slices=(1,))
    assert (dataset.LossyImageCompression, dataset.LossyImageCompressionRatio) == ("01", 10)
    assert dataset.ImageComments == "KI-Ergebnis, nicht geprüft"
    assert dataset.DerivationDescription.startswith("Schlüsselschichten")


def test_a_picture_of_no_slice_names_none() -> None:
    dataset, _ = build(np.zeros((4, 4, 3), np.uint8), key_slices=())
    assert "SourceImageSequence" not in dataset


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(rgb: np.ndarray) -> None:
    with pytest.raises(StudyError, match="key-image-shape"):
        build(rgb)
