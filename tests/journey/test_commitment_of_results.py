"""Orthanc commits to the results that it took, in an association of its own to the node; a node that is killed meanwhile hears it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, StoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicomnode.study import CommitmentState, DeliveryState, WorkRow, WorkState
from tests import tools
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, free_port, storescu, wait_for


def is_taken(work: WorkRow) -> bool:
    """Whether everything was sent: a work is not done then."""
    return bool(work.deliveries) and {one.state for one in work.deliveries} == {DeliveryState.CONFIRMED}


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_orthanc_commits_to_results(tmp_path: Path, killed: bool) -> None:
    tools.require("storescu")
    port = free_port()
    paths, _ = write_study(tmp_path / "study", f"committed {killed}")
    orthanc = Orthanc(tmp_path / "orthanc", modalities={"node": ("DICOMNODE", "127.0.0.1", port)}).start()
    try:
        settings = destination("pacs", orthanc.ae_title, orthanc.dicom_port) + "storage_commitment = true\n"
        node = RunningNode(tmp_path / "node", f"{settings}\n[listen]\nport = {port}\n")
        with node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            (before,) = node.wait_for_work(90, ended=is_taken)
            if killed:
                node.kill()
                node.start()
            told = node.wait_for_event("pledge.ended", 90)
            (work,) = node.wait_for_work(30)
        assert before.state is WorkState.DELIVERING  # done is what is committed
        assert (told["state"], told["missing"]) == ("committed", 0)
        assert work.state is WorkState.DONE
        assert {one.commitment for one in work.deliveries} == {CommitmentState.COMMITTED}
        assert len(orthanc.instances()) == len(work.deliveries)
    finally:
        orthanc.stop()


@pytest.mark.slow
def test_a_destination_that_hangs_keeps_no_other_from_committing(tmp_path: Path) -> None:
    """It takes results as any, and says no word to a request for as long as anybody waits: another study comes meanwhile."""
    tools.require("storescu")
    hangs, released = threading.Event(), threading.Event()

    def hang(_: evt.Event) -> tuple[int, None]:
        hangs.set()
        released.wait(200)
        return 0x0110, None

    entity = AE("HANGS")
    for context in (*StoragePresentationContexts, build_context(StorageCommitmentPushModel)):
        entity.add_supported_context(context.abstract_syntax, context.transfer_syntax)
    taken = [(evt.EVT_C_STORE, lambda _: 0x0000), (evt.EVT_N_ACTION, hang)]
    hanging = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=taken)
    orthanc = Orthanc(
        tmp_path / "orthanc", modalities={"node": ("DICOMNODE", "127.0.0.1", port := free_port())}
    ).start()
    silent = destination("a-silent-one", "HANGS", hanging.socket.getsockname()[1]).replace("= 10\n", "= 200\n")
    pacs = destination("pacs", orthanc.ae_title, orthanc.dicom_port)
    settings = "".join(f"{one}storage_commitment = true\n" for one in (silent, pacs))
    studies = [write_study(tmp_path / name, f"{name} beside a silent one")[0] for name in ("one", "other")]
    try:
        with RunningNode(tmp_path / "node", f"{settings}[listen]\nport = {port}\n") as node:
            assert storescu(node.port, *studies[0], called="DICOMNODE").returncode == 0
            assert hangs.wait(90)
            assert storescu(node.port, *studies[1], called="DICOMNODE").returncode == 0
            wait_for(lambda: len(ended(node, "pacs")) == 2, 120, what="the other destination to commit to both")
            assert {one["state"] for one in ended(node, "pacs")} == {"committed"}
            assert ended(node, "a-silent-one") == [], "it hangs all the while"
            released.set()
    finally:
        released.set()
        orthanc.stop()
        hanging.shutdown()


def ended(node: RunningNode, destination: str) -> list[dict[str, Any]]:
    """What was said at the end of its pledges."""
    return [one for one in node.events if (one.get("event"), one.get("destination")) == ("pledge.ended", destination)]
