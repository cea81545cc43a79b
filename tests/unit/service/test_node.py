"""The composition root: one node in this process, whole; and how it is run in the foreground."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config
from dicomnode.encoded import encode_part10
from dicomnode.errors import ConfigError, StorageError
from dicomnode.events import Fact, admit
from dicomnode.network.archive import Archive
from dicomnode.network.procedures import Step, StepState
from dicomnode.network.requestor import Requestor
from dicomnode.pulses import Pulse
from dicomnode.sections import Destination
from dicomnode.service import foreground
from dicomnode.service import node as service
from dicomnode.service.faults import OURS
from dicomnode.service.node import Node
from dicomnode.service.status import read_studies
from dicomnode.study import WorkState
from tests.unit.workflow.samples import EXPLICIT, Events, tiny_series

MakeTree = Callable[..., Config]


class Log(Events):
    """Events that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        with self._changed:
            super().__call__(name, level=level, **facts)
            self._changed.notify_all()

    def wait_for(self, name: str) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: name in self.names, 60)


def test_a_node_takes_a_study_all_the_way_and_ends(tree_of: MakeTree, tmp_path: Path) -> None:
    archive, log = Archive(tmp_path / "archive"), Log()
    host, port = archive.start()
    tree = tree_of(
        completion={"quiet_seconds": 2},
        destinations=[{"name": "archive", "ae_title": "ARCHIVE", "host": host, "port": port}],
    )
    node = Node(tree, {}, log)
    with pytest.raises(ConfigError, match="node-running"):
        Node(tree, {}, log)
    try:
        _, own = node.start()
        paths = []
        for index, image in enumerate(tiny_series()):
            path = tmp_path / f"{index}.dcm"
            path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
            paths.append(path)
        peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=own), "CT1")
        assert {outcome.status for outcome in peer.send_files(paths)} == {0}
        assert log.wait_for("work.ended")
    finally:
        node.stop(5)
        archive.stop()
    (study,) = read_studies(tree, 10)
    assert [work.state for work in study.works] == [WorkState.DONE]
    assert len(archive.files()) == 4
    assert log.names[-1] == "node.stopped"
    assert [facts for name, level, facts in log.seen if level == "error"] == []
    assert "Phantom" not in repr(log.seen)


def test_exports_of_a_study_that_never_ends_do_not_wait_for_its_end(tree_of: MakeTree) -> None:
    node = Node(tree_of(), {}, Log())
    try:
        node._activity.received("ab" * 16, "a", 0.0)
        assert not node._is_all_here("ab" * 16)
        node._activity.forget("ab" * 16, 0.0, is_late=True)
        node._activity.received("ab" * 16, "b", 1.0)
        assert node._is_all_here("ab" * 16)
    finally:
        node.close()


def test_what_was_being_sent_is_entered_before_the_queue_sends_on(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that the queue takes up again would enter its own outcome over it."""
    node, begun = Node(tree_of(), {}, Log()), []

    def launched() -> None:
        assert begun == ["end_tries"]
        raise InterruptedError

    try:
        monkeypatch.setattr(node._indexer, "begin", lambda: None)
        monkeypatch.setattr(service, "end_tries", lambda _: begun.append("end_tries"))
        monkeypatch.setattr(node._queue, "launch", launched)
        with pytest.raises(InterruptedError):
            node.start()
    finally:
        node.close()


def test_what_is_announced_of_a_settled_study_holds_no_results_of_it(tree_of: MakeTree) -> None:
    """The PACS announces what we sent it, and what never comes here; then the node starts again."""
    step = Step(sop_instance_uid="1.9", study_instance_uids=("1.2",), state=StepState.COMPLETED, instances=("1.2.3",))
    for is_first in (True, False):
        node = Node(tree_of(), {}, Log())
        try:
            assert node._evidence.begin(step) == is_first
            assert node._activity.snapshot() == ()
        finally:
            node.close()


@pytest.mark.parametrize("receivers", [0, 1])
def test_a_node_ends_while_its_ledger_refuses_and_its_index_is_full(
    tree_of: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receivers: int
) -> None:
    log = Log()
    node = Node(tree_of(intake={"receivers": receivers}), {}, log)

    def refuses(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    node._indexer._capacity = 1
    _, own = node.start()
    assert (_OF_RECEIVERS if receivers else {"acceptor"}) <= {pulse.name for pulse in node.pulses}
    monkeypatch.setattr(node._ledger, "record_instances", refuses)
    paths = []
    for index, image in enumerate(tiny_series()):
        paths.append(tmp_path / f"{index}.dcm")
        paths[-1].write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=own), "CT1")
    threading.Thread(target=lambda: list(peer.send_files(paths)), daemon=True).start()
    assert log.wait_for("index.failed")
    ending = threading.Thread(target=node.stop, args=(1,), daemon=True)
    ending.start()
    ending.join(60)
    assert not ending.is_alive()
    assert log.names[-1] == "node.stopped"


class FakeNode:
    """A node of which only the calls are seen."""

    calls: list[str]

    hangs = False
    pulses: tuple[Pulse, ...] = ()

    def __init__(self, tree: Config, environment: Any, emit: Any, *, hung: Callable[[], None]) -> None:
        self.calls.append("made")
        self._hung = hung

    def start(self) -> tuple[str, int]:
        self.calls.append("start")
        if self.hangs:
            self._hung()
        return "127.0.0.1", 4711

    def reload(self) -> None:
        self.calls.append("reload")

    def stop(self, seconds: float) -> None:
        self.calls.append(f"stop within {seconds:.0f} s")


class FakeNotifier:
    """Ends the service, as a signal would, when it has said twice that it is alive."""

    watchdog_seconds = 0.001
    handlers: dict[int, Callable[..., None]]

    def __init__(self, environment: Any) -> None:
        pass

    def ready(self, status: str) -> None:
        FakeNode.calls.append(status)

    def alive(self) -> None:
        FakeNode.calls.append("alive")
        if FakeNode.calls.count("alive") == 1:
            self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        if FakeNode.calls.count("alive") == 2:
            self.handlers[signal.SIGTERM](signal.SIGTERM, None)

    def stopping(self) -> None:
        FakeNode.calls.append("stopping")


def test_a_service_says_that_it_lives_until_it_is_told_to_end(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeNode.calls, FakeNotifier.handlers = [], {}
    monkeypatch.setattr(foreground, "Node", FakeNode)
    monkeypatch.setattr(foreground, "Notifier", FakeNotifier)
    monkeypatch.setattr(foreground, "configure", lambda settings, **_: Events())
    monkeypatch.setattr(signal, "signal", FakeNotifier.handlers.__setitem__)
    assert foreground.run(tree_of(), {}) == 0
    assert set(FakeNotifier.handlers) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    assert FakeNode.calls == [
        "made",
        "start",
        "DICOMNODE listens on 127.0.0.1 port 4711",
        "alive",
        "alive",
        "reload",
        "stopping",
        "stop within 60 s",
    ]


def test_a_node_in_which_something_hangs_ends_so_that_it_is_started_again(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeNode.calls, FakeNotifier.handlers = [], {}
    monkeypatch.setattr(FakeNode, "hangs", True)
    monkeypatch.setattr(foreground, "Node", FakeNode)
    monkeypatch.setattr(foreground, "Notifier", FakeNotifier)
    monkeypatch.setattr(foreground, "configure", lambda settings, **_: Events())
    monkeypatch.setattr(signal, "signal", FakeNotifier.handlers.__setitem__)
    assert foreground.run(tree_of(), {}) == 1
    assert FakeNode.calls[-2:] == ["stopping", "stop within 10 s"]


def test_a_node_of_which_a_thread_hangs_ends_so_that_it_is_started_again(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeNode.calls, FakeNotifier.handlers, log = [], {}, Events()
    pulse = Pulse("completion", 0.01, 0.02)
    pulse.work()
    monkeypatch.setattr(FakeNode, "pulses", (pulse,))
    monkeypatch.setattr(FakeNotifier, "alive", lambda _: FakeNode.calls.append("alive"))
    monkeypatch.setattr(foreground, "Node", FakeNode)
    monkeypatch.setattr(foreground, "Notifier", FakeNotifier)
    monkeypatch.setattr(foreground, "configure", lambda settings, **_: log)
    monkeypatch.setattr(signal, "signal", FakeNotifier.handlers.__setitem__)
    assert foreground.run(tree_of(), {}) == 1
    assert FakeNode.calls[-2:] == ["stopping", "stop within 10 s"]
    assert log.names == ["thread.stalled", "node.hung", "node.draining"]
    for thread in threading.enumerate():
        if thread.name == "deadline":  # else it would end this process, too
            thread.join(30)
            assert not thread.is_alive(), "it ended in time"


def test_an_end_that_does_not_end_is_ended(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeNode.calls, FakeNotifier.handlers, ended, statuses = [], {}, threading.Event(), []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()

    monkeypatch.setattr(FakeNode, "stop", lambda *_: ended.wait(10))  # by a clock that was set back
    monkeypatch.setattr(foreground, "DRAIN_SECONDS", 0.0)
    monkeypatch.setattr(foreground, "REST_SECONDS", 0.01)
    monkeypatch.setattr(foreground.os, "_exit", end)
    monkeypatch.setattr(foreground, "Node", FakeNode)
    monkeypatch.setattr(foreground, "Notifier", FakeNotifier)
    monkeypatch.setattr(foreground, "configure", lambda settings, **_: Events())
    monkeypatch.setattr(signal, "signal", FakeNotifier.handlers.__setitem__)
    assert foreground.run(tree_of(), {}) == 0
    assert statuses == [1]


#: Threads beside receivers that are processes.
_OF_RECEIVERS = {"receiver", "watch"}
#: Threads that are not judged, and why.
_UNJUDGED = {
    "ahead": "of one stage, which has a deadline",
    "association": "each read and write has a deadline; what is made durable has a pulse",
    "deadline": "waits for its time alone",
    "drain": "of a process that ends",
    "idle": "waits for its time, and ends children that nobody asks any more",
    "extender": "nobody waits for it: who writes extends by itself",
    "log": "sums up what is repeated",
    "posting": "of a receiver; where it hangs, that one is silent, and is killed",
    "preparing": "nobody waits for what it makes ready",
    "pulse": "of a receiver, as posting",
    "stalls": "waits for a disk so that the judge need not",
    "unread": "told by index.failed; what holds it up holds up the thread of a receiver, too",
}


def test_every_thread_of_the_house_has_a_pulse_or_a_reason_for_none(tree_of: MakeTree, tmp_path: Path) -> None:
    """Threads that are begun, and tries while they are under way; of receivers that are processes a node above shows them."""
    place = {"ae_title": "PACS", "host": "127.0.0.1", "port": 11112}
    tree = tree_of(
        destinations=[{"name": "pacs", "storage_commitment": True, **place}],
        exports=[{"name": "trial", "project": "trial", **place}],
        folders=[{"name": "inbox", "path": str(tmp_path / "inbox")}],
        services={"storage_commitment": True},
        listen={"port": 0},
    )
    (tmp_path / "inbox").mkdir()
    node = Node(tree, {}, Log())
    try:
        node._circuits.is_open("pacs")
        node.start()
        until, names = time.monotonic() + 30, set[str]()
        while "queue-worker-work" not in names and time.monotonic() < until:
            names = {pulse.name for pulse in node.pulses}
            time.sleep(0.01)
        assert "queue-worker-work" in names
        several = (
            node._stages.sealing._tries,
            node._queue._tries,
            node._queue._retrievals,
            node._search.missing._tries,
            node._search.listings._tries,
        )
        with ExitStack() as under_way:
            for tries in several:
                under_way.enter_context(tries.one())
            judged = {pulse.name for pulse in node.pulses}
        assert {"delivery", "listing", "missing", "priors", "seal"} <= judged - names
        judged |= _OF_RECEIVERS
        assert OURS - judged == set(_UNJUDGED)
        assert not judged & set(_UNJUDGED)
    finally:
        node.stop(5)


@pytest.mark.parametrize("volatile", [True, False])
def test_a_state_folder_in_memory_is_told_in_the_log(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch, volatile: bool
) -> None:
    tree, log = tree_of(), Events()
    monkeypatch.setattr(service, "is_volatile", lambda folder: volatile)
    Node(tree, {}, log).close()
    told = [(level, admit(facts)) for name, level, facts in log.seen if name == "storage.volatile"]
    assert told == ([("warning", {"text": service.IN_MEMORY})] if volatile else [])
