"""A watched folder of a running node: what is laid into it comes out of the PACS's side, whatever is killed meanwhile."""

from __future__ import annotations

import hashlib
from pathlib import Path

from dicomnode.study import FINAL_STATES, WorkState
from tests.journey.inside import Inside, data_of
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study


def settings(inbox: Path, port: int) -> str:
    folder = f'[[folders]]\nname = "inbox"\npath = "{inbox}"\nae_title = "DISC"\nsettle_seconds = 0.5\n'
    return destination("pacs", "RECORDER", port) + folder


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_files_are_taken_worked_on_and_put_away(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    paths, who = write_study(tmp_path / "study", "folder")
    with Recorder() as pacs, RunningNode(tmp_path / "node", settings(inbox, pacs.port)) as node:
        (inbox / "half.dcm").write_bytes(paths[0].read_bytes()[:-100])
        for path in paths[1:]:
            (inbox / path.name).write_bytes(path.read_bytes())
        (work,) = node.wait_for_work()
        assert (work.state, work.key.revision) == (WorkState.DONE, 1)
        assert files(inbox) == {"half.dcm"}
        (inbox / "half.dcm").write_bytes(paths[0].read_bytes())
        (work,) = node.wait_for_work(ended=lambda one: one.key.revision == 2 and one.state in FINAL_STATES)
        assert work.state is WorkState.DONE
        log = node.log()
        assert node.terminate() == 0
        sealed = Inside(node.tree).originals()
        wanted = {hashlib.sha256(data_of(path)).hexdigest(): len(data_of(path)) for path in paths}
        assert {hashlib.sha256(data).hexdigest(): len(data) for (data,) in sealed.values()} == wanted
        assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
    assert files(inbox) == set()
    assert files(inbox / "taken") == {path.name for path in paths[1:]} | {"half.dcm"}
    assert {len(digests) for digests in pacs.digests().values()} == {1}
    assert str(inbox) not in log


def test_a_kill_in_the_middle_loses_no_file_and_makes_no_second_result(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    paths, who = write_study(tmp_path / "study", "killed-folder")
    with Recorder() as pacs, RunningNode(tmp_path / "node", settings(inbox, pacs.port)) as node:
        for path in paths:
            (inbox / path.name).write_bytes(path.read_bytes())
        node.wait_for_event("association.opened")
        node.kill()  # somewhere between the first file and the last
        sealed = {uid for uid, found in Inside(node.tree).originals().items() if found}
        put_away = files(inbox / "taken") if (inbox / "taken").exists() else set()
        assert len(put_away) <= len(sealed), "nothing is put away that is not sealed"
        node.start()
        (work,) = node.wait_for_work()
        assert work.state is WorkState.DONE
        assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
        node.terminate()
    assert files(inbox) == set()
    assert len(files(inbox / "taken")) == len(paths)
    assert len({digest for digests in pacs.digests().values() for digest in digests}) == len(pacs.digests())
