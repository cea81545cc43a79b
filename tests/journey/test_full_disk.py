"""The disk of a node is full for a while, with studies in flight: all goes on by itself when there is space again.

Under results while they are sealed, under the ledger, under everything, and under a node that is killed meanwhile. The node
stands still at a gate until its disk is full. `make prove-workflow` fills a real disk (`proof_full_disk.py`).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicomnode.study import WorkState
from tests.journey.full_disk import FullDisk
from tests.journey.inside import Inside, data_of, send
from tests.journey.preloaded import house
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_kill_children import Gates
from tests.journey.test_misbehaving_pacs import OBJECTS

SETTINGS = """
[intake]
receivers = 1

[delivery]
circuit_failures = 1000
"""
#: In a test's time: how often works without anybody are looked for, and how long a try waits for its ledger.
HASTE = """
from dicomnode.service import chores
from dicomnode.workflow import pipeline
chores._OVERSIGHT_SECONDS = 1.0
pipeline._ATTEMPTS = 2
"""
#: The node stands still where a study's first stage begins, until the disk is full.
GATE = "stage.begun prepare"
STANDING = """
import sys
from pathlib import Path
from dicomnode.service import foreground
serve = foreground._serve
def standing(tree, environment, emit):
    sys.path.append({root!r})
    from tests.journey.gates import stand_still
    def told(name, /, *, level="info", **facts):
        emit(name, level=level, **facts)
        stand_still(Path({folder!r}), f"{{name}} {{facts.get('stage')}}")
    told.end = emit.end
    return serve(tree, environment, told)
foreground._serve = standing
"""
#: Parts of paths.
RESULTS, LEDGER, EVERYTHING = "/state/objects/", "/state/ledger.sqlite", "/state/"


def taken(node: RunningNode, paths: Iterable[Path]) -> int:
    """How many of these files the node says that it has."""
    return sum(outcome.status == 0 for outcome in send(node, paths))


def wait_for(node: RunningNode, count: int, name: str, **facts: str) -> None:
    """Wait until it has said this so often."""

    def is_said(events: list[dict[str, Any]]) -> bool:
        return len([one for one in events if one["event"] == name and facts.items() <= one.items()]) >= count

    assert node.wait_until(is_said), f"not {count} times {name} {facts}; the log says:\n{node.log()}"


def standing(folder: Path) -> str:
    """Program of a node that stands still at the gates of a folder."""
    return STANDING.format(root=str(Path(__file__).parents[2]), folder=str(folder))


@contextmanager
def full_in_stage(disk: FullDisk, part: str, gates: Gates) -> Iterator[None]:
    """The disk is full from before a stage writes anything, however late this process gets its turn."""
    gates.wait_at(GATE)
    with disk.full(part):
        gates.open(GATE)
        yield


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path) -> None:
    disk = FullDisk(tmp_path / "disk")
    studies = [
        write_study(tmp_path / f"study-{number}", f"full {number}", name="Quillfeather^Ada", patient_id="QF-77182")
        for number in range(4)
    ]
    one, two, three, four = (paths for paths, _ in studies)
    silent = socket.create_server(("127.0.0.1", 0))  # a PACS that does not answer: a try to deliver is under way
    port = silent.getsockname()[1]
    gates = Gates(tmp_path / "gates")
    node = RunningNode(
        tmp_path / "node",
        destination("pacs", "RECORDER", port) + SETTINGS,
        environment=house(tmp_path / "house", disk.environment, HASTE + standing(tmp_path / "gates")),
    )
    with silent, node:
        gates.shut([GATE])
        assert taken(node, one) == len(one)
        with full_in_stage(disk, RESULTS, gates):
            node.wait_for_event("stage.again", reason="storage-full")
        node.wait_for_event("delivery.begun")
        assert taken(node, two[:20]) == 20
        with disk.full(LEDGER):
            assert taken(node, three) == 0, "its key is not durable"
            assert taken(node, two[20:]) == len(two) - 20, "its records are, and the index will have them"
            node.wait_for_event("index.failed", reason="ledger-failed")
            silent.close()
            wait_for(node, 2, "delivery.failed", reason="ledger-failed")
            node.wait_until(lambda _: False, 1)  # the queue gives the try up, and can write that down nowhere
        with Recorder(port) as pacs:
            node.wait_for_work(count=2)
            gates.shut([GATE])
            assert taken(node, three) == len(three)
            work = f"{Inside(node.tree).study_key(studies[2][1].uid('study'))}-1-stand-in"
            with full_in_stage(disk, EVERYTHING, gates):
                assert taken(node, four) == 0
                node.wait_for_event("stage.again", work=work)
            node.wait_for_work(count=3)
            log = node.log()
            assert taken(node, four) == len(four)
            with disk.full(EVERYTHING):
                node.kill()
                node.launch()
                assert node.wait_until_gone() == 1, "systemd starts it again and again"
                log += node.log()
            works = node.start().wait_for_work(count=4)
            assert node.terminate() == 0
    log += node.log()
    assert [work.state for work in works] == [WorkState.DONE] * 4
    received = pacs.digests()
    assert {len(set(digests)) for digests in received.values()} == {1}
    assert len(received) == len(studies) * OBJECTS
    for paths, who in studies:
        found = Inside(node.tree).originals(who.uid("study"))
        assert sorted(data for records in found.values() for data in set(records)) == sorted(map(data_of, paths))
        assert who.uid("study") not in log
    for never in ("Quillfeather", "QF-77182", "Traceback", '"reason": "internal"'):
        assert never not in log
