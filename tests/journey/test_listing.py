"""A real PACS is asked which images a study has: results do not wait for the quiet time, and what was lost is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests.journey.inside import Inside, send
from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.journey.test_priors import fill, pacs, source
from tests.neighbours import free_port


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "quiet_seconds", "lost"), [("orthanc-get", 600, ()), ("orthanc-web", 12, (10, 11, 12))]
)
def test_nobody_announces_anything(kind: str, quiet_seconds: int, lost: tuple[int, ...], tmp_path: Path) -> None:
    """Ten minutes of silence are not waited for where all came; where three images were lost they come."""
    paths, who = write_study(tmp_path / "study", "listing")
    with pacs(kind, tmp_path / "pacs", free_port()) as (place, dicom):
        fill(dicom, "ORTHANC", paths)
        settings = (
            source(place, listing=True) + f"[completion]\nquiet_seconds = {quiet_seconds}\nevidence_seconds = 600\n"
        )
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, [path for number, path in enumerate(paths) if number not in lost])
            whole = node.wait_for_event("study.whole")
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
            log, rows = node.log(), Inside(node.tree).instances(who.uid("study"))
            listed = [event["missing"] for event in node.events if event["event"] == "study.listed"]
            node.terminate()
    assert whole["instances"] == len(rows) == len(paths)
    assert listed == ([len(lost), 0] if lost else [0])
    assert "study.incomplete" not in log
    assert work.reason is None
    assert who.uid("study") not in log
