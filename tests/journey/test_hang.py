"""A network that hangs (a driver, a share): its work fails by its deadline, the node ends, and the next start works on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from dicomnode.service.stalls import read_stalls
from dicomnode.study import WorkState
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import storescu

SETTINGS = "[completion]\nquiet_seconds = 1\ndeadline_seconds = 60\n"
#: The interpreter imports it at its start: the first stage of the network does not end while a file is there.
HANGING = """
import sys, threading, time
import os
import signal
import time
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


#: The interpreter imports it at its start: limits of seconds, and the look at studies does not end while a file is there.
STALLING = """
import sys, time
import os
import signal
import time
from pathlib import Path

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "dicomnode.service.node":
            sys.meta_path.remove(self)
            from dicomnode import pulses
            pulses._MOST_SECONDS = 1.0
            sys.modules["dicomnode.service.foreground"].LOOK_SECONDS = 0.5
            from dicomnode.workflow.activity import ActivityTable
            snapshot = ActivityTable.snapshot
            def hanging(self):
                while Path({flag!r}).exists():
                    time.sleep(0.05)
                return snapshot(self)
            ActivityTable.snapshot = hanging
            begin = pulses.Pulse.__init__
            def short(self, name, seconds, hard_seconds=None, **about):
                begin(self, name, 6.0, None if hard_seconds is None else 12.0, **about)
            pulses.Pulse.__init__ = short
        return None

sys.meta_path.insert(0, Finder())
"""


def _status(node: RunningNode) -> list[str]:
    """Threads that `dicomnode status` shows as hanging."""
    return [one["thread"] for one in read_stalls(node.state / "stalls.json")]


@pytest.mark.slow
def test_a_thread_that_hangs_is_told_once_and_a_node_that_was_stopped_for_long_is_not_given_up(tmp_path: Path) -> None:
    flag = tmp_path / "hang"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(STALLING.format(flag=str(flag)))
    with RunningNode(tmp_path / "node", environment={"PYTHONPATH": str(tmp_path / "site")}) as node:
        paths, _ = write_study(tmp_path / "study", "stopped")
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        flag.touch()
        time.sleep(2)  # it looks every 1.5 s at least: it is at work when it is stopped
        os.kill(node.pid, signal.SIGSTOP)
        time.sleep(13)  # longer than every limit
        os.kill(node.pid, signal.SIGCONT)
        flag.unlink()
        node.wait_for_work(90)
        assert [event for event in node.events if event["event"] in ("thread.stalled", "node.hung")] == []
        flag.touch()
        told = node.wait_for_event("thread.stalled", 60)
        assert (told["thread"], told["reason"], told["level"]) == ("completion", "thread-stalled", "error")
        assert node.wait_for_event("node.hung", 60)["thread"] == "completion"
        assert _status(node) == ["completion"]
        flag.unlink()
        assert node.wait_until_gone(120) == 1, "systemd starts it again"
        assert [event["event"] for event in node.events].count("thread.stalled") == 1
        node.start()
        assert node.terminate() == 0
        assert _status(node) == []
