"""Matching of the small archive (PS3.4 C.2.2.2), and what it does with files and faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicomnode.encoded import encode_dataset, encode_part10
from dicomnode.errors import StorageError, StudyError
from dicomnode.network.archive import Archive, matches
from dicomnode.network.intake import Peer, ReceivedObject
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object

PEER = Peer(calling_ae_title="A", called_ae_title="B", address="127.0.0.1", association_id="00")


@pytest.mark.parametrize(
    ("keyword", "wanted", "found", "expected"),
    [
        ("PatientID", "", "anything", True),
        ("PatientID", "P-1", "P-1", True),
        ("PatientID", "P-1", "P-12", False),
        ("PatientID", "P-*", "P-12", True),
        ("PatientID", "P-?", "P-12", False),
        ("PatientID", "P.1", "Px1", False),
        ("PatientName", "test*", "Test^One", True),
        ("PatientID", "p-1", "P-1", False),
        ("StudyInstanceUID", "1.2\\1.3", "1.3", True),
        ("StudyInstanceUID", "1.2*", "1.23", False),
        ("ModalitiesInStudy", "CT", "CT\\SEG", True),
        ("StudyDate", "20200101-20201231", "20200615", True),
        ("StudyDate", "20200101-", "20191231", False),
        ("StudyDate", "-20200101", "20191231", True),
        ("StudyDate", "-20200101", "20200102", False),
        ("StudyDate", "-20200101", "", False),
        ("QueryRetrieveLevel", "STUDY", "", True),
    ],
)
def test_matching(keyword: str, wanted: str, found: str, expected: bool) -> None:
    assert matches(keyword, wanted, found) is expected


def received(dataset: Dataset, encoded: bytes | None = None) -> tuple[ReceivedObject, bytes]:
    one = ReceivedObject(
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        study_instance_uid=str(dataset.StudyInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=EXPLICIT_LITTLE,
        modality="OT",
        peer=PEER,
    )
    return one, encode_dataset(dataset, EXPLICIT_LITTLE) if encoded is None else encoded


def query(**values: str) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def test_studies_are_summed_up(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for number in range(3):
        archive.store(*received(small_object(f"1.2.3.{number}", series_instance_uid=f"1.2.3.{number % 2}")))
    asked = query(
        QueryRetrieveLevel="STUDY",
        StudyInstanceUID="",
        ModalitiesInStudy="",
        NumberOfStudyRelatedInstances="",
        NumberOfStudyRelatedSeries="",
        StudyDescription="",
    )
    (answer,) = archive.find("STUDY", asked)
    assert (answer.NumberOfStudyRelatedInstances, answer.NumberOfStudyRelatedSeries) == (3, 2)
    assert (answer.ModalitiesInStudy, answer.StudyDescription) == ("OT", None)
    assert list(archive.find("PATIENT", asked)) == []
    asked = query(SeriesInstanceUID="1.2.3.0", NumberOfSeriesRelatedInstances="")
    assert [one.NumberOfSeriesRelatedInstances for one in archive.find("SERIES", asked)] == [2]


def test_what_cannot_be_parsed_leaves_no_file(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    with pytest.raises(StudyError):
        archive.store(*received(small_object(), b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_storage_failure(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "gone")
    with pytest.raises(StorageError) as caught:
        archive.store(*received(small_object()))
    assert caught.value.code == "storage-failed"


def test_file_names_tell_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    dataset = small_object("1.2.3.4567")
    archive.store(*received(dataset))
    (path,) = archive.files()
    assert "4567" not in path.name
    assert path.read_bytes() == encode_part10(dataset, transfer_syntax_uid=EXPLICIT_LITTLE)
