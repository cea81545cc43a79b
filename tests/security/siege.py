"""What must hold whatever a peer does: the one invariant that every attack of this folder is held to.

The receiver runs in a process of its own, so that its memory, threads and descriptors are its own. An attack ends with:
each expected event exactly once and no other alarm, nothing of the patient in the log, no thread or descriptor left,
memory flat, and legitimate peers served within a second: one (DCMTK's echoscu, from its start to its end) again and
again while the attack goes on, one that stores before it and after it. Each of them has one try, by the wall clock of
whatever machine this is; nothing is taken off for noise.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dicomnode.network import pdu
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from tests import tools
from tests.neighbours import wait_for
from tests.network.raw import PATIENT, SECONDS, STUDY, Peer, store
from tests.network.receiver import Receiver

MEBI = 1024 * 1024
LASTING_BYTES = 12 * MEBI  # the stages that are kept, and two arenas; an attack's bytes are far more
PEAK_BYTES = 64 * MEBI
OTHER_FILES = 24  # ledger, pipes, listener: a segment has two more
FRIEND = "127.0.0.200"
SERVICE_SECONDS = 1.0
_PAUSE_SECONDS = 0.1

Expected = dict[tuple[str, str, str | None], int]
_numbers = itertools.count(1)
_attackers = itertools.count(1)


class Siege:
    """A receiver, and what is known of it before an attack."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        number = next(_attackers)
        self.attacker = f"127.1.{number >> 8}.{number & 255}"  # new: its first alarm is told at once

    @contextmanager
    def attack(self, expected: Expected | None = None, *, secrets: tuple[str, ...] = ()) -> Iterator[Siege]:
        """Everything that a peer does to harm.

        Parameters
        ----------
        expected
            Alarms that it must raise, how often each: name of the event, reason and kind.
        secrets
            What must not stand in the log, the planted patient apart.
        """
        receiver = self.receiver
        self.serve_a_friend()
        self._settled()
        since = len(receiver.lines)
        threads, (sockets, _) = receiver.threads(), receiver.descriptors()
        receiver.forget_peak()
        before, _ = receiver.memory()
        with Served(receiver):
            yield self
        self._alarms(expected or {}, since)
        self.at_rest(sockets=sockets, threads=threads)
        _, peak = receiver.memory()
        assert peak - before < PEAK_BYTES, f"{(peak - before) // MEBI} MiB more at its peak"
        wait_for(lambda: receiver.memory()[0] - before < LASTING_BYTES, SECONDS, what="memory as before")
        self.serve_a_friend()
        log = "\n".join(receiver.lines[since:])
        for secret in (PATIENT, PATIENT.split("^", maxsplit=1)[0], STUDY, "Traceback", *secrets):
            assert secret not in log

    def at_rest(self, *, sockets: int, threads: int) -> None:
        """Wait until no more sockets and threads are left than before; open files are those of segments."""
        receiver = self.receiver
        wait_for(lambda: receiver.threads() <= threads, SECONDS, what=f"an end of threads above {threads}")
        wait_for(lambda: receiver.descriptors()[0] <= sockets, SECONDS, what=f"an end of sockets above {sockets}")
        files = receiver.descriptors()[1]
        assert files <= OTHER_FILES + 2 * receiver.tree.intake.open_segments, f"{files} files are open"

    def peer(self, address: str | None = None) -> Peer:
        """A connection, of the attacker where nobody else is named."""
        return Peer(self.receiver.port, address or self.attacker)

    def serve_a_friend(self) -> None:
        """A legitimate peer: association, object, release; the response comes within a second of its call."""
        uid = f"{STUDY}.7.{next(_numbers)}"
        begun = time.monotonic()
        with self.peer(FRIEND) as friend:
            friend.associate()
            friend.send(*store(uid))
            assert friend.status() == 0x0000
            seconds = time.monotonic() - begun
            friend.release()
        assert seconds <= SERVICE_SECONDS, f"an object was answered after {seconds:.3f} s"

    def _settled(self) -> None:
        """Until no connection is left."""
        opened = len([one for one in self.receiver.events() if one["event"] == "association.opened"])
        self.receiver.wait_for(
            lambda events: [one for one in events if one["event"] == "association.closed"], count=opened
        )
        receiver, steady = self.receiver, Counter[tuple[int, int]]()

        def quiet() -> bool:
            now = receiver.threads(), receiver.descriptors()[0]
            steady[now] += 1
            return steady[now] > 3

        wait_for(quiet, SECONDS, what="a receiver at rest")

    def _alarms(self, expected: Expected, since: int) -> None:
        """Each expected alarm as often as expected, and no other."""
        total = sum(expected.values())
        self.receiver.wait_for(_alarming, since=since, count=total)
        found = Counter(
            (one["event"], one.get("reason", one.get("line", "")), one.get("kind"))
            for one in _alarming(self.receiver.events(since))
        )
        assert found == Counter(expected), (found, expected)


class Served:
    """A legitimate peer of others that calls while something goes on, at least once: C-ECHO, each within a second."""

    def __init__(self, receiver: Receiver) -> None:
        self._port = receiver.port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._call, daemon=True)
        self.seconds: list[float] = []
        self._failure: BaseException | None = None

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join(SECONDS)
        if kind is not None:
            return
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
        assert self.seconds
        _assert_in_time(max(self.seconds))

    def _call(self) -> None:
        try:
            while True:
                self.seconds.append(echo_by_others(self._port))
                if self._ended.wait(_PAUSE_SECONDS):
                    return
        except BaseException as failure:  # noqa: BLE001 (raised where the test runs)
            self._failure = failure


def assert_served(port: int) -> None:
    """A legitimate peer of others is answered within a second."""
    _assert_in_time(echo_by_others(port))


def _assert_in_time(seconds: float) -> None:
    assert seconds <= SERVICE_SECONDS, f"C-ECHO was answered after {seconds:.3f} s"


def echo_by_others(port: int) -> float:
    """C-ECHO by DCMTK's echoscu, by pynetdicom where there is no DCMTK; seconds from its start to its end."""
    begun = time.monotonic()
    program = tools.find("echoscu")
    if program is None:
        peer = Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port, timeout_seconds=20)
        Requestor(peer, "SENDER").echo()
        return time.monotonic() - begun
    done = subprocess.run(
        [program, "-to", "20", "-ta", "20", "-td", "20", "-aec", "DICOMNODE", "127.0.0.1", str(port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - begun


def _alarming(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Alarms, each as often as it was raised: a summary stands for its `repeats`."""
    alarms = [one for one in events if one.get("level", "error") in {"warning", "error"}]
    return [one for one in alarms for _ in range(one.get("repeats", 1))]


def broken(kind: str | None, reason: str = "peer-protocol", times: int = 1) -> Expected:
    """An association that we aborted."""
    return {("association.broken", reason, kind): times}


def failed(kind: str | None, reason: str = "peer-protocol", times: int = 1) -> Expected:
    """A connection that became no association."""
    return {("connection.failed", reason, kind): times}


def refused(reason: str, times: int = 1) -> Expected:
    """An object that was not taken."""
    return {("object.refused", reason, None): times}


def assert_aborted(peer: Peer, reason: int) -> None:
    """The next PDU is an A-ABORT of the provider (PS3.8 9.3.8) with this reason, and the connection ends."""
    assert peer.pdu() == (pdu.A_ABORT, bytes((0, 0, 2, reason)))
    assert peer.pdu() is None
