"""A network that hangs (a driver, a share): its work fails by its deadline, the node ends, and the next start works on."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import storescu

SETTINGS = "[completion]\nquiet_seconds = 1\ndeadline_seconds = 60\n"
#: The interpreter imports it at its start: the first stage of the network does not end while a file is there.
HANGING = """
import sys, threading, time
from pathlib import Path

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "dicomnode.service.node":
            sys.meta_path.remove(self)
            from dicomnode.workflow.stages import Stages
            infer = Stages._infer
            def hanging(self, key, work):
                flag = Path({flag!r})
                if flag.exists():
                    flag.unlink()
                    time.sleep(100000)
                return infer(self, key, work)
            Stages._infer = hanging
            overdue = Stages.overdue
            Stages.overdue = lambda self, seconds: overdue(self, 3.0)
        return None

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
def test_a_network_that_hangs_costs_its_work_and_no_other(tmp_path: Path) -> None:
    flag = tmp_path / "hang"
    flag.touch()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HANGING.format(flag=str(flag)))
    with Recorder() as pacs:
        settings = destination("pacs", pacs.ae_title, pacs.port) + SETTINGS
        node = RunningNode(tmp_path / "node", settings, environment={"PYTHONPATH": str(tmp_path / "site")})
        with node:
            for name in ("hangs", "waits"):
                paths, _ = write_study(tmp_path / name, name)
                assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            assert node.wait_for_event("node.hung", 90)["reason"] == "timeout"
            assert node.wait_until_gone(90) == 1, "systemd starts it again"
            failed = [event for event in node.events if event["event"] == "work.failed"]
            assert [event["reason"] for event in failed] == ["timeout"]
            node.start()
            works = node.wait_for_work(90, count=2)
        assert {(work.state, work.reason) for work in works} == {
            (WorkState.FAILED, "timeout"),
            (WorkState.DONE, None),
        }
        assert len(pacs.digests()) == len(next(one for one in works if one.state is WorkState.DONE).deliveries)
