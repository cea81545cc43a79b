"""Orders beside a running node, and for one that stands still: carried out once, also where the node is killed meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dicomnode.storage import audit
from dicomnode.study import WorkState
from tests import tools
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import storescu


@pytest.mark.slow
def test_dead_letters_are_delivered_once_after_their_cause_was_mended(tmp_path: Path) -> None:
    tools.require("storescu")
    paths, _ = write_study(tmp_path / "study", "orders")
    with Recorder() as recorder:
        recorder.status = 0xA900
        node = RunningNode(tmp_path / "node", destination("pacs", "RECORDER", recorder.port))
        with node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            (work,) = node.wait_for_work(90)
            assert (work.state, work.reason) == (WorkState.FAILED, "peer-refused-object")
            told = node.command("status", "--json")
            assert told.returncode == 1, told.stderr
            assert {one["status"] for one in json.loads(told.stdout)["dead_letters"]} == {"0xA900"}
            node.kill()
            for _ in range(2):
                ordered = node.command("retry", work.key.study_key[:8])
                assert (ordered.returncode, ordered.stderr) == (0, "")
            recorder.status = 0x0000
            node.start()
            node.wait_for_event("order.done")
            node.kill()  # whatever of it was done, and whatever not
            node.start()
            (work,) = node.wait_for_work(90, ended=lambda one: one.state is WorkState.DONE)
            assert node.command("status").returncode == 0
            assert node.command("retry", work.key.study_key).returncode == 2, "there is nothing left"
            before = recorder.digests()
            assert {len(set(digests)) for digests in before.values()} == {1}
            assert len(before) == len(work.deliveries)

            assert node.command("reprocess", work.key.study_key).returncode == 0
            works = node.wait_for_work(90, ended=lambda one: one.state is WorkState.DONE, count=2)
            assert sorted(one.key.revision for one in works) == [1, 2]
    after = recorder.digests()
    assert {uid: after[uid] for uid in before} == before
    assert len(after) == 2 * len(before), "another version, under UIDs of its own"
    trail = (node.state / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in trail] == ["order-retry"] * 2 + ["order-reprocess"]
    assert audit.verify(node.state)
