"""An RT Structure Set encloses its masks pixel by pixel, and one that was spoilt on its way does not leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import coding
from dicomnode.errors import StudyError
from dicomnode.forms import Form, Variant
from dicomnode.results import checks, encode, rtstruct
from dicomnode.results.checks_contours import enclosed
from dicomnode.results.identity import restore
from dicomnode.results.rtstruct import rings
from dicomnode.results.sources import read_sources
from dicomnode.study import ResultRole
from tests.unit.results import material

RTSTRUCT = Variant(role=ResultRole.SEGMENTATION, form=Form.RTSTRUCT)
Spoil = Callable[[Dataset], None]


def encoded(originals: list[Dataset], labels: NDArray[np.uint8] | None = None) -> bytes:
    what = material.input_for(originals, labels, variants=(RTSTRUCT,))
    (result,) = encode.encode_results(what, material.context_for(), material.identity_of(originals))
    return bytes(result.encoded)


def framed(count: int = 6) -> list[Dataset]:
    """Planes of one multi-frame image."""
    planes = material.source_series(count)
    for number, one in enumerate(planes, start=1):
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2.1", planes[0].SOPInstanceUID
        one.ReferencedFrameNumber = number
    return planes


def first_contour(structures: Dataset) -> Dataset:
    contour: Dataset = structures.ROIContourSequence[0].ContourSequence[0]
    return contour


def moved(structures: Dataset, axis: int, distance: float) -> None:
    contour = first_contour(structures)
    values = np.array(contour.ContourData, dtype=float)
    values[axis::3] += distance
    contour.ContourData = [f"{value:.3f}" for value in values]


def another_patient(structures: Dataset) -> None:
    structures.PatientID = "A-4712"


def approved(structures: Dataset) -> None:
    structures.ApprovalStatus = "APPROVED"


def label_without_warning(structures: Dataset) -> None:
    structures.StructureSetLabel = "PLAN"


def name_without_origin(structures: Dataset) -> None:
    structures.StructureSetROISequence[1].ROIName = "Left lung"


def drawn_by_hand(structures: Dataset) -> None:
    structures.StructureSetROISequence[1].ROIGenerationAlgorithm = "MANUAL"


def another_space(structures: Dataset) -> None:
    structures.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = structures.StudyInstanceUID


def region_in_another_space(structures: Dataset) -> None:
    structures.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = structures.StudyInstanceUID


def listed_images(structures: Dataset) -> list[Dataset]:
    (space,) = structures.ReferencedFrameOfReferenceSequence
    images = space.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence
    return list(images)


def image_left_out(structures: Dataset) -> None:
    (space,) = structures.ReferencedFrameOfReferenceSequence
    del space.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0].ContourImageSequence[0]


def image_of_another_class(structures: Dataset) -> None:
    listed_images(structures)[0].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def image_twice(structures: Dataset) -> None:
    first, second = listed_images(structures)[:2]
    first.ReferencedSOPInstanceUID = second.ReferencedSOPInstanceUID


def reference_to_nothing(structures: Dataset) -> None:
    first_contour(structures).ContourImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4.5"


def reference_to_the_study(structures: Dataset) -> None:
    first_contour(structures).ContourImageSequence[0].ReferencedSOPInstanceUID = structures.StudyInstanceUID


def reference_to_two(structures: Dataset) -> None:
    images = first_contour(structures).ContourImageSequence
    images.append(images[0])


def reference_to_the_next_slice(structures: Dataset) -> None:
    one, other = structures.ROIContourSequence[0].ContourSequence[:2]
    one.ContourImageSequence, other.ContourImageSequence = other.ContourImageSequence, one.ContourImageSequence


def reference_to_the_next_frame(structures: Dataset) -> None:
    first_contour(structures).ContourImageSequence[0].ReferencedFrameNumber += 1


def reference_to_no_frame(structures: Dataset) -> None:
    del first_contour(structures).ContourImageSequence[0].ReferencedFrameNumber


def off_its_plane(structures: Dataset) -> None:
    moved(structures, 2, 0.01)


def a_pixel_aside(structures: Dataset) -> None:
    moved(structures, 0, 0.8)


def two_thirds_of_a_pixel_aside(structures: Dataset) -> None:
    moved(structures, 1, 0.5)


def a_contour_less(structures: Dataset) -> None:
    del structures.ROIContourSequence[1].ContourSequence[-1]


def a_contour_twice(structures: Dataset) -> None:
    contours = structures.ROIContourSequence[1].ContourSequence
    contours.append(contours[0])


def colours_of_each_other(structures: Dataset) -> None:
    first, second = structures.ROIContourSequence
    first.ContourSequence, second.ContourSequence = second.ContourSequence, first.ContourSequence


def a_region_less(structures: Dataset) -> None:
    for sequence in ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence"):
        del structures[sequence].value[1]


def observed_in_another_order(structures: Dataset) -> None:
    structures.RTROIObservationsSequence[0].ReferencedROINumber = 2
    structures.RTROIObservationsSequence[1].ReferencedROINumber = 1


def the_same_number_twice(structures: Dataset) -> None:
    for sequence, keyword in (
        ("StructureSetROISequence", "ROINumber"),
        ("ROIContourSequence", "ReferencedROINumber"),
        ("RTROIObservationsSequence", "ReferencedROINumber"),
    ):
        setattr(structures[sequence].value[1], keyword, 1)


def open_outline(structures: Dataset) -> None:
    first_contour(structures).ContourGeometricType = "OPEN_PLANAR"


def points_miscounted(structures: Dataset) -> None:
    first_contour(structures).NumberOfContourPoints += 1


def a_line(structures: Dataset) -> None:
    contour = first_contour(structures)
    contour.NumberOfContourPoints, contour.ContourData = 2, list(contour.ContourData[:6])


INVALID, DANGLING, ELSEWHERE = "result-invalid", "result-reference-dangling", "result-geometry-differs"
SPOILT: list[tuple[Spoil, str, str | None]] = [
    (another_patient, "result-identity-differs", None),
    (approved, INVALID, "approval"),
    (label_without_warning, INVALID, "approval"),
    (name_without_origin, INVALID, "generation"),
    (drawn_by_hand, INVALID, "generation"),
    (another_space, INVALID, "frame-of-reference"),
    (region_in_another_space, INVALID, "frame-of-reference"),
    (image_left_out, DANGLING, "images"),
    (image_of_another_class, DANGLING, "images"),
    (image_twice, DANGLING, "images"),
    (reference_to_nothing, DANGLING, None),
    (reference_to_the_study, DANGLING, "contour"),
    (reference_to_two, DANGLING, "contour"),
    (reference_to_the_next_slice, ELSEWHERE, "plane"),
    (off_its_plane, ELSEWHERE, "plane"),
    (a_pixel_aside, ELSEWHERE, "mask"),
    (two_thirds_of_a_pixel_aside, ELSEWHERE, "mask"),
    (a_contour_less, ELSEWHERE, "mask"),
    (a_contour_twice, ELSEWHERE, "mask"),
    (colours_of_each_other, ELSEWHERE, "mask"),
    (a_region_less, ELSEWHERE, "regions"),
    (observed_in_another_order, INVALID, "regions"),
    (the_same_number_twice, INVALID, "regions"),
    (open_outline, INVALID, "contour"),
    (points_miscounted, INVALID, "contour"),
    (a_line, INVALID, "contour"),
]


def refusal(monkeypatch: pytest.MonkeyPatch, originals: list[Dataset], spoil: Spoil) -> tuple[str, Any]:
    """Code and check under which a structure set does not leave that was spoilt after its identity was restored."""

    def restore_and_spoil(dataset: Dataset, *rest: Any) -> Dataset:
        restored = restore(dataset, *rest)
        spoil(restored)
        return restored

    monkeypatch.setattr(encode, "restore", restore_and_spoil)
    with pytest.raises(StudyError) as caught:
        encoded(originals)
    return caught.value.code, caught.value.facts.get("check")


@pytest.mark.parametrize(("spoil", "code", "check"), SPOILT, ids=lambda value: getattr(value, "__name__", ""))
def test_a_spoilt_one_does_not_leave(
    monkeypatch: pytest.MonkeyPatch, spoil: Spoil, code: str, check: str | None
) -> None:
    assert refusal(monkeypatch, material.source_series(), spoil) == (code, check)


@pytest.mark.parametrize(
    ("spoil", "code", "check"),
    [(reference_to_the_next_frame, ELSEWHERE, "plane"), (reference_to_no_frame, DANGLING, "contour")],
)
def test_one_of_frames_that_was_spoilt_does_not_leave(
    monkeypatch: pytest.MonkeyPatch, spoil: Spoil, code: str, check: str
) -> None:
    encoded(framed())
    assert refusal(monkeypatch, framed(), spoil) == (code, check)


def pixels_of(found: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask that outlines enclose, point by point: the even and odd rule as the textbook has it."""
    mask = np.zeros(shape, dtype=bool)
    for ring in found:
        for row, column in np.ndindex(shape):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                    inside = not inside
            mask[row, column] ^= inside
    return mask


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.sampled_from([12, 40, 2000]))
def test_outlines_enclose_any_mask_exactly(seed: int, share: float, most: int) -> None:
    """Holes, islands in holes, corners that touch, and components that are parted for their points."""
    mask = np.random.default_rng(seed).random((9, 11)) < share
    found = list(rings(mask, most))
    assert np.array_equal(pixels_of(found, (9, 11)), mask)
    drawn = np.zeros_like(mask)
    for ring in found:
        assert len(ring) <= most
        drawn ^= enclosed(ring - 0.5, mask.shape)
    assert np.array_equal(drawn, mask)


def test_outlines_beyond_the_image_are_cut_at_its_edge() -> None:
    square = np.array([[-5.0, -5.0], [2.0, -5.0], [2.0, 2.5], [-5.0, 2.5]])
    expected = np.zeros((4, 4), dtype=bool)
    expected[:3, :2] = True
    assert np.array_equal(enclosed(square, (4, 4)), expected)
    assert enclosed(square - 20, (4, 4)).sum() == enclosed(square + 20, (4, 4)).sum() == 0
    assert enclosed(square * 100, (4, 4)).sum() == 16


def test_the_most_ragged_mask_is_written_in_numbers_of_64_kilobytes() -> None:
    originals = material.source_series(1, rows=128, columns=128)
    originals[0].ImagePositionPatient = ["-1234.567", "-1345.678", "-1456.789"]
    labels = (np.random.default_rng(1).random((1, 128, 128)) < 0.7).astype(np.uint8)
    data = encoded(originals, labels)
    structures = checks.decode(data)
    sizes = [
        len("\\".join(map(str, contour.ContourData)))
        for region in structures.ROIContourSequence
        for contour in region.ContourSequence
    ]
    assert 30_000 < max(sizes) < 65_534
    assert b"\x06\x30\x50\0DS" in data
    assert b"\x06\x30\x50\0UN" not in data, "which pydicom writes where a DS is too long"


def test_a_source_that_lies_nowhere_has_none() -> None:
    (flat,) = material.source_series(1)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID"):
        delattr(flat, keyword)
    with pytest.raises(StudyError) as caught:
        build([flat], material.labels_for()[3:4])
    assert caught.value.facts == {"check": "contours-nowhere"}


def test_nothing_has_none() -> None:
    with pytest.raises(StudyError, match="nothing-found"):
        build(material.source_series(), np.zeros((6, 40, 48), np.uint8))


def build(originals: list[Dataset], labels: NDArray[np.uint8]) -> Dataset:
    return rtstruct.build(labels, read_sources(originals), material.findings_for(), material.context_for())


def test_a_tumour_is_no_organ() -> None:
    lung, _ = material.findings_for().segments
    tumour = replace(lung, number=2, category=coding.sct("49755003", "Morphologically Altered Structure"))
    found = replace(material.findings_for(), segments=(lung, tumour))
    series = read_sources(material.copies(material.source_series()))
    structures = rtstruct.build(material.labels_for(), series, found, material.context_for())
    kinds = [item.RTROIInterpretedType for item in structures.RTROIObservationsSequence]
    assert kinds == ["ORGAN", ""]
