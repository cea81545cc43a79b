from __future__ import annotations

import hashlib

import pytest

from dicomnode.errors import StorageError
from dicomnode.network.intake import Peer, ReceivedObject
from dicomnode.study import InstanceRow, RecordAddress, RecordMetadata, blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.reception import Reception
from tests.unit.workflow.samples import KEY, Events, Time

PEER = Peer(calling_ae_title="CT1", called_ae_title="DICOMNODE", address="10.0.0.9", association_id="a1" * 8)


class Spool:
    def __init__(self) -> None:
        self.records: list[tuple[str, RecordMetadata, bytes]] = []
        self.error: StorageError | None = None

    def check_space(self) -> None:
        if self.error:
            raise self.error

    def append(self, study_key: str, metadata: RecordMetadata, encoded: memoryview) -> RecordAddress:
        self.check_space()
        self.records.append((study_key, metadata, bytes(encoded)))
        return RecordAddress(segment_id="5e", number=len(self.records) - 1, offset=0)


class World:
    def __init__(self, time: Time, events: Events) -> None:
        self.spool = Spool()
        self.rows: list[InstanceRow] = []
        self.activity = ActivityTable()
        self.woken = 0
        self.reception = Reception(
            spool=self.spool,
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


def received(data: bytes = b"data set") -> ReceivedObject:
    return ReceivedObject(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4",
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="CT",
        encoded=data,
        peer=PEER,
    )


@pytest.fixture
def world(time: Time, events: Events) -> World:
    return World(time, events)


def test_an_object_is_durable_then_indexed_and_its_study_active(world: World, time: Time) -> None:
    world.reception.store(received())
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
        world.reception.store(received())
    with pytest.raises(StorageError, match="storage-full"):
        world.reception.admit(PEER)
    assert world.rows == []
    assert world.activity.snapshot() == ()


def test_an_association_is_told_from_its_opening_to_its_end(world: World, events: Events) -> None:
    world.reception.admit(PEER)
    world.reception.opened(PEER)
    world.reception.store(received())
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
