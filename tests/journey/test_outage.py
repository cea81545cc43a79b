"""A destination that is down: the other one gets its results, and this one all of them when it is back, STAT first."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests import tools
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import storescu

SETTINGS = """
[delivery]
first_retry_seconds = 1
longest_retry_seconds = 600
circuit_failures = 1

[[peers]]
name = "emergency"
ae_title = "STAT"
priority = "stat"

[[peers]]
name = "ward"
ae_title = "WARD"
"""


@pytest.mark.slow
def test_a_destination_that_comes_back_gets_everything_stat_first(tmp_path: Path) -> None:
    tools.require("storescu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Recorder() as good:
        places = destination("bad", "RECORDER", port) + destination("good", "RECORDER", good.port)
        with RunningNode(tmp_path / "node", places + SETTINGS) as node:
            sent = []
            for calling in ("WARD", "WARD", "STAT"):
                paths, who = write_study(tmp_path / f"study{len(sent)}", f"outage {len(sent)}")
                assert storescu(node.port, "-aet", calling, *paths, called="DICOMNODE").returncode == 0
                sent.append(who.uid("study"))
                node.wait_for_work(90, ended=lambda work: work.state is WorkState.DELIVERING, count=len(sent))
            assert node.wait_for_event("circuit.opened", destination="bad")["reason"] == "peer-unreachable"
            everything = set(sent)
            node.wait_for_work(
                60, ended=lambda work: sum(one.state.value == "confirmed" for one in work.deliveries) >= 3, count=3
            )
            assert set(good.studies) == everything
            with Recorder(port) as bad:
                node.wait_for_event("circuit.closed", 90, destination="bad")
                works = node.wait_for_work(60, count=3)
    assert {work.state for work in works} == {WorkState.DONE}
    first = list(dict.fromkeys(bad.studies))
    assert first == [sent[2], sent[0], sent[1]]
    assert {uid: digests[0] for uid, digests in bad.digests().items()} == {
        uid: digests[0] for uid, digests in good.digests().items()
    }
    assert {len(digests) for digests in bad.digests().values()} == {1}


@pytest.mark.slow
def test_a_study_that_grows_while_its_destination_is_down_arrives_once(tmp_path: Path) -> None:
    """What a destination hears first is the newest, and the results of the half study never come behind it."""
    tools.require("storescu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with RunningNode(tmp_path / "node", destination("pacs", "RECORDER", port) + SETTINGS) as node:
        paths, who = write_study(tmp_path / "study", "growing")
        assert storescu(node.port, "-aet", "WARD", *paths[:-2], called="DICOMNODE").returncode == 0
        node.wait_for_work(90, ended=lambda work: work.state is WorkState.DELIVERING)
        assert storescu(node.port, "-aet", "WARD", *paths[-2:], called="DICOMNODE").returncode == 0
        node.wait_for_work(90, ended=lambda work: work.key.revision == 2 and work.state is WorkState.DELIVERING)
        with Recorder(port) as pacs:
            node.wait_for_work(90, ended=lambda work: work.key.revision == 2 and work.state is WorkState.DONE)
            works = {work.key.revision: work for study in node.studies() for work in study.works}
    assert {revision: work.state for revision, work in works.items()} == {1: WorkState.SUPERSEDED, 2: WorkState.DONE}
    assert {one.state.value for one in works[1].deliveries} == {"cancelled"}
    assert set(pacs.studies) == {who.uid("study")}
    assert len(pacs.digests()) == len(works[2].deliveries)
