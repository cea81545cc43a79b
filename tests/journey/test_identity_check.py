"""Before results go the PACS is asked whose study it is: corrected, merged and deleted meanwhile, by Orthanc and by stand-ins."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
from pydicom import Dataset
from pynetdicom import AE, evt

from dicomnode.study import WorkRow, WorkState
from tests import tools
from tests.journey.inside import send
from tests.journey.recorder import _CLASSES
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_retraction import objects
from tests.neighbours import Orthanc, free_port

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
KEPT = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
Answering = Callable[[Dataset], Iterator[tuple[int, Dataset | None]]]


class Pacs:
    """Takes objects and answers C-FIND as it is told."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.got: list[str] = []

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.asked.append(str(event.identifier.QueryRetrieveLevel))
        yield from self.answer(event.identifier)

    def store(self, event: evt.Event) -> int:
        self.got.append(str(event.dataset.PatientID))
        return 0x0000

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        entity = AE("RECORDER")
        for sop_class in (*_CLASSES, FIND):
            entity.add_supported_context(sop_class)
        handlers: list[Any] = [(evt.EVT_C_FIND, self.find), (evt.EVT_C_STORE, self.store)]
        server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        try:
            yield int(server.socket.getsockname()[1])
        finally:
            server.shutdown()


def shows(study: str, **values: str) -> Answering:
    """One match for a study."""

    def answer(_: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", study
        for keyword, value in values.items():
            setattr(match, keyword, value)
        yield 0xFF00, match

    return answer


def held(work: WorkRow) -> bool:
    return work.state is WorkState.HELD


def test_a_patient_corrected_in_the_pacs_gets_results_when_the_corrected_images_come(tmp_path: Path) -> None:
    tools.require("Orthanc")
    paths, who = write_study(tmp_path / "study", "corrected", name="Müller^Jörg", patient_id="OLD-1")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        orthanc.upload(paths)
        (patient,) = orthanc.get("/patients")
        corrected = {
            "Replace": {"PatientID": "NEW-2", "PatientName": "Müller^Jürgen"},
            "Keep": KEPT,
            "Force": True,
            "KeepSource": False,
            "Synchronous": True,
        }
        orthanc.post(f"/patients/{patient}/modify", corrected)
        node = RunningNode(tmp_path / "node", destination("orthanc", "ORTHANC", orthanc.dicom_port))
        with node:
            send(node, paths)
            (work,) = node.wait_for_work(ended=held)
            assert (work.state, work.reason) == (WorkState.HELD, "patient-changed")
            assert node.wait_for_event("patient.changed")["kind"] == "id.name"
            assert {one.Modality for one in objects(orthanc, who.uid("study"))} == {"CT"}
            assert "patient-changed" in node.command("studies").stdout

            new = [orthanc.get(f"/instances/{name}/file") for name in orthanc.instances()]
            (tmp_path / "new").mkdir()
            files = [tmp_path / "new" / f"{number}.dcm" for number in range(len(new))]
            for path, data in zip(files, new, strict=True):
                path.write_bytes(data)
            send(node, files)
            node.wait_for_work(ended=lambda one: one.key.revision > 1 and one.state is WorkState.DONE)
            (study,) = node.studies()
            assert study.works[0].state is WorkState.SUPERSEDED
        results = [one for one in objects(orthanc, who.uid("study")) if one.Modality != "CT"]
        assert {one.Modality for one in results} == {"SEG", "SR", "OT", "KO"}
        assert {(one.PatientID, str(one.PatientName)) for one in results} == {("NEW-2", "Müller^Jürgen")}
        assert not {"OLD-1", "NEW-2", "Jörg", "Jürgen"} & set(node.log().split('"'))
    finally:
        orthanc.stop()


def test_the_pacs_that_has_the_study_unchanged_gets_the_results(tmp_path: Path) -> None:
    tools.require("Orthanc")

    def utf8(_: int, image: Dataset) -> None:
        image.SpecificCharacterSet = "ISO_IR 192"

    paths, who = write_study(tmp_path / "study", "same", change=utf8, name="Müller^Jörg=山田^太郎", patient_id="S-1")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        orthanc.upload(paths)
        with RunningNode(tmp_path / "node", destination("orthanc", "ORTHANC", orthanc.dicom_port)) as node:
            send(node, paths)
            (work,) = node.wait_for_work()
            assert work.state is WorkState.DONE
            assert "seen.orthanc" in work.facts, "it was asked, and showed the study"
        assert {one.Modality for one in objects(orthanc, who.uid("study"))} >= {"CT", "SEG", "SR"}
    finally:
        orthanc.stop()


def test_a_study_deleted_in_the_pacs_that_sent_it_does_not_come_to_life_by_results(tmp_path: Path) -> None:
    tools.require("Orthanc")
    paths, who = write_study(tmp_path / "study", "gone")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        orthanc.upload(paths)
        settings = destination("orthanc", "ORTHANC", orthanc.dicom_port) + "[delivery]\nask_seconds = 1\n"
        with RunningNode(tmp_path / "node", settings) as node:
            peer = {"AET": "DICOMNODE", "Host": "127.0.0.1", "Port": node.port}
            _put(orthanc, "/modalities/node", peer)
            (study,) = orthanc.get("/studies")
            orthanc.post("/modalities/node/store", {"Resources": [study], "Synchronous": True})
            orthanc.delete(f"/studies/{study}")
            (work,) = node.wait_for_work(ended=held)
            assert work.reason == "study-gone"
            assert objects(orthanc, who.uid("study")) == []
            assert node.command("release", work.key.study_key).returncode == 0
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
        assert {one.Modality for one in objects(orthanc, who.uid("study"))} == {"SEG", "SR", "OT", "KO"}
    finally:
        orthanc.stop()


def test_a_patient_merged_while_the_pacs_was_down_waits_for_somebody_who_looks(tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "merged", patient_id="A-1")
    pacs, port = Pacs(shows(who.uid("study"), PatientID="B-2", PatientName="")), free_port()
    quick = "[delivery]\ncircuit_failures = 1\nfirst_retry_seconds = 0.5\nlongest_retry_seconds = 1\n"
    with RunningNode(tmp_path / "node", destination("pacs", "RECORDER", port) + quick) as node:
        send(node, paths)
        node.wait_for_event("circuit.opened")
        with pacs.listening(port):
            (work,) = node.wait_for_work(ended=held)
            assert (work.reason, pacs.asked, pacs.got) == ("patient-changed", ["STUDY"], [])
            node.kill()
            node.start()
            assert held(node.studies()[0].works[0]), "a start lets nothing go"
            assert node.command("release", work.key.study_key).returncode == 0
            node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
        assert set(pacs.got) == {"A-1"}
        assert pacs.asked == ["STUDY"]


def test_a_pacs_that_lies_about_other_studies_or_shows_nothing_yet_gets_results(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "lies")
    pacs = Pacs(shows("1.2.3.4", PatientID="SOMEBODY-ELSE"))
    with (
        pacs.listening() as port,
        RunningNode(tmp_path / "node", destination("pacs", "RECORDER", port)) as node,
    ):
        send(node, paths)
        (work,) = node.wait_for_work()
        assert work.state is WorkState.DONE
    assert pacs.asked


def test_a_pacs_that_never_answers_gets_results_after_a_while_and_one_that_must_does_not(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "stalls")
    ended = threading.Event()

    def stall(_: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        ended.wait(20)
        yield 0xC001, None

    def fail(_: Dataset) -> Iterator[tuple[int, Dataset | None]]:
        yield 0x0122, None

    stalling, failing = Pacs(stall), Pacs(fail)
    with stalling.listening() as first, failing.listening() as second:
        settings = destination("slow", "RECORDER", first).replace("timeout_seconds = 10", "timeout_seconds = 1")
        settings += destination("strict", "RECORDER", second) + 'identity_check = "required"\n'
        settings += '[[rules]]\nname = "slow"\ndestinations = ["slow"]\n[delivery]\nask_seconds = 1\n'
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, paths)
            (work,) = node.wait_for_work()
            assert work.state is WorkState.DONE
            assert node.wait_for_event("delivery.unasked")["reason"] in ("timeout", "peer-aborted")
        strict = settings.replace('destinations = ["slow"]', 'destinations = ["strict"]')
        with RunningNode(tmp_path / "other", strict) as node:
            send(node, paths)
            (work,) = node.wait_for_work(ended=held)
            assert work.reason == "identity-unasked"
            assert json.loads(node.command("studies", "--json").stdout)[0]["works"][0]["state"] == "held"
    ended.set()
    assert stalling.got
    assert failing.got == []


def test_two_patients_under_one_study_give_no_results(tmp_path: Path) -> None:
    def other(index: int, image: Dataset) -> None:
        if index > 20:
            image.PatientID = "SECOND"

    paths, _ = write_study(tmp_path / "study", "two", change=other, patient_id="FIRST")
    pacs = Pacs(lambda _: iter(()))
    with (
        pacs.listening() as port,
        RunningNode(tmp_path / "node", destination("pacs", "RECORDER", port) + "not_processed = true\n") as node,
    ):
        send(node, paths)
        (work,) = node.wait_for_work()
        assert (work.state, work.reason) == (WorkState.REFUSED, "patient-mismatch")
        assert "patient-mismatch" in node.command("studies").stdout
        one = [path for path in paths if pydicom.dcmread(path, stop_before_pixels=True).PatientID == "SECOND"]
        assert one
    assert pacs.got == [], "nobody is told in the name of either"


def _put(orthanc: Orthanc, path: str, body: Any) -> None:
    data = json.dumps(body).encode()
    orthanc._ask(urllib.request.Request(orthanc._url(path), data=data, method="PUT"))
