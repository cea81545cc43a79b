"""Destinations that cannot: a real Orthanc that knows no label map, and archives that take little, or say so late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.study import DeliveryState, WorkRow, WorkState
from tests import tools
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, storescu

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@dataclass
class Archive:
    """What an archive of few SOP Classes was sent, and what it kept."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    kept: list[Dataset] = field(default_factory=list)


@contextmanager
def archive(forms: Sequence[Form], *, late: Sequence[Form] = (), syntax: str = EXPLICIT) -> Iterator[Archive]:
    """An archive that accepts contexts of some forms, and of these refuses `late` only when they come (0x0122).

    Parameters
    ----------
    syntax
        The one transfer syntax that it takes.
    """
    found = Archive()
    refused = {SOP_CLASSES[form] for form in late}

    def store(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPClassUID)
        found.asked.append(uid)
        if uid in refused:
            return 0x0122
        found.kept.append(event.dataset)
        return 0x0000

    entity = AE("ARCHIVE")
    entity.add_supported_context(Verification)
    for form in forms:
        entity.add_supported_context(SOP_CLASSES[form], syntax)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    found.port = server.socket.getsockname()[1]
    try:
        yield found
    finally:
        server.shutdown()


def sent_to(work: WorkRow) -> dict[str, str]:
    return {f"{row.role.value}:{row.form}": row.state.value for row in work.deliveries}


def listing(node: RunningNode) -> str:
    """What `dicomnode studies` prints."""
    done = node.command("studies")
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(folder: Path, settings: str, seed: str) -> tuple[WorkRow, str, list[dict[str, object]]]:
    tools.require("storescu")
    paths, _ = write_study(folder / "study", seed)
    with RunningNode(folder / "node", settings) as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        (work,) = node.wait_for_work()
        told = [event for event in node.events if event["event"] == "delivery.downgraded"]
        printed = listing(node)
        assert node.terminate() == 0
    return work, printed, told


def test_orthanc_that_knows_no_label_map_gets_the_binary_form(tmp_path: Path) -> None:
    tools.require("Orthanc")
    orthanc = Orthanc(tmp_path / "orthanc")
    orthanc.start()
    try:
        settings = destination("pacs", "ORTHANC", orthanc.dicom_port) + 'segmentation = "labelmap"\n'
        work, printed, told = run(tmp_path, settings, "labelmap")
        assert work.state is WorkState.DONE
        assert sent_to(work)["segmentation:binary"] == "confirmed"
        assert sent_to(work)["report:comprehensive+binary"] == "confirmed"
        assert sent_to(work)["segmentation:labelmap"] == "downgraded"
        assert [event["kind"] for event in told] == ["labelmap"]
        assert "pacs: does not take segmentation as labelmap; sent: segmentation as binary" in printed
        assert len(orthanc.instances()) == 4
    finally:
        orthanc.stop()


def test_an_archive_of_pictures_and_papers_gets_a_picture_and_a_paper(tmp_path: Path) -> None:
    with archive([Form.CAPTURE, Form.PDF]) as pacs:
        work, printed, told = run(tmp_path, destination("pacs", "ARCHIVE", pacs.port), "papers")
    assert work.state is WorkState.DONE
    assert sorted(str(one.Modality) for one in pacs.kept) == ["DOC", "OT"]
    assert {event["role"] for event in told} == {"segmentation", "report", "key-objects"}
    assert "does not take report as comprehensive; sent: report as pdf, key-image as capture" in printed
    (page,) = [one for one in pacs.kept if one.Modality == "DOC"]
    assert page.EncapsulatedDocument.startswith(b"%PDF")
    assert page.BurnedInAnnotation == "YES"


def test_an_archive_that_refuses_the_object_after_it_accepted_the_context(tmp_path: Path) -> None:
    everything = [Form.BINARY, Form.COMPREHENSIVE, Form.BASIC_TEXT, Form.CAPTURE, Form.KEY_OBJECTS, Form.PDF]
    with archive(everything, late=[Form.BINARY, Form.COMPREHENSIVE]) as pacs:
        work, printed, _ = run(tmp_path, destination("pacs", "ARCHIVE", pacs.port), "late")
    assert work.state is WorkState.DONE
    assert sorted(str(one.SOPClassUID) for one in pacs.kept) == sorted(
        SOP_CLASSES[form] for form in (Form.BASIC_TEXT, Form.CAPTURE, Form.KEY_OBJECTS)
    )
    assert pacs.asked[0] == SOP_CLASSES[Form.BINARY], "by itself, before what refers to it"
    (report,) = [one for one in pacs.kept if one.SOPClassUID == SOP_CLASSES[Form.BASIC_TEXT]]
    assert SOP_CLASSES[Form.BINARY] not in str(report), "it refers to no segmentation that is not there"
    assert "does not take segmentation as binary" in printed
    states = {row.state for row in work.deliveries}
    assert states == {DeliveryState.CONFIRMED, DeliveryState.DOWNGRADED}


def test_an_archive_of_implicit_vr_gets_every_result_in_the_form_that_was_wished(tmp_path: Path) -> None:
    everything = [Form.BINARY, Form.COMPREHENSIVE, Form.CAPTURE, Form.KEY_OBJECTS]
    with archive(everything, syntax=IMPLICIT) as pacs:
        work, printed, told = run(tmp_path, destination("pacs", "ARCHIVE", pacs.port), "implicit")
    assert work.state is WorkState.DONE
    assert {row.state for row in work.deliveries} == {DeliveryState.CONFIRMED}
    assert sorted(str(one.SOPClassUID) for one in pacs.kept) == sorted(SOP_CLASSES[form] for form in everything)
    assert told == []
    assert "does not take" not in printed
