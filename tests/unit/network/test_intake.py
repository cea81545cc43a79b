"""Decisions on C-STORE requests, without a socket."""

from __future__ import annotations

import contextlib
import gc
import weakref

import pytest

from dicomnode.encoded import Limits, encode_dataset
from dicomnode.errors import ModelError, NodeError, StorageError, StudyError
from dicomnode.network.intake import Intake, Peer, StoreRequest
from tests.unit.network.samples import (
    DEFLATED,
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    SECONDARY_CAPTURE,
    Events,
    Recording,
    small_object,
)

PEER = Peer(calling_ae_title="CT1", called_ae_title="DICOMNODE", address="10.0.0.1", association_id="00ff00ff00ff00ff")


ENCODED = encode_dataset(small_object(), EXPLICIT_LITTLE)


def request(**changes: str) -> StoreRequest:
    fields = {
        "sop_class_uid": SECONDARY_CAPTURE,
        "sop_instance_uid": "1.2.3.4",
        "transfer_syntax_uid": EXPLICIT_LITTLE,
    }
    return StoreRequest(**{**fields, **changes})


def receive(taken: Intake, asked: StoreRequest, encoded: bytes = ENCODED, piece: int = 50_000) -> int:
    """Status of an object that comes in pieces."""
    with contextlib.closing(taken.begin(asked, PEER)) as transfer:
        rest = memoryview(encoded)

        def fill(place: memoryview, left: int) -> tuple[int, int]:
            nonlocal rest
            count = min(len(place), left)
            place[:count] = rest[:count]
            rest = rest[count:]
            return count, left - count

        while rest:
            transfer.take(fill, min(len(rest), piece))
        return transfer.end()


def intake(reception: Recording, events: Events, maximum_object_bytes: int = 1_000_000) -> Intake:
    return Intake(reception, limits=Limits(), maximum_object_bytes=maximum_object_bytes, emit=events)


def test_success_is_what_the_reception_made_durable() -> None:
    reception, events = Recording(), Events()
    asked = request()
    assert receive(intake(reception, events), asked) == 0x0000
    ((received, encoded),) = reception.objects
    assert encoded == ENCODED
    assert (received.study_instance_uid, received.series_instance_uid) == ("1.2.3", "1.2.3.1")
    assert (received.modality, received.peer) == ("OT", PEER)
    assert events.events == []


def test_what_is_here_already_is_taken_in_one_call() -> None:
    for encoded in (ENCODED, memoryview(ENCODED)):
        reception, events = Recording(), Events()
        whole = intake(reception, events).begin(request(), PEER)
        assert whole.take_whole(encoded) == 0x0000
        assert [one for _, one in reception.objects] == [ENCODED]
    refused = intake(Recording(refuse_object=StorageError("storage-full")), Events()).begin(request(), PEER)
    assert refused.take_whole(ENCODED) == 0xA700
    unknown = intake(Recording(), Events()).begin(request(), PEER)
    assert unknown.take_whole(b"") == 0xC000


def test_names_that_differ_are_a_mismatch() -> None:
    for changes in ({"sop_instance_uid": "1.2.3.5"}, {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}):
        reception, events = Recording(), Events()
        assert receive(intake(reception, events), request(**changes)) == 0xA900
        assert reception.objects == []
        assert events.named("object.refused")[0]["reason"] == "object-uid-mismatch"


@pytest.mark.parametrize("encoded", [b"", b"\0" * 100, b"\x08\x00\x18\x00UI\xff\xff"])
def test_what_has_no_uids_is_not_understood(encoded: bytes) -> None:
    reception, events = Recording(), Events()
    assert receive(intake(reception, events), request(), encoded) == 0xC000
    assert reception.objects == []


@pytest.mark.parametrize("size", [16, 60_000])
@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_missing_uid_is_not_understood(keyword: str, value: str | None, size: int) -> None:
    dataset = small_object()
    dataset.PixelData = bytes(size)
    delattr(dataset, keyword)
    if value is not None:
        setattr(dataset, keyword, value)
    for syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG):
        reception, events = Recording(), Events()
        asked = request(transfer_syntax_uid=syntax)
        assert receive(intake(reception, events), asked, encode_dataset(dataset, syntax), piece=3000) == 0xC000
        assert reception.objects == []
        (refused,) = events.named("object.refused")
        assert (refused["reason"], refused["status"]) == ("object-without-uids", "xC000")


def test_an_object_beyond_the_limit_is_refused() -> None:
    events = Events()
    assert receive(intake(Recording(), events, maximum_object_bytes=10), request()) == 0xC000
    assert events.named("object.refused")[0]["reason"] == "object-too-large"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (StorageError("storage-full"), 0xA700),
        (StudyError("object-malformed"), 0xC000),
        (ModelError("internal"), 0x0110),
        (RuntimeError("Doe^Jane 1.2.3.4"), 0x0110),
        (MemoryError(), 0x0110),
    ],
)
def test_every_error_becomes_its_status_and_an_event_without_names(error: Exception, status: int) -> None:
    events = Events()
    assert receive(intake(Recording(refuse_object=error), events), request()) == status
    ((name, level, facts),) = events.events
    assert name == ("object.refused" if isinstance(error, NodeError) else "internal")
    assert level in {"warning", "error"}
    assert "Doe" not in str(facts)
    assert "1.2.3" not in str(facts)


def test_a_refused_object_is_gone_with_its_transfer() -> None:
    asked = intake(Recording(), Events())
    gc.disable()
    try:
        transfer = asked.begin(request(sop_instance_uid="1.2.3.5"), PEER)
        assert transfer.take_whole(ENCODED) == 0xA900
        assert transfer.fault is not None
        gone = weakref.ref(transfer)
        del transfer
        assert gone() is None
    finally:
        gc.enable()
