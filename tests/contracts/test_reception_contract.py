"""One contract of receiving for every way in by network: C-STORE and STOW-RS, to the node's own process and to receivers.

Statuses are DIMSE's in both: a Failure Reason of STOW-RS is the same number (PS3.18 Table I.2-2).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from dicomnode.network import pdu
from dicomnode.storage.spool import Spool
from dicomnode.study import World
from tests.contracts.gates import Bench, bench, key_of, wait_until
from tests.network.raw import STORE_CONTEXT, STUDY, associate_request, data_pdu, data_set, element, fragment, store
from tests.network.web import BOUNDARY, KIND, RULE, Caller, RawCaller, body_of, file_of, uid_of
from tests.unit.network.samples import SECONDARY_CAPTURE

OTHER = f"{STUDY}.77"


class Sender(Protocol):
    """Who sends, whatever it speaks."""

    def store(self, number: int, study: str = STUDY, *, pixels: bytes = bytes(64), data: bytes | None = None) -> int:
        """One object; its status."""
        ...

    def close(self) -> None: ...


class ByDimse:
    """An association."""

    def __init__(self, made: Bench) -> None:
        self._peer = made.associate()

    def store(self, number: int, study: str = STUDY, *, pixels: bytes = bytes(64), data: bytes | None = None) -> int:
        uid = uid_of(number, study)
        self._peer.send(*store(uid, data_set(uid, pixels, study) if data is None else data))
        return self._peer.status()

    def close(self) -> None:
        self._peer.release()


class ByWeb:
    """A connection, and a request for each object."""

    def __init__(self, made: Bench) -> None:
        self._caller = Caller(web(made))

    def store(self, number: int, study: str = STUDY, *, pixels: bytes = bytes(64), data: bytes | None = None) -> int:
        answer = self._caller.store(file_of(number, study, pixels=pixels, data=data))
        (status,) = answer.statuses().values()
        expected = 200 if status == 0 else 503 if status == 0xA700 else 409
        assert answer.status == expected
        return status

    def close(self) -> None:
        self._caller.close()


def web(made: Bench) -> tuple[str, int]:
    address = made.gate.web_address
    assert address is not None
    return address


INLETS = pytest.mark.parametrize("inlet", [ByDimse, ByWeb], ids=["c-store", "stow-rs"])
WAYS = pytest.mark.parametrize("receivers", [0, 2], ids=["own", "processes"])


@contextmanager
def node(folder: Path, inlet: type, receivers: int, **sections: Any) -> Iterator[Bench]:
    rule = sections.pop("rule", {})
    if inlet is ByWeb:
        sections |= {"stow": {"enabled": True, "port": 0}, "peers": [{**RULE, **rule}]}
    elif rule:
        sections["peers"] = [{"name": "gateway", **rule}]
    with bench(folder, receivers, **sections) as made:
        yield made


@INLETS
@WAYS
def test_what_is_acknowledged_is_durable_and_indexed(tmp_path: Path, inlet: Any, receivers: int) -> None:
    with node(tmp_path, inlet, receivers) as made:
        sender = inlet(made)
        assert [sender.store(number, pixels=bytes([number]) * 3000) for number in range(4)] == [0] * 4
        rows = made.rows(count=4)
        found = sorted(bytes(made.spool.read(row.study_key, row.address)[1]) for row in rows)
        assert found == sorted(data_set(uid_of(n), bytes([n]) * 3000) for n in range(4))
        sender.close()
        made.log.wait_for("study.arrived", study=key_of(STUDY))
        wait_until(lambda: made.activity.snapshot()[0].open_associations == 0)


@INLETS
def test_nothing_is_acknowledged_before_it_is_durable(
    tmp_path: Path, inlet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer waits for the disk: held there, no status comes."""
    reached, go = threading.Event(), threading.Event()
    arrival = Spool.arrival

    def slow(self: Spool, digest: Any) -> Any:
        made_of = arrival(self, digest)
        finish = made_of.finish

        def held(describe: Any) -> Any:
            reached.set()
            assert go.wait(30)
            return finish(describe)

        made_of.finish = held  # type: ignore[method-assign]
        return made_of

    monkeypatch.setattr(Spool, "arrival", slow)
    with node(tmp_path, inlet, 0) as made:
        sender, statuses = inlet(made), list[int]()
        thread = threading.Thread(target=lambda: statuses.append(sender.store(1)))
        thread.start()
        assert reached.wait(30)
        thread.join(0.3)
        assert thread.is_alive()
        assert statuses == []
        go.set()
        thread.join(30)
        assert statuses == [0]
        sender.close()


@INLETS
@WAYS
def test_the_same_again_is_success_and_nothing_new(tmp_path: Path, inlet: Any, receivers: int) -> None:
    with node(tmp_path, inlet, receivers) as made:
        sender = inlet(made)
        assert [sender.store(1), sender.store(1), sender.store(2)] == [0, 0, 0]
        rows = made.rows(count=3)
        first, again = (row for row in rows if row.instance_key == _key_of_first(rows))
        assert first.digest == again.digest
        sender.close()


def _key_of_first(rows: list[Any]) -> str:
    keys = [row.instance_key for row in rows]
    return str(next(key for key in keys if keys.count(key) == 2))


@INLETS
@WAYS
def test_what_breaks_off_leaves_nothing_and_takes_nothing_along(tmp_path: Path, inlet: Any, receivers: int) -> None:
    with node(tmp_path, inlet, receivers) as made:
        whole = inlet(made)
        assert whole.store(1) == 0
        whole.close()
        if inlet is ByDimse:
            with made.associate() as peer:
                peer.send(*store(uid_of(2), data_set(uid_of(2), bytes(40_000)))[:2])
        else:
            with RawCaller(web(made)) as caller:
                body = body_of([file_of(3), file_of(2, pixels=bytes(40_000))])
                caller.head(Content_Length=str(len(body)))
                caller.send(body[:-20_000])
        made.log.wait_for("association.closed", count=2)
        assert made.log.facts("association.closed")[-1]["aborted"] is True
        keys = {row.instance_key for row in made.rows(count=1 + (inlet is ByWeb))}
        assert len(keys) == 1 + (inlet is ByWeb), "of a request that breaks off, whole objects stay"


@INLETS
def test_statuses_of_what_cannot_be_taken(tmp_path: Path, inlet: Any) -> None:
    without_study = b"".join(
        (
            element(0x0008, 0x0016, b"UI", SECONDARY_CAPTURE.encode()),
            element(0x0008, 0x0018, b"UI", uid_of(2).encode()),
            element(0x7FE0, 0x0010, b"OB", bytes(64)),
        )
    )
    with node(tmp_path, inlet, 0, intake={"maximum_object_bytes": 1 << 20}) as made:
        sender = inlet(made)
        assert sender.store(1, data=data_set(uid_of(7))) == 0xA900, "another object than is said"
        assert sender.store(2, data=without_study) == 0xC000
        assert sender.store(3, pixels=bytes(3 << 19)) == 0xC000, "too large"
        assert sender.store(4, data=b"\xff" * 300) == 0xC000
        assert sender.store(5) == 0, "the connection goes on"
        assert len(made.rows(count=1)) == 1
        reasons = [facts["reason"] for facts in made.log.facts("object.refused")]
        assert reasons == ["object-uid-mismatch", "object-without-uids", "object-too-large", "object-malformed"]
        sender.close()


@INLETS
@WAYS
def test_limits_of_a_peer_count_and_pass(tmp_path: Path, inlet: Any, receivers: int) -> None:
    with node(tmp_path, inlet, receivers, rule={"maximum_study_instances": 3}) as made:
        sender = inlet(made)
        assert [sender.store(number) for number in range(5)] == [0, 0, 0, 0x0124, 0x0124]
        assert sender.store(9, OTHER) == 0
        assert len(made.rows(count=3)) == 3
        sender.close()


@INLETS
@WAYS
@pytest.mark.parametrize(
    "quota", [{"maximum_study_instances": 3}, {"maximum_study_bytes": 1 << 20}], ids=["instances", "bytes"]
)
def test_what_is_stored_already_is_a_duplicate_whatever_the_quota(
    tmp_path: Path, inlet: Any, receivers: int, quota: dict[str, int]
) -> None:
    large, other = bytes(300_000), b"\x01" * 300_000
    with node(tmp_path, inlet, receivers, rule=quota) as made:
        sender = inlet(made)
        assert [sender.store(number, pixels=large) for number in range(3)] == [0, 0, 0]
        assert [sender.store(number, pixels=large) for number in range(4)] == [0, 0, 0, 0x0124]
        assert sender.store(1, pixels=other) == 0x0124, "other content under the same UID is nothing that is stored"
        assert sender.store(2, pixels=large) == 0
        assert {facts["reason"] for facts in made.log.facts("object.refused")} == {"study-limit"}
        assert len(made.rows(count=3)) == 3
        sender.close()


@INLETS
def test_studies_at_a_time_are_told_as_what_passes(tmp_path: Path, inlet: Any) -> None:
    with node(tmp_path, inlet, 0, rule={"maximum_open_studies": 1}) as made:
        sender = inlet(made)
        assert [sender.store(1), sender.store(1, OTHER)] == [0, 0xA700]
        sender.close()


@INLETS
def test_sop_classes_of_a_peer(tmp_path: Path, inlet: Any) -> None:
    ct = "1.2.840.10008.5.1.4.1.1.2"
    with node(tmp_path, inlet, 0, rule={"sop_classes": [ct]}) as made:
        if inlet is ByWeb:
            sender = inlet(made)
            assert sender.store(1) == 0x0122
            sender.close()
        else:
            peer = made.connect()
            peer.send(associate_request())
            peer.pdu()
            peer.send(data_pdu(fragment(STORE_CONTEXT, b"", command=True, last=True)))
            answer = peer.pdu()
            assert answer is not None
            assert answer[0] == pdu.A_ABORT, "the context was not agreed on"
        assert made.ledger.studies(limit=10) == ()


@INLETS
def test_a_full_disk_refuses_at_the_door_and_lets_in_again(
    tmp_path: Path, inlet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node(tmp_path, inlet, 0) as made:
        full = True

        def check(self: Spool) -> None:
            if full:
                from dicomnode.errors import StorageError

                raise StorageError("storage-full")

        monkeypatch.setattr(Spool, "check_space", check)
        if inlet is ByWeb:
            with Caller(web(made)) as caller:
                answer = caller.store(file_of(1))
            assert (answer.status, answer.kind, answer.header["Retry-After"]) == (503, "admission", "30")
        else:
            with made.connect() as peer:
                peer.send(associate_request())
                assert (peer.pdu() or (0,))[0] == pdu.A_ASSOCIATE_RJ
        full = False
        sender = inlet(made)
        assert sender.store(1) == 0
        sender.close()


@INLETS
@WAYS
def test_what_comes_of_a_study_that_is_being_shredded_waits(tmp_path: Path, inlet: Any, receivers: int) -> None:
    with node(tmp_path, inlet, receivers) as made:
        first = inlet(made)
        assert first.store(1) == 0
        first.close()
        made.log.wait_for("study.arrived")
        made.rows(count=1)
        before = made.keys.get(key_of(STUDY), World.IDENTITY).key
        made.activity.forget(key_of(STUDY), float("inf"))
        late, statuses = inlet(made), list[int]()
        thread = threading.Thread(target=lambda: statuses.append(late.store(2)))
        with made.gate.barred(key_of(STUDY)) as free:
            assert free
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            made.spool.purge(key_of(STUDY))
            made.keys.shred(key_of(STUDY))
            made.ledger.purge_study(key_of(STUDY))
        thread.join(30)
        assert statuses == [0]
        made.rows(count=1)
        assert made.keys.get(key_of(STUDY), World.IDENTITY).key != before
        late.close()


@WAYS
def test_caps_hold_over_both_ways_in(tmp_path: Path, receivers: int) -> None:
    listen = {"maximum_associations": 2}
    with node(tmp_path, ByWeb, receivers, listen=listen) as made:
        peers = [made.associate() for _ in range(2)]
        with Caller(web(made)) as refused_caller:
            answer = refused_caller.store(file_of(1))
        assert (answer.status, answer.kind) == (503, "associations")
        peers.pop().release()
        made.log.wait_for("association.closed")
        with RawCaller(web(made)) as caller:
            caller.head(Content_Length="1000000")
            caller.send(f"--{BOUNDARY}\r\n\r\n".encode())
            wait_until(lambda: len(made.log.facts("association.opened")) == 3)
            with made.connect() as refused:
                refused.send(associate_request())
                assert (refused.pdu() or (0,))[0] == pdu.A_ASSOCIATE_RJ
        peers.pop().release()


@WAYS
def test_a_drain_lets_a_request_end_and_takes_no_other(tmp_path: Path, receivers: int) -> None:
    with node(tmp_path, ByWeb, receivers) as made:
        address = web(made)
        idle = RawCaller(address)
        body = body_of([file_of(1)])
        with RawCaller(address) as caller:
            caller.head(Content_Length=str(len(body)), Content_Type=KIND)
            caller.send(body[:-10])
            made.log.wait_for("association.opened")
            clean = list[bool]()
            thread = threading.Thread(target=lambda: clean.append(made.gate.drain(30)))
            thread.start()
            assert idle.rest() == b""
            caller.send(body[-10:])
            answer = caller.answer()
            assert answer is not None
            assert (answer.status, answer.header.get("Connection")) == (200, "close")
            assert caller.rest() == b""
        thread.join(60)
        assert clean == [True]
        idle.socket.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 5)


@INLETS
def test_a_receiver_that_is_killed_loses_nothing_that_was_acknowledged(tmp_path: Path, inlet: Any) -> None:
    """kill -9 with an object half-way: no answer, nothing of it; what was answered is in the index; another takes it again."""
    with node(tmp_path, inlet, 1) as made:
        sender = inlet(made)
        assert [sender.store(1), sender.store(2)] == [0, 0]
        sender.close()
        made.rows(count=2)
        if inlet is ByDimse:
            peer = made.associate()
            peer.send(*store(uid_of(3), data_set(uid_of(3), bytes(40_000)))[:2])
            made.log.wait_for("association.opened", count=2)
            os.kill(made.pids()[1], signal.SIGKILL)
            assert peer.pdu() is None
        else:
            body = body_of([file_of(3, pixels=bytes(40_000))])
            with RawCaller(web(made)) as caller:
                caller.head(Content_Length=str(len(body)))
                caller.send(body[:-20_000])
                made.log.wait_for("association.opened", count=3)
                os.kill(made.pids()[1], signal.SIGKILL)
                assert caller.answer() is None
        made.log.wait_for("receiver.died")
        made.log.wait_for("receiver.started", count=2)
        again = inlet(made)
        assert again.store(3, pixels=bytes(40_000)) == 0
        again.close()
        assert len({row.instance_key for row in made.rows(count=3)}) == 3
