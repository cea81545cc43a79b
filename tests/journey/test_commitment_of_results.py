"""Orthanc commits to the results that it took, in an association of its own to the node; a node that is killed meanwhile hears it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.study import CommitmentState, DeliveryState, WorkRow, WorkState
from tests import tools
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, free_port, storescu


def is_taken(work: WorkRow) -> bool:
    """Whether everything was sent: a work is not done then."""
    return bool(work.deliveries) and {one.state for one in work.deliveries} == {DeliveryState.CONFIRMED}


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_orthanc_commits_to_results(tmp_path: Path, killed: bool) -> None:
    tools.require("storescu")
    port = free_port()
    paths, _ = write_study(tmp_path / "study", f"committed {killed}")
    orthanc = Orthanc(tmp_path / "orthanc", modalities={"node": ("DICOMNODE", "127.0.0.1", port)}).start()
    try:
        settings = destination("pacs", orthanc.ae_title, orthanc.dicom_port) + "storage_commitment = true\n"
        node = RunningNode(tmp_path / "node", f"{settings}\n[listen]\nport = {port}\n")
        with node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            (before,) = node.wait_for_work(90, ended=is_taken)
            if killed:
                node.kill()
                node.start()
            told = node.wait_for_event("pledge.ended", 90)
            (work,) = node.wait_for_work(30)
        assert before.state is WorkState.DELIVERING  # done is what is committed
        assert (told["state"], told["missing"]) == ("committed", 0)
        assert work.state is WorkState.DONE
        assert {one.commitment for one in work.deliveries} == {CommitmentState.COMMITTED}
        assert len(orthanc.instances()) == len(work.deliveries)
    finally:
        orthanc.stop()
