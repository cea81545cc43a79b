"""One contract for whoever receives: the node's own process, and receivers of their own. Only the last part is theirs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.presentation import build_context

from dicomnode.encoded import encode_dataset
from dicomnode.errors import StorageError
from dicomnode.network import dimse, pdu
from dicomnode.network.asking import Event
from dicomnode.network.commitment import STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
from dicomnode.network.session import Call, Reply
from dicomnode.network.transport import Entity
from dicomnode.sections import Tls
from dicomnode.service import watch
from dicomnode.service.receivers import Receivers
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.open_segment import CLOSED_SUFFIX
from dicomnode.study import InstanceRow, World
from tests.contracts.gates import Bench, bench, key_of, send, wait_until
from tests.network.certificates import Authority, fingerprint
from tests.network.raw import STUDY, Peer, associate_request, data_set, store
from tests.network.test_procedures import PROCEDURE_STEP, STEP_UID, step
from tests.network.test_tls_listening import client
from tests.unit.storage.samples import disk_folder

OTHER = f"{STUDY}.77"
WAYS = pytest.mark.parametrize("receivers", [0, 2], ids=["own", "processes"])


@WAYS
def test_what_is_acknowledged_is_durable_indexed_and_its_study_active(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peer = made.associate()
        assert [send(peer, number) for number in range(3)] == [0, 0, 0]
        rows = made.rows(count=3)
        assert [made.spool.read(row.study_key, row.address)[1][-2:] for row in sorted(rows, key=_number)] == [
            number.to_bytes(2, "big") for number in range(3)
        ]
        (activity,) = made.activity.snapshot()
        assert (activity.study_key, activity.open_associations) == (key_of(STUDY), 1)
        woken = made.woken
        peer.release()
        made.log.wait_for("study.arrived", study=key_of(STUDY))
        wait_until(lambda: made.woken > woken)
        (activity,) = made.activity.snapshot()
        assert (activity.open_associations, activity.last_released is not None) == (0, True)
        (opened,) = made.log.facts("association.opened")
        (closed,) = made.log.facts("association.closed")
        assert (closed["association"], closed["aborted"], closed["studies"]) == (opened["association"], False, 1)


def _number(row: object) -> int:
    return int(row.address.number)  # type: ignore[attr-defined]


@WAYS
def test_an_association_that_breaks_off_keeps_what_was_acknowledged(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        with made.associate() as peer:
            assert send(peer, 1) == 0
        assert made.log.wait_for("association.closed")[0]["aborted"] is True
        assert len(made.rows(count=1)) == 1


@WAYS
def test_one_study_over_many_associations_is_one_study(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peers = [made.associate() for _ in range(6)]
        for number in range(30):
            assert send(peers[number % 6], number) == 0
        wait_until(lambda: made.activity.snapshot()[0].open_associations == 6)
        for peer in peers:
            peer.release()
        made.log.wait_for("association.closed", count=6)
        assert len(made.rows(count=30)) == 30
        (activity,) = made.activity.snapshot()
        assert activity.open_associations == 0
        if receivers:
            assert len({row.address.segment_id[:8] for row in made.rows()}) == 2, "both had a share"


@WAYS
def test_a_study_is_not_shredded_while_an_association_carries_it(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        with made.gate.barred(key_of(STUDY)) as free:
            assert not free
        with made.gate.barred(key_of(OTHER)) as free:
            assert free
        assert send(peer, 2) == 0
        assert send(peer, 3, OTHER) == 0
        peer.release()


@WAYS
def test_a_study_is_not_shredded_while_its_first_object_is_still_coming(tmp_path: Path, receivers: int) -> None:
    """Only who receives it knows of it yet."""
    with bench(tmp_path, receivers) as made:
        peer = made.associate()
        uid = f"{STUDY}.9.1"
        pdus = store(uid, data_set(uid, bytes(40_000)))
        peer.send(*pdus[:2])
        wait_until(lambda: bool(list((made.state / "spool").glob("??/*/*"))))
        assert made.activity.snapshot() == ()
        with made.gate.barred(key_of(STUDY)) as free:
            assert not free
        peer.send(*pdus[2:])
        assert peer.status() == 0
        assert len(made.rows(count=1)) == 1
        peer.release()


@WAYS
def test_what_comes_of_a_study_that_is_being_shredded_waits_and_begins_anew(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        peer.release()
        made.log.wait_for("study.arrived")
        before = made.keys.get(key_of(STUDY), World.IDENTITY).key
        made.rows(count=1)
        made.activity.forget(key_of(STUDY), float("inf"))
        late, answers = made.associate(), list[int]()
        sender = threading.Thread(target=lambda: answers.append(send(late, 2)))
        with made.gate.barred(key_of(STUDY)) as free:
            assert free
            sender.start()
            sender.join(0.3)
            assert sender.is_alive(), "it is kept waiting"
            made.spool.purge(key_of(STUDY))
            made.keys.shred(key_of(STUDY))
            made.ledger.purge_study(key_of(STUDY))
        sender.join(30)
        assert answers == [0]
        (row,) = made.rows(count=1)
        assert made.spool.read(row.study_key, row.address)[1][-2:] == (2).to_bytes(2, "big")
        assert made.keys.get(key_of(STUDY), World.IDENTITY).key != before
        late.release()


@WAYS
def test_segments_of_a_study_are_closed_when_it_is_settled(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peers = [made.associate() for _ in range(2)]
        assert [send(peer, number) for number, peer in enumerate(peers)] == [0, 0]
        for peer in peers:
            peer.release()
        made.log.wait_for("association.closed", count=2)
        made.gate.close_study(key_of(STUDY))
        folder = made.state / "spool"
        wait_until(lambda: {path.suffix for path in folder.glob("??/*/*")} == {CLOSED_SUFFIX})
        if receivers:
            seats = made.gate._seats.values()  # type: ignore[attr-defined]
            wait_until(lambda: not any(seat.studies for seat in seats))


@WAYS
def test_caps_hold_over_all_processes(tmp_path: Path, receivers: int) -> None:
    listen = {"maximum_associations": 4, "associations_per_address": 3}
    with bench(tmp_path, receivers, listen=listen) as made:
        peers = [made.associate() for _ in range(3)]
        with Peer(made.port) as fourth:
            fourth.send(associate_request())
            assert (fourth.pdu() or (0,))[0] == pdu.A_ASSOCIATE_RJ
        peers.append(made.associate("127.0.0.2"))
        with Peer(made.port, "127.0.0.3") as fifth:
            fifth.send(associate_request())
            assert (fifth.pdu() or (0,))[0] == pdu.A_ASSOCIATE_RJ
        peers.pop().release()
        made.log.wait_for("association.closed")
        made.associate("127.0.0.3").release()
        for peer in peers:
            peer.release()


@WAYS
def test_connections_that_ask_for_nothing_are_capped_over_all_processes(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers, listen={"waiting_per_address": 4}) as made:
        for _ in range(7):
            made.connect("127.0.0.5")
        assert len(made.log.wait_for("connection.refused", count=3)) == 3
        made.associate("127.0.0.6").release()


@WAYS
def test_limits_of_a_peer_are_counted_over_all_its_associations(tmp_path: Path, receivers: int) -> None:
    rule = {"name": "ct1", "maximum_study_instances": 4, "maximum_associations": 3, "priority": "stat"}
    with bench(tmp_path, receivers, peers=[rule]) as made:
        peers = [made.associate() for _ in range(3)]
        with Peer(made.port) as fourth:
            fourth.send(associate_request())
            assert (fourth.pdu() or (0,))[0] == pdu.A_ASSOCIATE_RJ
        assert [send(peers[number % 3], number) for number in range(6)] == [0, 0, 0, 0, 0x0124, 0x0124]
        assert len(made.rows(count=4)) == 4
        for peer in peers:
            peer.release()


@WAYS
def test_limits_are_exact_however_many_send_at_once(tmp_path: Path, receivers: int) -> None:
    rule = {"name": "ct1", "maximum_study_instances": 37}
    with bench(tmp_path, receivers, peers=[rule]) as made:
        peers = [made.associate() for _ in range(6)]
        statuses: list[int] = []

        def send_eight(part: int) -> None:
            statuses.extend([send(peers[part], 8 * part + number) for number in range(8)])

        threads = [threading.Thread(target=send_eight, args=(part,)) for part in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(statuses) == [0] * 37 + [0x0124] * 11
        assert len(made.rows(count=37)) == 37
        assert send(peers[0], 99) == 0x0124
        for peer in peers:
            peer.release()


@WAYS
def test_bytes_of_a_study_are_limited_too_and_what_was_refused_is_not_counted(tmp_path: Path, receivers: int) -> None:
    rule = {"name": "ct1", "maximum_study_bytes": 1 << 20}
    with bench(tmp_path, receivers, peers=[rule]) as made, made.associate() as one, made.associate() as two:
        assert send(one, 1, size=700_000) == 0
        assert send(two, 2, size=700_000) == 0x0124
        assert send(two, 3, size=200_000) == 0
        assert len(made.rows(count=2)) == 2


@WAYS
def test_a_quota_counts_what_all_write(tmp_path: Path, receivers: int) -> None:
    intake = {"maximum_spool_bytes": 3_000_000, "segment_bytes": 1 << 20}
    with bench(tmp_path, receivers, intake=intake) as made, made.associate() as one, made.associate() as two:
        statuses = [send((one, two)[number % 2], number, size=200_000) for number in range(40)]
        assert statuses[:4] == [0] * 4
        assert set(statuses) == {0, 0xA700}
        held = sum(path.stat().st_size for path in (made.state / "spool").glob("??/*/*"))
        assert held < 6_000_000


@WAYS
def test_other_services_are_answered_by_the_node(tmp_path: Path, receivers: int) -> None:
    calls: list[Call] = []

    def serve(call: Call) -> Iterator[Reply]:
        calls.append(call)
        if len(calls) == 2:
            raise RuntimeError
        yield Reply(0, call.data_set, "1.2.3.99")

    services = {(PROCEDURE_STEP, dimse.N_CREATE_RQ): serve}
    with bench(tmp_path, receivers, services=services, peers=[{"name": "mri"}]) as made:
        entity = Entity("MODALITY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        association = entity.associate("127.0.0.1", made.port, [build_context(PROCEDURE_STEP)])
        status, back = association.send_n_create(step(), PROCEDURE_STEP, STEP_UID)
        assert (int(status.Status), back) == (0, step())
        status, _ = association.send_n_create(step(), PROCEDURE_STEP, STEP_UID)
        assert int(status.Status) == 0x0110
        association.release()
    assert calls[0].peer.rule is not None
    assert (calls[0].peer.rule.name, calls[0].peer.calling_ae_title) == ("mri", "MODALITY")
    assert calls[0].command.affected_sop_instance_uid == STEP_UID


@WAYS
def test_a_report_goes_out_in_the_association_that_asked(tmp_path: Path, receivers: int) -> None:
    heard: list[tuple[int, str]] = []
    services = {(STORAGE_COMMITMENT, dimse.N_ACTION_RQ): lambda call: iter([Reply(0)])}
    with bench(tmp_path, receivers, services=services) as made:

        def hear(event: evt.Event) -> tuple[int, None]:
            heard.append((event.event_type, str(event.event_information.TransactionUID)))
            return 0, None

        entity = Entity("ASKER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        association = entity.associate(
            "127.0.0.1",
            made.port,
            [build_context(STORAGE_COMMITMENT)],
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, hear)],
        )
        assert association.is_established
        (opened,) = made.log.wait_for("association.opened")
        event = Event(STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE, 1, _encoded)
        assert made.gate.report(str(opened["association"]), event, 20) == 0
        assert heard == [(1, "1.2.3")]
        assert made.gate.report("ffff", event, 1) is None
        association.release()


def _encoded(syntax: str) -> bytes:
    data = Dataset()
    data.TransactionUID = UID("1.2.3")
    return encode_dataset(data, syntax)


@WAYS
def test_certificates_are_read_anew(tmp_path: Path, receivers: int) -> None:
    authority = Authority(tmp_path)
    tls, peer = authority.issue("node"), authority.issue("peer")
    with bench(tmp_path / "n", receivers, listen={"tls": tls.model_dump(mode="json")}) as made:
        before = fingerprint(tls)
        assert _shown(made.port, peer) == {before}
        authority.issue("node")
        made.gate.reload_certificates()
        made.log.wait_for("tls.reloaded", count=max(receivers, 1))
        assert _shown(made.port, peer) == {fingerprint(tls)} != {before}


def _shown(port: int, ours: Tls) -> set[str]:
    """SHA-256 of the certificates that are shown over connections enough for every receiver to have some of them."""
    found = set()
    with contextlib.ExitStack() as held:
        for _ in range(8):
            raw = held.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            secured = held.enter_context(client(ours, ours).wrap_socket(raw))
            found.add(hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest())
    return found


@WAYS
def test_a_drain_lets_what_is_open_end(tmp_path: Path, receivers: int) -> None:
    made = Bench(tmp_path, receivers)
    made.start()
    peer, outcome = made.associate(), list[bool]()
    draining = threading.Thread(target=lambda: outcome.append(made.gate.drain(30)))
    assert send(peer, 1) == 0
    draining.start()
    wait_until(lambda: _refused(made.port))
    assert send(peer, 2) == 0
    peer.release()
    draining.join(30)
    assert outcome == [True]
    made.stop()
    assert {path.suffix for path in (made.state / "spool").glob("??/*/*")} == {CLOSED_SUFFIX}
    assert made.log.facts("receiver.died") == []


@WAYS
def test_a_drain_ends_what_does_not_end(tmp_path: Path, receivers: int) -> None:
    with bench(tmp_path, receivers) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        assert made.gate.drain(0.3) is False
        assert (peer.pdu() or (pdu.A_ABORT,))[0] == pdu.A_ABORT
        assert made.log.wait_for("association.closed")[0]["aborted"] is True
        assert len(made.rows(count=1)) == 1


def _refused(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except OSError:
        return True
    return False


# Receivers of their own.


def test_a_receiver_that_is_killed_takes_nothing_along(tmp_path: Path) -> None:
    """Its associations end, its rows are there; the other one goes on, and another one is started."""
    with bench(tmp_path, 2) as made:
        first = made.associate()
        (opened,) = made.log.wait_for("association.opened")
        victim = made.receiver_of(opened["association"])
        second = made.associate()
        one, two = made.log.wait_for("association.opened", count=2)
        assert made.receiver_of(two["association"]) != victim, "they spread"
        assert send(first, 1) == send(first, 2) == send(second, 3) == 0
        os.kill(made.pids()[victim], signal.SIGKILL)
        assert first.pdu() is None
        died = made.log.wait_for("receiver.died", receiver=victim)[0]
        assert (died["exit"], died["associations"]) == (-signal.SIGKILL, 1)
        made.log.wait_for("association.closed", association=one["association"], aborted=True)
        assert send(second, 4) == 0
        assert len(made.rows(count=4)) == 4
        made.log.wait_for("receiver.started", count=3)
        third = made.associate()
        assert send(third, 5) == 0
        wait_until(lambda: made.activity.snapshot()[0].open_associations == 2)
        third.release()
        second.release()


def test_a_receiver_that_hangs_is_killed_and_another_takes_its_seat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SILENT_SECONDS", 4.0)
    with bench(tmp_path, 1) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        first = made.pids()[1]
        os.kill(first, signal.SIGSTOP)
        (silent,) = made.log.wait_for("receiver.silent")
        assert silent["receiver"] == 1
        made.log.wait_for("receiver.died", exit=-signal.SIGKILL)
        made.log.wait_for("receiver.started", count=2)
        assert made.pids()[1] != first
        assert send(made.associate(), 2) == 0
        assert len(made.rows(count=2)) == 2
        assert len(made.log.facts("receiver.died")) == 1


def test_places_of_a_dead_receiver_are_free_again(tmp_path: Path) -> None:
    with bench(tmp_path, 1, listen={"maximum_associations": 2}) as made:
        peers = [made.associate(), made.associate()]
        os.kill(made.pids()[1], signal.SIGKILL)
        made.log.wait_for("receiver.died")
        peers = [made.associate(), made.associate()]
        for peer in peers:
            peer.release()


def test_a_study_counts_as_arriving_while_a_receiver_cannot_answer_for_it(tmp_path: Path) -> None:
    with bench(tmp_path, 1) as made:
        os.kill(made.pids()[1], signal.SIGSTOP)
        killer = threading.Timer(0.5, os.kill, (made.pids()[1], signal.SIGKILL))
        killer.start()
        with made.gate.barred(key_of(STUDY)) as free:
            assert not free
        killer.join()
        made.log.wait_for("receiver.started", count=2)
        with made.gate.barred(key_of(STUDY)) as free:
            assert free


def test_what_a_receiver_could_not_tell_is_found_in_its_segments(tmp_path: Path) -> None:
    """The node stops reading: objects become durable, nobody hears of it, and the receiver dies."""
    with disk_folder() as folder, bench(folder, 1) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        made.rows(count=1)
        seat = made.gate._seats[1]  # type: ignore[attr-defined]
        told = seat.channel._tells
        deaf = {name: (lambda *_: None) if name in ("row", "received") else act for name, act in told.items()}
        seat.channel._tells = deaf
        assert [send(peer, number) for number in range(2, 6)] == [0] * 4
        assert len(made.rows()) == 1
        os.kill(made.pids()[1], signal.SIGKILL)
        died = made.log.wait_for("receiver.died")[0]
        assert died["records"] == 4
        assert len(made.rows(count=5)) == 5
        (activity,) = made.activity.snapshot()
        assert activity.open_associations == 0


@pytest.mark.parametrize("how", ["ledger", "fault"])
def test_what_a_receiver_could_not_tell_is_read_until_the_ledger_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Meanwhile its studies are arriving: none is settled, nor shredded; another receiver works."""
    refusing = threading.Event()
    refusing.set()
    known, tries = Ledger.known_records, list[str]()

    def refuses(ledger: Ledger, segment_id: str) -> int:
        if refusing.is_set():
            tries.append(segment_id)
            raise StorageError("ledger-failed") if how == "ledger" else RuntimeError
        return known(ledger, segment_id)

    with disk_folder() as folder, bench(folder, 1) as made:
        peer = made.associate()
        assert send(peer, 1) == 0
        assert send(peer, 1, OTHER) == 0
        made.rows(count=1)
        made.rows(OTHER, count=1)
        peer.release()
        made.log.wait_for("association.closed")
        made.activity.forget(key_of(OTHER), float("inf"))  # settled
        monkeypatch.setattr(made.recovery._ledger, "known_records", partial(refuses, made.ledger))
        seat = made.gate._seats[1]  # type: ignore[attr-defined]
        told = seat.channel._tells
        seat.channel._tells = {name: (lambda *_: None) if name in ("row", "received") else told[name] for name in told}
        late = made.associate()
        assert [send(late, number) for number in range(2, 6)] == [0] * 4
        os.kill(made.pids()[1], signal.SIGKILL)
        died = made.log.wait_for("receiver.died")[0]
        assert (died["records"], died["associations"]) == (0, 1)
        made.log.wait_for("association.closed", count=2)
        wait_until(lambda: len(tries) > 2)
        assert {one.study_key: one.open_associations for one in made.activity.snapshot()} == {
            key_of(STUDY): 1,
            key_of(OTHER): 1,
        }
        made.log.wait_for("receiver.started", count=2)
        assert send(made.associate(), 6) == 0
        for study in (STUDY, OTHER):
            with made.gate.barred(key_of(study)) as free:
                assert not free
        refusing.clear()
        assert made.log.wait_for("index.rebuilt")[0]["records"] == 4
        assert len(made.rows(count=6)) == 6
        made.peers[-1].release()
        made.log.wait_for("association.closed", count=3)
        (activity,) = made.activity.snapshot()  # of the other one nothing was found: it stays as it was
        assert (activity.study_key, activity.open_associations) == (key_of(STUDY), 0)
        with made.gate.barred(key_of(OTHER)) as free:
            assert free
    failed = made.log.facts("index.failed" if how == "ledger" else "index.fault")
    assert len(failed) >= 3


def test_a_node_that_ends_waits_for_no_ledger_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(segment_id: str) -> int:
        raise StorageError("ledger-failed")

    with bench(tmp_path, 1) as made:
        assert send(made.associate(), 1) == 0
        made.rows(count=1)
        monkeypatch.setattr(made.recovery._ledger, "known_records", refuses)
        os.kill(made.pids()[1], signal.SIGKILL)
        made.log.wait_for("receiver.died")
        began = time.monotonic()
    assert time.monotonic() - began < 20
    assert made.log.facts("index.rebuilt") == []


def test_a_receiver_is_not_silent_while_the_index_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger refuses for longer than a receiver may be silent: what that says waits, and it lives on."""
    monkeypatch.setattr(watch, "SILENT_SECONDS", 2.0)
    refusing = threading.Event()
    refusing.set()
    with bench(tmp_path, 1) as made:
        record = made.ledger.record_instances

        def refuses(rows: Sequence[InstanceRow], **more: Any) -> tuple[InstanceRow, ...]:
            if refusing.is_set():
                raise StorageError("ledger-failed")
            return record(rows, **more)

        monkeypatch.setattr(made.ledger, "record_instances", refuses)
        made.indexer._capacity = 1
        peer = made.associate()
        assert [send(peer, number) for number in range(8)] == [0] * 8
        made.log.wait_for("index.failed", count=7)
        refusing.clear()
        assert len(made.rows(count=8)) == 8
        assert send(peer, 9) == 0
        assert made.log.facts("receiver.silent") == made.log.facts("receiver.died") == []


def test_a_receiver_that_lies_is_ended(tmp_path: Path) -> None:
    with bench(tmp_path, 1) as made:
        seat = made.gate._seats[1]  # type: ignore[attr-defined]
        del seat.channel._tells["opened"]
        made.connect().send(associate_request())
        assert made.log.wait_for("receiver.fault")[0]["kind"] == "KeyError"
        made.log.wait_for("receiver.died")
        made.log.wait_for("receiver.started", count=2)
        made.associate().release()


def test_receivers_that_cannot_start_are_told_at_the_start(tmp_path: Path) -> None:
    made = Bench(tmp_path, 2)
    assert isinstance(made.gate, Receivers)
    made.gate._command = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(StorageError, match="receiver-failed"):
        made.start()
    made.stop()


def test_a_receiver_is_lean(tmp_path: Path) -> None:
    """What a running one has imported, as it says itself at a signal; and what its start costs."""
    made, said = Bench(tmp_path, 1), tmp_path / "modules"
    assert isinstance(made.gate, Receivers)
    program = (
        "import os, signal, sys;"
        f"signal.signal(signal.SIGUSR1, lambda *_: open({str(said)!r}, 'w').write(' '.join(sys.modules)));"
        "from dicomnode.service.receiver import main; os._exit(main(int(sys.argv[1])))"
    )
    made.gate._command = (sys.executable, "-P", "-c", program)
    made.start()
    try:
        peer = made.associate()
        assert send(peer, 1) == 0
        peer.release()
        os.kill(made.pids()[1], signal.SIGUSR1)
        made.gate.reload_certificates()  # wakes the thread that signals run in
        wait_until(lambda: said.exists() and bool(said.read_text()))
    finally:
        made.stop()
    names = {name.split(".")[0] for name in said.read_text().split()}
    assert "pynetdicom" in names
    heavy = {"dbos", "sqlalchemy", "alembic", "highdicom", "onnxruntime", "scipy", "typer", "structlog"}
    assert names & heavy == set()


def test_nobody_is_left_when_the_node_is_killed(tmp_path: Path) -> None:
    """kill -9 of a process with receivers: they break their associations off and go."""
    program = (
        "import sys, threading; from pathlib import Path; from tests.contracts.gates import Bench;"
        f"made = Bench(Path({str(tmp_path)!r}), 2); made.start();"
        "print(made.port, *made.pids().values(), flush=True); threading.Event().wait()"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root) as node:
        assert node.stdout is not None
        port, *pids = map(int, node.stdout.readline().split())
        with Peer(port).associate() as peer:
            assert send(peer, 1) == 0
            node.kill()
            answer = peer.pdu()
        assert answer is None or answer[0] == pdu.A_ABORT
    assert len(pids) == 2
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in pids), 10)
    wait_until(lambda: _refused(port), 10)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
