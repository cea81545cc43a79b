"""The acceptor with its own requestor and with pynetdicom's: what is let in, what comes of an object, how it ends."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pynetdicom import Association
from pynetdicom.presentation import build_context

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.errors import ConfigError, PeerError, StorageError
from dicomnode.network import server
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.intake import Peer
from dicomnode.network.requestor import OutgoingObject
from dicomnode.network.transport import Entity
from dicomnode.network_sections import ListenSection
from tests.neighbours import wait_for
from tests.network.certificates import make_tls
from tests.network.nodes import Node, node
from tests.unit.network.samples import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    SECONDARY_CAPTURE,
    Recording,
    small_object,
)

SYNTAXES = [IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG]


def outgoing(number: int = 1, syntax: str = EXPLICIT_LITTLE, sop_class_uid: str = SECONDARY_CAPTURE) -> OutgoingObject:
    dataset = small_object(f"1.2.3.{number}", sop_class_uid=sop_class_uid)
    return OutgoingObject(
        result_id=str(number),
        sop_class_uid=sop_class_uid,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=syntax,
        encoded=encode_dataset(dataset, syntax),
    )


def foreign(sop_instance_uid: str) -> Dataset:
    """An object as pynetdicom wants it."""
    return read_dataset(encode_dataset(small_object(sop_instance_uid), EXPLICIT_LITTLE), EXPLICIT_LITTLE, Limits())


def scu(target: Node, *classes: str) -> Association:
    entity = Entity("FOREIGN")  # closes its sockets, which pynetdicom's own leaves to the garbage collector
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    contexts = [build_context(one, SYNTAXES) for one in classes or (SECONDARY_CAPTURE,)]
    association = entity.associate(target.host, target.port, contexts)
    assert association.is_established
    return association


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_answers_an_echo(host: str) -> None:
    with node(host=host) as target:
        target.requestor().echo()
        assert target.reception.wait_for_closed() == [False]
    names = [name for name, _ in target.reception.calls]
    assert names == ["admit", "opened", "closed"]


def test_freed_memory_goes_back_once_nobody_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    connected: list[int] = []
    with node() as target:
        monkeypatch.setattr(server, "_REST_SECONDS", 0.05)
        monkeypatch.setattr(server, "give_back", lambda: connected.append(len(target.reception.calls)))
        with socket.create_connection((target.host, target.port)):
            target.requestor().echo()
            assert target.reception.wait_for_closed() == [False]
            time.sleep(0.3)  # six times the rest: one is still connected
            assert connected == []
        wait_for(lambda: bool(connected), 20, what="a rest")
        time.sleep(0.3)
        assert connected == [3], "once, until somebody calls again"
        target.requestor().echo()
        wait_for(lambda: len(connected) == 2, 20, what="another rest")


def test_bytes_arrive_as_they_were_sent() -> None:
    objects = [outgoing(number, syntax) for number, syntax in enumerate(SYNTAXES)]
    with node() as target:
        outcomes = target.requestor().store(objects)
        assert [(one.result_id, one.status, one.error) for one in outcomes] == [(str(n), 0, None) for n in range(4)]
        arrived = [(received.transfer_syntax_uid, encoded) for received, encoded in target.reception.objects]
        assert arrived == [(one.transfer_syntax_uid, one.encoded) for one in objects]
        peer = target.reception.objects[0][0].peer
        assert (peer.calling_ae_title, peer.called_ae_title, peer.address) == ("SENDER", "DICOMNODE", "127.0.0.1")
        assert len(peer.association_id) == 16


def test_a_private_class_is_stored_where_it_is_named() -> None:
    private = "1.3.12.2.1107.5.9.1"
    with node(intake={"private_sop_classes": (private,)}) as target:
        (outcome,) = target.requestor().store([outgoing(1, sop_class_uid=private)])
        assert outcome.status == 0
    with node() as target:
        first, second = target.requestor().store([outgoing(1, sop_class_uid=private), outgoing(2)])
        assert first.error is not None
        assert (first.status, first.error.code) == (None, "peer-context-refused")
        assert second.status == 0


def test_retired_classes_are_stored() -> None:
    with node() as target:
        (outcome,) = target.requestor().store([outgoing(1, sop_class_uid="1.2.840.10008.5.1.4.1.1.5")])
        assert outcome.status == 0


def test_a_full_disk_is_out_of_resources() -> None:
    with node(Recording(refuse_object=StorageError("storage-full"))) as target:
        (outcome,) = target.requestor().store([outgoing()])
        assert outcome.status == 0xA700
        assert outcome.error is not None
        assert (outcome.error.code, outcome.error.retryable) == ("peer-out-of-resources", True)


def test_a_command_that_names_another_object_is_a_mismatch() -> None:
    with node() as target:
        association = scu(target)
        dataset = foreign("1.2.3.9")
        status = association.send_c_store(dataset)
        assert status.Status == 0x0000
        lie = OutgoingObject(
            result_id="1",
            sop_class_uid=SECONDARY_CAPTURE,
            sop_instance_uid="1.2.3.77",
            transfer_syntax_uid=EXPLICIT_LITTLE,
            encoded=outgoing(1).encoded,
        )
        (outcome,) = target.requestor().store([lie])
        assert outcome.status == 0xA900
        association.release()
        association.join(10)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_an_object_without_a_study_or_series_is_not_understood(keyword: str) -> None:
    dataset = small_object()
    delattr(dataset, keyword)
    one = OutgoingObject(
        result_id="1",
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=encode_dataset(dataset, EXPLICIT_LITTLE),
    )
    with node() as target:
        (outcome,) = target.requestor().store([one])
        assert outcome.status == 0xC000


@pytest.mark.parametrize(
    ("listen", "calling", "called", "facts"),
    [
        ({"calling_ae_titles": ("CT1",)}, "CT2", "DICOMNODE", {"result": 1, "source": 1, "rejection_reason": 3}),
        ({"require_called_ae_title": True}, "CT1", "OTHER", {"result": 1, "source": 1, "rejection_reason": 7}),
    ],
)
def test_who_is_not_known_is_rejected(
    listen: dict[str, object], calling: str, called: str, facts: dict[str, int]
) -> None:
    with node(**listen) as target:
        with pytest.raises(PeerError) as caught:
            target.requestor(calling=calling, called=called).echo()
        assert (caught.value.code, caught.value.facts, caught.value.retryable) == ("peer-rejected", facts, False)
        target.requestor(calling="CT1").echo()
        assert len(target.reception.named("opened")) == 1


def test_a_full_disk_rejects_associations_as_transient() -> None:
    with node(Recording(refuse_association=StorageError("storage-full"))) as target:
        with pytest.raises(PeerError) as caught:
            target.requestor().echo()
        assert caught.value.facts == {"result": 2, "source": 3, "rejection_reason": 1}
        assert caught.value.retryable
        assert target.reception.named("closed") == []


def test_associations_are_counted() -> None:
    with node(maximum_associations=2) as target:
        first, second = scu(target), scu(target)
        with pytest.raises(PeerError) as caught:
            target.requestor().echo()
        assert caught.value.facts == {"result": 2, "source": 3, "rejection_reason": 2}
        first.release()
        target.reception.wait_for_closed(1)
        target.requestor().echo()
        second.release()
        for association in (first, second):
            association.join(10)


def test_an_abort_in_the_middle_is_told_and_loses_nothing() -> None:
    with node() as target:
        association = scu(target)
        dataset = foreign("1.2.3.1")
        assert association.send_c_store(dataset).Status == 0
        association.abort()
        association.join(10)
        assert target.reception.wait_for_closed() == [True]
        assert len(target.reception.objects) == 1


def test_a_connection_that_just_ends_is_an_abort() -> None:
    with node() as target:
        association = scu(target)
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        assert target.reception.wait_for_closed() == [True]
        association.join(10)


def test_drain_lets_open_associations_finish() -> None:
    gate = threading.Event()
    with node(Recording(gate=gate)) as target:
        outcomes: list[int | None] = []

        def send() -> None:
            outcomes.extend(one.status for one in target.requestor().store([outgoing(1), outgoing(2)]))

        sender = threading.Thread(target=send)
        sender.start()
        assert target.reception.entered.wait(10)
        clean: list[bool] = []
        drainer = threading.Thread(target=lambda: clean.append(target.acceptor.drain(20)))
        drainer.start()
        wait_for(lambda: not _listens(target), what="the end of listening")
        gate.set()
        for thread in (sender, drainer):
            thread.join(20)
        assert (clean, outcomes) == ([True], [0, 0])
        assert target.reception.wait_for_closed() == [False]


def _listens(target: Node) -> bool:
    try:
        socket.create_connection((target.host, target.port), 1).close()
    except OSError:
        return False
    return True


def test_drain_aborts_what_does_not_end() -> None:
    with node() as target:
        association = scu(target)
        assert target.acceptor.drain(0.2) is False
        assert target.reception.wait_for_closed() == [True]
        association.join(10)
        assert association.is_aborted
        assert target.acceptor.drain(1) is True


def test_a_port_that_is_taken_is_told() -> None:
    with node() as target:
        second = Acceptor(ListenSection(port=target.port), IntakeSection(), "X", Limits(), Recording())
        with pytest.raises(ConfigError) as caught:
            second.start()
        assert (caught.value.code, caught.value.facts) == ("port-unavailable", {"port": target.port})


def test_tls_both_ways(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    with node(tls=tls) as target:
        (outcome,) = target.requestor(tls=tls).store([outgoing()])
        assert outcome.status == 0
        (plain,) = target.requestor().store([outgoing()])
        assert plain.error is not None
        assert plain.error.code == "peer-aborted"


def test_tls_with_a_stranger_fails_and_says_so(tmp_path: Path) -> None:
    tls, strange = make_tls(tmp_path), make_tls(tmp_path, "stranger")
    with node(tls=tls) as target:
        for theirs in (strange, strange.model_copy(update={"trusted_certificates": tls.trusted_certificates})):
            with pytest.raises(PeerError) as caught:
                target.requestor(tls=theirs).echo()
            assert caught.value.code in {"tls-failed", "peer-aborted"}
        wait_for(lambda: bool(target.events.named("connection.failed")), what="the event of the failed handshake")
        target.requestor(tls=tls).echo()
        assert len(target.reception.named("opened")) == 1


class Faulty(Recording):
    """A reception whose every notice fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def opened(self, peer: Peer) -> None:
        super().opened(peer)
        raise self.error

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        super().closed(peer, aborted=aborted)
        raise self.error


@pytest.mark.parametrize("error", [StorageError("ledger-failed"), RuntimeError("Doe^Jane")])
def test_a_reception_that_fails_on_notices_stops_nothing(error: Exception) -> None:
    with node(Faulty(error)) as target:
        (outcome,) = target.requestor().store([outgoing()])
        assert outcome.status == 0
        assert target.reception.wait_for_closed() == [False]
        name = "internal" if isinstance(error, RuntimeError) else "association.fault"
        wait_for(lambda: len(target.events.named(name)) == 2, what="both events")
        assert "Doe" not in repr(target.events.events)


def test_a_fault_in_admission_is_a_transient_rejection() -> None:
    with node(Recording(refuse_association=RuntimeError("Doe^Jane"))) as target:  # type: ignore[arg-type]
        with pytest.raises(PeerError) as caught:
            target.requestor().echo()
        assert (caught.value.code, caught.value.retryable) == ("peer-rejected", True)
        assert target.events.named("internal")[0]["kind"] == "RuntimeError"


def test_draining_before_the_start_is_nothing() -> None:
    assert Acceptor(ListenSection(), IntakeSection(), "X", Limits(), Recording()).drain(1) is True
