"""A localizer that comes when results are at the PACS: the study has a new revision, and the PACS no second results."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from dicomnode.study import FINAL_STATES, WorkState
from tests.journey.inside import send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study


def localizer(index: int, image: Dataset) -> None:
    image.SeriesInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.77.{index}"
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def test_the_pacs_gets_no_second_results(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "late")
    scouts, _ = write_study(tmp_path / "scouts", "late", change=localizer)
    with (
        Recorder() as pacs,
        RunningNode(
            tmp_path / "node",
            destination("pacs", pacs.ae_title, pacs.port) + 'report = "none"\n[completion]\nquiet_seconds = 1\n',
        ) as node,
    ):
        send(node, paths)
        node.wait_for_work(ended=lambda one: one.state in FINAL_STATES)
        before = pacs.digests()
        assert before
        send(node, scouts[:1])
        works = node.wait_for_work(ended=lambda one: one.key.revision == 2 and one.state in FINAL_STATES)
        assert [(one.key.revision, one.state) for one in works if one.key.revision == 2] == [(2, WorkState.DONE)]
        node.wait_for_event("work.unchanged", revision=1)
        node.wait_for_event("study.settled", revision=2)
        assert node.terminate() == 0
    assert pacs.digests() == before
    assert {len(digests) for digests in before.values()} == {1}
