"""A procedure step names more images than come: how the study ended stays with it, also after a kill -9 and weeks later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import Association
from pynetdicom.presentation import build_context

from dicomnode.network.procedures import PROCEDURE_STEP
from dicomnode.network.transport import Entity
from dicomnode.study import WorkState
from tests.journey.inside import send
from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.neighbours import HOST

STEP = "1.2.840.99.8"


@contextmanager
def modality(node: RunningNode) -> Iterator[Association]:
    association = Entity("CT1").associate(HOST, node.port, [build_context(PROCEDURE_STEP)])
    assert association.is_established
    yield association
    association.release()


def begin(node: RunningNode, study: str) -> None:
    scheduled, step = Dataset(), Dataset()
    scheduled.StudyInstanceUID = UID(study)
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.ScheduledStepAttributesSequence, step.PerformedSeriesSequence = [scheduled], []
    with modality(node) as association:
        assert association.send_n_create(step, PROCEDURE_STEP, STEP)[0].Status == 0


def complete(node: RunningNode, images: Sequence[str]) -> None:
    step, series = Dataset(), Dataset()
    series.SeriesInstanceUID = UID("1.2.840.99.9")
    series.ReferencedImageSequence = []
    for uid in images:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID("1.2.840.10008.5.1.4.1.1.2"), UID(uid)
        series.ReferencedImageSequence.append(item)
    step.PerformedProcedureStepStatus, step.PerformedSeriesSequence = "COMPLETED", [series]
    with modality(node) as association:
        assert association.send_n_set(step, PROCEDURE_STEP, STEP)[0].Status == 0


def test_what_did_not_come_stays_said_until_a_complete_revision(tmp_path: Path) -> None:
    uids: list[str] = []
    paths, who = write_study(
        tmp_path / "study", "lacking", change=lambda _, image: uids.append(str(image.SOPInstanceUID))
    )
    lacking = f"4 of {len(paths)} announced images did not come"
    with RunningNode(tmp_path / "node", "[completion]\nevidence_seconds = 4\n") as node:
        begin(node, who.uid("study"))
        send(node, paths[:-4])
        complete(node, uids)
        told = node.wait_for_event("study.incomplete")
        assert (told["missing"], told["steps"]) == (4, 0)
        node.kill()
        node.start()
        (first,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
        assert "study.incomplete" not in node.log()  # it is settled: nothing says it a second time
        assert first.facts["incomplete"] == lacking
        listed = node.command("studies", columns=200)
        assert f"    incomplete: {lacking}\n" in listed.stdout, listed
        explained = node.command("explain", first.key.study_key, "--json")
        assert json.loads(explained.stdout)["works"][0]["incomplete"] == lacking, explained
        send(node, paths[-4:])
        node.wait_for_event("study.whole", instances=len(paths))
        works = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE, count=2)
        found = json.loads(node.command("explain", first.key.study_key, "--json").stdout)["works"]
        assert node.terminate() == 0
    assert {one.key.revision: one.facts.get("incomplete") for one in works} == {1: lacking, 2: None}
    assert [one["incomplete"] for one in found] == [lacking, None]
