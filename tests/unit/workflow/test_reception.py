from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest

from dicomnode.errors import LimitError, StorageError
from dicomnode.network.intake import Peer, ReceivedObject
from dicomnode.network_sections import PeerRule
from dicomnode.sections import CompletionSection
from dicomnode.study import InstanceRow, RecordAddress, RecordMetadata, blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.completion import Completion
from dicomnode.workflow.reception import Arriving, DigestPort, Reception
from tests.unit.workflow.samples import KEY, Events, Time

PEER = Peer(calling_ae_title="CT1", called_ae_title="DICOMNODE", address="10.0.0.9", association_id="a1" * 8)


class Spool:
    def __init__(self) -> None:
        self.records: list[tuple[str, RecordMetadata, bytes]] = []
        self.error: StorageError | None = None

    def check_space(self) -> None:
        if self.error:
            raise self.error

    def arrival(self, digest: DigestPort) -> Arrival:
        return Arrival(self, digest)


class Arrival:
    def __init__(self, spool: Spool, digest: DigestPort) -> None:
        self.spool, self.digest = spool, digest
        self.room, self.length, self.study_key, self.closed = bytearray(100), 0, "", False

    def window(self) -> memoryview:
        return memoryview(self.room)[self.length :]

    def advance(self, count: int) -> None:
        self.digest.update(memoryview(self.room)[self.length : self.length + count])
        self.length += count

    def head(self) -> memoryview:
        return memoryview(self.room)[: self.length]

    def complete(self) -> None:
        self.is_complete = True

    def begin(self, study_key: str) -> None:
        self.spool.check_space()
        self.study_key = study_key

    def finish(self, metadata: Callable[[], RecordMetadata]) -> RecordAddress:
        records = self.spool.records
        records.append((self.study_key, metadata(), bytes(self.head())))
        return RecordAddress(segment_id="5e", number=len(records) - 1, offset=0)

    def close(self) -> None:
        self.closed = True


class Digest:
    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: memoryview, /, *, last: bool = False) -> None:
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


class World:
    def __init__(self, time: Time, events: Events) -> None:
        self.spool = Spool()
        self.rows: list[InstanceRow] = []
        self.activity = ActivityTable()
        self.woken = 0
        self.reception = Reception(
            spool=self.spool,
            digest=Digest,
            indexer=self,  # type: ignore[arg-type]
            activity=self.activity,
            derivation_key=KEY,
            wake=self._wake,
            clock=time.now,
            monotonic=time.monotonic,
            emit=events,
        )

    def add(self, row: InstanceRow) -> None:
        self.rows.append(row)

    def _wake(self) -> None:
        self.woken += 1


def received(number: int = 4, peer: Peer = PEER) -> ReceivedObject:
    return ReceivedObject(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"1.2.3.{number}",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        peer=peer,
    )


def store(
    world: World, data: bytes = b"data set", *, whole: bool = True, what: ReceivedObject | None = None
) -> Arriving:
    """An object comes as the intake lets it come."""
    with contextlib.closing(world.reception.sink()) as sink:
        for start in range(0, len(data), 3):
            piece = data[start : start + 3]
            sink.window()[: len(piece)] = piece
            sink.advance(len(piece))
        sink.begin(what or received())
        if whole:
            sink.finish()
    return sink


@pytest.fixture
def world(time: Time, events: Events) -> World:
    return World(time, events)


def test_an_object_is_durable_then_indexed_and_its_study_active(world: World, time: Time) -> None:
    store(world)
    key = blind_key(KEY, "study", "1.2.3")
    ((study_key, metadata, data),) = world.spool.records
    assert (study_key, data) == (key, b"data set")
    assert metadata.digest == hashlib.sha256(b"data set").hexdigest()
    assert metadata.length == 8
    assert (metadata.calling_ae_title, metadata.peer_address) == ("CT1", "10.0.0.9")
    assert metadata.received_at == time.now()
    (row,) = world.rows
    assert (row.study_key, row.address.number) == (key, 0)
    (activity,) = world.activity.snapshot()
    assert (activity.study_key, activity.open_associations) == (key, 1)


def test_what_the_disk_refuses_leaves_no_trace(world: World) -> None:
    world.spool.error = StorageError("storage-full")
    with pytest.raises(StorageError, match="storage-full"):
        store(world)
    with pytest.raises(StorageError, match="storage-full"):
        world.reception.admit(PEER)
    assert world.rows == []
    assert world.activity.snapshot() == ()


def test_an_association_is_told_from_its_opening_to_its_end(world: World, events: Events) -> None:
    world.reception.admit(PEER)
    world.reception.opened(PEER)
    store(world)
    world.reception.closed(PEER, aborted=True)
    assert events.names == ["association.opened", "association.closed", "study.arrived"]
    (closed,) = events.facts("association.closed")
    assert (closed["aborted"], closed["studies"]) == (True, 1)
    assert world.woken == 1
    (activity,) = world.activity.snapshot()
    assert activity.open_associations == 0


def test_an_association_without_objects_wakes_and_tells_no_study(world: World, events: Events) -> None:
    world.reception.closed(PEER, aborted=False)
    assert events.names == ["association.closed"]
    assert world.woken == 1


def test_a_study_is_not_shredded_while_an_object_of_it_comes(world: World) -> None:
    key = blind_key(KEY, "study", "1.2.3")
    with contextlib.closing(world.reception.sink()) as sink:
        sink.begin(received())
        with world.activity.closed(key) as free:
            assert not free
    with world.activity.closed(key) as free:
        assert free


def test_what_broke_off_is_given_back_and_leaves_no_trace(world: World) -> None:
    sink = store(world, whole=False)
    assert sink.arrival.closed
    assert world.spool.records == []
    assert world.rows == []
    assert world.activity.snapshot() == ()


@pytest.mark.parametrize(
    ("priority", "refused_from", "is_let_in"),
    [
        ("stat", 1, True),
        ("routine", 1, False),
        ("research", 2, False),
        ("routine", 2, True),
        ("stat", 0, False),
        (None, 1, False),
    ],
)
def test_whose_studies_wait_for_too_long_is_let_in_no_more(
    world: World, priority: str | None, refused_from: int, is_let_in: bool
) -> None:
    rule = PeerRule.model_validate({"name": "ct1", "priority": priority}) if priority else None
    world.activity.refused_from = refused_from
    with nullcontext() if is_let_in else pytest.raises(LimitError, match="queue-late"):
        world.reception.admit(replace(PEER, rule=rule))


def test_what_was_asked_for_comes_whatever_waits(world: World) -> None:
    world.activity.refused_from = 0
    world.reception._is_asked = True
    world.reception.admit(PEER)


class Sender:
    """A sender that opens an association for each image, and a completion that looks on."""

    def __init__(self, world: World, time: Time, events: Events) -> None:
        self.world, self.time, self.opened = world, time, 0
        self.settled: list[float] = []
        self.completion = Completion(
            world.activity,
            start=lambda _: None,
            settle=lambda _, __: self.settled.append(time.monotonic()),
            settings=CompletionSection(quiet_seconds=30, arrival_seconds=600),
            monotonic=time.monotonic,
            emit=events,
        )

    def send(self, number: int) -> None:
        self.opened += 1
        peer = replace(PEER, association_id=f"{self.opened:016x}")
        store(self.world, b"image %d" % number, what=received(number, peer))
        self.world.reception.closed(peer, aborted=False)
        self.completion.look()

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.time.forward(1.0)
            self.completion.look()


def test_a_sender_that_begins_again_is_at_work_though_what_it_sends_is_here(
    world: World, time: Time, events: Events
) -> None:
    """Half of a study came, its sender broke off and sends it from the start: the first half takes a minute again."""
    sender = Sender(world, time, events)
    for number in range(12):
        sender.send(number)
        sender.wait(5)
    sender.wait(15)
    for number in range(24):
        sender.send(number)
        sender.wait(5)
    assert sender.settled == []
    assert len({row.instance_key for row in world.rows}) == 24
    sender.wait(30)
    assert len(sender.settled) == 1


def test_a_sender_that_repeats_one_image_holds_no_study_for_ever(world: World, time: Time, events: Events) -> None:
    """A router whose time-out is too short sends one image again every twenty seconds."""
    sender, begun = Sender(world, time, events), time.monotonic()
    for _ in range(31):
        sender.send(1)
        sender.wait(20)
    assert sender.settled == [begun + 600]
    (told,) = events.facts("study.incomplete")
    assert told["reason"] == "study-endless"
