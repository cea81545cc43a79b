"""No result leaves without its proofs: one is spoilt on its way through `encode_results`, and nothing comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.forms import SOP_CLASSES, Form, Variant
from dicomnode.results import encode, report
from dicomnode.results.identity import restore
from dicomnode.results.parametric_map import PROBABILITY, VoxelMap
from dicomnode.study import ResultRole
from tests.unit.results import material

Spoil = Callable[[Dataset], None]
MODALITIES = {
    ResultRole.SEGMENTATION: "SEG",
    ResultRole.REPORT: "SR",
    ResultRole.KEY_IMAGE: "OT",
    ResultRole.KEY_OBJECTS: "KO",
}


def another_patient(result: Dataset) -> None:
    result.PatientID = "A-4712"


def one_slice_off(result: Dataset) -> None:
    place = result.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    x, y, z = place.ImagePositionPatient
    place.ImagePositionPatient = [x, y, z + 2.5]


def a_reference_to_nothing(result: Dataset) -> None:
    for item in result.iterall():
        if item.keyword == "ReferencedSOPInstanceUID":
            item.value = "1.2.3.4.5"
            return


def a_stray(keyword: str) -> Spoil:
    """A valid UID that is neither of the source nor minted nor the standard's: nobody's pseudonym, or somebody's."""

    def spoil(result: Dataset) -> None:
        if keyword == "private":
            item = Dataset()
            item.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "UI", "2.25.4711")
            result.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0].update(item)
            return
        for element in result.iterall():
            if element.keyword == keyword:
                element.value = "2.25.4711"
                return
        setattr(result, keyword, "2.25.4711")

    return spoil


def without_a_type_1_element(result: Dataset) -> None:
    result.SeriesInstanceUID = ""


def a_segment_under_another_tracking_uid(result: Dataset) -> None:
    first, second = result.SegmentSequence[:2]
    first.TrackingUID, second.TrackingUID = second.TrackingUID, first.TrackingUID


def a_pseudonym_left(result: Dataset) -> None:
    result.SeriesInstanceUID = material.pseudonym(str(material.source_series()[0].SeriesInstanceUID))


@pytest.mark.parametrize(
    ("role", "spoil", "code"),
    [
        *((role, another_patient, "result-identity-differs") for role in MODALITIES),
        (ResultRole.SEGMENTATION, one_slice_off, "result-geometry-differs"),
        (ResultRole.REPORT, a_reference_to_nothing, "result-reference-dangling"),
        *(
            (role, a_stray(keyword), "result-reference-dangling")
            for role in MODALITIES
            for keyword in (
                "SOPInstanceUID",
                "DeviceUID",
                "SynchronizationFrameOfReferenceUID",
                "TransactionUID",
                "private",
            )
        ),
        (ResultRole.SEGMENTATION, a_stray("DimensionOrganizationUID"), "result-reference-dangling"),
        (ResultRole.REPORT, without_a_type_1_element, "result-invalid"),
        (ResultRole.SEGMENTATION, a_segment_under_another_tracking_uid, "result-invalid"),
        (ResultRole.KEY_IMAGE, a_pseudonym_left, "result-invalid"),
    ],
)
def test_a_spoilt_result_does_not_leave(
    monkeypatch: pytest.MonkeyPatch, role: ResultRole, spoil: Spoil, code: str
) -> None:
    originals = material.source_series()
    spoilt: list[Dataset] = []

    def restore_and_spoil(dataset: Dataset, *rest: Any) -> Dataset:
        restored = restore(dataset, *rest)
        if restored.Modality == MODALITIES[role]:
            spoil(restored)
            spoilt.append(restored)
        return restored

    for module in (encode, report):
        monkeypatch.setattr(module, "restore", restore_and_spoil)
    with pytest.raises(StudyError) as caught:
        encode.encode_results(material.input_for(originals), material.context_for(), material.identity_of(originals))
    assert caught.value.code == code
    assert len(spoilt) == 1


def test_a_map_with_other_values_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    originals, labels = material.source_series(), material.labels_for()
    chosen = Variant(role=ResultRole.PARAMETRIC_MAP, form=Form.MAP)
    values = VoxelMap(values=labels / 2, quantity=PROBABILITY, label="Lungs")
    given = material.input_for(originals, labels, voxel_map=values, variants=(chosen,))
    rest = material.context_for(), material.identity_of(originals)
    assert len(encode.encode_results(given, *rest)) == 1

    def restore_and_spoil(dataset: Dataset, *rest: Any) -> Dataset:
        restored = restore(dataset, *rest)
        if restored.get("SOPClassUID") == SOP_CLASSES[Form.MAP]:
            restored.PixelData = restored.PixelData[:-2] + b"\x01\x00"
        return restored

    monkeypatch.setattr(encode, "restore", restore_and_spoil)
    with pytest.raises(StudyError, match="result-geometry-differs"):
        encode.encode_results(given, *rest)
