"""A scanner that tells of its procedure step (MPPS): the node waits for its end, and doubts what was done for the wrong patient."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.network.procedures import PROCEDURE_STEP
from dicomnode.study import WorkState
from tests.journey.inside import send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_incomplete_study import STEP, begin, complete, modality

#: Incorrect Worklist Entry Selected (PS3.16 CID 9300).
WRONG_ENTRY = "110514"


def discontinue(node: RunningNode, code: str) -> None:
    step, reason = Dataset(), Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator, reason.CodeMeaning = code, "DCM", "why it ended"
    step.PerformedProcedureStepStatus = "DISCONTINUED"
    step.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    with modality(node) as association:
        assert association.send_n_set(step, PROCEDURE_STEP, STEP)[0].Status == 0


@pytest.mark.slow
def test_results_wait_for_the_end_of_the_step_and_go_at_once_when_it_ends(tmp_path: Path) -> None:
    uids: list[str] = []
    paths, who = write_study(tmp_path / "study", "step", change=lambda _, image: uids.append(str(image.SOPInstanceUID)))
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port)
        with RunningNode(tmp_path / "node", settings) as node:
            begin(node, who.uid("study"))
            send(node, paths[:20])
            node.wait_for_work(ended=lambda one: one.state is WorkState.READY)
            node.kill()  # the step is known after it, too: half a scan is no study, however long it is silent
            node.start()
            assert not node.wait_until(lambda events: any(one["event"] == "study.settled" for one in events), 6)
            assert pacs.digests() == {}
            node.kill()
        patient = "[completion]\nquiet_seconds = 600\n"
        with RunningNode(tmp_path / "node", settings + patient) as node:
            send(node, paths[20:])
            complete(node, uids)
            assert node.wait_for_event("study.whole")["instances"] == len(paths)
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
            assert "study.incomplete" not in node.log()
    assert work.facts.get("incomplete") is None
    assert len(pacs.digests()) == len(work.deliveries)


@pytest.mark.slow
def test_what_was_scanned_under_the_wrong_entry_is_held_until_somebody_looks(tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "entry")
    with (
        Recorder() as pacs,
        RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port)) as node,
    ):
        begin(node, who.uid("study"))
        send(node, paths)
        node.wait_for_work(ended=lambda one: one.state is WorkState.READY)
        discontinue(node, WRONG_ENTRY)
        node.kill()
        node.start()
        (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.HELD)
        assert work.reason == "worklist-entry-wrong"
        assert pacs.digests() == {}
        assert node.command("release", work.key.study_key).returncode == 0
        (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
    assert len(pacs.digests()) == len(work.deliveries)
