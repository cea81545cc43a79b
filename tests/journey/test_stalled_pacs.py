"""A PACS that stalls or lies: the others get theirs, the log stays the house's own, a check ends, and SIGTERM ends the node."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dicomnode.forms import Form
from tests import tools
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.journey.test_downgrade import archive
from tests.neighbours import storescu
from tests.network import test_stalled_destinations as stalled

SECONDS = 3
SCRIPTS = {
    "half a header": "timeout",
    "half an A-ASSOCIATE-AC": "timeout",
    "a command that cannot be read": "peer-aborted",
}
GOOD = [Form.CAPTURE, Form.PDF]


@pytest.mark.slow
@pytest.mark.parametrize("what", SCRIPTS)
def test_a_stalled_pacs_keeps_nobody_waiting(tmp_path: Path, what: str) -> None:
    tools.require("storescu")
    paths, _ = write_study(tmp_path / "study", what)
    with stalled.destination((stalled.SILENT | stalled.LYING)[what]) as port, archive(GOOD) as good:
        bad = destination("bad", "BAD", port).replace("timeout_seconds = 10", f"timeout_seconds = {SECONDS}")
        with RunningNode(tmp_path / "node", bad + destination("good", "ARCHIVE", good.port)) as node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            told = node.wait_for_event("delivery.waiting", 60, destination="bad")
            node.wait_for_event("delivery.confirmed", 60, destination="good")
            begun = time.monotonic()
            assert node.terminate(40) == 0
            assert time.monotonic() - begun < 30
            assert [one for one in node.events if one["event"] == "text"] == []
            checked = node.command("check")
    assert told["reason"] == SCRIPTS[what]
    assert len(good.kept) == 2
    assert f"destination bad (BAD at 127.0.0.1 port {port}): {SCRIPTS[what]}" in checked.stdout
    assert checked.stderr == ""
