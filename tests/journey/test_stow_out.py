"""Results go to a DICOMweb destination; one that is down gets them when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests import tools
from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, storescu


@pytest.mark.slow
def test_results_go_out_by_stow_also_after_an_outage(tmp_path: Path) -> None:
    plugin = tools.require_file("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", setup="make setup")
    orthanc = Orthanc(tmp_path / "orthanc", plugins=[plugin])
    paths, who = write_study(tmp_path / "study", "stow")
    settings = (
        f'[[destinations]]\nname = "web"\nurl = "http://127.0.0.1:{orthanc.http_port}/dicom-web"\n'
        "[delivery]\nfirst_retry_seconds = 1\ncircuit_failures = 1\n"
    )
    with RunningNode(tmp_path / "node", settings) as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        assert node.wait_for_event("circuit.opened", 90, destination="web")["reason"] == "peer-unreachable"
        orthanc.start()
        try:
            (work,) = node.wait_for_work(90)
            shown = [orthanc.get(f"/instances/{one}/simplified-tags") for one in orthanc.instances()]
        finally:
            orthanc.stop()
    assert work.state is WorkState.DONE
    assert {one["StudyInstanceUID"] for one in shown} == {who.uid("study")}
    assert len(shown) == len(work.deliveries)
    assert {one.status for one in work.deliveries} == {0}
