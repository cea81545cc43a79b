"""`dicomnode retract` beside a running node: the PACS gets one rejection note that names every result, and keeps the images."""

from __future__ import annotations

import io
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pynetdicom import evt

from dicomnode.study import DeliveryState, WorkState
from tests import tools
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, dcmsend, run, wait_for

RESULTS = {"SEG", "SR", "OT", "KO"}


def retract(node: RunningNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    return node.command("retract", *arguments, "--yes", columns=200)


def objects(orthanc: Orthanc, study_instance_uid: str) -> list[Any]:
    query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid}}
    names = orthanc.post("/tools/find", query)
    return [pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{name}/file"))) for name in names]


def test_results_that_were_found_wrong_are_retracted_at_the_pacs(tmp_path: Path) -> None:
    tools.require("Orthanc")
    paths, who = write_study(tmp_path / "study", "wrong", name="Müller^Jörg", patient_id="W-1")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        settings = destination("orthanc", "ORTHANC", orthanc.dicom_port) + "rejection_notes = true\n"
        with RunningNode(tmp_path / "node", settings) as node:
            assert dcmsend(node.port, *paths, called="DICOMNODE").returncode == 0
            (work,) = node.wait_for_work()
            assert work.state is WorkState.DONE
            before = objects(orthanc, who.uid("study"))
            assert {one.Modality for one in before} == RESULTS
            key = Inside(node.tree).study_key(who.uid("study"))

            none = retract(node, "0" * 32)
            assert none.returncode == 2
            assert "study-not-found" in none.stderr
            done = retract(node, key[:12])
            assert done.returncode == 0, done.stderr
            assert "asked" in done.stdout
            node.wait_for_event("work.retracted", work=work.key.workflow_id)
            node.wait_for_event("work.ended", work=work.key.workflow_id, state="done", reason=None)
            again = retract(node, key)
            assert (again.returncode, again.stdout) == (1, "")
            assert "nothing" in again.stderr

        known = {one.SOPInstanceUID for one in before}
        after = objects(orthanc, who.uid("study"))
        (note,) = [one for one in after if one.SOPInstanceUID not in known]
        assert note.Modality == "KO"
        assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
        assert named(note) == known
        assert (note.PatientID, str(note.PatientName)) == ("W-1", "Müller^Jörg")
        note.save_as(tmp_path / "note.dcm", enforce_file_format=True)
        tools.require("dciodvfy")
        said = run("dciodvfy", tmp_path / "note.dcm").stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said
    finally:
        orthanc.stop()


def test_while_another_destination_is_down_it_is_retracted_where_it_is_and_goes_nowhere_else(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "half", name="Doe^Jane", patient_id="W-2")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = "[delivery]\nfirst_retry_seconds = 1\nlongest_retry_seconds = 1\n"
    with Recorder() as pacs:
        settings += destination("pacs", "RECORDER", pacs.port) + "rejection_notes = true\n"
        settings += destination("archive", "RECORDER", port)
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, paths)
            (work,) = node.wait_for_work(
                ended=lambda one: sum(row.state is DeliveryState.CONFIRMED for row in one.deliveries) == 4
            )
            assert work.state is WorkState.DELIVERING
            before = pacs.digests()
            node.kill()  # the wish is entered beside a node that stands still, and what it stops is durable
            done = retract(node, work.key.study_key)
            assert done.returncode == 0, done.stderr
            with Recorder(port) as archive:
                node.start()
                node.wait_for_event("work.retracted", work=work.key.workflow_id)
                node.wait_for_event(
                    "work.ended", work=work.key.workflow_id, state="cancelled", reason="results-retracted"
                )
                assert len(pacs.digests()) == len(before) + 1, "the note"
                assert "order-empty" in node.command("retry", work.key.study_key).stderr, "there is nothing that may go"
            assert archive.digests() == {}
            (again,) = node.wait_for_work()
            assert (again.state, again.facts["retraction"]) == (WorkState.CANCELLED, "sent")


class Slow(Recorder):
    """A destination that takes the first object and keeps the second one waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.objects: list[Dataset] = []

    def _stored(self, event: evt.Event) -> int:
        if self.objects and not self.go_on.is_set():
            self.asked.set()
            assert self.go_on.wait(120)
        self.objects.append(event.dataset)
        return super()._stored(event)


def code_of(dataset: Dataset) -> str:
    return str(dataset.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in dataset else ""


def named(note: Dataset) -> set[str]:
    return {
        reference.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def test_what_a_pacs_takes_behind_newer_results_is_retracted_too(tmp_path: Path) -> None:
    """An image comes late while results are on their way: in the end those of the newest revision stand, and no others."""
    paths, _ = write_study(tmp_path / "study", "late", name="Doe^Jane", patient_id="W-3")
    with Slow() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port).replace("timeout_seconds = 10", "timeout_seconds = 120")
        with RunningNode(tmp_path / "node", settings + "rejection_notes = true\n") as node:
            send(node, paths[:-1])
            assert pacs.asked.wait(120)
            send(node, paths[-1:])
            first = node.wait_for_event("delivery.begun")["work"]
            newer = "-2-".join(first.split("-1-", 1))
            node.wait_for_event("stage.ended", work=newer, stage="encode")
            pacs.go_on.set()
            node.wait_for_event("work.retracted", work=first)
            node.wait_for_event("work.ended", work=newer, state="done", reason=None)
            wait_for(lambda: len(pacs.objects) >= 2 * len(RESULTS) + 2, 60, what="both sets of results and two notes")
            node.wait_for_event("work.ended", work=first)
    notes = [one for one in pacs.objects if code_of(one) == "113001"]
    results = [str(one.SOPInstanceUID) for one in pacs.objects if one not in notes]
    rejected = set().union(*map(named, notes))
    assert len(notes) == 2, "that of the newer results, and one of what came behind them"
    assert not named(notes[0]) & named(notes[1])
    assert len(results) == len(set(results)) == 2 * len(RESULTS)
    assert rejected == set(results[: len(RESULTS)]), "what was made of the study before it was whole"
