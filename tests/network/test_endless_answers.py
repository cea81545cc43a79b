"""Peers whose answers, or objects, do not end: they are cut off while they come, not when time or memory is over."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.sop_class import (
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicomnode.errors import PeerError
from dicomnode.network import matches as module
from dicomnode.network.requestor import Requestor
from dicomnode.network.retrieving import GetRetriever
from dicomnode.network.wado import WebRetriever
from dicomnode.source_sections import Source
from tests.network.test_lying_sources import HOST, ask, image, liar, sends, source
from tests.unit.network.samples import SECONDARY_CAPTURE

_SECONDS = 30.0  # of patience; each of these must end long before


class Flood:
    """Answers until it is cut off."""

    def __init__(self, size: int = 0, most: int = sys.maxsize) -> None:
        self.size = size
        self.most = most
        self.sent = 0
        self.aborted = threading.Event()

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        answer = Dataset()
        answer.QueryRetrieveLevel, answer.StudyInstanceUID = "STUDY", "1.2.3"
        answer.TextValue = "x" * self.size
        until = time.monotonic() + _SECONDS
        while self.sent < self.most and time.monotonic() < until and event.assoc.is_established:
            self.sent += 1
            yield 0xFF00, answer

    def get(self, event: evt.Event) -> Iterator[Any]:
        """One object whose Data Set does not end (PS3.8 E.2: no fragment says that it is the last)."""
        yield 1
        association = event.assoc
        context = next(one for one in association.accepted_contexts if one.abstract_syntax == SECONDARY_CAPTURE)
        request = C_STORE()
        request.MessageID, request.Priority = 7, 0
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = SECONDARY_CAPTURE, "1.2.3.1.1"
        request.DataSet = BytesIO(b"1")
        message = C_STORE_RQ()
        message.primitive_to_message(request)
        association.dul.send_pdu(next(message.encode_msg(context.context_id, 16384)))
        part = P_DATA()
        part.presentation_data_value_list = [[context.context_id, b"\x00" + bytes(16000)]]
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until and association.is_established:
            association.dul.send_pdu(part)
            self.sent += 1
            if self.sent % 64 == 0:
                time.sleep(0.01)
        yield 0x0000, None


@contextmanager
def peer(flood: Flood) -> Iterator[int]:
    entity = AE("LIAR")
    for model in (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet):
        entity.add_supported_context(model)
    entity.add_supported_context(SecondaryCaptureImageStorage, scu_role=True, scp_role=True)

    def aborted(_: evt.Event) -> None:
        flood.aborted.set()

    def opened(event: evt.Event) -> None:
        connections.append(event.assoc.dul.socket.socket)  # pynetdicom leaves it open where it was reset

    connections: list[socket.socket] = []
    handlers = [(evt.EVT_C_FIND, flood.find), (evt.EVT_C_GET, flood.get), (evt.EVT_ABORTED, aborted)]
    handlers.append((evt.EVT_CONN_OPEN, opened))
    server = entity.start_server((HOST, 0), block=False, evt_handlers=handlers)
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(("size", "limit"), [(100_000, ("_MOST_BYTES", 1_000_000)), (0, ("_MOST", 50))])
def test_matches_without_end_are_cut_off_and_the_association_aborted(
    monkeypatch: pytest.MonkeyPatch, size: int, limit: tuple[str, int]
) -> None:
    monkeypatch.setattr(module, *limit)
    flood, began = Flood(size), time.monotonic()
    with peer(flood) as port:
        with pytest.raises(PeerError) as caught:
            Requestor(source(port, 20), "DICOMNODE").find("STUDY", {"StudyInstanceUID": ""}, 20)
        assert flood.aborted.wait(10)
    assert (caught.value.code, caught.value.retryable) == ("peer-too-much", True)
    assert time.monotonic() - began < 15


def test_so_many_matches_as_may_be_are_taken_and_only_what_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST", 50)
    flood = Flood(1000, most=49)
    with peer(flood) as port:
        found = Requestor(source(port, 20), "DICOMNODE").find("STUDY", {"StudyInstanceUID": ""}, 20)
    assert found == [{"StudyInstanceUID": "1.2.3"}] * 49


@pytest.mark.parametrize("limit", [{}, {"maximum_object_bytes": 500_000}])
def test_an_object_without_end_is_cut_off_when_it_is_more_than_may_come(limit: dict[str, int]) -> None:
    flood, began = Flood(), time.monotonic()
    with peer(flood) as port:
        retriever = GetRetriever(source(port, 20), "DICOMNODE", **limit)
        taking, error = ask(retriever, seconds=20)
    assert (taking.taken, taking.exhausted, error) == (0, True, None)
    assert time.monotonic() - began < 15


def test_an_object_of_the_size_that_is_left_comes() -> None:
    with liar(sends(image(1), image(2))) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE", maximum_object_bytes=100_000))
    assert (taking.taken, taking.exhausted, error) == (2, False, None)


@pytest.mark.parametrize("asked", [True, False])
def test_a_web_source_that_trickles_has_the_time_that_is_left(asked: bool) -> None:
    with socket.create_server((HOST, 0)) as server:
        ended = threading.Event()

        def trickle() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65536)
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 100000\r\n\r\n["
                connection.sendall(head)
                while not ended.wait(0.1):
                    connection.sendall(b" ")

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        place = {"name": "web", "url": f"http://{HOST}:{server.getsockname()[1]}/dw", "timeout_seconds": 10}
        retriever, began = WebRetriever(Source.model_validate(place)), time.monotonic()
        if asked:
            with pytest.raises(PeerError, match="timeout"):
                retriever.find("STUDY", {"PatientID": "1"}, 1.0)
        else:
            _, error = ask(retriever, seconds=1.0)
            assert error is not None
            assert error.code == "timeout"
        assert time.monotonic() - began < 8
        ended.set()
        thread.join(10)
