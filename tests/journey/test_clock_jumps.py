"""The wall clock jumps by hours, back and forth, while studies are in flight: nothing stuck, twice, given up, held or shredded."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.study import WorkRow, WorkState
from tests.journey.inside import Inside, send
from tests.journey.moved_clock import MovedClock
from tests.journey.preloaded import house
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study

HOUR = 3600
#: Every age here is shorter than a jump: whoever believed the clock would give up, hold and shred.
SETTINGS = """
[intake]
receivers = 1

[delivery]
give_up_seconds = 7200
hold_after_seconds = 7200
circuit_failures = 1000
longest_retry_seconds = 2

[retention]
days = 0.2

[completion]
deadline_seconds = 7200
quiet_seconds = 4
"""


def is_on_its_way(work: WorkRow) -> bool:
    return work.state is WorkState.DELIVERING


def test_the_library_moves_the_wall_clock_alone(tmp_path: Path) -> None:
    clock = MovedClock(tmp_path)
    clock.set(9 * HOUR)
    program = "import time, datetime; print(time.time(), datetime.datetime.now().timestamp(), time.monotonic())"
    done = subprocess.run([sys.executable, "-c", program], env=clock.environment, capture_output=True, check=True)
    here = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    moved, plain = ([float(one) for one in run.stdout.split()] for run in (done, here))
    differences = [one - other for one, other in zip(moved, plain, strict=True)]
    assert differences == pytest.approx([9 * HOUR, 9 * HOUR, 0], abs=60)


@pytest.mark.slow
def test_jumps_in_every_stage_of_studies_in_flight(tmp_path: Path) -> None:
    clock = MovedClock(tmp_path / "clock")
    studies = [write_study(tmp_path / f"study-{number}", f"jump {number}") for number in range(4)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = RunningNode(
        tmp_path / "node",
        destination("pacs", "RECORDER", port) + SETTINGS,
        environment=house(tmp_path / "house", clock.environment),
    )
    with node:
        for number, ahead in enumerate((0, 5, -9)):
            send(node, studies[number][0])
            clock.set(ahead * HOUR)  # within the quiet time of this study, and the waits of those before it
            node.wait_for_work(60, ended=is_on_its_way, count=number + 1)
        assert node.wait_for_event("clock.jumped", 60)
        with Recorder(port) as pacs:
            clock.set(0)
            works = node.wait_for_work(90, count=3)
            node.kill()
            clock.set(40 * HOUR)  # and over a stop: longer than the node keeps what is finished
            node.start()
            send(node, studies[3][0])
            after = node.wait_for_work(60, count=4)
            log = node.log()
            inside = [Inside(node.tree).instances(who.uid("study")) for _, who in studies]
            node.terminate()
    assert [work.state for work in works] == [WorkState.DONE] * 3
    assert [work.state for work in after] == [WorkState.DONE] * 4
    assert len({work.key.study_key for work in after}) == 4
    assert {work.key.revision for work in after} == {1}
    assert [len(rows) for rows in inside] == [len(paths) for paths, _ in studies]
    came = [rows[0].received_at for rows in inside]
    assert (came[2] - came[1]).total_seconds() > 4 * HOUR, "receivers have the node's clock"
    assert "study.shredded" not in log
    assert {len(set(digests)) for digests in pacs.digests().values()} == {1}
    assert sum(len(digests) for digests in pacs.digests().values()) == sum(len(work.deliveries) for work in after)
