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
