"""Answers of a destination that belong to something else: to another request of ours, or to another transaction."""

from __future__ import annotations

import struct

import pytest

from dicomnode.encoded import encode_dataset
from dicomnode.errors import StorageError
from dicomnode.network import dimse
from dicomnode.network.commitment import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    write_report,
)
from tests.network.raw import command_set, data_pdu, fragment
from tests.network.test_commitment import Asked
from tests.network.test_stalled_destinations import Stalling, destination, outgoing, requestor
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE

SECONDS = 5.0
N_ACTION_RSP = 0x8130
FOREIGN, OURS = "1.2.999", "1.2.111"


def stored(message_id: int, status: int, uid: str) -> bytes:
    """A C-STORE response."""
    return answered(
        dimse.C_STORE_RQ | dimse.RESPONSE, message_id, status=status, sop_class=SECONDARY_CAPTURE, instance=uid
    )


def answered(field: int, message_id: int, *, status: int, sop_class: str, instance: str) -> bytes:
    command = command_set(
        affected_sop_class_uid=sop_class,
        command_field=field,
        message_id_responded=message_id,
        data_set_type=dimse.NO_DATA_SET,
        status=status,
        affected_sop_instance_uid=instance,
    )
    return data_pdu(fragment(1, command, command=True, last=True))


def whole_request(peer: Stalling) -> None:
    """Read PDUs until the last fragment of a Data Set."""
    while True:
        found = peer.pdu()
        assert found is not None
        if found[1][5] == 2:
            return


def test_success_said_twice_confirms_no_object_that_is_refused() -> None:
    def script(peer: Stalling) -> None:
        peer.accept()
        whole_request(peer)
        peer.send(stored(1, 0x0000, "1.2.3.1"), stored(1, 0x0000, "1.2.3.1"))
        whole_request(peer)
        peer.send(stored(2, 0xC000, "1.2.3.2"))

    with destination(script) as port:
        first, second = requestor(port, SECONDS).store([outgoing(1, 100), outgoing(2, 100)])
    assert (first.status, first.error) == (0, None)
    assert second.status is None
    assert second.error is not None
    assert second.error.code == "peer-aborted"


@pytest.mark.parametrize(
    "answer",
    [
        stored(77, 0, "1.2.3.1"),
        answered(dimse.C_ECHO_RQ | dimse.RESPONSE, 1, status=0, sop_class=SECONDARY_CAPTURE, instance="1.2.3.1"),
    ],
    ids=["another message", "another service"],
)
def test_an_answer_to_something_else_is_none(answer: bytes) -> None:
    def script(peer: Stalling) -> None:
        peer.accept()
        whole_request(peer)
        peer.send(answer)

    with destination(script) as port:
        (outcome,) = requestor(port, SECONDS).store([outgoing(1, 100)])
    assert outcome.status is None
    assert outcome.error is not None
    assert outcome.error.code == "peer-aborted"


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def reporting(transaction_uid: str) -> tuple[bytes, bytes]:
    """An N-EVENT-REPORT that says that one object is not there (PS3.4 J.3.3)."""
    failed = {Reference(SECONDARY_CAPTURE, "1.2.3.9"): 0x0112}
    report = CommitmentReport(transaction_uid=transaction_uid, committed=(), failed=failed, retrieve_ae_title="")
    body = b"".join(
        (
            element(0x0002, STORAGE_COMMITMENT.encode()),
            element(0x0100, struct.pack("<H", dimse.N_EVENT_REPORT_RQ)),
            element(0x0110, struct.pack("<H", 9)),
            element(0x0800, struct.pack("<H", 1)),
            element(0x1000, WELL_KNOWN_INSTANCE.encode()),
            element(0x1002, struct.pack("<H", 2)),
        )
    )
    command = element(0, struct.pack("<L", len(body))) + body
    data = encode_dataset(write_report(report), EXPLICIT_LITTLE)
    return (
        data_pdu(fragment(1, command, command=True, last=True)),
        data_pdu(fragment(1, data, command=False, last=True)),
    )


class Failing(Asked):
    def reported(self, report: CommitmentReport) -> bool:
        raise StorageError("ledger-failed")


def ask(reported: str, others: list[Asked], wait: float) -> tuple[CommitmentReport | None, int]:
    """What a request brings where the PACS reports of a transaction meanwhile; the status that it is answered."""
    statuses: list[int] = []

    def script(peer: Stalling) -> None:
        peer.accept()
        whole_request(peer)
        peer.send(answered(N_ACTION_RSP, 1, status=0, sop_class=STORAGE_COMMITMENT, instance=WELL_KNOWN_INSTANCE))
        peer.send(*reporting(reported))
        found = peer.pdu()
        assert found is not None
        statuses.append(dimse.parse_command(found[1][6:]).status)

    with destination(script) as port:
        references = (Reference(SECONDARY_CAPTURE, "1.2.3.1"),)
        report = requestor(port, SECONDS).request(
            CommitmentRequest(transaction_uid=OURS, references=references), wait, others
        )
    return report, statuses[0]


@pytest.mark.parametrize(
    ("others", "status"),
    [([], 0x0115), ([Asked("1.2.5")], 0x0115), ([Asked("1.2.5"), Asked(FOREIGN)], 0), ([Failing(FOREIGN)], 0x0110)],
    ids=["nobody", "somebody else", "who asked", "who cannot keep it"],
)
def test_a_report_of_another_transaction_goes_to_whoever_asked_and_is_never_dropped(
    others: list[Asked], status: int
) -> None:
    """A PACS that is told that all is well repeats nothing: that the object is not there would be lost."""
    assert ask(FOREIGN, others, 0.5) == (None, status)
    assert [one.transaction_uid for other in others for one in other.heard] == ([FOREIGN] if status == 0 else [])


def test_the_report_that_is_waited_for_comes_back() -> None:
    report, status = ask(OURS, [Asked(OURS)], 5)
    assert report is not None
    assert (report.transaction_uid, status) == (OURS, 0)


def test_of_what_had_no_answer_the_object_on_the_wire_alone_may_be_there() -> None:
    def script(peer: Stalling) -> None:
        peer.accept()
        whole_request(peer)
        peer.send(stored(1, 0, "1.2.3.1"))
        whole_request(peer)
        peer.socket.close()

    with destination(script) as port:
        outcomes = requestor(port, SECONDS).store([outgoing(number, 100) for number in (1, 2, 3)])
    assert [(one.status, one.went_out) for one in outcomes] == [(0, True), (None, True), (None, False)]


def test_nothing_went_out_where_there_was_no_association() -> None:
    with destination(lambda peer: peer.socket.close()) as port:
        outcomes = requestor(port, SECONDS).store([outgoing(1, 100), outgoing(2, 100)])
    assert [(one.status, one.went_out) for one in outcomes] == [(None, False)] * 2
