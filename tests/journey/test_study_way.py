"""One study all the way with real neighbours: Orthanc and DCMTK send, the node works, Orthanc and dcmqrscp hold results."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.study import FINAL_STATES, DeliveryState, InstanceState, WorkRow, WorkState
from tests import tools
from tests.journey.inside import Inside
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import Dcmqrscp, Orthanc, dcmsend, free_port, storescu, wait_for

ROUTING = """
function OnStableSeries(seriesId, tags, metadata)
  if tags['Modality'] == 'CT' then
    RestApiPost('/modalities/node/store', DumpJson({Resources = {seriesId}, Synchronous = false}))
  end
end
"""


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, RunningNode]]:
    """An Orthanc that routes every stable CT study to a node, which answers into the same Orthanc."""
    tools.require("Orthanc")
    folder = tmp_path_factory.mktemp("routed")
    port = free_port()
    orthanc = Orthanc(folder / "orthanc", lua=ROUTING, modalities={"node": ("DICOMNODE", "127.0.0.1", port)})
    settings = f"[listen]\nport = {port}\n" + destination("orthanc", "ORTHANC", orthanc.dicom_port)
    orthanc.start()
    try:
        with RunningNode(folder / "node", settings, by_itself=True) as node:
            yield orthanc, node
    finally:
        orthanc.stop()


def find_series(port: int, ae_title: str, study_instance_uid: str) -> list[dict[str, str]]:
    """Series of a study, by C-FIND."""
    peer = Requestor(Destination(name="pacs", ae_title=ae_title, host="127.0.0.1", port=port), "TEST")
    query = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": "", "Modality": "", "SeriesDescription": ""}
    return peer.find("SERIES", query)


def modalities(port: int, ae_title: str, study_instance_uid: str) -> list[str]:
    """Modalities of the series of a study, sorted."""
    return sorted(item["Modality"] for item in find_series(port, ae_title, study_instance_uid))


def results_of(orthanc: Orthanc, study_instance_uid: str) -> dict[str, pydicom.Dataset]:
    """Result objects of a study by modality; exactly one each."""
    found: dict[str, Any] = {}
    for modality in ("SEG", "SR", "OT"):
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid, "Modality": modality}}
        names = orthanc.post("/tools/find", query)
        assert len(names) == 1, f"{len(names)} objects of modality {modality}"
        found[modality] = pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{names[0]}/file")))
    return found


def test_orthanc_routes_a_study_and_gets_its_results(routed: tuple[Orthanc, RunningNode], tmp_path: Path) -> None:
    orthanc, node = routed
    paths, who = write_study(tmp_path, "routed", name="Müller^Jörg", patient_id="R-1", accession_number="ACC7")

    orthanc.upload(paths)
    work = node.wait_for_work()[0]

    assert work.state is WorkState.DONE, work
    assert {delivery.status for delivery in work.deliveries} == {0}
    assert modalities(orthanc.dicom_port, "ORTHANC", who.uid("study")) == ["CT", "KO", "OT", "SEG", "SR"]
    source = pydicom.dcmread(paths[0])
    for result in results_of(orthanc, who.uid("study")).values():
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "AccessionNumber"):
            assert result[keyword].value == source[keyword].value, keyword
        assert result.SeriesDescription.startswith("AI ")
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
    segmentation = results_of(orthanc, who.uid("study"))["SEG"]
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    sent = {pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in paths}
    referenced = {
        item.ReferencedSOPInstanceUID
        for frame in segmentation.PerFrameFunctionalGroupsSequence
        for derivation in frame.DerivationImageSequence
        for item in derivation.SourceImageSequence
    }
    assert referenced <= sent
    assert np.unpackbits(np.frombuffer(segmentation.PixelData, np.uint8)).sum() > 1000


def test_the_same_study_again_changes_nothing(routed: tuple[Orthanc, RunningNode], tmp_path: Path) -> None:
    orthanc, node = routed
    tools.require("storescu")
    paths, who = write_study(tmp_path / "study", "again", patient_id="R-2")
    later, marker = write_study(tmp_path / "later", "after", patient_id="R-3")
    inside = Inside(node.tree)
    key = inside.study_key(who.uid("study"))
    assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
    work_of(node, key)
    first = {name: value.SOPInstanceUID for name, value in results_of(orthanc, who.uid("study")).items()}

    assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
    wait_for(lambda: len(inside.instances(who.uid("study"), InstanceState.DUPLICATE)) == len(paths), what="duplicates")
    # Whatever the second sending begins, begins before a study that is sent after it: that one's end is the moment.
    assert storescu(node.port, *later, called="DICOMNODE").returncode == 0
    work_of(node, inside.study_key(marker.uid("study")))

    (row,) = [row for row in node.studies() if row.study_key == key]
    assert (row.revision, len(row.works), row.instances) == (1, 1, len(paths))
    assert work_of(node, key).state is WorkState.DONE
    assert {name: value.SOPInstanceUID for name, value in results_of(orthanc, who.uid("study")).items()} == first
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": who.uid("study")}}
    assert len(orthanc.post("/tools/find", query)) == 4, "the images themselves went to the node alone"
    begun = [e for e in node.events if e["event"] == "study.started" and e["study"] == key]
    sent = [e for e in node.events if e["event"] == "delivery.confirmed" and e["work"].startswith(key)]
    assert (len(begun), len(sent)) == (1, 4), node.log()


def work_of(node: RunningNode, study_key: str) -> WorkRow:
    """The one work of a study, when it has ended."""
    (work,) = node.wait_for_work(ended=lambda work: work.key.study_key == study_key and work.state in FINAL_STATES)
    return work


def test_dcmsend_sends_and_dcmqrscp_holds_the_results(tmp_path: Path) -> None:
    tools.require("dcmsend")
    tools.require("dcmqrscp")
    paths, who = write_study(tmp_path / "study", "dcmtk")
    archive = Dcmqrscp(tmp_path / "archive")
    archive.start()
    try:
        with RunningNode(tmp_path / "node", destination("archive", "DCMQRSCP", archive.dicom_port)) as node:
            assert dcmsend(node.port, *paths, called="DICOMNODE").returncode == 0
            work = node.wait_for_work()[0]

            assert work.state is WorkState.DONE, node.log()
            found = find_series(archive.dicom_port, "DCMQRSCP", who.uid("study"))
            assert sorted(item["Modality"] for item in found) == ["KO", "OT", "SEG", "SR"]
            assert node.terminate() == 0
    finally:
        archive.stop()


def test_a_destination_that_is_down_gets_everything_when_it_is_back(tmp_path: Path) -> None:
    tools.require("dcmqrscp")
    paths, who = write_study(tmp_path / "study", "down")
    archive = Dcmqrscp(tmp_path / "archive")
    settings = destination("archive", "DCMQRSCP", archive.dicom_port)
    with RunningNode(tmp_path / "node", settings) as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        node.wait_for_event("delivery.waiting", reason="peer-unreachable")
        (work,) = node.wait_for_work(ended=lambda work: work.state is WorkState.DELIVERING)
        assert {delivery.state for delivery in work.deliveries} == {DeliveryState.WAITING}

        archive.start()
        try:
            work = node.wait_for_work()[0]
            assert work.state is WorkState.DONE
            assert modalities(archive.dicom_port, "DCMQRSCP", who.uid("study")) == ["KO", "OT", "SEG", "SR"]
        finally:
            archive.stop()


def test_a_late_image_opens_a_new_revision(tmp_path: Path) -> None:
    tools.require("dcmqrscp")
    paths, _ = write_study(tmp_path / "study", "late")
    archive = Dcmqrscp(tmp_path / "archive")
    archive.start()
    try:
        with RunningNode(tmp_path / "node", destination("archive", "DCMQRSCP", archive.dicom_port)) as node:
            assert storescu(node.port, *paths[:-4], called="DICOMNODE").returncode == 0
            node.wait_for_work()
            assert storescu(node.port, *paths[-4:], called="DICOMNODE").returncode == 0
            works = node.wait_for_work(count=2)
            assert [work.key.revision for work in works] == [1, 2]
            assert {work.state for work in works} == {WorkState.DONE}
    finally:
        archive.stop()
