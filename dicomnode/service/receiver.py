"""The composition root of a receiver: a process that takes associations and makes objects durable, and nothing else.

The node starts it, hands it the listening sockets, a channel and the table of places, and keeps the ledger, the root
keys and the log to itself. It ends when the channel does. It must stay lean: no ledger, no engine, no workflow's queue.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from dicomnode.config import Config, parse
from dicomnode.encoded import Limits
from dicomnode.errors import NodeError, StorageError
from dicomnode.events import Fact
from dicomnode.heap import keep_little
from dicomnode.network.asking import Event
from dicomnode.network.inlets import Inlets
from dicomnode.network.intake import Peer
from dicomnode.network.places import Places
from dicomnode.network.session import Call, Reply, Service
from dicomnode.network_sections import PeerRule
from dicomnode.pulses import Judge, Pulse
from dicomnode.service.channel import Channel
from dicomnode.service.faults import caught
from dicomnode.service.messages import PULSE_SECONDS, bytes_of_plain, plain_call, plain_row, reply_of_plain
from dicomnode.service.promptness import take_short_turns
from dicomnode.service.stalls import tell
from dicomnode.storage.datakeys import DataKey
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import WriteMode
from dicomnode.study import InstanceRow, World
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.reception import Reception

_CACHED_KEYS: Final = 256
_AMPLE_STUDIES: Final = 1024
_FOREVER: Final = float("inf")


class Keys:
    """Data keys of the identity world, asked from the node and kept until their study is closed or purged.

    Parameters
    ----------
    ask
        Gives key and key id of a study, in hex; the wrapped key is committed by then.
    """

    def __init__(self, ask: Callable[[str], tuple[str, str]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: OrderedDict[str, DataKey] = OrderedDict()

    def get_or_create(self, study_key: str, world: World) -> DataKey:
        """Data key, made where there is none."""
        if world is not World.IDENTITY:
            raise ValueError("a receiver has no key but those of the identity world")
        with self._lock:
            found = self._known.get(study_key)
            if found is not None:
                self._known.move_to_end(study_key)
                return found
        key, key_id = self._ask(study_key)
        found = DataKey(key=bytes.fromhex(key), key_id=bytes.fromhex(key_id))
        with self._lock:
            self._known[study_key] = found
            while len(self._known) > _CACHED_KEYS:
                self._known.popitem(last=False)
        return found

    get = get_or_create

    def forget(self, study_key: str) -> None:
        """Its study was closed, or is about to be purged."""
        with self._lock:
            self._known.pop(study_key, None)


class Activity(ActivityTable):
    """What is arriving in this process; the node hears of all of it, and of an end after all that came before it."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    def received(self, study_key: str, association_id: str, now: float) -> None:
        """An instance of the study was made durable."""
        super().received(study_key, association_id, now)
        self._tell("received", study_key, association_id)

    def ended(self, association_id: str, now: float) -> tuple[str, ...]:
        """An association ended; here, a study is known while an association that carried it is open."""
        carried = super().ended(association_id, now)
        for study_key in carried:
            self.forget(study_key, _FOREVER)
        self._tell("ended", association_id)
        return carried


class Rows:
    """Hands rows to the node, each with the word that it was received."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self._tell = tell

    def add(self, row: InstanceRow) -> None:
        """A record is durable."""
        self._tell("row", plain_row(row), hold=True)


class Allowed:
    """One instance that its peer may send; counted by the node, at the latest when it has come and before it is durable."""

    def __init__(self, allowances: Allowances, rule: str, study_key: str, number: int | None) -> None:
        self._allowances = allowances
        self._rule = rule
        self._study_key = study_key
        self._number = number
        self._kept = False

    def weigh(self, size: int) -> None:
        """Its bytes are known now."""
        self._number = self._allowances.weigh(self._rule, self._study_key, size, self._number)

    def keep(self) -> None:
        """It is durable."""
        self._kept = True

    def close(self) -> None:
        """It has come, or not."""
        if self._number is not None:
            self._allowances.end(self._number, kept=self._kept)


class Allowances:
    """What peers may send, asked from the node: once for each object as long as it says that a study may have much more.

    Else twice: what is one too many is refused before it has come. However that may be, the node alone counts.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._ample: set[tuple[str, str]] = set()

    def begin(self, rule: PeerRule, study_key: str) -> Allowed:
        """One instance of a study comes."""
        with self._lock:
            ample = (rule.name, study_key) in self._ample
        number = None if ample else self._channel.ask("allow", rule.name, study_key)
        return Allowed(self, rule.name, study_key, number)

    def stored(self, study_key: str, instance_key: str) -> Collection[str]:
        """Digests of what is stored of an instance."""
        found: list[str] = self._channel.ask("stored", study_key, instance_key)
        return found

    def weigh(self, rule: str, study_key: str, size: int, number: int | None) -> int:
        """The bytes of one are known; its number at the node, which gives it one now if it has none yet."""
        ample = False
        try:
            if number is None:
                number, ample = self._channel.ask("take", rule, study_key, size)
            else:
                ample = self._channel.ask("weigh", number, size)
            return number
        finally:
            with self._lock:
                if not ample:
                    self._ample.discard((rule, study_key))
                elif len(self._ample) < _AMPLE_STUDIES:
                    self._ample.add((rule, study_key))

    def end(self, number: int, *, kept: bool) -> None:
        """One has come, or not."""
        with suppress(StorageError):  # the node is gone, and this process about to go
            self._channel.tell("allowed", number, kept)

    def forget(self, study_key: str) -> None:
        """A study was closed, or is about to be purged."""
        with self._lock:
            self._ample = {known for known in self._ample if known[1] != study_key}


class Announcing(Reception):
    """A reception whose associations the node is told of when they open."""

    def __init__(self, tell: Callable[..., None], **ports: Any) -> None:
        super().__init__(**ports)
        self._tell = tell

    def opened(self, peer: Peer) -> None:
        """An association was accepted."""
        self._tell("opened", peer.association_id, peer.address)
        super().opened(peer)


class Receiver:
    """A receiver; `run` returns when the channel has ended.

    Parameters
    ----------
    end
        Its end of the channel.
    """

    def __init__(self, end: socket.socket) -> None:
        self._channel = Channel(
            end,
            {
                "start": self._start,
                "close": self._close_study,
                "refuse": self._refuse,
                "unbar": self._unbar,
                "reload": self._reload,
                "drain": self._drain,
            },
            {"bar": self._bar, "report": self._report},
            quick=("bar",),
            posting=True,
        )
        self._activity = Activity(self._channel.tell)
        self._keys = Keys(partial(self._channel.ask, "key"))
        self._allowances = Allowances(self._channel)
        self._barred: dict[str, ExitStack] = {}
        self._spool: Spool | None = None
        self._acceptor: Inlets | None = None
        self._drained = False
        self._ended = threading.Event()
        self._judge = Judge(time.monotonic())
        self._writing: Callable[[], Collection[Pulse]] = tuple

    def run(self) -> bool:
        """Receive until the node is gone, or has it drained; whether it was drained."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()
        try:
            self._channel.run()
        finally:
            self._ended.set()
            if self._acceptor is not None and not self._drained:
                self._acceptor.abort()
        return self._drained

    def _pulse(self) -> None:
        """Say that this process lives, as long as it does what it is there for."""
        with suppress(StorageError):  # the node is gone
            while not self._ended.wait(PULSE_SECONDS):
                if self._acceptor is None or (self._acceptor.accepting and not self._hangs(self._acceptor)):
                    self._channel.tell("alive")

    def _hangs(self, acceptor: Inlets) -> bool:
        """Whether nobody is let in: another process takes this one's seat. Where a disk holds it up, that is told."""
        verdict = self._judge.look((*acceptor.pulses, *self._writing()), time.monotonic())
        tell(verdict, self._emit)
        return any(pulse in acceptor.pulses for pulse, _ in verdict.hanging)

    def _start(self, plain: dict[str, Any]) -> None:
        tree = parse(plain["tree"])
        derivation_key = bytes.fromhex(plain["derivation_key"])
        places = Places(tree.listen.maximum_connections, owner=plain["number"], descriptor=plain["table"])
        self._spool = Spool(
            Path(plain["spool"]),
            tree.intake,
            self._keys,
            tally=places,
            mark=plain["mark"],
            write_mode=WriteMode(*plain["write_mode"]),
            identity=plain["identity"],
        )
        reception = Announcing(
            self._channel.tell,
            spool=self._spool,
            digest=ContentDigests(derivation_key).begin,
            indexer=Rows(self._channel.tell),
            activity=self._activity,
            derivation_key=derivation_key,
            allowances=self._allowances,
            wake=_nothing,
            clock=partial(datetime.now, UTC),
            monotonic=time.monotonic,
            emit=self._emit,
        )
        self._writing = lambda: reception.writing.pulses
        self._acceptor = self._build_acceptor(tree, Limits(**plain["limits"]), reception, places, plain["services"])
        plain_listener, tls_listener, web_listener = (_listener(one) for one in plain["listeners"])
        self._acceptor.start((plain_listener, tls_listener), web_listener)
        self._channel.tell("ready")

    def _build_acceptor(
        self, tree: Config, limits: Limits, reception: Reception, places: Places, names: list[Any]
    ) -> Inlets:
        services: Mapping[tuple[str, int], Service] = dict.fromkeys(map(tuple, names), self._serve)
        return Inlets(tree, limits, reception, services=services, places=places, emit=self._emit)

    def _serve(self, call: Call) -> Iterator[Reply]:
        """The node answers whatever needs the ledger."""
        yield from map(reply_of_plain, self._channel.ask("serve", plain_call(call)))

    def _emit(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        with suppress(StorageError):  # nobody is there to read it
            self._channel.tell("emit", name, level, facts)

    def _bar(self, study_key: str) -> bool:
        """Keep arrivals of a study waiting and let go of its segments; False where any of it is under way."""
        with ExitStack() as stack:
            if not stack.enter_context(self._activity.closed(study_key)):
                return False
            if self._spool is not None:
                self._spool.abandon(study_key)
            self._keys.forget(study_key)
            self._allowances.forget(study_key)
            self._barred[study_key] = stack.pop_all()
            return True

    def _unbar(self, study_key: str) -> None:
        self._barred.pop(study_key, ExitStack()).close()

    def _close_study(self, study_key: str) -> None:
        """Close a study's segments; the node may forget that we have any where none of it is under way."""
        if self._spool is None:
            return
        with self._activity.closed(study_key) as free:
            self._spool.close_study(study_key)
            if free:
                self._keys.forget(study_key)
                self._allowances.forget(study_key)
                self._channel.tell("left", study_key)

    def _refuse(self, refused_from: int) -> None:
        self._activity.refused_from = refused_from

    def _reload(self) -> None:
        if self._acceptor is not None:
            self._acceptor.reload_certificates()

    def _report(self, association_id: str, event: list[Any], encoded: dict[str, str], seconds: float) -> int | None:
        if self._acceptor is None:
            return None
        sop_class_uid, sop_instance_uid, event_type_id = event
        asked = Event(sop_class_uid, sop_instance_uid, event_type_id, lambda syntax: bytes_of_plain(encoded[syntax]))
        return self._acceptor.report(association_id, asked, seconds)

    def _drain(self, seconds: float) -> None:
        threading.Thread(target=self._drain_now, args=(seconds,), name="drain", daemon=True).start()

    def _drain_now(self, seconds: float) -> None:
        if self._acceptor is not None and self._spool is not None:
            clean = self._acceptor.drain(seconds)
            self._spool.close()
            self._drained = True
            with suppress(StorageError):
                self._channel.tell("drained", clean)
        self._drained = True
        self._channel.end()


def _nothing() -> None:
    """Whoever is to be woken sits in the node, and hears of the end of an association there."""


def _listener(descriptor: int | None) -> socket.socket | None:
    return socket.socket(fileno=descriptor) if descriptor is not None else None


def _report(receiver: Receiver, where: str, error: BaseException) -> None:
    receiver._emit("receiver.fault", level="error", reason="internal", kind=type(error).__name__, stage=where)


def main(descriptor: int) -> int:
    """Run a receiver on its end of the channel; returns the exit status."""
    keep_little()
    take_short_turns()
    end = socket.socket(fileno=descriptor)
    receiver = Receiver(end)
    try:
        with caught(partial(_report, receiver)):
            return 0 if receiver.run() else 1
    except NodeError as error:
        receiver._emit("receiver.fault", level="error", reason=error.code)
    except Exception as error:  # noqa: BLE001 (the border of the process: the log is told by whoever has one)
        receiver._emit("receiver.fault", level="error", reason="internal", kind=type(error).__name__)
    finally:
        end.close()
    return 1


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1])))  # threads of associations may still be at work, and must not hold it up
