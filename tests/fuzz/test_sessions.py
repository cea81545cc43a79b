"""Mutated sessions against the parsers, against a session in memory, and against an acceptor that listens.

`make prove-fuzz SEED=7` runs a hundred thousand mutated PDUs, the suite a thousand. A failure tells seed and case;
`make prove-fuzz SEED=7 CASE=123` is that case alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits, scan_header
from dicomnode.errors import PeerError, StudyError
from dicomnode.network import dimse, pdu
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.negotiation import Request
from dicomnode.network.pdu import Violation
from dicomnode.network.places import Places
from dicomnode.network.server import Connection
from dicomnode.network_sections import ListenSection
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from tests.fuzz.mutation import Case, case
from tests.network.raw import PATIENT, Peer
from tests.network.receiver import Receiver
from tests.security.siege import Siege
from tests.unit.network.samples import EXPLICIT_LITTLE, Events, Recording
from tests.unit.storage.samples import disk_folder

SEED = int(os.environ.get("DICOMNODE_FUZZ_SEED", "1"))
PDUS = int(os.environ.get("DICOMNODE_FUZZ_PDUS", "1000"))
ONLY = os.environ.get("DICOMNODE_FUZZ_CASE")
ADDRESSES = itertools.cycle(f"127.0.0.{last}" for last in range(1, 61))
_LAST = {pdu.A_ASSOCIATE_RJ, pdu.A_RELEASE_RP, pdu.A_ABORT}


def cases() -> Iterator[tuple[int, Case]]:
    """Cases until so many PDUs were mutated; or the one that is asked for."""
    if ONLY:
        yield int(ONLY), case(SEED, int(ONLY))
        return
    number = mutated = 0
    while mutated < PDUS:
        one = case(SEED, number)
        yield number, one
        mutated += len(one.what)
        number += 1


class Told:
    """Adds seed and case to whatever fails within."""

    def __init__(self, number: int, one: Case) -> None:
        self._text = f"SEED={SEED} CASE={number}: {', '.join(one.what)}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is not None:
            error.add_note(
                f"{self._text}\nagain: make prove-fuzz SEED={SEED} CASE={self._text.split('CASE=')[1].split(':')[0]}"
            )


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """PDUs that an acceptor sent: whole, known, in an order that an acceptor may send them in."""
    found = []
    while data:
        kind, length = struct.unpack_from(">BxL", data)
        assert len(data) >= 6 + length, "half a PDU"
        found.append((kind, data[6 : 6 + length]))
        data = data[6 + length :]
    kinds = [kind for kind, _ in found]
    assert all(kind not in _LAST for kind in kinds[:-1]), kinds
    assert all(kind == pdu.P_DATA_TF for kind in kinds[1:-1]), kinds
    assert not kinds or kinds[0] in {pdu.A_ASSOCIATE_AC, pdu.A_ASSOCIATE_RJ, pdu.A_ABORT}, kinds
    return found


def acknowledged(found: list[tuple[int, bytes]]) -> int:
    """How many objects the peer was told are safe; a command may come in many fragments, as small as the peer asked."""
    count, command = 0, b""
    for kind, body in found:
        if kind != pdu.P_DATA_TF:
            continue
        one = pdu.parse_item(body, 0, len(body))
        assert one.is_command
        assert one.length + pdu.ITEM_BYTES == len(body)
        command += body[pdu.ITEM_BYTES :]
        if one.is_last:
            said, command = dimse.parse_command(command), b""
            count += said.command_field == dimse.C_STORE_RQ | dimse.RESPONSE and said.status == 0
    assert not command, "half a response"
    return count


class MemoryWire:
    """What `Session` needs of a wire, over bytes that are all there; a sparing one gives none that can do without."""

    waited = 0.0

    def __init__(self, data: bytes, *, sparing: bool) -> None:
        self._data = memoryview(data)
        self._sparing = sparing
        self.sent = b""
        self.ended = False

    def wait_at_most(self, seconds: float) -> None:
        return None

    def acknowledge_at_once(self) -> None:
        return None

    def read(self, place: memoryview) -> None:
        if self.read_some(place, len(place)) != len(place):
            raise PeerError("peer-aborted")

    def read_some(self, place: memoryview, least: int) -> int:
        count = min(least if self._sparing and least else len(place), len(self._data))
        if 0 < count < least:
            raise PeerError("peer-aborted")
        place[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    scatters = True

    def read_parts(self, parts: Sequence[memoryview]) -> int:
        self.read(parts[0])
        return len(parts[0]) + sum(self.read_some(part, 0) for part in parts[1:])

    def read_ahead(self, place: memoryview, behind: memoryview) -> int:
        self.read(place)
        return 0 if self._sparing else self.read_some(behind, 0)

    def send(self, data: bytes) -> None:
        self.sent += data

    def part(self, farewell: bytes) -> None:
        self.sent += farewell

    def end(self, seconds: float = 0.0) -> None:
        self.ended = True


def test_the_parsers_give_a_result_or_one_error() -> None:
    """Each parser is given the mutated bytes from wherever it could be asked to begin."""
    limits = Limits()
    for number, one in cases():
        with Told(number, one):
            for data in one.pdus:
                tried(lambda data=data: pdu.parse_header(data[:6].ljust(6, b"\0"), 0, 131072))
                tried(lambda data=data: Request(data))
                body = data[12:]
                tried(lambda data=data: pdu.parse_item(data.ljust(12, b"\0"), 6, max(len(data) - 6, 6)))
                tried(lambda body=body: dimse.parse_command(body))
                for whole in (True, False):
                    tried(lambda body=body, whole=whole: scan_header(body, EXPLICIT_LITTLE, limits, whole=whole))


def tried(parse: Any) -> None:
    try:
        parse()
    except (Violation, StudyError) as error:
        assert PATIENT not in str(error)  # noqa: PT017 (most give a result)


@pytest.mark.parametrize("sparing", [False, True])
def test_a_session_in_memory_ends_in_order(sparing: bool) -> None:
    """One alarm at most, never a fault of ours, whole answers, and success for exactly what was stored."""
    reception, events = Recording(), Events()
    acceptor = Acceptor(ListenSection(port=0), IntakeSection(), "DICOMNODE", Limits(), reception, emit=events)
    outcomes: Counter[str] = Counter()
    places = Places(1)
    for number, one in cases():
        with Told(number, one):
            reception.objects.clear()
            reception.calls.clear()
            events.events.clear()
            wire: Any = MemoryWire(b"".join(one.pdus), sparing=sparing)
            place: Any = places.take("127.0.0.1", waiting_per_address=1)
            connection: Any = Connection("127.0.0.1", None, None, place)  # type: ignore[arg-type]
            acceptor._serve(connection, wire)
            place.leave()
            assert wire.ended
            found = answers(wire.sent)
            assert acknowledged(found) == len(reception.objects)
            for received, encoded in reception.objects:
                assert scan_header(encoded, EXPLICIT_LITTLE, Limits()).sop_instance_uid == received.sop_instance_uid
            assert len(reception.named("opened")) == len(reception.named("closed"))
            names = [name for name, level, _ in events.events if name != "object.refused"]
            assert len(names) <= 1, events.events
            assert "internal" not in names
            assert PATIENT not in repr(events.events)
            outcomes[f"{found[-1][0] if found else 0} {names}"] += 1
    assert ONLY or len(outcomes) >= 5, outcomes


def test_a_fault_is_told_with_its_seed_and_its_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of the proof: a parser that runs into something else than its one error."""
    parse = dimse.parse_command

    def careless(encoded: Any) -> dimse.Command:
        try:
            return parse(encoded)
        except Violation as error:
            raise IndexError from error

    monkeypatch.setattr(dimse, "parse_command", careless)
    with pytest.raises(IndexError) as caught:
        test_a_session_in_memory_ends_in_order(False)
    (note,) = caught.value.__notes__
    assert f"SEED={SEED} CASE=" in note


@pytest.mark.timeout(7200)
def test_an_acceptor_that_listens_outlives_all_of_them() -> None:
    """Success for exactly what the spool holds afterwards; nothing left open, memory flat, the next peer served."""
    stored = 0
    with disk_folder() as folder, Receiver(folder / "state") as receiver:
        siege = Siege(receiver)
        siege.serve_a_friend()
        before, (sockets, _), threads = receiver.memory()[0], receiver.descriptors(), receiver.threads()
        for number, one in cases():
            with Told(number, one):
                stored += acknowledged(answers(conversation(receiver.port, b"".join(one.pdus))))
        siege.serve_a_friend()
        siege.at_rest(sockets=sockets, threads=threads)
        assert receiver.memory()[0] - before < 48 << 20
        log = "\n".join(receiver.lines)
        names = Counter(one["event"] for one in receiver.events())
        assert not {"internal", "node.fault", "text", "association.fault"} & names.keys()
        assert PATIENT not in log
        assert receiver.stop() == 0
        tree = receiver.tree
        state = tree.node.state
        assert state is not None
        ring = open_keys(state / "keys", create=False)
        with (
            Ledger.open(state / "ledger.sqlite") as ledger,
            Spool(state / "spool", tree.intake, DataKeys(ledger, ring)) as spool,
        ):
            records = sum(1 for _ in spool.recover())
    assert records == stored + 2  # the friend's two


def conversation(port: int, data: bytes) -> bytes:
    """Send all, end, and hear what is said; from addresses in turn, each of which has ports that wait for their end."""
    with Peer(port, next(ADDRESSES)) as peer:
        if peer.send(data):
            with contextlib.suppress(OSError):
                peer.socket.shutdown(1)
        heard = b""
        while True:
            try:
                more = peer.socket.recv(65536)
            except ConnectionResetError:
                return heard
            if not more:
                return heard
            heard += more
