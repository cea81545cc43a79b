"""A node whose receivers are processes, and real senders: one study over several associations is one study, all the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicomnode.network.archive import Archive
from dicomnode.study import WorkState
from tests import tools
from tests.journey.inside import Inside
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import storescu


@pytest.mark.parametrize("receivers", [1, 2])
def test_a_study_over_four_associations_of_dcmtk_has_one_set_of_results(tmp_path: Path, receivers: int) -> None:
    tools.require("storescu")
    archive = Archive(tmp_path / "archive")
    _, port = archive.start()
    settings = f"[intake]\nreceivers = {receivers}\n" + destination("pacs", "ARCHIVE", port)
    paths, who = write_study(tmp_path / "study", f"over-four-{receivers}")
    try:
        with RunningNode(tmp_path / "node", settings) as node, ThreadPoolExecutor(4) as pool:
            sent = pool.map(lambda part: storescu(node.port, *paths[part::4], called="DICOMNODE"), range(4))
            assert [one.returncode for one in sent] == [0] * 4
            (work,) = node.wait_for_work()
            assert work.state is WorkState.DONE, work
            (study,) = node.studies()
            assert (study.instances, study.revision, len(study.works)) == (len(paths), 1, 1)
            assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
            pids = [event["pid"] for event in node.events if event["event"] == "receiver.started"]
            assert len(pids) == receivers
            assert node.terminate() == 0
            assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            assert [event for event in node.events if event.get("level") == "error"] == []
            assert who.name.split("^")[0] not in node.log()
    finally:
        archive.stop()
    assert len(archive.files()) == 4, "one SEG, one SR, one key image and its selection"
