"""What a node takes up at its start, before anybody can send to it, and what it goes on doing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.errors import StorageError
from dicomnode.service import node as service_node
from dicomnode.service.housekeeping import Housekeeping
from dicomnode.service.node import Node
from dicomnode.service.rooms import Layout
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceState, WorkState, blind_key
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.retention import Retention
from tests.unit.workflow.notes import note
from tests.unit.workflow.samples import STUDY, WORK, Events, Time, encoded, metadata, row, tiny_series

MakeTree = Callable[..., Config]


def left_by_a_crash(tree: Config) -> None:
    """A work whose results are ready and whose study is settled, not yet released."""
    Node(tree, {}, Events()).close()
    now = Time().now()
    with Ledger.open(Layout.of(tree).ledger) as ledger:
        ledger.record_instances([row(0)])
        ledger.open_revision(STUDY, "digest", now)
        ledger.create_work(WORK, "digest", now)
        for state in (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY):
            ledger.set_work_state(WORK, state, at=now)
        ledger.settle(STUDY, 1, now)


def test_what_a_crash_left_ready_is_released_before_the_node_listens(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, log = tree_of(), Events()
    left_by_a_crash(tree)
    monkeypatch.setattr(Housekeeping, "begin", lambda self: None)  # it would do the same a little later
    node = Node(tree, {}, log)
    try:
        node.start()
        assert log.facts("work.released") == [{"work": WORK.workflow_id, "destinations": 0}]
        assert log.names.index("work.released") < log.names.index("node.ready")
    finally:
        node.stop(5)
    with Ledger.open(Layout.of(tree).ledger) as ledger:
        work = ledger.work(WORK)
    assert work is not None
    assert work.state is WorkState.DONE, "there is no destination"


def test_a_node_that_was_never_started_leaves_the_queue_to_the_next(tree_of: MakeTree, tmp_path: Path) -> None:
    Node(tree_of(node={"state": str(tmp_path / "another")}), {}, Events()).close()
    node = Node(tree_of(), {}, Events())
    try:
        node.start()
    finally:
        node.stop(5)


def test_a_node_keeps_house_on_a_thread_of_its_own_from_its_start_to_its_end(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = {"reconcile": threading.Event(), "sweep": threading.Event()}

    def noted(what: str) -> Callable[..., None]:
        def act(*_: Any, **__: Any) -> None:
            if threading.current_thread() is not threading.main_thread():
                done[what].set()

        return act

    monkeypatch.setattr(Admission, "reconcile", noted("reconcile"))
    monkeypatch.setattr(Retention, "sweep", noted("sweep"))
    node = Node(tree_of(), {}, Events())
    try:
        node.start()
        assert done["sweep"].wait(20)
        assert done["reconcile"].wait(20)
        (keeper,) = [thread for thread in threading.enumerate() if thread.name == "housekeeping"]
    finally:
        node.stop(5)
    assert not keeper.is_alive()


@pytest.mark.parametrize("jumped", [False, True])
def test_a_start_with_a_clock_that_is_months_ahead_shreds_nothing(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch, jumped: bool
) -> None:
    tree, log, swept = tree_of(), Events(), threading.Event()
    left_by_a_crash(tree)
    Layout.of(tree).clock.unlink(missing_ok=True)
    if jumped:
        seen = (Time().now() + timedelta(days=1)).timestamp()
        Layout.of(tree).clock.write_text(json.dumps({"seen": seen, "jumps": []}))
    sweep = Retention.sweep

    def sweeps(retention: Retention) -> int:
        try:
            return sweep(retention)
        finally:
            swept.set()

    monkeypatch.setattr(Retention, "sweep", sweeps)
    node = Node(tree, {}, log)
    try:
        node.start()
        assert swept.wait(30)
    finally:
        node.stop(5)
    assert ("clock.jumped" in log.names, "study.shredded" in log.names) == (jumped, not jumped)
    kept = json.loads(Layout.of(tree).clock.read_text())
    assert len(kept["jumps"]) == jumped


@pytest.mark.parametrize("places", [1, 3])
def test_a_node_works_on_as_many_studies_at_once_as_it_has_devices(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch, places: int
) -> None:
    monkeypatch.setattr(Analyst, "places", property(lambda self: places))
    asked: list[int] = []

    class Queue(DurableQueue):
        def __init__(self, *given: Any, concurrency: int = 1, **named: Any) -> None:
            asked.append(concurrency)
            super().__init__(*given, concurrency=concurrency, **named)

    monkeypatch.setattr(service_node, "DurableQueue", Queue)
    Node(tree_of(), {}, Events()).close()
    assert asked == [places]


def received(tree: Config, images: list[Dataset], *, indexed: int) -> str:
    """A study of which a node that was killed had sealed everything, and indexed the first ones; its key."""
    node, study_key = Node(tree, {}, Events()), ""
    try:
        for number, image in enumerate(images):
            derivation_key, data = node._recovery._key, encoded(image)
            study_key = blind_key(derivation_key, "study", str(image.StudyInstanceUID))
            about = metadata(image, data)
            address = node._spool.append(study_key, about, data)
            if number < indexed:
                node._ledger.record_instances([row_of(derivation_key, study_key, address, about)])
    finally:
        node.close()
    return study_key


@pytest.mark.parametrize(("what", "indexed"), [("correction", 1), ("note", 2)])
def test_what_the_disk_does_not_give_for_a_moment_at_a_start_is_decided_all_the_same(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch, what: str, indexed: int
) -> None:
    """Nothing of it is lost, and its study does not settle meanwhile."""
    image, tree, log = tiny_series()[0], tree_of(completion={"quiet_seconds": 0.1}), Events()
    second = deepcopy(image)
    second.AccessionNumber = "CORRECTED"
    if what == "note":
        second = note(image.StudyInstanceUID, "113001", {str(image.StudyInstanceUID): [image]})
    study_key = received(tree, [image, second], indexed=indexed)
    failures, settled = [StorageError("storage-failed")] * 2, threading.Event()
    read = Spool.read

    def fails(spool: Spool, *where: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(spool, *where)

    settle = Admission.settle

    def noted(admission: Admission, key: str, lacking: str) -> None:
        settle(admission, key, lacking)
        settled.set()

    monkeypatch.setattr(Spool, "read", fails)
    monkeypatch.setattr(Admission, "settle", noted)
    node = Node(tree, {}, log)
    try:
        node.start()
        assert settled.wait(60)
    finally:
        node.stop(5)
    with Ledger.open(Layout.of(tree).ledger) as ledger:
        states = [one.state for one in ledger.instances(study_key, None)]
        assert ledger.quarantined(study_key) == ()
    expected = {
        "correction": [InstanceState.REPLACED, InstanceState.CURRENT],
        "note": [InstanceState.REJECTED, InstanceState.CURRENT],
    }
    assert states == expected[what]
    assert "object.quarantined" not in log.names
    assert {facts["reason"] for facts in log.facts("index.failed")} == {"storage-failed"}


def test_a_start_without_the_disk_of_the_spool_is_refused_and_takes_nothing_for_lost(
    tree_of: MakeTree, tmp_path: Path
) -> None:
    tree, images = tree_of(), tiny_series()[:2]
    layout = Layout.of(tree)
    study_key = received(tree, images, indexed=2)
    layout.spool.rename(tmp_path / "disk")
    layout.spool.mkdir()
    for _ in range(2):
        with pytest.raises(StorageError, match="spool-missing"):
            Node(tree, {}, Events())
    assert list(layout.spool.iterdir()) == []
    layout.spool.rmdir()
    (tmp_path / "disk").rename(layout.spool)
    node = Node(tree, {}, Events())
    try:
        assert len([node._spool.read(study_key, one.address) for one in node._ledger.instances(study_key)]) == 2
        assert node._ledger.quarantined() == ()
    finally:
        node.close()
