"""Rejection notes that come in (IHE IOCM): results of rejected images are retracted, what is left is worked on, nothing twice."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pydicom
from pydicom import Dataset

from dicomnode.encoded import encode_part10
from dicomnode.study import WorkRow, WorkState
from tests import tools
from tests.journey.inside import send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study
from tests.journey.test_retraction import objects
from tests.neighbours import Orthanc, wait_for
from tests.unit.workflow.notes import note


def write_note(path: Path, title: str, images: list[Path]) -> Path:
    """A note in the study of some images that names them."""
    headers = [pydicom.dcmread(image, stop_before_pixels=True) for image in images]
    study = str(headers[0].StudyInstanceUID)
    made = note(study, title, {study: headers}, seed=str(len(images)))
    for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber"):
        setattr(made, keyword, headers[0].get(keyword))
    path.write_bytes(encode_part10(made, transfer_syntax_uid=EXPLICIT))
    return path


def named(document: Dataset) -> set[str]:
    return {
        reference.ReferencedSOPInstanceUID
        for series in document.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def works(node: RunningNode) -> dict[int, WorkRow]:
    (study,) = node.studies()
    return {work.key.revision: work for work in study.works}


def test_results_of_rejected_images_are_retracted_and_made_anew_of_what_is_left(tmp_path: Path) -> None:
    tools.require("Orthanc")
    paths, who = write_study(tmp_path / "study", "rejected", name="Doe^Jane", patient_id="R-1")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        settings = destination("orthanc", "ORTHANC", orthanc.dicom_port) + "rejection_notes = true\n"
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, paths)
            node.wait_for_work()
            first = {one.SOPInstanceUID for one in objects(orthanc, who.uid("study"))}
            bad = write_note(tmp_path / "bad.dcm", "113037", paths[-3:])
            send(node, [bad])
            node.wait_for_event("study.rejected", kind="safety", objects=3)
            node.wait_for_work(ended=lambda one: one.key.revision == 2 and one.state is WorkState.DONE)
            wait_for(lambda: works(node)[1].facts.get("retraction") == "sent", what="the retraction")
            wait_for(lambda: works(node)[1].state is WorkState.DONE, what="its end")
            after = {one.SOPInstanceUID: one for one in objects(orthanc, who.uid("study"))}
            notes = [one for one in after.values() if _title(one) == "113001"]
            assert notes
            assert set().union(*map(named, notes)) == first
            second = {uid for uid in after if uid not in first} - {one.SOPInstanceUID for one in notes}
            report = next(after[uid] for uid in second if after[uid].Modality == "SR")
            used = set(map(str, _referenced_images(report)))
            assert used
            assert not used & {str(pydicom.dcmread(path).SOPInstanceUID) for path in paths[-3:]}
    finally:
        orthanc.stop()


def test_of_nothing_nothing_is_made_and_the_same_note_twice_is_one(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "nothing")
    bad = write_note(tmp_path / "bad.dcm", "113037", paths)
    with Recorder() as recorder:
        settings = destination("pacs", "RECORDER", recorder.port) + "rejection_notes = true\n"
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, paths)
            node.wait_for_work()
            first = recorder.digests()
            send(node, [bad])
            wait_for(lambda: works(node)[1].facts.get("retraction") == "sent", what="the retraction")
            wait_for(lambda: works(node)[1].state is WorkState.DONE, what="its end")
            after = recorder.digests()
            assert len(after) == len(first) + 1, "a note, and nothing else"
            send(node, [bad, *paths[-1:]])  # the same once more, and an image that stays rejected
            node.wait_for_event("object.rejected", objects=1)
            (told,) = json.loads(node.command("studies", "--json").stdout)
            assert (told["rejected"], told["works"][0]["facts"]["rejected"]) == (len(paths) + 1, "safety")
            assert "rejected" in node.command("explain", told["study"]).stdout
            assert set(works(node)) == {1}
        assert recorder.digests() == after


def test_a_note_that_comes_first_holds_though_the_node_is_killed(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "first")
    bad = write_note(tmp_path / "bad.dcm", "113038", paths)
    with Recorder() as recorder:
        node = RunningNode(tmp_path / "node", destination("pacs", "RECORDER", recorder.port))
        with node:
            (outcome,) = send(node, [bad])
            assert outcome.status == 0
            node.kill()  # acknowledged, and perhaps not looked at
            node.start()
            outcomes = send(node, paths)
            assert {one.status for one in outcomes} == {0}, "its sender did nothing wrong"
            node.wait_for_event("object.rejected")
            wait_for(lambda: node.studies()[0].rejected == len(paths), what="the index")
            node.kill()
            node.start()
            (other, _) = write_study(tmp_path / "other", "other")
            send(node, other)
            (work,) = node.wait_for_work()
            assert work.state is WorkState.DONE
            rejected = next(row for row in node.studies() if row.rejected)
            assert rejected.works == ()
            assert "nothing is left to work on" in node.command("studies").stdout
        assert set(recorder.studies) == {str(pydicom.dcmread(io.BytesIO(other[0].read_bytes())).StudyInstanceUID)}


def test_what_waits_for_a_pacs_that_is_busy_does_not_go_any_more(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "busy")
    with Recorder() as recorder:
        recorder.status = 0xA700
        # No try is under way when the note comes: one may add objects.
        rarely = "[delivery]\nfirst_retry_seconds = 60\nlongest_retry_seconds = 60\n"
        with RunningNode(tmp_path / "node", rarely + destination("pacs", "RECORDER", recorder.port)) as node:
            send(node, paths)
            node.wait_for_event("delivery.waiting")
            send(node, [write_note(tmp_path / "bad.dcm", "113001", paths)])
            node.wait_for_event("study.rejected", objects=len(paths))
            recorder.status = 0x0000
            wait_for(lambda: works(node)[1].facts.get("withdrawal") == "done", what="the withdrawal")
            (work,) = node.wait_for_work()
            assert (work.state, work.reason) == (WorkState.CANCELLED, "instances-rejected")
        assert recorder.digests() == {}


def test_results_at_a_pacs_that_takes_no_notes_are_named(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "stands")
    with Recorder() as recorder:
        with RunningNode(tmp_path / "node", destination("pacs", "RECORDER", recorder.port)) as node:
            send(node, paths)
            node.wait_for_work()
            before = recorder.digests()
            send(node, [write_note(tmp_path / "expired.dcm", "113039", paths)])
            node.wait_for_event("study.rejected", kind="expired")
            assert "rejected" not in works(node)[1].facts, "what was right stays"
            send(node, [write_note(tmp_path / "bad.dcm", "113037", paths)])
            node.wait_for_event("study.rejected", kind="safety", objects=len(paths))
            node.wait_for_event("result.standing", destination="pacs")
            assert "where no rejection note goes" in node.command("studies").stdout
        assert recorder.digests() == before


def _title(one: Dataset) -> str:
    concepts = one.get("ConceptNameCodeSequence")
    return str(concepts[0].CodeValue) if one.Modality == "KO" and concepts else ""


def _referenced_images(report: Dataset) -> list[str]:
    return [
        reference.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
        if str(reference.ReferencedSOPClassUID) == "1.2.840.10008.5.1.4.1.1.2"
    ]
