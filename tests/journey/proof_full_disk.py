"""A disk that fills up under a node, really: it takes five gigabytes for a while, so `make prove-workflow` alone runs it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from dicomnode.study import WorkState
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_misbehaving_pacs import assert_one_set, send_until_taken


def scarce(least: int, pacs: Recorder) -> str:
    """Settings that keep so many bytes free."""
    return f"[intake]\nminimum_free_bytes = {least}\n" + destination("pacs", "RECORDER", pacs.port)


MARGIN, BALLAST = 3 << 30, 5 << 30


@pytest.mark.slow
def test_a_disk_that_is_full_refuses_and_later_takes(tmp_path: Path) -> None:
    """Somebody else's file leaves less than the least that is kept free; when it is gone, the sender's next try is taken."""
    paths, who = write_study(tmp_path / "study", "full")
    least = shutil.disk_usage(tmp_path).free - MARGIN
    with Recorder() as pacs, RunningNode(tmp_path / "node", scarce(least, pacs)) as node:
        ballast = tmp_path / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST)
        try:
            refused = {outcome.status for outcome in send(node, paths)}
            assert not refused & {0, 0xB000}, refused
            assert node.studies() == ()
        finally:
            ballast.unlink()
        assert 0 in send_until_taken(node, paths)
        (work,) = node.wait_for_work(120)
        assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
    assert work.state is WorkState.DONE
    assert_one_set(pacs)
