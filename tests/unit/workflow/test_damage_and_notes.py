"""Records that are damaged, notes that come in, and instances that came again: what each does to the others."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import StorageError
from dicomnode.study import RETRACTION, WISHED, InstanceState, WorkState
from tests.unit.workflow.notes import note
from tests.unit.workflow.test_damage import MODEL, admission, conflicts, damage, receive, states, verify
from tests.unit.workflow.test_rejections import TAKES, Desk, deliver
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

YEAR = 3600.0 * 24 * 365


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def changed(image: Dataset) -> Dataset:
    other = deepcopy(image)
    other.AccessionNumber = "NEW"
    return other


def from_elsewhere(images: list[Dataset], chosen: list[Dataset]) -> Dataset:
    """A note of another study that says of images that their time is over: judged before what waits in their own."""
    return note("2.25.99", "113039", {str(images[0].StudyInstanceUID): chosen}, seed="elsewhere")


def anew(bench: Bench) -> None:
    """The study settles, and its newest revision is the one at hand."""
    key = bench.key
    admission(bench).settle(key.study_key)
    latest = bench.ledger.latest_revision(key.study_key)
    assert latest is not None
    bench.key = replace(key, revision=latest.revision, model=MODEL)


def test_what_expired_once_does_not_keep_a_damaged_record_among_the_inputs(
    bench: Bench, desk: Desk, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    first = bench.ledger.instances(key.study_key)[2]
    desk.note("113039", [images[2]], at=1.0)
    again = desk.receive(images[2], at=2.0)
    desk.receive(images[2], at=3.0)
    damage(tmp_path, again)
    verify(bench, tmp_path)
    assert states(bench, first) == [InstanceState.EXPIRED, InstanceState.QUARANTINED, InstanceState.CURRENT]


def test_results_of_a_damaged_image_are_withdrawn_when_that_is_rejected(
    bench: Bench, desk: Desk, images: list[Dataset], tmp_path: Path
) -> None:
    deliver(bench, images, TAKES)
    damage(tmp_path, bench.ledger.instances(bench.key.study_key)[0])
    verify(bench, tmp_path)
    desk.note("113001", images[:1])
    desk.withdraw("pacs")
    assert bench.work().facts.get(RETRACTION) == WISHED


def test_a_damaged_image_that_is_rejected_holds_up_nothing_any_more(
    bench: Bench, desk: Desk, images: list[Dataset], tmp_path: Path
) -> None:
    key = bench.receive(images)
    damage(tmp_path, bench.ledger.instances(key.study_key)[0])
    assert not bench.stages().run("prepare", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    desk.note("113001", images[:1])
    anew(bench)
    bench.stages().run("prepare", bench.key)
    assert bench.ended != (WorkState.FAILED, "sealed-damaged")


def test_what_came_while_the_clock_was_ahead_expires_with_its_duplicates(desk: Desk, images: list[Dataset]) -> None:
    for seconds in (0.0, 1.0):
        desk.receive(images[0], at=YEAR + seconds)
    desk.note("113039", [images[0]], at=1.0)
    assert InstanceState.CURRENT not in desk.states(images[:1])


def test_of_two_notes_the_last_one_says_what_expired(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    """What waited for its decision came between them."""
    first = bench.ledger.instances(bench.receive(images).study_key)[2]
    desk.note("113039", [images[2]], at=1.0, seed="first")
    again = desk.receive(images[2], at=2.0)
    waits = desk.receive(changed(images[2]), at=3.0)
    assert (again.state, waits.state) == (InstanceState.CURRENT, InstanceState.QUARANTINED)
    desk.judge.settle(desk.receive(from_elsewhere(images, [images[2]]), at=4.0))
    desk.judge.settle(waits)
    assert InstanceState.CURRENT not in states(bench, first)


@pytest.mark.parametrize("waits", [False, True])
def test_that_the_time_of_an_image_is_over_opens_no_revision(
    bench: Bench, desk: Desk, images: list[Dataset], waits: bool
) -> None:
    """Nor where other content of it waited for its decision, which expired with it."""
    deliver(bench, images, TAKES)
    other: Any = desk.receive(changed(images[2]), at=0.5) if waits else None
    desk.judge.settle(desk.receive(from_elsewhere(images, [images[2]]), at=1.0))
    if waits:
        desk.judge.settle(other)
    admission(bench).settle(bench.key.study_key)
    latest = bench.ledger.latest_revision(bench.key.study_key)
    assert latest is not None
    assert latest.revision == 1


def test_no_two_of_one_uid_count_though_one_came_while_the_other_was_judged(
    bench: Bench, images: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.ledger.instances(bench.receive(images).study_key)[2]
    desk = Desk(bench)
    waits = desk.receive(changed(images[2]), at=1.0)
    damage(tmp_path, first)
    verify(bench, tmp_path)
    judge, read = conflicts(bench), bench.rooms.spool.read

    def slow(study_key: str, address: Any) -> Any:
        if address == waits.address:
            desk.receive(images[2], at=2.0)
        return read(study_key, address)

    with monkeypatch.context() as patch:
        patch.setattr(bench.rooms.spool, "read", slow)
        with pytest.raises(StorageError, match="index-behind"):
            judge.settle(waits)
    judge.settle(waits)  # it is tried again, and compared then
    assert states(bench, first).count(InstanceState.CURRENT) == 1


def test_an_image_that_is_lost_twice_is_no_quiet_end(
    bench: Bench, desk: Desk, images: list[Dataset], tmp_path: Path
) -> None:
    first = bench.ledger.instances(bench.receive(images).study_key)[2]
    damage(tmp_path, first)
    verify(bench, tmp_path)
    again = receive(bench, changed(images[2]))
    anew(bench)
    damage(tmp_path, again)
    verify(bench, tmp_path)
    bench.stages().run("prepare", bench.key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
