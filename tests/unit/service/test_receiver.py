"""A receiver as its node sees it over the channel, run in a thread: what it tells and in which order, and what it is told."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnode.config import parse
from dicomnode.encoded import Limits
from dicomnode.errors import LimitError, StorageError
from dicomnode.network import pdu
from dicomnode.network.places import open_table
from dicomnode.network.server import Server, listen
from dicomnode.pulses import Pulse
from dicomnode.service import receiver as module
from dicomnode.service.channel import Channel
from dicomnode.service.messages import PULSE_SECONDS, row_of_plain
from dicomnode.storage import spool
from dicomnode.study import blind_key
from tests.network.raw import STUDY, Peer, associate_request, data_set, store
from tests.unit.workflow.samples import KEY

STUDY_KEY = blind_key(KEY, "study", STUDY)
MARK = "ab12cd34"


class Node:
    """The other end: notes what is told, answers what is asked."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.told: list[tuple[str, Any]] = []
        self.asked: list[str] = []  # of what a peer may send
        self.ample = self.full = False
        self.changed = threading.Condition()
        names = ("ready", "opened", "row", "received", "ended", "left", "allowed", "emit", "drained")
        self.alive = threading.Semaphore(0)
        near, far = socket.socketpair()
        self.channel = Channel(
            near,
            {"alive": self.alive.release, **{name: self._noter(name) for name in names}},
            {
                "key": self._key,
                "allow": self._answerer("allow", lambda: 7),
                "weigh": self._answerer("weigh", lambda: self.ample),
                "take": self._answerer("take", self._take),
                "stored": lambda *_: [],
                "serve": lambda _: [],
            },
        )
        listener = listen("127.0.0.1", 0)
        self.port = listener.getsockname()[1]
        plain = {
            "listen": {"port": 0},
            "intake": {"minimum_free_bytes": 0},
            "node": {"state": str(folder)},
            **sections,
        }
        self.start: dict[str, Any] = {
            "tree": plain,
            "derivation_key": KEY.hex(),
            "limits": asdict(Limits()),
            "spool": str(folder / "spool"),
            "write_mode": ["append", 4096],
            "identity": "",
            "services": [],
            "number": 1,
            "mark": MARK,
            "table": open_table(parse(plain).listen.maximum_connections),
            "listeners": [listener.detach(), None, None],
        }
        self.status: list[int] = []
        self.reader = threading.Thread(target=self.channel.run)
        self.runner = threading.Thread(target=lambda: self.status.append(module.main(far.detach())))
        self.reader.start()
        self.runner.start()

    def _noter(self, name: str) -> Any:
        def note(*arguments: Any) -> None:
            with self.changed:
                self.told.append((name, arguments))
                self.changed.notify_all()

        return note

    def _answerer(self, name: str, answer: Any) -> Any:
        def respond(*_: Any) -> Any:
            self.asked.append(name)
            return answer()

        return respond

    def _take(self) -> tuple[int, bool]:
        if self.full:
            raise LimitError("peer-limit")
        return 8, self.ample

    def _key(self, study_key: str) -> tuple[str, str]:
        self._noter("key")(study_key)
        return "11" * 32, "22" * 8

    def names(self) -> list[str]:
        with self.changed:
            return [arguments[0] if name == "emit" else name for name, arguments in self.told]

    def wait_for(self, name: str, count: int = 1) -> tuple[Any, ...]:
        def found() -> list[tuple[Any, ...]]:
            return [one for told, one in self.told if (one[0] if told == "emit" else told) == name]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, 30), (name, self.told)
            return found()[count - 1]

    def end(self) -> int:
        """The node is gone; the exit status of the receiver."""
        self.channel.end()
        self.runner.join(30)
        self.reader.join(30)
        assert not self.runner.is_alive()
        self.channel.close()
        for thread in threading.enumerate():  # in a process of its own they would be gone by now
            if thread.name == "association":
                thread.join(30)
        os.close(self.start["table"])
        return self.status[0]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path, peers=[{"name": "ct1"}])
    made.channel.tell("start", made.start)
    made.wait_for("ready")
    yield made
    if not made.status:
        made.end()


def sent(peer: Peer, number: int) -> int:
    uid = f"{STUDY}.5.{number}"
    peer.send(*store(uid, data_set(uid)))
    return peer.status()


def test_a_row_is_told_before_the_sender_and_an_end_after_all_rows(node: Node, tmp_path: Path) -> None:
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
        node.channel.ask("bar", STUDY_KEY)  # all that was told before the answer is here
        assert node.names() == ["ready", "opened", "association.opened", "key", "row", "received", "allowed"]
        (plain,) = node.wait_for("row")
        row = row_of_plain(plain)
        assert (row.study_key, row.address.number) == (STUDY_KEY, 0)
        assert row.address.segment_id.startswith(MARK)
        assert node.wait_for("allowed") == (7, True)
        assert sent(peer, 2) == 0
        peer.release()
    node.wait_for("study.arrived")
    tail = node.names()[7:]
    assert tail == ["row", "received", "allowed", "ended", "association.closed", "study.arrived"]
    assert len(list((tmp_path / "spool").glob(f"??/*/{MARK}*.open"))) == 1


def test_while_a_study_may_have_much_more_an_object_costs_one_question(node: Node) -> None:
    with Peer(node.port).associate() as peer:
        node.ample = True
        assert [sent(peer, number) for number in (1, 2)] == [0, 0]
        assert node.asked == ["allow", "weigh", "take"]
        assert (node.wait_for("allowed"), node.wait_for("allowed", 2)) == ((7, True), (8, True))
        node.ample = False
        assert [sent(peer, number) for number in (3, 4)] == [0, 0]
        assert node.asked[3:] == ["take", "allow", "weigh"]
        peer.release()


def test_what_was_one_too_many_after_all_is_not_durable_and_the_next_is_asked_for_first(node: Node) -> None:
    with Peer(node.port).associate() as peer:
        node.ample = True
        assert sent(peer, 1) == 0
        node.full = True
        assert sent(peer, 2) == 0xA700
        assert sent(peer, 3) == 0
        assert node.asked == ["allow", "weigh", "take", "allow", "weigh"]
        peer.release()
    node.wait_for("ended")
    assert [name for name in node.names() if name in {"row", "allowed"}] == ["row", "allowed"] * 2


def test_a_study_that_was_closed_is_asked_for_anew(node: Node) -> None:
    with Peer(node.port).associate() as peer:
        node.ample = True
        assert sent(peer, 1) == 0
        peer.release()
    node.wait_for("ended")
    node.channel.tell("close", STUDY_KEY)
    node.wait_for("left")
    with Peer(node.port).associate() as peer:
        assert sent(peer, 2) == 0
        peer.release()
    assert node.asked == ["allow", "weigh"] * 2


def test_a_study_under_way_is_not_barred_and_a_barred_one_waits(node: Node, tmp_path: Path) -> None:
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
        assert node.channel.ask("bar", STUDY_KEY) is False
        peer.release()
    node.wait_for("ended")
    assert node.channel.ask("bar", STUDY_KEY) is True
    with Peer(node.port).associate() as peer:
        uid = f"{STUDY}.5.2"
        peer.send(*store(uid, data_set(uid)))
        node.wait_for("opened", count=2)
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.socket.recv(1)
        node.channel.tell("unbar", STUDY_KEY)
        node.channel.tell("unbar", STUDY_KEY)
        peer.socket.settimeout(30)
        assert peer.status() == 0
    node.wait_for("key", count=2)
    assert len(list((tmp_path / "spool").glob("??/*/*.open"))) == 2, "a new segment, under a key that was asked anew"


def test_a_study_is_left_when_nothing_of_it_is_under_way(node: Node, tmp_path: Path) -> None:
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
        node.channel.tell("close", STUDY_KEY)
        assert node.channel.ask("bar", "ee" * 16) is True
        assert "left" not in node.names()
        peer.release()
    node.wait_for("ended")
    node.channel.tell("close", STUDY_KEY)
    assert node.wait_for("left") == (STUDY_KEY,)
    assert [path.suffix for path in (tmp_path / "spool").glob("??/*/*")] == [".closed"]


def test_a_drain_ends_it_when_all_has_ended(node: Node) -> None:
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
        node.channel.tell("reload")
        assert node.channel.ask("report", "ab" * 8, ["1.2", "1.3", 1], {}, 1.0) is None
        node.channel.tell("drain", 20.0)
        assert sent(peer, 2) == 0
        peer.release()
    assert node.wait_for("drained") == (True,)
    assert node.end() == 0


def test_without_a_node_associations_are_broken_off(node: Node) -> None:
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
        assert node.end() == 1
        answer = peer.pdu()
        assert answer is None or answer[0] == pdu.A_ABORT
    with pytest.raises(OSError, match="refused"):
        Peer(node.port)


def test_before_it_was_started_it_ends_as_well(tmp_path: Path) -> None:
    made = Node(tmp_path)
    for name in ("close", "unbar"):
        made.channel.tell(name, STUDY_KEY)
    made.channel.tell("reload")
    assert made.channel.ask("report", "ab" * 8, ["1.2", "1.3", 1], {}, 1.0) is None
    assert made.channel.ask("bar", STUDY_KEY) is True
    made.channel.tell("drain", 1.0)
    assert made.end() == 0
    os.close(made.start["listeners"][0])


@pytest.mark.parametrize(("broken", "reason"), [("spool", "storage-failed"), ("mark", "internal")])
def test_a_start_that_fails_is_told(tmp_path: Path, broken: str, reason: str) -> None:
    made = Node(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    start = {**made.start, "spool": str(tmp_path / "file")} if broken == "spool" else dict(made.start)
    if broken == "mark":
        del start["mark"]
    made.channel.tell("start", start)
    _, level, facts = made.wait_for("receiver.fault")
    assert (level, facts["reason"]) == ("error", reason)
    assert made.end() == 1
    os.close(made.start["listeners"][0])


def test_a_full_disk_keeps_no_receiver_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node's trial was at its own start; another one would fail, and nobody would be told 0xA700."""

    def full(folder: Path, wanted: str) -> Any:
        raise StorageError("storage-full")

    monkeypatch.setattr(spool, "try_modes", full)
    made = Node(tmp_path)
    made.channel.tell("start", made.start)
    made.wait_for("ready")
    with Peer(made.port).associate() as peer:
        assert sent(peer, 1) == 0
    made.end()


def test_it_says_that_it_lives_as_long_as_it_accepts(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    assert node.alive.acquire(timeout=30)
    assert node.alive.acquire(timeout=30)
    monkeypatch.setattr(Server, "accepting", False)
    node.channel.ask("bar", "ee" * 16)
    while node.alive.acquire(blocking=False):  # what was said before
        pass
    assert not node.alive.acquire(timeout=3 * PULSE_SECONDS)


def test_it_is_silent_while_nobody_is_let_in_and_tells_of_a_disk_that_does_not_answer(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver, door, disk = module.Receiver(ours), Pulse("acceptor", 0.0), Pulse("writing", 0.0, study="ab" * 16)
        told: list[str] = []
        receiver._emit = lambda name, **facts: told.append(f"{name} {facts['thread']}")  # type: ignore[method-assign, assignment]
        receiver._writing = lambda: (disk,)
        acceptor: Any = SimpleNamespace(pulses=(door,))
        assert not receiver._hangs(acceptor)
        disk.work()
        assert not receiver._hangs(acceptor), "another process would fare no better"
        door.work()
        assert receiver._hangs(acceptor)
        door.rest()
        disk.rest()
        assert not receiver._hangs(acceptor)
        assert told[:2] == ["thread.stalled writing", "thread.stalled acceptor"]
        assert sorted(told[2:]) == ["thread.again acceptor", "thread.again writing"]


def test_whose_studies_wait_for_too_long_is_refused_until_that_is_over(node: Node) -> None:
    node.channel.tell("refuse", 1)
    node.channel.ask("bar", "ee" * 16)
    with Peer(node.port) as peer:
        peer.send(associate_request())
        found = peer.pdu()
        assert found is not None
        assert found[0] == pdu.A_ASSOCIATE_RJ
    assert node.wait_for("association.refused")[2]["reason"] == "queue-late"
    node.channel.tell("refuse", 3)
    node.channel.ask("bar", "ff" * 16)
    with Peer(node.port).associate() as peer:
        assert sent(peer, 1) == 0
