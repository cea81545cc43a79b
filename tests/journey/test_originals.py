"""Studies past `retention.days`: what came straight from a modality stays until the PACS shows all of it, whatever results it has."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.service.rooms import Layout
from dicomnode.storage import schema
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WorkState
from tests.journey.inside import Inside
from tests.journey.running_node import RunningNode, altered, destination
from tests.journey.studies import write_study
from tests.journey.test_routing import send
from tests.neighbours import Orthanc

PEERS = """
[[peers]]
name = "scanner"
ae_title = "CT1"
modality = true

[[peers]]
name = "gateway"
ae_title = "GATEWAY"
modality = false
"""
#: Chores of the node in a test's time.
HASTE = "from dicomnode.service import chores\nchores._RECONCILE_SECONDS = 1.0\n"


def make_older(node: RunningNode, days: int) -> None:
    """As if all that the node has had come so many days earlier."""
    with Ledger.open(Layout.of(node.tree).ledger) as ledger, ledger.engine.begin() as connection:
        for row in list(connection.execute(schema.studies.select())):
            earlier = row.last_received_at - timedelta(days=days)
            here = schema.studies.c.study_key == row.study_key
            connection.execute(update(schema.studies).where(here).values(last_received_at=earlier))


@pytest.mark.slow
def test_the_only_originals_outlive_their_results(tmp_path: Path) -> None:
    scanned, scan = write_study(tmp_path / "scanned", "scanned")
    routed, route = write_study(tmp_path / "routed", "routed")
    pacs = Orthanc(tmp_path / "pacs")
    pacs.start()
    node = RunningNode(
        tmp_path / "node",
        destination("pacs", "ORTHANC", pacs.dicom_port) + PEERS,
        environment=altered(tmp_path / "haste", HASTE),
    )
    try:
        with node:
            send(node, scanned, calling="CT1")
            send(node, routed, calling="GATEWAY")
            assert {work.state for work in node.wait_for_work(count=2)} == {WorkState.DONE}
            kept = Inside(node.tree).study_key(scan.uid("study"))
            node.terminate()
            make_older(node, 31)
            node.start()
            gone = node.wait_for_event("study.shredded")
            told = node.wait_for_event("originals.missing")
            assert (told["study"], told["missing"], told["level"]) == (kept, len(scanned), "error")
            assert gone["study"] == Inside(node.tree).study_key(route.uid("study"))
            assert len(Inside(node.tree).originals(scan.uid("study"))) == len(scanned)
            place = Destination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=pacs.dicom_port)
            assert {one.status for one in Requestor(place, "CT1").send_files(scanned)} == {0}
            node.kill()  # else it is asked after an hour
            node.start()
            node.wait_for_event("originals.held", study=kept)
            node.wait_for_event("study.shredded", study=kept)
            assert node.studies() == ()
            assert Inside(node.tree).originals() == {}
            log = node.log()
    finally:
        pacs.stop()
    assert scan.uid("study") not in log
