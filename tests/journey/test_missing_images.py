"""Images that were announced and did not come are fetched from a real PACS, and the study is whole."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.presentation import build_context

from dicomnode.network.procedures import INSTANCE_AVAILABILITY
from dicomnode.network.transport import Entity
from dicomnode.study import WorkState
from tests.journey.inside import Inside, send
from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.journey.test_priors import fill, pacs, source
from tests.neighbours import HOST, free_port


def announce(node: RunningNode, study: str, series: str, images: list[str]) -> None:
    """An Instance Availability Notification (PS3.4 R) that names the images."""
    data = Dataset()
    data.ReferencedPerformedProcedureStepSequence = []
    data.StudyInstanceUID = UID(study)
    one = Dataset()
    one.SeriesInstanceUID = UID(series)
    one.ReferencedSOPSequence = []
    for uid in images:
        item = Dataset()
        item.ReferencedSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
        item.ReferencedSOPInstanceUID = UID(uid)
        item.InstanceAvailability = "ONLINE"
        item.RetrieveAETitle = "PACS"
        one.ReferencedSOPSequence.append(item)
    data.ReferencedSeriesSequence = [one]
    association = Entity("PACS").associate(HOST, node.port, [build_context(INSTANCE_AVAILABILITY)])
    assert association.is_established
    status, _ = association.send_n_create(data, INSTANCE_AVAILABILITY, "1.2.840.99.7")
    association.release()
    assert status.Status == 0


def test_a_gap_is_filled_before_the_study_is_called_incomplete(tmp_path: Path) -> None:
    uids: list[str] = []
    series: set[str] = set()

    def note(_: int, image: Dataset) -> None:
        uids.append(str(image.SOPInstanceUID))
        series.add(str(image.SeriesInstanceUID))

    paths, who = write_study(tmp_path / "study", "gap", change=note)
    with pacs("orthanc-get", tmp_path / "pacs", free_port()) as (place, dicom):
        fill(dicom, "ORTHANC", paths)
        with RunningNode(tmp_path / "node", source(place) + "[completion]\nevidence_seconds = 600\n") as node:
            announce(node, who.uid("study"), series.pop(), uids)
            send(node, [path for number, path in enumerate(paths) if number not in (10, 11, 12)])
            found = node.wait_for_event("study.completed")
            node.wait_for_event("study.whole")
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
            log, rows = node.log(), Inside(node.tree).instances(who.uid("study"))
            node.terminate()
    assert found["objects"] == 3
    assert len(rows) == len(paths)
    assert "study.incomplete" not in log
    assert work.state is WorkState.DONE
