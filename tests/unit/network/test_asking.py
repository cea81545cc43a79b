"""Requests of ours within an association that a peer opened."""

from __future__ import annotations

import pytest

from dicomnode.errors import PeerError
from dicomnode.network import dimse
from dicomnode.network.asking import Asking
from dicomnode.network.dimse import Command
from dicomnode.network.negotiation import Agreed

CLASS, SYNTAX = "1.2.840.10008.1.20.1", "1.2.840.10008.1.2"
CONTEXTS = {1: Agreed(abstract_syntax=CLASS, transfer_syntax=SYNTAX)}


class Report:
    sop_class_uid, sop_instance_uid, event_type_id = CLASS, "1.2.840.10008.1.20.1.1", 1

    def encode(self, transfer_syntax_uid: str) -> bytes:
        assert transfer_syntax_uid == SYNTAX
        return b"data"


def test_without_a_context_there_is_no_report() -> None:
    sent: list[bytes] = []
    with pytest.raises(PeerError, match="peer-context-refused"):
        Asking(sent.append).report(Report(), {}, 0, 1.0)
    assert sent == []


def test_a_peer_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    sent: list[bytes] = []
    assert Asking(sent.append).report(Report(), CONTEXTS, 0, 0.01) is None
    assert len(sent) == 1


def test_after_the_end_nothing_is_asked() -> None:
    sent: list[bytes] = []
    asking = Asking(sent.append)
    asking.end()
    assert asking.report(Report(), CONTEXTS, 0, 1.0) is None
    assert sent == []


def test_an_answer_to_nothing_is_none_of_ours() -> None:
    answer = Command(command_field=dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE, message_id_responded=7, status=0)
    assert not Asking(lambda _: None).answered(answer)


def test_an_answer_that_comes_too_late_is_ours_all_the_same_and_only_once() -> None:
    """Who is slow has done nothing wrong: its association, in which images may be coming, goes on."""
    asking = Asking(lambda _: None)
    assert asking.report(Report(), CONTEXTS, 0, 0.01) is None
    late = Command(command_field=dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE, message_id_responded=1, status=0)
    other = Command(command_field=dimse.C_STORE_RQ | dimse.RESPONSE, message_id_responded=1, status=0)
    assert not asking.answered(other)
    assert asking.answered(late)
    assert not asking.answered(late)


def test_a_report_that_cannot_be_written_leaves_nothing_behind() -> None:
    class Broken(Report):
        def encode(self, transfer_syntax_uid: str) -> bytes:
            raise KeyError(transfer_syntax_uid)

    asking = Asking(lambda _: None)
    with pytest.raises(KeyError):
        asking.report(Broken(), CONTEXTS, 0, 1.0)
    assert asking._waiting == {}
    answer = Command(command_field=dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE, message_id_responded=1, status=0)
    assert not asking.answered(answer), "nothing was sent"
