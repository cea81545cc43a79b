"""A gate with the rooms that it works for, and their log, waited for: the node's receiving half in the tests' process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dicomnode.config import Config, parse
from dicomnode.events import Fact
from dicomnode.network.session import Service
from dicomnode.service.gates import open_gate
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.recovery import Recovery
from tests.network.raw import STUDY, Peer, data_set, store
from tests.unit.workflow.samples import KEY, Time, ring

SECONDS = 60.0


class Log:
    """Events, waited for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Fact]]] = []
        self.changed = threading.Condition()

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        with self.changed:
            self.seen.append((name, facts))
            self.changed.notify_all()

    def facts(self, name: str) -> list[dict[str, Fact]]:
        with self.changed:
            return [facts for seen, facts in self.seen if seen == name]

    def wait_for(self, name: str, count: int = 1, **wanted: Fact) -> list[dict[str, Fact]]:
        def found() -> list[dict[str, Fact]]:
            return [
                facts
                for seen, facts in self.seen
                if seen == name and all(facts.get(key) == value for key, value in wanted.items())
            ]

        with self.changed:
            assert self.changed.wait_for(lambda: len(found()) >= count, SECONDS), (name, wanted, self.seen)
            return found()


class Bench:
    """Rooms, and a gate that was not started."""

    def __init__(
        self, folder: Path, receivers: int, services: dict[tuple[str, int], Service] | None = None, **sections: Any
    ) -> None:
        intake = {
            "receivers": receivers,
            "minimum_free_bytes": 0,
            "extent_bytes": 1 << 20,
            **sections.pop("intake", {}),
        }
        listen = {"port": 0, "tls_port": 0, **sections.pop("listen", {})}
        self.state = folder / "state"
        plain = {"node": {"state": str(self.state)}, "intake": intake, "listen": listen, **sections}
        self.tree: Config = parse(plain)
        self.state.mkdir(parents=True)
        self.log, self.ledger = Log(), Ledger.open(self.state / "ledger.sqlite")
        self.keys = DataKeys(self.ledger, ring())
        self.spool = Spool(self.state / "spool", self.tree.intake, self.keys)
        self.activity = ActivityTable()
        self.woken = 0
        nothing: Any = None
        common: dict[str, Any] = {"derivation_key": KEY, "clock": Time().now, "monotonic": time.monotonic}
        self.indexer = Indexer(self.ledger, conflict=lambda row: None, emit=self.log)
        self.recovery = Recovery(
            self.ledger,
            self.spool,
            self.activity,
            nothing,
            conflict=lambda row: None,
            later=self.indexer.judge,
            emit=self.log,
            **common,
        )
        self.gate = open_gate(
            self.tree,
            limits=limits_of(self.tree),
            ledger=self.ledger,
            spool=self.spool,
            keys=self.keys,
            indexer=self.indexer,
            activity=self.activity,
            recovery=self.recovery,
            derivation_key=KEY,
            services=services or {},
            wake=self._wake,
            emit=self.log,
        )
        self.port = 0
        self.peers: list[Peer] = []

    def start(self) -> None:
        self.indexer.begin()
        _, self.port = self.gate.start()

    def stop(self) -> None:
        for peer in self.peers:
            peer.socket.close()
        self.gate.drain(0.0)
        self.indexer.end()
        self.spool.close()
        self.ledger.close()

    def connect(self, address: str = "127.0.0.1") -> Peer:
        self.peers.append(Peer(self.port, address))
        return self.peers[-1]

    def associate(self, address: str = "127.0.0.1") -> Peer:
        return self.connect(address).associate()

    def rows(self, study: str = STUDY, count: int = 0) -> list[InstanceRow]:
        """Rows of a study in the ledger, once there are so many."""

        def there() -> list[InstanceRow]:
            return list(self.ledger.instances(key_of(study), None))

        wait_until(lambda: len(there()) >= count)
        return there()

    def pids(self) -> dict[int, int]:
        """Process of each receiver."""
        return {int(str(one["receiver"])): int(str(one["pid"])) for one in self.log.facts("receiver.started")}

    def receiver_of(self, association: object) -> int:
        """Number of the receiver that serves an association."""
        seats: dict[int, Any] = self.gate._seats  # type: ignore[attr-defined]
        (number,) = [number for number, seat in seats.items() if seat is not None and association in seat.associations]
        return number

    def _wake(self) -> None:
        with self.log.changed:
            self.woken += 1
            self.log.changed.notify_all()


def wait_until(true: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Look again and again: of what another process does nobody tells us."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        assert time.monotonic() < deadline
        pause.wait(0.02)


@contextlib.contextmanager
def bench(folder: Path, receivers: int, **more: Any) -> Iterator[Bench]:
    """A gate that listens."""
    made = Bench(folder, receivers, **more)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def key_of(study: str) -> str:
    return blind_key(KEY, "study", study)


def send(peer: Peer, number: int, study: str = STUDY, size: int = 2000) -> int:
    """One object; the status that it got."""
    uid = f"{study}.9.{number}"
    assert peer.send(*store(uid, data_set(uid, number.to_bytes(2, "big") * (size // 2), study=study)))
    return peer.status()
