"""A node is replaced by a newer version, whose queue and ledger are of other schemas, while studies are in flight: it finishes them, once."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import text

from dicomnode.service.rooms import Layout
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.schema import REVISIONS
from dicomnode.study import WorkState
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, altered, destination
from tests.journey.studies import write_study
from tests.older_ledger import take_back

#: The version before: its workflows say so, and nobody of this one takes them up.
OLDER = "from dicomnode.workflow import pipeline\npipeline.WORKFLOW_SCHEMA = '0'\n"


@pytest.mark.slow
def test_what_an_older_version_left_is_finished_once(tmp_path: Path) -> None:
    studies = [write_study(tmp_path / f"study{number}", f"upgrade {number}") for number in range(3)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = destination("pacs", "RECORDER", port)
    older = RunningNode(tmp_path / "node", settings, environment=altered(tmp_path / "older", OLDER))
    with older:
        send(older, studies[0][0])
        older.wait_for_work(ended=lambda one: one.state is WorkState.DELIVERING)  # its PACS is down
        send(older, studies[1][0])
        older.wait_for_event(
            "stage.begun", work=f"{Inside(older.tree).study_key(studies[1][1].uid('study'))}-1-stand-in"
        )
        send(older, studies[2][0])  # acknowledged, and nothing more
        older.kill()
    with Ledger.open_read_only(Layout.of(older.tree).ledger) as ledger, ledger.engine.connect() as connection:
        versions = connection.execute(text("select distinct application_version from workflow_status")).scalars().all()
    assert versions == ["0"]
    with Ledger.open(Layout.of(older.tree).ledger) as ledger:
        assert [work.state for study in ledger.studies() for work in study.works].count(WorkState.DELIVERING) >= 1
        with ledger.transaction() as connection:
            take_back(connection, REVISIONS[0])
    with Recorder(port) as pacs, RunningNode(tmp_path / "node", settings) as newer:
        works = newer.wait_for_work(120, count=3)
        assert newer.command("status").returncode == 0
        newer.terminate()
    assert [work.state for work in works] == [WorkState.DONE] * 3
    assert {len(digests) for digests in pacs.digests().values()} == {1}
    assert len(pacs.digests()) == sum(len(work.deliveries) for work in works)
