"""A sender that does not end: its study is settled after `completion.arrival_seconds`, and again when it has ended."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests.journey.inside import send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study

SETTINGS = "[completion]\nquiet_seconds = 5\narrival_seconds = 8\n"
#: Seconds after its start when a sender stops: not silent for long enough, and before what it sent would be too late.
STOPS = 6.5


@pytest.mark.slow
def test_a_study_that_does_not_end_has_results_all_the_same(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "endless")
    begun, rest = paths[:20], list(paths[20:])
    with (
        Recorder() as pacs,
        RunningNode(tmp_path / "node", SETTINGS + destination("pacs", "RECORDER", pacs.port)) as node,
    ):
        started = time.monotonic()
        send(node, begun)
        while time.monotonic() < started + STOPS:
            send(node, [rest.pop(0)])
            node.wait_until(lambda events: any(one["event"] == "study.incomplete" for one in events), 1)
        first = node.wait_for_event("study.incomplete")
        assert first["reason"] == "study-endless"
        (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.DONE)
        assert "study-endless" in str(work.facts["incomplete"])
        sent = dict(pacs.digests())
        assert len(sent) == len(work.deliveries), "not silent for 5 seconds, and delivered"
        send(node, rest)
        last = node.wait_for_work(120, ended=lambda one: one.state is WorkState.DONE, count=2)[-1]
        assert last.facts.get("incomplete") is None
    assert set(sent) < set(pacs.digests())
