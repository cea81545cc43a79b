"""The requestor against destinations that refuse, stall, lie and vanish."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicomnode.encoded import encode_dataset, encode_part10
from dicomnode.errors import PeerError
from dicomnode.network.requestor import OutgoingObject, Requestor, StoreOutcome
from dicomnode.sections import Destination
from tests.neighbours import HOST, free_port
from tests.network.foreign import Connection, Server
from tests.network.nodes import node
from tests.unit.network.samples import EXPLICIT_LITTLE, IMPLICIT_LITTLE, SECONDARY_CAPTURE, small_object


def outgoing(number: int, syntax: str = EXPLICIT_LITTLE) -> OutgoingObject:
    return OutgoingObject(
        result_id=f"r{number}",
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=syntax,
        encoded=encode_dataset(small_object(f"1.2.3.{number}"), syntax),
    )


def requestor(port: int, timeout: float = 10) -> Requestor:
    return Requestor(Destination(name="x", ae_title="DEST", host=HOST, port=port, timeout_seconds=timeout), "DICOMNODE")


@contextmanager
def destination(handlers: list[tuple[Any, Callable[..., Any]]], contexts: list[Any]) -> Iterator[int]:
    """A foreign SCP."""
    server = AE("DEST").make_server(
        (HOST, 0), contexts=contexts, evt_handlers=handlers, server_class=Server, request_handler=Connection
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        for association in server.active_associations:
            association.abort()
            association.join(10)
        server.ae._servers.append(server)
        server.shutdown()
        thread.join(10)


STORAGE = [build_context(SECONDARY_CAPTURE, [EXPLICIT_LITTLE])]


def codes(outcomes: tuple[StoreOutcome, ...]) -> list[tuple[str, int | None, str | None]]:
    return [(one.result_id, one.status, one.error and one.error.code) for one in outcomes]


def test_nothing_to_send_is_nothing_sent() -> None:
    assert requestor(free_port()).store([]) == ()


def test_nobody_there() -> None:
    outcomes = requestor(free_port()).store([outgoing(1), outgoing(2)])
    assert codes(outcomes) == [("r1", None, "peer-unreachable"), ("r2", None, "peer-unreachable")]
    assert all(one.error is not None and one.error.retryable for one in outcomes)


def test_a_name_that_does_not_resolve() -> None:
    target = Destination(name="x", ae_title="DEST", host="no.such.host.invalid", port=104, timeout_seconds=5)
    with pytest.raises(PeerError) as caught:
        Requestor(target, "NODE").echo()
    assert caught.value.code == "peer-unreachable"


def test_each_status_is_told_with_its_object() -> None:
    statuses = iter([0x0000, 0xB000, 0xA700, 0xA900, 0xC123])
    with destination([(evt.EVT_C_STORE, lambda _event: next(statuses))], STORAGE) as port:
        outcomes = requestor(port).store([outgoing(number) for number in range(5)])
    assert codes(outcomes) == [
        ("r0", 0x0000, None),
        ("r1", 0xB000, None),
        ("r2", 0xA700, "peer-out-of-resources"),
        ("r3", 0xA900, "peer-refused-object"),
        ("r4", 0xC123, "peer-refused-object"),
    ]


def test_a_context_that_is_refused_concerns_its_objects_alone() -> None:
    with destination([(evt.EVT_C_STORE, lambda _event: 0)], STORAGE) as port:
        outcomes = requestor(port).store([outgoing(1, IMPLICIT_LITTLE), outgoing(2)])
    assert codes(outcomes) == [("r1", None, "peer-context-refused"), ("r2", 0, None)]
    assert outcomes[0].error is not None
    assert not outcomes[0].error.retryable


def test_an_abort_leaves_the_rest_for_later() -> None:
    count = iter(range(10))

    def store(event: evt.Event) -> int:
        if next(count) == 1:
            event.assoc.abort()
        return 0

    with destination([(evt.EVT_C_STORE, store)], STORAGE) as port:
        outcomes = requestor(port).store([outgoing(number) for number in range(3)])
    assert codes(outcomes) == [("r0", 0, None), ("r1", None, "peer-aborted"), ("r2", None, "peer-aborted")]


def test_a_destination_that_stalls_is_given_up() -> None:
    release = threading.Event()

    def store(_event: evt.Event) -> int:
        release.wait(20)
        return 0

    with destination([(evt.EVT_C_STORE, store)], STORAGE) as port:
        outcomes = requestor(port, timeout=0.5).store([outgoing(1), outgoing(2)])
        release.set()
    assert codes(outcomes) == [("r1", None, "timeout"), ("r2", None, "timeout")]


def test_a_port_that_never_answers_is_given_up() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        with pytest.raises(PeerError) as caught:
            requestor(listener.getsockname()[1], timeout=0.5).echo()
    assert caught.value.code == "timeout"
    assert caught.value.retryable


def test_a_port_that_speaks_something_else() -> None:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        outcomes = requestor(listener.getsockname()[1], timeout=5).store([outgoing(1)])
        thread.join(10)
    assert codes(outcomes) == [("r1", None, "peer-aborted")]


def test_an_echo_that_is_refused() -> None:
    with destination([(evt.EVT_C_ECHO, lambda _event: 0x0122)], [build_context(Verification)]) as port:
        with pytest.raises(PeerError) as caught:
            requestor(port).echo()
        assert caught.value.code == "peer-refused-object"
    with destination([], STORAGE) as port, pytest.raises(PeerError) as caught:
        requestor(port).echo()
    assert caught.value.code == "peer-context-refused"


def test_a_find_that_fails() -> None:
    model = build_context(StudyRootQueryRetrieveInformationModelFind)

    def find(_event: evt.Event) -> Iterator[tuple[int, None]]:
        yield 0xA700, None

    with destination([(evt.EVT_C_FIND, find)], [model]) as port:
        with pytest.raises(PeerError) as caught:
            requestor(port).find("STUDY", {"StudyInstanceUID": ""})
        assert caught.value.code == "peer-out-of-resources"
    with destination([], STORAGE) as port, pytest.raises(PeerError) as caught:
        requestor(port).find("STUDY", {"StudyInstanceUID": ""})
    assert caught.value.code == "peer-context-refused"


def test_a_find_that_is_broken_off() -> None:
    model = build_context(StudyRootQueryRetrieveInformationModelFind)

    def find(event: evt.Event) -> Iterator[tuple[int, None]]:
        event.assoc.abort()
        yield 0x0000, None

    with destination([(evt.EVT_C_FIND, find)], [model]) as port, pytest.raises(PeerError) as caught:
        requestor(port).find("STUDY", {"StudyInstanceUID": ""})
    assert caught.value.code == "peer-aborted"


def test_files_are_sent_with_their_bytes_and_progress(tmp_path: Path) -> None:
    paths = []
    for number in range(250):
        path = tmp_path / f"{number:03}.dcm"
        path.write_bytes(encode_part10(small_object(f"1.2.3.{number}"), transfer_syntax_uid=EXPLICIT_LITTLE))
        paths.append(path)
    (tmp_path / "readme.txt").write_text("no DICOM")
    told: list[int] = []
    with node() as target:
        outcomes = target.requestor().send_files([*paths, tmp_path / "readme.txt", tmp_path / "none"], told.append)
        assert [one.result_id for one in outcomes] == [str(path) for path in paths]
        assert {(one.status, one.error and one.error.code) for one in outcomes} == {(0, None)}
        assert told == [200, 250]
        assert len(target.reception.objects) == 250
