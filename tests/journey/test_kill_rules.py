"""kill -9 where a study takes another way than the plain one: rules, results that are held, watched folders.

The results go where the rules say and nowhere else, once; what is held leaves at nobody's kill; no file of a folder is lost.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests.journey.inside import Inside
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_routing import RULES, send
from tests.journey.test_watched_folder import files, settings
from tests.neighbours import wait_for

#: One SEG, one SR, one key image and its selection.
OBJECTS = 4
#: Boundaries of each kind; all of them in `make prove-workflow`.
MOST = 3 if "DICOMNODE_WORKFLOW_KILLS" in os.environ else 1
#: Longer than the node looks away from a folder.
QUIET = "[completion]\nquiet_seconds = 10\n"


def restart(node: RunningNode) -> None:
    node.kill()
    node.start()


def assert_one_set(pacs: Recorder) -> None:
    """Repetitions carry the same bytes."""
    received = pacs.digests()
    assert len(received) == OBJECTS
    assert {len(set(digests)) for digests in received.values()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["study.routed", "stage.ended", "delivery.begun"][:MOST])
def test_killed_on_the_way_that_a_rule_says(tmp_path: Path, boundary: str) -> None:
    """The rules take one study and ignore the other, before the kill and after it."""
    taken, _ = write_study(tmp_path / "trial", f"rules {boundary}", patient_id="T")
    ignored, phantom = write_study(tmp_path / "qa", f"ignored {boundary}", patient_id="qa-1")
    with Recorder() as pacs, Recorder() as trial:
        places = destination("pacs", "RECORDER", pacs.port) + destination("trial", "RECORDER", trial.port)
        with RunningNode(tmp_path / "node", places + RULES) as node:
            send(node, ignored, calling="CT1", called="TRIAL")
            node.wait_for_event("study.not-routed", rules="phantoms")
            send(node, taken, calling="CT1", called="TRIAL")
            node.wait_for_event(boundary)
            restart(node)
            (work,) = node.wait_for_work()
            assert node.terminate() == 0
            key = Inside(node.tree).study_key(phantom.uid("study"))
            (other,) = [row for row in node.studies() if row.study_key == key]
    assert work.state is WorkState.DONE
    assert {one.destination for one in work.deliveries} == {"trial"}
    assert other.works == ()
    assert pacs.digests() == {}
    assert_one_set(trial)


@pytest.mark.slow
@pytest.mark.parametrize("boundary", ["work.held", "stage.ended", "order.done"][:MOST])
def test_killed_before_and_after_results_are_let_go(tmp_path: Path, boundary: str) -> None:
    paths, _ = write_study(tmp_path / "study", f"held {boundary}")
    with Recorder() as pacs:
        late = destination("pacs", "RECORDER", pacs.port) + "[delivery]\nhold_after_seconds = 0.5\n"
        with RunningNode(tmp_path / "node", late) as node:
            send(node, paths, calling="CT1")
            if boundary in ("stage.ended", "work.held"):
                node.wait_for_event(boundary)
                restart(node)
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.HELD)
            assert pacs.digests() == {}
            assert node.command("release", work.key.study_key[:12]).returncode == 0
            if boundary == "order.done":
                node.wait_for_event(boundary)
                restart(node)
            (work,) = node.wait_for_work()
    assert work.state is WorkState.DONE
    assert_one_set(pacs)


@pytest.mark.slow
@pytest.mark.parametrize("put_away", [1, 20][:MOST])
def test_killed_while_a_folder_is_taken(tmp_path: Path, put_away: int) -> None:
    inbox, aside = tmp_path / "inbox", tmp_path / "aside"
    inbox.mkdir()
    paths, who = write_study(aside, f"folder {put_away}")
    with Recorder() as pacs, RunningNode(tmp_path / "node", settings(inbox, pacs.port) + QUIET) as node:
        for path in paths:
            shutil.copy(path, inbox)
        taken = inbox / "taken"
        wait_for(lambda: taken.exists() and len(files(taken)) >= put_away, what="files that were taken")
        restart(node)
        (work,) = node.wait_for_work(90, ended=lambda one: one.state is WorkState.DONE)  # refused early: not the end
        assert node.terminate() == 0
        assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
    assert work.state is WorkState.DONE
    assert files(inbox) == set()
    assert len(files(taken)) == len(paths)
    assert_one_set(pacs)
