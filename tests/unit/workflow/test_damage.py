"""Records that were damaged since they came: a whole duplicate takes their place, whether it is there or comes later."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection, ReadingSection
from dicomnode.encoded import Limits
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.routing_rules import FloodGuardSection
from dicomnode.study import InstanceRow, InstanceState, RecordAddress, WorkKey, WorkState, World
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.conflicts import Conflicts
from dicomnode.workflow.damage import heirs, lost
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.routing import every
from dicomnode.workflow.standing import Standing
from dicomnode.workflow.verification import Verification
from tests.unit.workflow.samples import (
    EXPLICIT,
    IMPLICIT,
    KEY,
    MODEL,
    encoded,
    metadata,
    row,
    study_key_of,
)
from tests.unit.workflow.test_admission import Decided
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

CURRENT, DUPLICATE, REPLACED = InstanceState.CURRENT, InstanceState.DUPLICATE, InstanceState.REPLACED
QUARANTINED = InstanceState.QUARANTINED


def receive(bench: Bench, image: Dataset, transfer_syntax_uid: str = EXPLICIT, *, at: float = 0.0) -> InstanceRow:
    """An image, as the index takes it; what came again in another transfer syntax is decided on."""
    study_key, data = study_key_of(image), encoded(image, transfer_syntax_uid)
    about = metadata(image, data, transfer_syntax_uid=transfer_syntax_uid)
    about = replace(about, received_at=about.received_at + timedelta(seconds=at))
    address = bench.rooms.spool.append(study_key, about, data)
    (recorded,) = bench.ledger.record_instances([row_of(KEY, study_key, address, about)])
    if recorded.state is QUARANTINED:
        conflicts(bench).settle(recorded)
    return recorded


def conflicts(bench: Bench) -> Conflicts:
    return Conflicts(
        bench.ledger, bench.rooms.spool, ReadingSection(), limits=Limits(), clock=bench.time.now, emit=bench.events
    )


def damage(folder: Path, one: InstanceRow) -> None:
    (path,) = (folder / "spool").rglob(f"{one.address.segment_id}.*")
    changed = bytearray(path.read_bytes())
    changed[one.address.offset + 300] ^= 1
    path.write_bytes(changed)


def states(bench: Bench, of: InstanceRow) -> list[InstanceState]:
    rows = bench.ledger.instances(of.study_key, None)
    return [one.state for one in rows if one.instance_key == of.instance_key]


def verify(bench: Bench, folder: Path) -> None:
    bench.rooms.spool.close_study(bench.key.study_key)
    Verification(bench.ledger, bench.rooms.spool, Limits(), bench.time.now).run()


def admission(bench: Bench) -> Admission:
    def ordered(*_: Any) -> None:
        raise AssertionError("no export is ordered")

    return Admission(
        bench.ledger,
        MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=bench.time.monotonic),
        routing=Decided(
            lambda *_: every((MODEL,)),
            Standing(bench.ledger, FloodGuardSection(), clock=bench.time.now).judge,
            ordered,
        ),
        sop_classes=bench.rooms.sop_classes,
        destinations=("pacs",),
        overdue=tuple,
        flush=lambda _: True,
        close_segments=lambda _: None,
        arriving=lambda _: False,
        settings=DeliverySection(),
        clocks=bench.time,
        emit=bench.events,
    )


@pytest.mark.parametrize("times", [1, 2])
def test_a_work_goes_on_with_the_same_bytes_that_came_twice(
    bench: Bench, images: list[Dataset], tmp_path: Path, times: int
) -> None:
    """Also where one of the duplicates is damaged itself; the input is the same, and nothing is made anew."""
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    again = [receive(bench, images[2]) for _ in range(times)]
    for one in (first, *again[:-1]):
        damage(tmp_path, one)
    bench.ledger.settle(key.study_key, 1, bench.time.now())
    for stage in ("prepare", "infer"):
        assert bench.stages().run(stage, key), bench.ended
    assert states(bench, first) == [QUARANTINED, *[DUPLICATE] * (times - 1), CURRENT]
    assert bench.events.facts("object.restored") == [{"study": key.study_key}]
    assert {one.address for one in bench.ledger.quarantined()} >= {first.address}
    admission(bench).settle(key.study_key)
    latest = bench.ledger.latest_revision(key.study_key)
    assert latest is not None
    assert latest.revision == 1


def test_copies_that_are_made_again_are_made_of_what_took_the_place(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    receive(bench, images[2])
    stages = bench.stages()
    assert stages.run("prepare", key)
    damage(tmp_path, first)
    verify(bench, tmp_path)
    assert states(bench, first) == [QUARANTINED, CURRENT]
    stages._preparing.seal_again(key)


@pytest.mark.parametrize("name_of_key", [False, True], ids=["content", "name of its key"])
def test_what_is_sent_again_mends_a_study_whose_record_was_damaged(
    bench: Bench, images: list[Dataset], tmp_path: Path, name_of_key: bool
) -> None:
    """Also where what was flipped names a key: it was told as another root key, and mended by nothing that came."""
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    bench.ledger.settle(key.study_key, 1, bench.time.now())
    if name_of_key:
        (path,) = (tmp_path / "spool").rglob(f"{first.address.segment_id}.*")
        content = bytearray(path.read_bytes())
        content[content.index(bench.rooms.keys.get(key.study_key, World.IDENTITY).key_id, first.address.offset)] ^= 1
        path.write_bytes(content)
    else:
        damage(tmp_path, first)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert states(bench, first) == [QUARANTINED]
    assert bench.ledger.digests_of(first.study_key, first.instance_key) == frozenset()
    assert [receive(bench, one).state for one in images[1:4]] == [DUPLICATE, CURRENT, DUPLICATE]
    assert bench.ledger.digests_of(first.study_key, first.instance_key) == {first.digest}
    admission(bench).settle(key.study_key)
    anew = WorkKey(study_key=key.study_key, revision=2, model=MODEL)
    assert bench.work(anew).input_digest == bench.work(key).input_digest
    assert bench.stages().run("prepare", anew)


def test_a_key_that_was_damaged_is_no_fault_of_a_record(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try set one more record aside, though none of them was changed."""
    key = bench.receive(images)
    bench.ledger.settle(key.study_key, 1, bench.time.now())

    def damaged(study_key: str, _: RecordAddress) -> None:
        raise KeyStoreError("sealed-damaged", study=f"key-{study_key[:16]}", world="identity")

    monkeypatch.setattr(bench.rooms.spool, "read", damaged)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert not bench.ledger.quarantined()


def test_the_same_object_in_another_transfer_syntax_is_another_input(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    """The study is looked at again by itself, also after a kill."""
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    receive(bench, images[2], IMPLICIT)
    admission(bench).settle(key.study_key)
    assert bench.ledger.open_studies() == ()
    damage(tmp_path, first)
    remembered = list[str]()
    stages = bench.stages(replace(bench.rooms, remember=remembered.append))
    assert not stages.run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert states(bench, first) == [QUARANTINED, CURRENT]
    assert remembered == [key.study_key]
    assert [one for one, _ in bench.ledger.open_studies()] == [key.study_key]
    admission(bench).settle(key.study_key)
    anew = WorkKey(study_key=key.study_key, revision=2, model=MODEL)
    assert bench.stages().run("prepare", anew)
    assert bench.ledger.open_studies() == ()


def test_verify_puts_a_whole_duplicate_in_the_place_of_what_is_damaged(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    twice = [receive(bench, images[2]) for _ in range(2)]
    damage(tmp_path, first)
    damage(tmp_path, twice[0])
    for _ in range(2):
        verify(bench, tmp_path)
        assert states(bench, first) == [QUARANTINED, DUPLICATE, CURRENT]
        assert {one.address for one in bench.ledger.quarantined()} == {first.address, twice[0].address}
    assert bench.stages().run("prepare", key)


def test_verify_mends_what_an_earlier_one_left_without_anything_that_counts(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    receive(bench, images[2])
    damage(tmp_path, first)
    bench.ledger.set_instance_state(key.study_key, first.address, QUARANTINED)
    bench.ledger.quarantine(key.study_key, "segment", "sealed-damaged", bench.time.now(), address=first.address)
    verify(bench, tmp_path)
    assert states(bench, first) == [QUARANTINED, CURRENT]


def test_a_work_that_failed_is_tried_again_after_verify_mended_its_input(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    admission(bench).settle(key.study_key)
    bench.ledger.set_work_state(key, WorkState.FAILED, at=bench.time.now(), reason="sealed-damaged")
    receive(bench, images[2])
    damage(tmp_path, first)
    verify(bench, tmp_path)
    assert [one for one, _ in bench.ledger.open_studies()] == [key.study_key]
    admission(bench).settle(key.study_key)
    assert bench.stages().run("prepare", WorkKey(study_key=key.study_key, revision=2, model=MODEL))


def test_a_kill_leaves_the_damaged_one_or_the_whole_one(
    bench: Bench, images: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    receive(bench, images[2])
    damage(tmp_path, first)
    put = bench.ledger.set_instance_state

    def dies(*given: Any, **named: Any) -> None:
        if given[2] is CURRENT:
            raise KeyboardInterrupt
        put(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "set_instance_state", dies)
        with pytest.raises(KeyboardInterrupt):
            verify(bench, tmp_path)
    assert states(bench, first) == [CURRENT, DUPLICATE]
    assert bench.ledger.quarantined() == ()
    verify(bench, tmp_path)
    assert states(bench, first) == [QUARANTINED, CURRENT]


@pytest.mark.parametrize("begun", [True, False])
def test_what_is_left_of_a_series_is_not_worked_on_as_the_whole_of_it(
    bench: Bench, images: list[Dataset], tmp_path: Path, begun: bool
) -> None:
    """A work that waits fails and says why, and so does one of what is left: nothing is superseded without a word."""
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[0]
    damage(tmp_path, first)
    verify(bench, tmp_path)
    assert states(bench, first) == [QUARANTINED]
    if not begun:
        admission(bench).settle(key.study_key)
        key = bench.key = WorkKey(study_key=key.study_key, revision=2, model=MODEL)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")


def test_a_fault_that_passes_sets_nothing_aside(
    bench: Bench, images: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    again = receive(bench, images[2])
    damage(tmp_path, first)
    read, failures = bench.rooms.spool.read, [StorageError("storage-failed")]

    def fails(study_key: str, address: Any) -> Any:
        if address == again.address and failures:
            raise failures.pop()
        return read(study_key, address)

    monkeypatch.setattr(bench.rooms.spool, "read", fails)
    assert bench.stages().run("prepare", key)
    assert states(bench, first) == [QUARANTINED, CURRENT]
    assert bench.events.facts("stage.again") == [
        {"work": key.workflow_id, "stage": "prepare", "reason": "storage-failed"}
    ]


def test_what_waits_for_a_decision_counts_where_the_first_is_damaged_meanwhile(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    corrected = deepcopy(images[2])
    corrected.AccessionNumber = "NEW"
    data = encoded(corrected)
    about = metadata(corrected, data)
    address = bench.rooms.spool.append(key.study_key, about, data)
    (waiting,) = bench.ledger.record_instances([row_of(KEY, key.study_key, address, about)])
    damage(tmp_path, first)
    verify(bench, tmp_path)
    conflicts(bench).settle(waiting)
    assert states(bench, first) == [QUARANTINED, CURRENT]
    conflicts(bench).settle(waiting)
    assert states(bench, first) == [QUARANTINED, CURRENT]


def test_a_duplicate_of_what_is_damaged_says_what_the_first_was(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    """Other pixels do not take the place of the first only because nobody can read that any more."""
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    receive(bench, images[2])
    damage(tmp_path, first)
    other = deepcopy(images[2])
    other.PixelData = bytes(len(other.PixelData))
    receive(bench, other)
    assert states(bench, first) == [CURRENT, DUPLICATE, QUARANTINED]


def test_a_segment_that_cannot_be_read_at_all_is_set_aside_with_its_first_record(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    (path,) = (tmp_path / "spool").rglob(f"{rows[0].address.segment_id}.*")
    bench.rooms.spool.close_study(key.study_key)
    (path,) = (tmp_path / "spool").rglob(f"{rows[0].address.segment_id}.*")
    path.write_bytes(b"\0" * 64 + path.read_bytes()[64:])
    Verification(bench.ledger, bench.rooms.spool, Limits(), bench.time.now).run()
    assert bench.ledger.instances(key.study_key) == ()


def lose(bench: Bench, folder: Path, one: InstanceRow) -> None:
    """The whole segment of a record is gone."""
    bench.rooms.spool.close_study(one.study_key)
    (path,) = (folder / "spool").rglob(f"{one.address.segment_id}.*")
    path.unlink()


def test_of_a_segment_that_is_gone_duplicates_in_another_one_take_the_place(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    bench.rooms.spool.close_study(key.study_key)
    for image in images:
        receive(bench, image)
    lose(bench, tmp_path, rows[0])
    assert bench.stages().run("prepare", key), bench.ended
    assert {*states(bench, rows[0])} == {*states(bench, rows[-1])} == {QUARANTINED, CURRENT}  # in either order


def test_a_segment_that_is_gone_is_damage_to_a_stage_too(bench: Bench, images: list[Dataset], tmp_path: Path) -> None:
    """Once, not three times; it is mended by sending the study again."""
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    bench.ledger.settle(key.study_key, 1, bench.time.now())
    lose(bench, tmp_path, rows[0])
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert "stage.again" not in bench.events.names
    assert states(bench, rows[0]) == [QUARANTINED]
    assert {one.address for one in bench.ledger.quarantined()} >= {rows[0].address}
    assert receive(bench, images[0]).state is CURRENT


def test_where_the_spool_is_empty_it_may_not_be_mounted_and_nothing_is_set_aside(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    rows = bench.ledger.instances(key.study_key)
    bench.rooms.spool.close_study(key.study_key)
    for path in (tmp_path / "spool").iterdir():
        path.rename(tmp_path / path.name)
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "storage-failed")
    assert bench.pauses == [2.0, 4.0]
    assert bench.ledger.instances(key.study_key) == rows


def heard(bench: Bench, *came: tuple[Dataset, str, float]) -> list[InstanceRow]:
    return [receive(bench, image, syntax, at=at) for image, syntax, at in came]


def updated(image: Dataset) -> Dataset:
    """Another header over the same pixels."""
    other = deepcopy(image)
    other.PatientName = "Corrected^Name"
    return other


def test_a_duplicate_of_what_an_update_replaced_does_not_bring_the_older_header_back(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    """It came after the update, and was decided on while that still lay in a receiver that died."""
    old, new = images[2], updated(images[2])
    bench.receive(images)
    _, update = heard(bench, (old, IMPLICIT, 2.0), (new, EXPLICIT, 1.0))
    assert states(bench, update) == [REPLACED, CURRENT, DUPLICATE]
    damage(tmp_path, update)
    verify(bench, tmp_path)
    assert states(bench, update) == [REPLACED, QUARANTINED, DUPLICATE]
    assert [one.address for one in lost(bench.ledger, update.study_key)] == [update.address]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("is_known", [False, True])
def test_what_a_damaged_update_replaced_does_not_come_back_by_being_sent_again(
    bench: Bench, images: list[Dataset], tmp_path: Path, syntax: str, is_known: bool
) -> None:
    """The study stays without it, whether somebody met the damage by then or not; the update itself mends it."""
    old, new = images[2], updated(images[2])
    bench.receive(images)
    (update,) = heard(bench, (new, EXPLICIT, 1.0))
    bench.rooms.spool.close_study(bench.key.study_key)
    damage(tmp_path, update)
    if is_known:
        verify(bench, tmp_path)
    heard(bench, (old, syntax, 2.0))
    if not is_known:
        verify(bench, tmp_path)
    assert states(bench, update) == [REPLACED, QUARANTINED, DUPLICATE]
    assert bench.events.names.count("object.outdated") == 1
    assert [one.address for one in lost(bench.ledger, update.study_key)] == [update.address]
    heard(bench, (new, syntax, 3.0))
    assert states(bench, update) == [REPLACED, QUARANTINED, DUPLICATE, CURRENT]
    assert lost(bench.ledger, update.study_key) == ()
    heard(bench, (old, syntax, 4.0), (new, syntax, 5.0))
    assert states(bench, update)[3:] == [CURRENT, DUPLICATE, DUPLICATE]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_second_update_takes_the_place_of_a_damaged_one(
    bench: Bench, images: list[Dataset], tmp_path: Path, is_known: bool
) -> None:
    newer = updated(images[2])
    newer.AccessionNumber = "NEWER"
    bench.receive(images)
    (update,) = heard(bench, (updated(images[2]), EXPLICIT, 1.0))
    bench.rooms.spool.close_study(bench.key.study_key)
    damage(tmp_path, update)
    if is_known:
        verify(bench, tmp_path)
    heard(bench, (newer, EXPLICIT, 2.0))
    assert states(bench, update) == [REPLACED, QUARANTINED if is_known else REPLACED, CURRENT]
    assert "object.outdated" not in bench.events.names


def test_what_a_damaged_update_replaced_comes_back_where_that_has_expired(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    """The way out where nobody has the update any more."""
    bench.receive(images)
    (update,) = heard(bench, (updated(images[2]), EXPLICIT, 1.0))
    bench.rooms.spool.close_study(bench.key.study_key)
    damage(tmp_path, update)
    verify(bench, tmp_path)
    bench.ledger.take_out(update.study_key, [update.instance_key], InstanceState.EXPIRED)
    heard(bench, (images[2], EXPLICIT, 2.0))
    assert states(bench, update) == [REPLACED, InstanceState.EXPIRED, CURRENT]


def test_nor_does_one_that_came_between_two_of_the_same_bytes(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    old, new = images[2], updated(images[2])
    bench.receive(images)
    (first,) = heard(bench, (new, EXPLICIT, 1.0))
    damage(tmp_path, first)
    verify(bench, tmp_path)
    between = heard(bench, (old, EXPLICIT, 2.0), (old, IMPLICIT, 3.0), (new, EXPLICIT, 4.0))
    assert states(bench, first) == [REPLACED, QUARANTINED, DUPLICATE, DUPLICATE, CURRENT]
    damage(tmp_path, between[-1])
    verify(bench, tmp_path)
    assert states(bench, first) == [REPLACED, QUARANTINED, DUPLICATE, DUPLICATE, QUARANTINED]


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_duplicate_of_the_update_takes_its_place_where_that_can_be_proved(
    bench: Bench, images: list[Dataset], tmp_path: Path, is_lost: bool
) -> None:
    """It came before the update by the clock; where what was replaced is damaged too, nobody knows whose it is."""
    new = updated(images[2])
    first = bench.ledger.instances(bench.receive(images).study_key)[2]
    update, _ = heard(bench, (new, EXPLICIT, 2.0), (new, IMPLICIT, 1.0))
    assert states(bench, update) == [REPLACED, DUPLICATE, CURRENT]
    for one in (update, first)[: 1 + is_lost]:
        damage(tmp_path, one)
    verify(bench, tmp_path)
    assert states(bench, update)[1:] == [DUPLICATE if is_lost else CURRENT, QUARANTINED]


def test_the_same_bytes_that_were_replaced_come_back(bench: Bench, images: list[Dataset], tmp_path: Path) -> None:
    """What counted meanwhile has expired, for them to be sent again."""
    old, new = images[2], updated(images[2])
    bench.receive(images)
    first, between = heard(bench, (new, EXPLICIT, 1.0), (old, EXPLICIT, 2.0))
    assert states(bench, between) == [REPLACED, CURRENT, DUPLICATE]
    for one, state in ((first, REPLACED), (between, InstanceState.EXPIRED)):
        bench.ledger.set_instance_state(one.study_key, one.address, state)
    (again,) = heard(bench, (new, EXPLICIT, 3.0))
    assert states(bench, again) == [REPLACED, REPLACED, InstanceState.EXPIRED, CURRENT]
    damage(tmp_path, again)
    verify(bench, tmp_path)
    assert states(bench, again) == [REPLACED, CURRENT, InstanceState.EXPIRED, QUARANTINED]


def test_whose_duplicate_one_of_other_bytes_is_has_to_be_proved() -> None:
    """By what it differs from; of equal bytes nothing has to be asked."""
    a, of_a, b, of_b, syntax = (row(number, instance="i", digest=digest) for number, digest in enumerate("axbbd"))
    a, of_a, of_b = replace(a, state=REPLACED), replace(of_a, state=DUPLICATE), replace(of_b, state=DUPLICATE)
    syntax, other = replace(syntax, state=DUPLICATE), replace(row(9, instance="j", digest="b"), state=DUPLICATE)
    asked: list[tuple[InstanceRow, InstanceRow]] = []

    def differ(one: InstanceRow, another: InstanceRow) -> bool:
        asked.append((one, another))
        return one is syntax

    def found(*rows: InstanceRow, damaged: frozenset[RecordAddress] = frozenset()) -> list[InstanceRow]:
        return list(heirs(b, [*rows, other], damaged=damaged, differ=differ))

    assert next(iter(heirs(b, [a, of_a, b, of_b], damaged=(), differ=differ))) is of_b
    assert asked == []
    assert found(a, of_a, b, of_b, syntax) == [of_b, syntax]
    assert asked == [(of_a, a), (syntax, a)]
    assert found(of_a, b, syntax) == [of_a, syntax], "nothing else ever counted"
    beside = replace(a, state=QUARANTINED)
    assert found(beside, of_a, b) == [of_a], "other pixels, which never counted"
    assert found(beside, of_a, b, damaged=frozenset({a.address})) == []
