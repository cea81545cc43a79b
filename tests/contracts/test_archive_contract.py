"""What every archive does that the node sends to: the one that ships, Orthanc, and dcmqrscp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dicomnode.encoded import encode_dataset, split_part10
from dicomnode.network.archive import Archive
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.sections import Destination
from tests.neighbours import HOST, Dcmqrscp, Orthanc
from tests.unit.network.samples import EXPLICIT_LITTLE, IMPLICIT_LITTLE, small_object


class Where(NamedTuple):
    ae_title: str
    port: int


@pytest.fixture(scope="module", params=["archive", "orthanc", "dcmqrscp"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Where]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "archive":
        own = Archive(folder)
        port = own.start()[1]
        yield Where("ARCHIVE", port)
        own.stop()
        return
    neighbour = Orthanc(folder) if request.param == "orthanc" else Dcmqrscp(folder)
    neighbour.start()
    yield Where(neighbour.ae_title, neighbour.dicom_port)
    neighbour.stop()


@pytest.fixture
def requestor(archive: Where) -> Requestor:
    destination = Destination(
        name="archive", ae_title=archive.ae_title, host=HOST, port=archive.port, timeout_seconds=20
    )
    return Requestor(destination, "DICOMNODE")


def outgoing(study: str, number: int, transfer_syntax_uid: str = EXPLICIT_LITTLE) -> OutgoingObject:
    dataset = small_object(f"{study}.1.{number}", study_instance_uid=study, series_instance_uid=f"{study}.1")
    return OutgoingObject(
        result_id=f"r{number}",
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=transfer_syntax_uid,
        encoded=encode_dataset(dataset, transfer_syntax_uid),
    )


def test_it_answers_an_echo(requestor: Requestor) -> None:
    requestor.echo()


def test_what_was_stored_is_found_at_every_level(requestor: Requestor) -> None:
    study = "1.2.826.0.1.3680043.8.498.71"
    outcomes = requestor.store([outgoing(study, 1), outgoing(study, 2, IMPLICIT_LITTLE)])
    assert [(outcome.status, outcome.error) for outcome in outcomes] == [(0, None), (0, None)]
    studies = requestor.find("STUDY", {"StudyInstanceUID": study, "PatientID": ""})
    assert [(one["StudyInstanceUID"], one["PatientID"]) for one in studies] == [(study, "P-1")]
    series = requestor.find("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": "", "Modality": ""})
    assert [(one["SeriesInstanceUID"], one["Modality"]) for one in series] == [(f"{study}.1", "OT")]
    images = requestor.find(
        "IMAGE", {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "SOPInstanceUID": ""}
    )
    assert sorted(one["SOPInstanceUID"] for one in images) == [f"{study}.1.1", f"{study}.1.2"]


def test_storing_again_changes_nothing(requestor: Requestor) -> None:
    study = "1.2.826.0.1.3680043.8.498.72"
    for _ in range(2):
        (outcome,) = requestor.store([outgoing(study, 1)])
        assert (outcome.status, outcome.error) == (0, None)
    images = requestor.find(
        "IMAGE", {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "SOPInstanceUID": ""}
    )
    assert [one["SOPInstanceUID"] for one in images] == [f"{study}.1.1"]


def test_wildcards_match_and_others_do_not(requestor: Requestor) -> None:
    study = "1.2.826.0.1.3680043.8.498.73"
    requestor.store([outgoing(study, 1)])
    found = requestor.find("STUDY", {"StudyInstanceUID": study, "PatientName": "Nobody*"})
    assert found == []
    found = requestor.find("STUDY", {"StudyInstanceUID": study, "PatientName": "Test*", "PatientID": "P-?"})
    assert [one["StudyInstanceUID"] for one in found] == [study]


def test_a_study_that_is_not_there_is_not_found(requestor: Requestor) -> None:
    assert requestor.find("STUDY", {"StudyInstanceUID": "1.2.826.0.1.3680043.8.498.404"}) == []


def test_the_own_archive_keeps_the_bytes(tmp_path: Path) -> None:
    own = Archive(tmp_path / "files")
    port = own.start()[1]
    one = outgoing("1.2.826.0.1.3680043.8.498.74", 1)
    try:
        Requestor(Destination(name="a", ae_title="ARCHIVE", host=HOST, port=port), "NODE").store([one])
        (path,) = own.files()
        transfer_syntax_uid, encoded = split_part10(path.read_bytes())
        assert (transfer_syntax_uid, bytes(encoded)) == (EXPLICIT_LITTLE, one.encoded)
    finally:
        own.stop()
    again = Archive(tmp_path / "files")
    port = again.start()[1]
    try:
        requestor = Requestor(Destination(name="a", ae_title="ARCHIVE", host=HOST, port=port), "NODE")
        found = requestor.find("IMAGE", {"SOPInstanceUID": one.sop_instance_uid})
        assert [match["SOPInstanceUID"] for match in found] == [one.sop_instance_uid]
    finally:
        again.stop()
