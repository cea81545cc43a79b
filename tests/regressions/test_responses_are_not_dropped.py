"""About one C-STORE response in a thousand was lost on a busy machine: the requestor then waited for its whole timeout.

pynetdicom's reactor, thought to be paused, went round once more and took the response for an unexpected request. So it
was with whoever made an association by `Entity` itself and not by `Requestor`: the senders of the journeys, which
waited for a minute then, once in some hundred runs.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.presentation import build_context

from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.network.requestor import OutgoingObject
from dicomnode.network.transport import Entity
from tests.network.nodes import node
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object

SEND = DIMSEServiceProvider.send_msg


def wait_for_response(association: Any) -> None:
    """Until a response is in the queue, or for a while."""
    deadline = time.monotonic() + 0.05
    while not association.dimse.msg_queue.qsize() and time.monotonic() < deadline:
        threading.Event().wait(0.001)


class LatePause:
    """`Association._is_paused` of a requestor whose reactor is put off, just before it says that it runs again."""

    def __get__(self, association: Any, _: Any = None) -> bool:
        return association is not None and bool(association.__dict__.get("paused", False))

    def __set__(self, association: Any, value: bool) -> None:
        if not value and association.__dict__.get("paused") and association.is_requestor:
            wait_for_response(association)
        association.__dict__["paused"] = value


def send_slowly(provider: DIMSEServiceProvider, primitive: Any, context_id: int) -> None:
    """As `send_msg`, by a thread that goes on only after the response has come."""
    SEND(provider, primitive, context_id)
    if provider.assoc.is_requestor:
        wait_for_response(provider.assoc)
        threading.Event().wait(0.01)


def test_a_reactor_that_is_late_takes_no_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Association, "_is_paused", LatePause(), raising=False)
    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_slowly)
    objects = [
        OutgoingObject(
            result_id=str(number),
            sop_class_uid=SECONDARY_CAPTURE,
            sop_instance_uid=f"1.2.3.{number}",
            transfer_syntax_uid=EXPLICIT_LITTLE,
            encoded=encode_dataset(small_object(f"1.2.3.{number}"), EXPLICIT_LITTLE),
        )
        for number in range(1, 11)
    ]
    with node() as listening:
        peer = listening.requestor()
        peer.echo()
        outcomes = peer.store(objects)

    assert [(outcome.status, outcome.error) for outcome in outcomes] == [(0, None)] * len(objects)
    assert len(listening.reception.objects) == len(objects)


def test_nor_does_that_of_an_association_made_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Association, "_is_paused", LatePause(), raising=False)
    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_slowly)
    entity = Entity("SENDER")
    entity.network_timeout = 2
    answers = []
    with node() as listening:
        contexts = [build_context(SECONDARY_CAPTURE, EXPLICIT_LITTLE)]
        association = entity.associate(listening.host, listening.port, contexts)
        assert association.is_established
        for number in range(1, 11):
            encoded = encode_dataset(small_object(f"1.2.3.{number}"), EXPLICIT_LITTLE)
            answers.append(association.send_c_store(read_dataset(encoded, EXPLICIT_LITTLE, Limits())))
        association.release()

    assert [answer.get("Status") for answer in answers] == [0] * len(answers)
