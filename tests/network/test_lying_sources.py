"""Sources that lie, stall, warn or vanish while they are asked by C-GET or C-MOVE; and strangers at the door for C-MOVE."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicomnode.config import IntakeSection, parse
from dicomnode.encoded import Limits, encode_dataset
from dicomnode.errors import PeerError, StudyError
from dicomnode.network.moving import MoveDoor
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.network.retrieval import Allowance, Fetched, Retriever, Taking, Wanted
from dicomnode.network.retrieving import GetRetriever, MoveRetriever
from dicomnode.network_sections import ListenSection
from dicomnode.sections import Destination, Tls
from dicomnode.service.sourcing import open_door
from dicomnode.source_sections import Source
from tests.neighbours import free_port
from tests.network.certificates import Authority
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, Events, small_object

HOST, OURS = "127.0.0.1", "DICOMNODE-MOVE"
Answer = Callable[[evt.Event], Iterator[Any]]


@contextmanager
def liar(answer: Answer, *, move: bool = False) -> Iterator[int]:
    entity = AE("LIAR")
    for model in (
        StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet,
        StudyRootQueryRetrieveInformationModelMove,
    ):
        entity.add_supported_context(model)
    entity.add_supported_context(SecondaryCaptureImageStorage, scu_role=True, scp_role=True)
    entity.add_requested_context(SecondaryCaptureImageStorage)
    event = evt.EVT_C_MOVE if move else evt.EVT_C_GET
    server = entity.start_server((HOST, 0), block=False, evt_handlers=[(event, answer)])
    try:
        yield int(server.socket.getsockname()[1])
    finally:
        server.shutdown()


def source(port: int, timeout: float = 5) -> Source:
    return Source.model_validate(
        {"name": "liar", "ae_title": "LIAR", "host": HOST, "port": port, "timeout_seconds": timeout}
    )


def ask(
    retriever: Retriever, *, seconds: float = 10, objects: int = 50, take: Callable[[Fetched], None] = lambda _: None
) -> tuple[Taking, PeerError | None]:
    wanted = Wanted(study_instance_uid="1.2.3", series_instance_uid="1.2.3.1", sop_classes=(SECONDARY_CAPTURE,))
    allowance = Allowance(objects=objects, size=1 << 20, until=time.monotonic() + seconds, monotonic=time.monotonic)
    taking = Taking(wanted, take, allowance=allowance, limits=Limits())
    try:
        retriever.retrieve(taking)
    except PeerError as error:
        return taking, error
    return taking, None


def image(number: int, **uids: str) -> Dataset:
    one = small_object(f"1.2.3.1.{number}", **uids)
    one.file_meta = Dataset()  # type: ignore[assignment]
    one.file_meta.TransferSyntaxUID = EXPLICIT_LITTLE
    return one


def sends(*images: Dataset) -> Answer:
    def answer(_: evt.Event) -> Iterator[Any]:
        yield len(images)
        for one in images:
            yield 0xFF00, one

    return answer


def says(status: int) -> Answer:
    def answer(_: evt.Event) -> Iterator[Any]:
        yield 1
        yield status, None

    return answer


def test_other_studies_other_series_and_repetitions_are_not_taken() -> None:
    lies = (image(1), image(1), image(2, study_instance_uid="9.9"), image(3, series_instance_uid="9.9"), image(4))
    with liar(sends(*lies)) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE"))
    assert (taking.taken, taking.strange, error) == (2, 3, None)


def test_more_than_may_come_is_cut_off() -> None:
    with liar(sends(*(image(number) for number in range(1, 30)))) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE"), objects=3)
    assert (taking.taken, taking.exhausted, error) == (3, True, None)


def test_one_whose_every_object_we_refuse_is_not_at_fault() -> None:
    def refuse(_: Fetched) -> None:
        raise StudyError("object-too-large")

    def answer(_: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, image(1)
        yield 0xFF00, image(2)
        yield 0xA702, None  # unable to perform sub-operations (PS3.4 Table C.4-3)

    with liar(answer) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE"), take=refuse)
    assert (taking.taken, len(taking.refusals), error) == (0, 2, None)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (0xA701, "peer-out-of-resources"),
        (0xA702, "peer-out-of-resources"),
        (0xA900, "retrieval-refused"),
        (0xC123, "retrieval-refused"),
        (0xFE00, "retrieval-refused"),
        (0xB000, None),  # sub-operations complete, some failed: what came is counted
        (0x0000, None),
    ],
)
def test_what_it_says(status: int, code: str | None) -> None:
    with liar(says(status)) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE"))
    assert (error.code if error else None, taking.taken) == (code, 0)


def test_one_that_never_ends_has_its_time() -> None:
    ended = threading.Event()

    def for_ever(_: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, image(1)
        ended.wait(20)
        yield 0xFF00, image(2)

    with liar(for_ever) as port:
        began = time.monotonic()
        taking, error = ask(GetRetriever(source(port, 30), "DICOMNODE"), seconds=1.5)
        ended.set()
    assert time.monotonic() - began < 8
    assert (error.code if error else None, taking.taken) == ("timeout", 1)


def test_one_that_does_not_know_where_to_move_to() -> None:
    def unknown(_: evt.Event) -> Iterator[Any]:
        yield None, None

    door = MoveDoor(OURS, ListenSection(host=HOST, port=0), IntakeSection(), Limits(), emit=Events())
    with liar(unknown, move=True) as port:
        taking, error = ask(MoveRetriever(source(port), "DICOMNODE", door))
    assert error is not None
    assert (error.code, error.facts, taking.taken) == ("retrieval-refused", {"status": "xA801"}, 0)


def test_one_that_breaks_off() -> None:
    def abort(event: evt.Event) -> Iterator[Any]:
        yield 2
        yield 0xFF00, image(1)
        event.assoc.abort()
        yield 0xFF00, image(2)

    with liar(abort) as port:
        taking, error = ask(GetRetriever(source(port), "DICOMNODE"))
    assert error is not None
    assert (error.code, error.retryable, taking.taken) == ("peer-aborted", True, 1)


def test_one_that_knows_no_c_get() -> None:
    entity = AE("LIAR")
    entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = entity.start_server((HOST, 0), block=False)
    try:
        _, error = ask(GetRetriever(source(int(server.socket.getsockname()[1])), "DICOMNODE"))
    finally:
        server.shutdown()
    assert error is not None
    assert error.code == "peer-context-refused"


def moved(
    port: int, *, study: str = "1.2.3", series: str = "1.2.3.1", title: str = "LIAR", tls: Tls | None = None
) -> int | str | None:
    """Status of an object that is sent to the door; where there is none, why."""
    one = small_object("1.2.3.1.1", study_instance_uid=study, series_instance_uid=series)
    outgoing = OutgoingObject(
        result_id="r",
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid="1.2.3.1.1",
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=encode_dataset(one, EXPLICIT_LITTLE),
    )
    place = Destination(name="door", ae_title=OURS, host=HOST, port=port, tls=tls)
    (outcome,) = Requestor(place, title).store([outgoing])
    return outcome.status if outcome.error is None or outcome.status is not None else outcome.error.code


class Asking:
    """A door, with a request for one image that waits at it."""

    def __init__(self, **settings: Any) -> None:
        self.events = Events()
        self.source = Source.model_validate({**source(104).model_dump(mode="json"), "retrieve": "move", **settings})
        self.tree = parse(
            {"sources": [self.source.model_dump(mode="json")], "retrieval": {"port": free_port(), "ae_title": OURS}}
        )
        door = open_door(self.tree, self.events)
        assert door is not None
        self.door = door
        self.came: list[Fetched] = []
        wanted = Wanted(study_instance_uid="1.2.3", series_instance_uid="1.2.3.1", sop_classes=(SECONDARY_CAPTURE,))
        allowance = Allowance(objects=1, size=1 << 20, until=time.monotonic() + 30, monotonic=time.monotonic)
        self.taking = Taking(wanted, self.came.append, allowance=allowance, limits=Limits())

    def __enter__(self) -> Asking:
        self.port = self.door.start()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.door.stop()

    def kinds(self) -> list[object]:
        return [facts["kind"] for facts in self.events.named("peer.unknown")]


def test_the_door_lets_in_what_is_waited_for_and_nothing_else() -> None:
    with Asking() as one:
        assert moved(one.port) == "peer-rejected"  # nothing is asked for: not even an association
        with one.door.open_for(one.taking, one.source):
            assert moved(one.port, study="9.9") == 0x0110
            with pytest.raises(PeerError), one.door.open_for(one.taking, one.source):
                pass
            assert moved(one.port) == 0x0000
            assert moved(one.port) == 0x0110  # once
        assert moved(one.port) == "peer-rejected"
    assert [found.sop_instance_uid for found in one.came] == ["1.2.3.1.1"]
    assert one.kinds() == []


def test_what_a_stranger_sends_takes_no_image_s_place() -> None:
    with Asking() as one, one.door.open_for(one.taking, one.source):
        assert moved(one.port, title="EVIL") == "peer-rejected"
        assert one.came == []
        assert moved(one.port) == 0x0000
    assert one.kinds() == ["ae-title-unknown"]


@pytest.mark.parametrize("settings", [{"host": "192.0.2.1"}, {"move_addresses": ["192.0.2.0/24"]}])
def test_the_title_alone_opens_no_door(settings: dict[str, Any]) -> None:
    with Asking(**settings) as one, one.door.open_for(one.taking, one.source):
        assert moved(one.port) == "peer-rejected"
    assert (one.kinds(), one.came) == (["address-unknown"], [])


def test_a_source_may_send_from_elsewhere_under_another_title() -> None:
    settings = {"host": "192.0.2.1", "move_addresses": ["127.0.0.0/8"], "move_ae_title": "MOVER"}
    with Asking(**settings) as one, one.door.open_for(one.taking, one.source):
        assert moved(one.port) == "peer-rejected"
        assert moved(one.port, title="MOVER") == 0x0000


def test_what_was_asked_of_one_source_another_does_not_bring() -> None:
    with Asking() as one, one.door.open_for(one.taking, one.source):
        other = one.source.model_copy(update={"name": "other", "ae_title": "OTHER"})
        wanted = Wanted(study_instance_uid="7.7", series_instance_uid="7.7.1", sop_classes=(SECONDARY_CAPTURE,))
        second = Taking(wanted, one.came.append, allowance=one.taking.allowance, limits=Limits())
        with one.door.open_for(second, other):
            assert moved(one.port, title="OTHER") == 0x0110
            assert one.came == []
            assert moved(one.port) == 0x0000


def test_a_source_whose_host_nobody_knows_is_not_there() -> None:
    one = Asking(host="host.invalid")
    with pytest.raises(PeerError, match="peer-unreachable"), one.door.open_for(one.taking, one.source):
        pass


def test_a_source_with_tls_brings_it_by_tls_alone(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = authority.issue("node")
    with Asking(tls=tls.model_dump(mode="json")) as one, one.door.open_for(one.taking, one.source):
        assert moved(one.port) == "peer-aborted"
        other = Authority(tmp_path, "other").issue("stranger")
        stranger = other.model_copy(update={"trusted_certificates": tls.trusted_certificates})
        assert moved(one.port, tls=stranger) in ("tls-failed", "peer-aborted")
        assert one.came == []
        authority.issue("node")
        one.door.reload_certificates()
        assert len(one.events.named("tls.reloaded")) == 1
        assert moved(one.port, tls=tls) == 0x0000
