"""A study that comes by STOW-RS: routed by its caller's name, worked on, delivered; and killed in the middle, sent again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dicomnode.study import WorkState
from tests.journey.inside import Inside, data_of
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.network.web import HASH, TOKEN, Caller, RawCaller, body_of


def settings(port: int) -> str:
    return (
        f"{destination('pacs', 'RECORDER', port)}[stow]\nenabled = true\nport = 0\n"
        f'[[peers]]\nname = "gateway"\nae_title = "GATEWAY"\ntoken_sha256 = ["{HASH}"]\npriority = "stat"\n'
        '[[rules]]\nname = "from-the-gateway"\ncalling_ae_titles = ["GATEWAY"]\n'
    )


def address(node: RunningNode) -> tuple[str, int]:
    return "127.0.0.1", int(node.wait_for_event("node.ready")["stow_port"])


def test_a_study_comes_by_stow_and_its_results_reach_the_pacs(tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "stow-in", name="Planted^Ottilie")
    with Recorder() as pacs, RunningNode(tmp_path / "node", settings(pacs.port)) as node:
        with Caller(address(node)) as caller:
            assert caller.store(*(path.read_bytes() for path in paths)).status == 200
        (work,) = node.wait_for_work()
        assert work.state is WorkState.DONE
        log = node.log()
        assert node.terminate() == 0
        sealed = Inside(node.tree).originals()
        wanted = {hashlib.sha256(data_of(path)).hexdigest() for path in paths}
        assert {hashlib.sha256(data).hexdigest() for (data,) in sealed.values()} == wanted
    assert {len(digests) for digests in pacs.digests().values()} == {1}
    for told in ("Ottilie", TOKEN, who.uid("study"), str(tmp_path / "study")):
        assert told not in log


def test_a_kill_in_the_middle_of_a_request_and_the_same_request_again(tmp_path: Path) -> None:
    """Whatever was kept of the first, the second is success, and the PACS has one set of results."""
    paths, who = write_study(tmp_path / "study", "stow-killed")
    body = body_of([path.read_bytes() for path in paths])
    with Recorder() as pacs, RunningNode(tmp_path / "node", settings(pacs.port)) as node:
        with RawCaller(address(node)) as caller:
            caller.head(Content_Length=str(len(body)))
            caller.send(body[: len(body) // 2])
            node.wait_for_event("association.opened")
            node.kill()
            assert caller.answer() is None, "nothing was said of what was not whole"
        node.start()
        with Caller(address(node)) as again:
            answer = again.ask(body=body)
            assert answer.status == 200
            assert set(answer.statuses().values()) == {0}
        (work,) = node.wait_for_work()
        assert work.state is WorkState.DONE
        node.terminate()
        assert len(Inside(node.tree).instances(who.uid("study"))) >= len(paths)
    assert {len(digests) for digests in pacs.digests().values()} == {1}
