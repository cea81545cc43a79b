from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import ReadingSection
from dicomnode.encoded import Limits
from dicomnode.errors import StorageError
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, InstanceState
from dicomnode.workflow.conflicts import Conflicts
from dicomnode.workflow.indexing import row_of
from tests.unit.workflow.samples import EXPLICIT, IMPLICIT, KEY, Events, Time, encoded, metadata, study_key_of
from tests.unit.workflow.samples import tiny_series as series


class World:
    def __init__(self, ledger: Ledger, spool: Spool, time: Time, events: Events) -> None:
        self.ledger = ledger
        self.spool = spool
        self.events = events
        self.conflicts = Conflicts(ledger, spool, ReadingSection(), limits=Limits(), clock=time.now, emit=events)

    def receive(self, image: Dataset, transfer_syntax_uid: str = EXPLICIT, data: bytes | None = None) -> InstanceRow:
        data = encoded(image, transfer_syntax_uid) if data is None else data
        about = metadata(image, data, transfer_syntax_uid=transfer_syntax_uid)
        address = self.spool.append(study_key_of(image), about, data)
        (recorded,) = self.ledger.record_instances([row_of(KEY, study_key_of(image), address, about)])
        return recorded

    def states(self, image: Dataset) -> list[InstanceState]:
        return [one.state for one in self.ledger.instances(study_key_of(image), None)]

    def reasons(self) -> list[str]:
        return [one.reason for one in self.ledger.quarantined()]


@pytest.fixture
def world(ledger: Ledger, spool: Spool, time: Time, events: Events) -> World:
    return World(ledger, spool, time, events)


@pytest.fixture
def image() -> Dataset:
    return series()[0]


def changed(image: Dataset, **values: Any) -> Dataset:
    copy = deepcopy(image)
    for keyword, value in values.items():
        setattr(copy, keyword, value)
    return copy


def test_the_same_object_in_another_transfer_syntax_is_a_duplicate(world: World, image: Dataset) -> None:
    world.receive(image)
    second = world.receive(image, IMPLICIT)
    assert second.state is InstanceState.QUARANTINED
    world.conflicts.resolve(second)
    assert world.states(image) == [InstanceState.CURRENT, InstanceState.DUPLICATE]
    assert world.events.names == []


def test_a_study_by_two_routes_whose_private_elements_lost_their_vr_is_the_same(world: World, image: Dataset) -> None:
    block = image.private_block(0x0029, "A SCANNER OF TODAY", create=True)
    for number, (vr, value) in enumerate((("LO", "KERNEL 3"), ("DS", "1.5"), ("SQ", [Dataset()]))):
        block.add_new(0x10 + number, vr, value)
    for syntax in (EXPLICIT, IMPLICIT, EXPLICIT, IMPLICIT):
        world.conflicts.resolve(world.receive(image, syntax))
    assert world.states(image) == [InstanceState.CURRENT, *[InstanceState.DUPLICATE] * 3]
    assert world.events.names == []


def test_another_header_replaces_the_first(world: World, image: Dataset) -> None:
    world.receive(image)
    world.conflicts.resolve(world.receive(changed(image, AccessionNumber="NEW")))
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.CURRENT]
    assert world.events.names == ["object.replaced"]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_what_a_correction_replaced_does_not_come_back_by_being_sent_again(
    world: World, image: Dataset, syntax: str
) -> None:
    """The PACS corrected the name and sent the study again; then the modality repeats its first try, twice."""
    world.receive(image)
    world.conflicts.resolve(world.receive(changed(image, PatientName="Right^Name")))
    for _ in range(2):
        world.conflicts.resolve(world.receive(image, syntax))
    assert world.states(image) == [
        InstanceState.REPLACED,
        InstanceState.CURRENT,
        InstanceState.DUPLICATE,
        InstanceState.DUPLICATE,
    ]
    assert [(name, level) for name, level, _ in world.events.seen] == [
        ("object.replaced", "info"),
        ("object.outdated", "warning"),
        ("object.outdated", "warning"),
    ]


def test_a_second_correction_replaces_the_first(world: World, image: Dataset) -> None:
    world.receive(image)
    for accession in ("NEW", "NEWER"):
        world.conflicts.resolve(world.receive(changed(image, AccessionNumber=accession)))
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.REPLACED, InstanceState.CURRENT]
    assert world.events.names == ["object.replaced", "object.replaced"]


def test_what_was_replaced_comes_back_where_what_counts_has_expired(world: World, image: Dataset) -> None:
    world.receive(image)
    second = world.receive(changed(image, AccessionNumber="WRONG"))
    world.conflicts.resolve(second)
    world.ledger.set_instance_state(second.study_key, second.address, InstanceState.EXPIRED)
    world.conflicts.resolve(world.receive(image))
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.EXPIRED, InstanceState.CURRENT]


def test_a_replaced_one_that_was_damaged_on_the_disk_is_compared_with_nothing(
    world: World, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.receive(image)
    world.conflicts.resolve(world.receive(changed(image, AccessionNumber="NEW")))
    read = world.spool.read

    def damaged(study_key: str, address: Any) -> Any:
        if address == first.address:
            raise StorageError("sealed-damaged")
        return read(study_key, address)

    monkeypatch.setattr(world.spool, "read", damaged)
    world.conflicts.resolve(world.receive(image))
    assert world.states(image)[1:] == [InstanceState.CURRENT, InstanceState.DUPLICATE], "the same bytes"
    world.conflicts.resolve(world.receive(changed(image, AccessionNumber="NEWER"), IMPLICIT))
    assert world.states(image)[-1] is InstanceState.CURRENT


def test_a_corrected_photometric_interpretation_replaces_the_wrong_one(world: World, image: Dataset) -> None:
    """The same stored values, and another image."""
    world.receive(changed(image, PhotometricInterpretation="MONOCHROME1"))
    world.conflicts.resolve(world.receive(image))
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.CURRENT]


def test_other_pixels_stay_in_quarantine_with_an_alert(world: World, image: Dataset) -> None:
    world.receive(image)
    world.conflicts.resolve(world.receive(changed(image, PixelData=bytes(len(image.PixelData)))))
    assert world.states(image) == [InstanceState.CURRENT, InstanceState.QUARANTINED]
    assert world.reasons() == ["same-uid-other-content"]
    assert [(name, level) for name, level, _ in world.events.seen] == [("object.quarantined", "warning")]


def test_one_that_cannot_be_parsed_stays_in_quarantine(world: World, image: Dataset) -> None:
    world.receive(image)
    world.conflicts.resolve(world.receive(image, data=b"\x08\x00\x05\x00CS\xff\x7fno data set"))
    assert world.states(image)[1] is InstanceState.QUARANTINED
    assert world.reasons() == ["object-malformed"]


def test_an_instance_without_a_rival_is_left_alone(world: World, image: Dataset) -> None:
    world.conflicts.resolve(world.receive(image))
    assert world.states(image) == [InstanceState.CURRENT]
    assert world.events.names == []


def test_the_thread_of_the_index_outlives_a_ledger_that_fails(
    world: World, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive(image)
    second = world.receive(image, IMPLICIT)

    def fails(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    monkeypatch.setattr(world.ledger, "set_instance_state", fails)
    monkeypatch.setattr(world.ledger, "quarantine", fails)
    world.conflicts.resolve(second)
    assert world.events.names == ["object.quarantined", "ledger.failed"]


def test_a_fault_that_passes_leaves_it_to_be_decided_later(
    world: World, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive(image)
    second = world.receive(image, IMPLICIT)
    with monkeypatch.context() as patch:

        def fails(*_: object, **__: object) -> None:
            raise StorageError("ledger-failed")

        patch.setattr(world.ledger, "set_instance_state", fails)
        with pytest.raises(StorageError, match="ledger-failed"):
            world.conflicts.settle(second)
    assert (world.events.names, world.reasons()) == ([], [])
    world.conflicts.settle(second)
    assert world.states(image) == [InstanceState.CURRENT, InstanceState.DUPLICATE]


def test_whatever_two_objects_hold_is_told_by_a_code_alone(
    world: World, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.receive(image)
    second = world.receive(image, IMPLICIT)

    def fails(*_: object) -> None:
        raise ValueError("Müller^Jürgen")

    monkeypatch.setattr("dicomnode.workflow.conflicts.compare", fails)
    world.conflicts.resolve(second)
    assert world.reasons() == ["internal"]
    assert "Müller" not in repr(world.events.seen)


def cut(image: Dataset) -> bytes:
    return encoded(image, EXPLICIT)[: -len(image.PixelData) // 2]


@pytest.mark.parametrize("how", ["short", "without", "cut", "garbled"])
def test_a_whole_one_takes_the_place_of_one_that_came_damaged(world: World, image: Dataset, how: str) -> None:
    half = changed(image, PixelData=image.PixelData[: len(image.PixelData) // 2])
    if how == "without":
        del half.PixelData
    data = {"cut": cut(image), "garbled": b"\x08\x00\x05\x00CS\xff\x7fno data set"}.get(how)
    world.receive(half, data=data)
    world.conflicts.resolve(world.receive(image))
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.CURRENT]
    assert world.events.names == ["object.replaced"]


def test_one_that_is_damaged_never_takes_the_place_of_a_whole_one(world: World, image: Dataset) -> None:
    world.receive(image)
    half = changed(image, PixelData=image.PixelData[: len(image.PixelData) // 2])
    world.conflicts.resolve(world.receive(half))
    world.conflicts.resolve(world.receive(half, data=cut(image)))
    assert world.states(image)[0] is InstanceState.CURRENT
    assert InstanceState.CURRENT not in world.states(image)[1:]


def test_of_two_damaged_ones_the_first_stays(world: World, image: Dataset) -> None:
    for share in (2, 4):
        half = changed(image, PixelData=image.PixelData[: len(image.PixelData) // share])
        row = world.receive(half)
    world.conflicts.resolve(row)
    assert world.states(image) == [InstanceState.CURRENT, InstanceState.QUARANTINED]


def test_a_whole_one_takes_the_place_of_one_that_was_damaged_on_the_disk(
    world: World, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.receive(image)
    second = world.receive(changed(image, PixelData=bytes(len(image.PixelData))))
    read = world.spool.read

    def damaged(study_key: str, address: Any) -> Any:
        if address == first.address:
            raise StorageError("sealed-damaged")
        return read(study_key, address)

    monkeypatch.setattr(world.spool, "read", damaged)
    world.conflicts.resolve(second)
    assert world.states(image) == [InstanceState.REPLACED, InstanceState.CURRENT]
