"""A node and its root keys: with others it does not start, and a study whose keys were destroyed is gone for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config
from dicomnode.encoded import encode_part10
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.service import keeping
from dicomnode.service.deidentifying import deidentify_file
from dicomnode.service.node import Node
from dicomnode.service.status import read_studies
from dicomnode.service.verifying import verify
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.lock import StateLock
from dicomnode.study import WorkState, World
from tests.unit.service.test_node import Log
from tests.unit.workflow.samples import EXPLICIT, Events, tiny_series

MakeTree = Callable[..., Config]


def run(tree: Config, folder: Path | None, until: str | None) -> Log:
    """A node from its start to its end; it is sent the files of a folder, and waited for."""
    log = Log()
    node = Node(tree, {}, log)
    try:
        _, port = node.start()
        if folder is not None:
            peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port), "CT1")
            assert {outcome.status for outcome in peer.send_files(sorted(folder.iterdir()))} == {0}
        if until is not None:
            assert log.wait_for(until)
    finally:
        node.stop(5)
    return log


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    folder.mkdir()
    for index, image in enumerate(tiny_series()):
        (folder / f"{index}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    return folder


def another_key(tree: Config, name: str) -> None:
    assert tree.node.state is not None
    path = tree.node.state / "keys" / f"{name}.key"
    path.unlink()
    path.write_text(f"{os.urandom(32).hex()}\n")
    path.chmod(0o400)


@pytest.mark.parametrize("name", ["identity", "pseudonym", "derivation"])
def test_a_node_does_not_start_with_anothers_key(tree_of: MakeTree, study: Path, name: str) -> None:
    tree = tree_of(completion={"quiet_seconds": 0.2})
    run(tree, study, "work.released")
    another_key(tree, name)
    tries: dict[str, Callable[[], Any]] = {
        "serve": lambda: Node(tree, {}, Events()),
        "verify": lambda: verify(tree, {}),
        "rotate": lambda: keeping.rotate_keys(tree, {}),
    }
    if name == "derivation":  # pseudonyms and UIDs would be others
        tries["deidentify"] = lambda: deidentify_file(tree, {}, "ai").__enter__()
    for what, attempt in tries.items():
        with pytest.raises(KeyStoreError) as caught:
            attempt()
        assert caught.value.code == "key-wrong", what
    assert tree.node.state is not None
    StateLock(tree.node.state).release()  # nobody has kept it


def test_a_name_of_keys_that_is_none_is_refused(tree_of: MakeTree) -> None:
    tree = tree_of()
    Node(tree, {}, Events()).close()
    assert tree.node.state is not None
    for spoilt in ("", "[]", "{}", '{"derivation": 7}'):
        (tree.node.state / "key-names.json").write_text(spoilt)
        with pytest.raises(KeyStoreError):
            Node(tree, {}, Events())
    (tree.node.state / "key-names.json").unlink()
    Node(tree, {}, Events()).close()


def test_a_ledger_from_before_a_rotation_is_refused(tree_of: MakeTree, study: Path) -> None:
    tree = tree_of(completion={"quiet_seconds": 0.2})
    run(tree, study, "work.released")
    assert tree.node.state is not None
    ledger, before = tree.node.state / "ledger.sqlite", tree.node.state / "yesterday"
    shutil.copy(ledger, before)
    keeping.rotate_keys(tree, {})
    shutil.copy(before, ledger)
    with pytest.raises(StorageError) as caught:
        Node(tree, {}, Events())
    assert caught.value.code == "key-wrong"


@pytest.mark.parametrize("quiet", [0.2, 1000], ids=["done", "in flight"])
def test_a_study_that_was_destroyed_comes_again_as_a_new_one(tree_of: MakeTree, study: Path, quiet: float) -> None:
    """Whether its work was done or not begun: nothing of it alarms the node, and what comes again is worked on."""
    run(tree_of(completion={"quiet_seconds": quiet}), study, "work.released" if quiet < 1 else None)
    tree = tree_of(completion={"quiet_seconds": 0.2})
    (row,) = read_studies(tree, 10)
    keeping.destroy_study(tree, row.study_key)
    assert read_studies(tree, 10) == ()
    assert tree.node.state is not None
    assert [path for path in tree.node.state.rglob(f"*{row.study_key}*") if path.name != "audit.jsonl"] == []
    log = run(tree, study, "work.released")
    assert [(name, facts) for name, level, facts in log.seen if level in ("warning", "error")] == []
    (again,) = read_studies(tree, 10)
    assert again.study_key == row.study_key
    assert again.instances == row.instances
    assert [work.state for work in again.works] == [WorkState.DONE]


def test_a_study_whose_key_was_damaged_costs_itself_alone(tree_of: MakeTree, study: Path, tmp_path: Path) -> None:
    """A bit of one wrapped key kept the node from starting, and nothing said whose it was."""
    other = tmp_path / "other"
    other.mkdir()
    for index, image in enumerate(tiny_series(seed="another")):
        (other / f"{index}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    tree = tree_of(completion={"quiet_seconds": 0.2})
    run(tree, study, "work.released")
    (row,) = read_studies(tree, 10)
    assert tree.node.state is not None
    with Ledger.open(tree.node.state / "ledger.sqlite") as ledger:
        wrapped = ledger.wrapped_key(row.study_key, World.IDENTITY)
        assert wrapped is not None
        flipped = wrapped.wrapped[:-1] + bytes([wrapped.wrapped[-1] ^ 1])
        ledger.rewrap_keys([(row.study_key, replace(wrapped, wrapped=flipped))])
    log = run(tree, other, "work.released")
    assert {facts["study"] for facts in log.facts("segment.damaged")} == {row.study_key}
    (fault,) = {(fault.study_key, fault.kind, fault.reason) for fault in verify(tree, {}).faults}
    assert fault == (row.study_key, "key-damaged", "sealed-damaged")
    with pytest.raises(KeyStoreError) as caught:
        keeping.rotate_keys(tree, {})
    assert caught.value.facts["study"] == f"key-{row.study_key[:16]}"
    keeping.destroy_study(tree, row.study_key)
    assert set(keeping.rotate_keys(tree, {})) == {"identity", "pseudonym"}
    run(tree, study, "work.released")
    assert verify(tree, {}).faults == ()
    assert {len(one.works) for one in read_studies(tree, 10)} == {1}
