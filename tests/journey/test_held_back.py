"""What is not worked on: a flood of old studies, a study that somebody cancelled, and what a queue that stands still is spared.

The node is killed in between, and its commands are given beside it.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import pytest

from dicomnode.network.requestor import Requestor
from dicomnode.network.status import TEMPORARY_CONGESTION
from dicomnode.sections import Destination
from dicomnode.study import Mark, WorkState
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_hang import HANGING
from tests.journey.test_routing import send as send_as
from tests.neighbours import wait_for

#: One SEG, one SR, one key image and its selection.
OBJECTS = 4
FLOOD = 4
#: Moments of a kill; all of them in `make prove-workflow`.
MOST = 3 if "DICOMNODE_WORKFLOW_KILLS" in os.environ else 1


def assert_sets(pacs: Recorder, studies: int) -> None:
    received = pacs.digests()
    assert len(received) == studies * OBJECTS
    assert {len(set(digests)) for digests in received.values()} == {1}


@pytest.mark.slow
def test_a_flood_of_old_studies_is_held_through_a_kill_and_let_go_with_one_command(tmp_path: Path) -> None:
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port) + "[flood_guard]\nburst_studies = 1\n"
        with RunningNode(tmp_path / "node", settings) as node:
            for number in range(FLOOD):
                paths, who = write_study(tmp_path / f"old{number}", f"flood {number}", patient_id=f"F-{number}")
                assert {outcome.status for outcome in send(node, paths)} == {0}, "all of it is kept"
                node.wait_for_event("study.settled", study=Inside(node.tree).study_key(who.uid("study")))
            (work,) = node.wait_for_work()
            told = [event for event in node.events if event["event"] == "study.old"]
            assert [(one["level"], one["kind"], one["studies"]) for one in told] == [
                ("warning", "flood", 2), ("info", "flood", 3), ("info", "flood", 4),
            ]  # fmt: skip
            fresh, _ = write_study(tmp_path / "new", "of today", study_date=today(), patient_id="N")
            send(node, fresh)
            node.wait_for_work(count=2)
            node.kill()
            node.start()
            assert node.wait_for_event("held.waiting")["studies"] == FLOOD - 1
            status = node.command("status", "--json")
            assert (status.returncode, json.loads(status.stdout)["stopped"]["flood"]) == (1, FLOOD - 1)
            assert_sets(pacs, 2)
            assert node.command("release", "--flood").returncode == 0
            works = node.wait_for_work(120, count=FLOOD + 1)
            assert {work.state for work in works} == {WorkState.DONE}
            assert node.command("status").returncode == 0
    assert work.key.study_key in {one.key.study_key for one in works}
    assert_sets(pacs, FLOOD + 1)


def today() -> str:
    return datetime.now().astimezone().strftime("%Y%m%d")


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["order given", "order done", "late images"][:MOST])
def test_a_study_that_was_cancelled_while_it_came_stays_so_whatever_comes_of_it(tmp_path: Path, killed_at: str) -> None:
    paths, who = write_study(tmp_path / "study", f"cancelled {killed_at}")
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port) + "[completion]\nquiet_seconds = 20\n"
        with RunningNode(tmp_path / "node", settings) as node:
            assert {outcome.status for outcome in send(node, paths[:20])} == {0}
            key = Inside(node.tree).study_key(who.uid("study"))
            wait_for(lambda: [one.instances for one in node.studies()] == [20], 60, what="the study")
            assert node.command("cancel", key, "--yes").returncode == 0
            told = 0
            if killed_at == "order given":
                node.kill()
                told = node.log().count("study.cancelled")  # it was quiet for so long while the command ran
                node.start()
            if not node.studies()[0].stopped_by:
                node.wait_for_event("order.done")
            if killed_at == "order done":
                node.kill()
                told = node.log().count("study.cancelled")
                node.start()
            assert {outcome.status for outcome in send(node, paths[20:])} == {0}, "it is kept all the same"
            if not told:
                node.wait_for_event("study.cancelled")
            if killed_at == "late images":
                node.kill()
                told = node.log().count("study.cancelled")
                node.start()
            node.wait_for_event("study.settled", study=key)
            send(node, paths)  # once more, all of it
            (study,) = node.studies()
            assert study.stopped_by is Mark.CANCELLED
            assert {work.state for work in study.works} <= {WorkState.CANCELLED, WorkState.SUPERSEDED}
            explained = json.loads(node.command("explain", key, "--json").stdout)
            assert explained["mark"]["mark"] == "cancelled"
            assert pacs.digests() == {}
            assert node.command("reprocess", key).returncode == 0
            (work,) = node.wait_for_work(120, ended=lambda one: one.state is WorkState.DONE)
            assert told + node.log().count("study.cancelled") == 1
            assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
    assert len({one.destination for one in work.deliveries}) == 1
    assert_sets(pacs, 1)


@pytest.mark.slow
def test_a_queue_that_stands_still_takes_nothing_more_until_it_moves(tmp_path: Path) -> None:
    """The network hangs; what came behind it waits for too long: routine senders are refused for now, STAT ones are not."""
    flag = tmp_path / "hang"
    flag.touch()
    (tmp_path / "site").mkdir()
    hanging = HANGING.replace("overdue(self, 3.0)", "overdue(self, seconds)").format(flag=str(flag))
    (tmp_path / "site" / "sitecustomize.py").write_text(hanging)
    studies = [write_study(tmp_path / name, name, patient_id=name)[0] for name in ("hangs", "waits", "later", "stat")]
    peers = '[[peers]]\nname = "er"\nae_title = "ER1"\npriority = "stat"\n[[peers]]\nname = "ct"\nae_title = "CT1"\n'
    with Recorder() as pacs:
        settings = destination("pacs", pacs.ae_title, pacs.port) + peers + "[intake]\nmaximum_queue_seconds = 2\n"
        node = RunningNode(tmp_path / "node", settings, environment={"PYTHONPATH": str(tmp_path / "site")})
        with node:
            for paths in studies[:2]:
                send_as(node, paths, calling="CT1")
            late = node.wait_for_event("queue.late", 90)
            assert (late["kind"], late["works"], late["reason"]) == ("routine", 1, "queue-late")
            wait_for(lambda: not is_taken(node, studies[2], "CT1"), 30, what="a sender that is refused")
            assert node.wait_for_event("association.refused")["reason"] == "queue-late"
            assert is_taken(node, studies[3], "ER1")
            node.kill()  # whoever sees the alert ends what hangs
            node.start()
            node.wait_for_work(120, ended=lambda one: one.state is WorkState.DONE, count=3)
            wait_for(lambda: is_taken(node, studies[2], "CT1"), 60, what="the sender's next try")
            node.wait_for_work(120, ended=lambda one: one.state is WorkState.DONE, count=4)
    assert_sets(pacs, 4)
    assert TEMPORARY_CONGESTION.result == 2, "the sender hears that it is to come again (PS3.8 9.3.4)"


def is_taken(node: RunningNode, paths: list[Path], calling: str) -> bool:
    peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port), calling)
    return {outcome.status for outcome in peer.send_files(paths)} == {0}
