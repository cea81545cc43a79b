"""kill -9 of whoever receives, at random moments under load: what was acknowledged is there, byte for byte.

A node that receives by itself, one whose receivers are processes, and single receivers of that one while the others go
on. Several senders go on through all of it, and send again what was not acknowledged. When a node is dead the spool is read
beside it; at the end the index is made anew of the segments and compared. `make prove-intake` does it
two hundred times, with the seeds from `DICOMNODE_INTAKE_SEED` on; the suite ten times.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from dicomnode.network import pdu
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.recovery import Recovery
from tests.journey.running_node import RunningNode
from tests.network.raw import STUDY, Peer, associate_request, data_set, store
from tests.network.receiver import Receiver
from tests.unit.storage.samples import at, disk_folder

ROUNDS = int(os.environ.get("DICOMNODE_INTAKE_ROUNDS", "10"))
SEED = int(os.environ.get("DICOMNODE_INTAKE_SEED", "0"))
SENDERS = 4
_PER_ASSOCIATION = 40


class Process(Protocol):
    """What is killed."""

    tree: Any
    port: int

    def start(self) -> Any: ...

    def launch(self) -> None: ...

    def kill(self) -> None: ...


def object_of(sender: int, number: int) -> tuple[str, bytes]:
    """UID and bytes of an object: always the same ones. Sizes from one block to several stages; five studies."""
    chance = random.Random(f"{SEED}:{sender}:{number}")
    study = f"{STUDY}.{SEED}.{number % 5}"
    uid = f"{study}.{sender}.{number}"
    size = chance.choice((2, 3000, 30_000, 200_000, 700_000, 1_500_000))
    return uid, data_set(uid, chance.randbytes(size), study=study)


class Sender:
    """A modality that does not give up."""

    def __init__(self, number: int, door: Door) -> None:
        self._number = number
        self._door = door
        self.acknowledged = 0  # objects 0 to this
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_served_again(self) -> None:
        """Wait until one more object was acknowledged."""
        before, deadline = self.acknowledged, time.monotonic() + 60
        while self.acknowledged == before:
            assert time.monotonic() < deadline
            threading.Event().wait(0.01)

    def join(self, refusals: int = 0) -> None:
        """Wait for its end; so many objects may have been refused, as often as they came, by receivers that had lost their node."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert len(set(self.failures)) <= refusals, self.failures
        assert all(failure.endswith("xA700") for failure in self.failures), self.failures

    def _run(self) -> None:
        while port := self._door.wait():
            try:
                self._associate(port)
            except (OSError, AssertionError):  # it was killed: what is not acknowledged goes again
                continue

    def _associate(self, port: int) -> None:
        with Peer(port) as peer:
            peer.associate()
            for _ in range(_PER_ASSOCIATION):
                uid, data = object_of(self._number, self.acknowledged)
                if not peer.send(*store(uid, data, pdu_bytes=100_000)):
                    return
                answer = peer.pdu()
                if answer is None or answer[0] != pdu.P_DATA_TF:
                    return
                status = int.from_bytes(answer[1].rsplit(b"\x00\x00\x00\x09\x02\x00\x00\x00", 1)[1][:2], "little")
                if status:
                    self.failures.append(f"{uid}: x{status:04X}")
                    return
                self.acknowledged += 1
                if not self._door.open:
                    break
            peer.release()


class Door:
    """Tells the senders whether somebody listens, and where."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._port: int | None = None
        self.open = True

    def listen(self, port: int | None) -> None:
        with self._changed:
            self._port = port
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self.open = False
            self._changed.notify_all()

    def wait(self) -> int | None:
        """Port of the process that listens; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._port is not None or not self.open)
            return self._port if self.open else None


class Post:
    """Reads what lies on the disk, the process being dead."""

    def __init__(self, state: Path, tree: Any) -> None:
        self._state = state
        self._tree = tree
        self._verified: Counter[str] = Counter()  # records of each segment that were read, from its first on
        self._present: set[tuple[int, int]] = set()

    def verify(self, acknowledged: list[int], *, again: bool = False) -> Counter[str]:
        """Everything acknowledged is there; nothing is believed that was not sent so; a crash leaves torn ends alone.

        What was read after an earlier kill is not read again, but at the end everything is.
        """
        if again:
            self._verified.clear()
            self._present.clear()
        damages: list[Damage] = []
        ring = open_keys(self._state / "keys", create=False)
        with (
            Ledger.open(self._state / "ledger.sqlite") as ledger,
            Spool(self._state / "spool", self._tree.intake, DataKeys(ledger, ring)) as spool,
        ):
            known = dict(self._verified)
            for study_key, address, metadata in spool.recover(
                known=lambda segment_id: known.get(segment_id, 0), on_damage=damages.append
            ):
                sender, number = map(int, metadata.sop_instance_uid.rsplit(".", 2)[1:])
                uid, data = object_of(sender, number)
                assert metadata.sop_instance_uid == uid
                assert spool.read(study_key, address)[1] == data, f"{uid} is not what was sent"
                self._present.add((sender, number))
                self._verified[address.segment_id] += 1
        assert {damage.kind for damage in damages} <= {"torn"}, damages
        wanted = {(sender, number) for sender, count in enumerate(acknowledged) for number in range(count)}
        lost = sorted(wanted - self._present)
        assert not lost, f"SEED={SEED}: acknowledged and lost: {lost[:5]}"
        return Counter(damage.kind for damage in damages)

    def compare_index(self) -> int:
        """The index made anew of the segments is the one that is there; how many rows it has."""
        ring = open_keys(self._state / "keys", create=False)
        with Ledger.open(self._state / "ledger.sqlite") as ledger:
            keys = DataKeys(ledger, ring)
            with Spool(self._state / "spool", self._tree.intake, keys) as spool:
                studies = {study_key for study_key, _, _ in spool.recover(on_damage=lambda _: None)}
                rebuild(ledger, spool, ring.derivation)  # what the last kill left to do
                old = rows_of(ledger, studies)
                with Ledger.open(self._state.parent / "anew.sqlite") as anew:
                    rebuild(anew, spool, ring.derivation)
                    new = rows_of(anew, studies)
        assert [plain(row) for row in new] == [plain(row) for row in old]
        assert states(new) == states(old)
        return len(old)


def rebuild(ledger: Ledger, spool: Spool, derivation_key: bytes) -> None:
    """As a start of the node does it."""
    Recovery(
        ledger,
        spool,
        ActivityTable(),
        None,  # type: ignore[arg-type]
        conflict=lambda row: None,
        later=lambda rows: None,
        derivation_key=derivation_key,
        clock=lambda: at(0),
        monotonic=lambda: 0.0,
        emit=lambda name, /, **facts: None,
    ).rebuild_index()


def rows_of(ledger: Ledger, studies: set[str]) -> list[InstanceRow]:
    rows = [row for study_key in studies for row in ledger.instances(study_key, None)]
    return sorted(rows, key=lambda row: (row.address.segment_id, row.address.number))


def plain(row: InstanceRow) -> tuple[Any, ...]:
    """Everything but the state: of two equal records one is the first, and an index made anew takes another order."""
    return (row.address, row.study_key, row.series_key, row.instance_key, row.digest, row.length, row.received_at)


def states(rows: list[InstanceRow]) -> Counter[tuple[str, str]]:
    return Counter((row.instance_key, row.state.value) for row in rows)


def siege(process: Process, state: Path, rounds: int, ended: Callable[[], object], *, refusals: int = 0) -> str:
    """Kill it so many times; what was seen. Each kill may leave each sender so many refusals."""
    chance = random.Random(SEED)
    door, post, torn = Door(), Post(state, process.tree), 0
    senders = [Sender(number, door) for number in range(SENDERS)]
    starts = 0
    for number in range(1, rounds + 1):
        process.start()
        door.listen(process.port)
        threading.Event().wait(chance.uniform(0.0, 0.8))
        process.kill()
        door.listen(None)
        acknowledged = [sender.acknowledged for sender in senders]
        if chance.random() < 0.3:  # also while it starts
            process.launch()
            threading.Event().wait(chance.uniform(0.0, 2.0))
            process.kill()
            starts += 1
        torn += post.verify(acknowledged)["torn"]
        if number % 10 == 0:
            print(f"SEED={SEED}: {number} of {rounds} kills, {sum(acknowledged)} acknowledged, all there", flush=True)  # noqa: T201
    process.start()
    door.listen(process.port)
    for sender in senders:
        sender.is_served_again()
    door.close()
    for sender in senders:
        sender.join(refusals * (rounds + starts))
    ended()
    post.verify([sender.acknowledged for sender in senders], again=True)
    rows = post.compare_index()
    total = sum(sender.acknowledged for sender in senders)
    assert total >= rounds
    assert rows >= total
    return (
        f"SEED={SEED}: {rounds} kills and {starts} while it started, {total} acknowledged, {rows} records, {torn} torn"
    )


@pytest.mark.timeout(7200)
def test_a_receiver_that_is_killed_at_any_moment() -> None:
    with disk_folder() as folder:
        receiver = Receiver(folder / "state", intake={"segment_bytes": 1 << 24, "extent_bytes": 1 << 20})
        with receiver:
            receiver.kill()  # its first start made keys and ledger
            print(siege(receiver, folder / "state", ROUNDS, receiver.stop))  # noqa: T201 (what a proof ran)


@contextlib.contextmanager
def node_on_disk() -> Iterator[RunningNode]:
    """A node with two receivers, which is not started; whatever of it runs at the end is ended."""
    with disk_folder() as folder:
        settings = (
            "[intake]\nreceivers = 2\nsegment_bytes = 16777216\nextent_bytes = 1048576\n"
            "[completion]\nquiet_seconds = 600\n"
        )
        node = RunningNode(folder / "node", settings)
        try:
            yield node
        finally:
            node.__exit__()


@pytest.mark.timeout(7200)
def test_a_node_that_is_killed_at_any_moment() -> None:
    """The whole node with its receivers, which besides works on what it received; they must not outlive it."""
    with node_on_disk() as node:
        print(siege(node, node.state, max(ROUNDS // 10, 1), node.kill, refusals=1))  # noqa: T201


@pytest.mark.timeout(7200)
def test_receivers_that_are_killed_at_any_moment() -> None:
    """The node lives on and so does the other receiver, somebody is served at once; now and then all of it is killed."""
    with node_on_disk() as node:
        print(besiege_receivers(node, ROUNDS))  # noqa: T201


#: Kills of receivers between two of the whole node, which starts with a clean slate: more of them would be braked.
_KILLS_OF_ONE_NODE = 5


def besiege_receivers(node: RunningNode, rounds: int) -> str:
    chance = random.Random(SEED)
    door, post = Door(), Post(node.state, node.tree)
    senders = [Sender(number, door) for number in range(SENDERS)]
    taken_up, longest, number = 0, 0.0, 0
    while number < rounds:
        node.start()
        door.listen(node.port)
        for _ in range(min(_KILLS_OF_ONE_NODE, rounds - number)):
            number += 1
            threading.Event().wait(chance.uniform(0.0, 0.8))
            longest = max(longest, kill_one(node, chance))
        taken_up += sum(int(event["records"]) for event in node.events if event["event"] == "receiver.died")
        node.kill()
        door.listen(None)
        acknowledged = [sender.acknowledged for sender in senders]
        post.verify(acknowledged)
        print(f"SEED={SEED}: {number} of {rounds} kills, {sum(acknowledged)} acknowledged, all there", flush=True)  # noqa: T201
    node.start()
    door.listen(node.port)
    for sender in senders:
        sender.is_served_again()
    door.close()
    for sender in senders:
        sender.join(-(-rounds // _KILLS_OF_ONE_NODE))
    assert node.terminate() == 0
    post.verify([sender.acknowledged for sender in senders], again=True)
    rows = post.compare_index()
    total = sum(sender.acknowledged for sender in senders)
    assert total >= rounds
    assert rows >= total
    return (
        f"SEED={SEED}: {rounds} kills of receivers, {total} acknowledged, {rows} records, {taken_up} taken up after a "
        f"death, somebody was served after {longest:.2f} s at most"
    )


def kill_one(node: RunningNode, chance: random.Random) -> float:
    """Kill a receiver that runs; the other one is unharmed; seconds until somebody new is served."""
    with node._changed:
        running = {event["receiver"]: event["pid"] for event in node.events if event["event"] == "receiver.started"}
        dead = Counter(event["receiver"] for event in node.events if event["event"] == "receiver.died")
    victim = chance.choice(sorted(running))
    other = next(pid for receiver, pid in running.items() if receiver != victim)
    deaths = dead[victim]
    os.kill(running[victim], signal.SIGKILL)
    began = time.monotonic()
    while not _is_served(node.port):  # places of the dead count until it is buried
        assert time.monotonic() - began < 10
    served = time.monotonic() - began
    os.kill(other, 0)
    with node._changed:
        node._changed.wait_for(lambda: _count(node, "receiver.died", victim) > deaths, 60)
        node._changed.wait_for(lambda: _count(node, "receiver.started", victim) > deaths + 1, 60)
    assert _count(node, "receiver.died", victim) == deaths + 1
    assert _count(node, "receiver.started", victim) == deaths + 2
    os.kill(other, 0)
    assert served < 10
    return served


def _is_served(port: int) -> bool:
    """Whether somebody new gets an association; rejected as congested (PS3.8 9.3.4), one tries again."""
    with Peer(port) as peer:
        peer.send(associate_request())
        answer = peer.pdu()
        assert answer is not None
        if answer[0] != pdu.A_ASSOCIATE_AC:
            assert answer == (pdu.A_ASSOCIATE_RJ, b"\0\x02\x03\x01")
            return False
        peer.release()
        return True


def _count(node: RunningNode, name: str, receiver: int) -> int:
    return sum(event.get("event") == name and event.get("receiver") == receiver for event in list(node.events))
