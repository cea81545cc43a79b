"""Rejection notes that come in: what they take out, which works they end, and what is withdrawn of what was delivered."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import ReadingSection
from dicomnode.encoded import Limits
from dicomnode.errors import StorageError
from dicomnode.study import (
    REJECTED,
    RETRACTION,
    STANDING,
    WISHED,
    WITHDRAWAL,
    DeliveryState,
    InstanceRow,
    InstanceState,
    ResultRole,
    WorkKey,
    WorkState,
    input_digest,
)
from dicomnode.workflow.conflicts import Conflicts
from dicomnode.workflow.delivery import RETRACTION_ATTEMPT
from dicomnode.workflow.handover import Handover
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.rejections import CODE, Rejections
from dicomnode.workflow.withdrawal import Withdrawal
from tests.unit.workflow.notes import note
from tests.unit.workflow.samples import KEY, START, encoded, metadata, study_key_of, tiny_series
from tests.unit.workflow.test_encoding import confirm, run, stages_for
from tests.unit.workflow.test_retraction import Desk as RetractionDesk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

CURRENT, OUT = InstanceState.CURRENT, InstanceState.REJECTED
TAKES: dict[str, Any] = {"rejection_notes": True}
ARCHIVE: dict[str, Any] = {"name": "archive"}


class Desk:
    """Whoever judges notes over a bench's rooms, as the index asks it to."""

    def __init__(self, bench: Bench, *senders: str) -> None:
        self.bench = bench
        self.remembered: list[str] = []
        rejections = Rejections(
            bench.rooms,
            limits=Limits(),
            senders=senders or ("*",),
            remember=self.remembered.append,
            clock=bench.time.now,
            emit=bench.events,
        )
        self.judge = Conflicts(
            bench.ledger,
            bench.rooms.spool,
            ReadingSection(),
            limits=Limits(),
            judge=rejections.judge,
            clock=bench.time.now,
            emit=bench.events,
        )
        self.queue = MemoryQueue(
            run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=bench.time.monotonic
        )

    def receive(self, dataset: Dataset, *, at: float = 0.0) -> InstanceRow:
        """An object comes, `at` seconds after the others, and is in the index."""
        data = encoded(dataset)
        about = metadata(dataset, data)
        study_key = study_key_of(dataset)
        address = self.bench.rooms.spool.append(study_key, about, data)
        row = row_of(KEY, study_key, address, about)
        row = replace(row, received_at=START + timedelta(seconds=at))
        (recorded,) = self.bench.ledger.record_instances([row])
        return recorded

    def note(self, title: str, images: Sequence[Dataset], *, at: float = 1.0, seed: str = "note") -> InstanceRow:
        study = str(images[0].StudyInstanceUID)
        row = self.receive(note(study, title, {study: images}, seed=seed), at=at)
        self.judge.settle(row)
        return row

    def states(self, images: Sequence[Dataset]) -> list[InstanceState]:
        rows = self.bench.ledger.instances(study_key_of(images[0]), None)
        return [row.state for row in rows if row.sop_class_uid == images[0].SOPClassUID]

    def withdraw(self, *takers: str) -> None:
        Withdrawal(
            self.bench.ledger, self.queue, takers=takers, clock=self.bench.time.now, emit=self.bench.events
        ).sweep()


@pytest.fixture
def desk(bench: Bench) -> Desk:
    return Desk(bench)


def deliver(bench: Bench, images: list[Dataset], *settings: dict[str, Any]) -> None:
    """Results that every destination has."""
    stages = stages_for(bench, *settings)
    assert run(stages, bench.receive(images)) == [True] * 3
    for one in settings:
        confirm(bench, bench.key, one.get("name", "pacs"))
    for state in (WorkState.DELIVERING, WorkState.DONE):
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now())


@pytest.mark.parametrize(("title", "kind"), [("113001", "quality"), ("113037", "safety"), ("113038", "worklist")])
def test_named_images_leave_the_inputs_and_stay_out(desk: Desk, images: list[Dataset], title: str, kind: str) -> None:
    for image in images:
        desk.receive(image)
    desk.note(title, images[:3])
    assert desk.states(images) == [OUT] * 3 + [CURRENT] * (len(images) - 3)
    again = desk.receive(images[0], at=2.0)
    assert again.state is OUT, "sent again under its UID it stays rejected"
    study = desk.bench.ledger.study(study_key_of(images[0]))
    assert study is not None
    assert (study.instances, study.rejected) == (len(images) - 3 + 1, 4)  # the note counts as an object
    assert desk.bench.events.facts("study.rejected") == [
        {"study": study_key_of(images[0]), "kind": kind, "named": 3, "objects": 3}
    ]


def test_a_note_that_comes_before_its_images_holds(desk: Desk, images: list[Dataset]) -> None:
    desk.note("113037", images[:2], at=0.0)
    assert [desk.receive(image, at=1.0).state for image in images[:3]] == [OUT, OUT, CURRENT]


def test_the_same_note_twice_and_judged_again_changes_nothing(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image)
    row = desk.note("113001", images[:2])
    desk.judge.settle(row)
    assert desk.receive(note(str(images[0].StudyInstanceUID), "113001", {str(images[0].StudyInstanceUID): images[:2]})).state is InstanceState.DUPLICATE  # fmt: skip
    desk.note("113001", images[:2], seed="another")
    assert len(desk.bench.events.facts("study.rejected")) == 1


def test_only_notes_of_allowed_senders_count(bench: Bench, images: list[Dataset]) -> None:
    desk = Desk(bench, "PACS*")  # what the tests send comes from SENDER
    for image in images:
        desk.receive(image)
    desk.note("113037", images)
    assert set(desk.states(images)) == {CURRENT}
    assert bench.events.facts("rejection.ignored") == [{"study": study_key_of(images[0]), "kind": "safety"}]


def test_other_selections_reject_nothing(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image)
    desk.note("113000", images)
    assert set(desk.states(images)) == {CURRENT}
    assert desk.bench.events.seen == []


@pytest.mark.parametrize("cut", [40, None], ids=["cut", "names nothing"])
def test_a_note_that_says_nothing_that_can_be_read_is_told(desk: Desk, images: list[Dataset], cut: int | None) -> None:
    for image in images:
        desk.receive(image)
    study = str(images[0].StudyInstanceUID)
    made = note(study, "113037", {study: images if cut else []})
    data = encoded(made)[: -cut if cut else None]
    about, key = metadata(made, data), study_key_of(made)
    address = desk.bench.rooms.spool.append(key, about, data)
    (row,) = desk.bench.ledger.record_instances([row_of(KEY, key, address, about)])
    desk.judge.settle(row)
    assert set(desk.states(images)) == {CURRENT}
    told = {"study": key, "reason": "object-malformed"}
    assert desk.bench.events.seen == [("object.quarantined", "warning", told)]
    assert [one.reason for one in desk.bench.ledger.quarantined(key)] == ["object-malformed"]


def test_images_of_another_study_are_rejected_there_and_looked_at_again(desk: Desk, images: list[Dataset]) -> None:
    other = tiny_series(seed="other")
    for image in [*images, *other]:
        desk.receive(image)
    ledger, key = desk.bench.ledger, study_key_of(other[0])
    ledger.open_revision(key, "digest", desk.bench.time.now())
    ledger.settle(key, 1, desk.bench.time.now())
    assert key not in dict(ledger.open_studies())
    study, elsewhere = str(images[0].StudyInstanceUID), str(other[0].StudyInstanceUID)
    desk.judge.settle(desk.receive(note(study, "113037", {study: images[:1], elsewhere: other[:2]}), at=1.0))
    assert desk.states(other)[:3] == [OUT, OUT, CURRENT]
    assert desk.remembered == [key]
    assert key in dict(ledger.open_studies()), "a node that is killed now looks at it again at its start"


def test_a_note_of_instances_never_seen_changes_no_study(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image)
    study = str(images[0].StudyInstanceUID)
    desk.judge.settle(desk.receive(note(study, "113037", {study: [], "2.25.99": []}, content=["2.25.7"]), at=1.0))
    assert set(desk.states(images)) == {CURRENT}
    assert desk.bench.events.facts("study.rejected")[0]["objects"] == 0


def test_what_is_known_of_studies_that_never_came_goes_with_the_note(desk: Desk, images: list[Dataset]) -> None:
    study = str(images[0].StudyInstanceUID)
    other = tiny_series(seed="other")
    row = desk.receive(note(study, "113037", {str(other[0].StudyInstanceUID): other[:1]}))
    desk.judge.settle(row)
    assert desk.bench.ledger.notes(row.study_key) == {row.instance_key}
    desk.bench.ledger.purge_study(row.study_key)
    assert desk.receive(other[0]).state is CURRENT


def test_an_instance_in_quarantine_does_not_come_back(desk: Desk, images: list[Dataset]) -> None:
    first = desk.receive(images[0])
    desk.note("113037", images[:1])
    desk.bench.ledger.set_instance_state(first.study_key, first.address, CURRENT)
    assert desk.states(images) == [OUT]


def test_expired_images_go_and_come_again_when_they_are_sent_again(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image)
    desk.note("113039", images[:2])
    assert desk.states(images)[:3] == [InstanceState.EXPIRED] * 2 + [CURRENT]
    assert desk.receive(images[0], at=2.0).state is CURRENT
    study = str(images[0].StudyInstanceUID)
    desk.judge.settle(desk.receive(note(study, "113039", {study: images[3:4]}, seed="b"), at=-5.0))
    assert desk.states(images)[3] is CURRENT, "it came after the note"


def test_images_that_came_while_the_clock_was_ahead_expire_as_others(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image, at=3600.0)
    row = desk.note("113039", images[:2])
    assert desk.states(images)[:3] == [InstanceState.EXPIRED] * 2 + [CURRENT]
    desk.bench.time.forward(7200.0)
    assert desk.receive(images[0], at=7200.0).state is CURRENT
    desk.judge.settle(row)  # as a start does
    assert desk.states(images).count(CURRENT) == len(images) - 1, "what was sent again counts again"


@pytest.mark.parametrize("change", [None, "header", "pixels"])
def test_what_comes_after_a_note_of_what_expired_counts_though_both_are_judged_together(
    desk: Desk, images: list[Dataset], change: str | None
) -> None:
    """One batch of the index: when it is recorded, the note has taken nothing out yet."""
    desk.bench.time.forward(10.0)
    for image in images:
        desk.receive(image)
    study = str(images[0].StudyInstanceUID)
    again = deepcopy(images[:2])
    for image in again:
        if change == "header":
            image.SeriesDescription = "another header"
        elif change == "pixels":
            image.PixelData = bytes(len(image.PixelData))
    expired = desk.receive(note(study, "113039", {study: images[:2]}), at=1.0)
    rows = [desk.receive(image, at=2.0) for image in again]
    for row in (expired, *(row for row in rows if row.state is InstanceState.QUARANTINED)):
        desk.judge.settle(row)
    states = {row.address: row.state for row in desk.bench.ledger.instances(study_key_of(images[0]), None)}
    assert [states[row.address] for row in rows] == [CURRENT] * 2
    assert list(states.values()).count(InstanceState.EXPIRED) == 2
    assert desk.bench.events.facts("object.quarantined") == []
    desk.judge.settle(expired)  # as a start does
    after = desk.bench.ledger.instances(study_key_of(images[0]), None)
    assert {row.address: row.state for row in after} == states


def test_what_came_again_before_a_note_of_what_expired_has_expired_with_it(desk: Desk, images: list[Dataset]) -> None:
    for image in images:
        desk.receive(image)
    again = deepcopy(images[0])
    again.SeriesDescription = "another header"
    row = desk.receive(again, at=0.5)
    desk.receive(images[1], at=0.5)
    desk.note("113039", images[:2], at=1.0)
    desk.judge.settle(row)  # it could not be decided before: the disk did not give it
    assert desk.states(images).count(InstanceState.EXPIRED) == 2
    assert desk.states(images).count(InstanceState.QUARANTINED) == 1, "else the expiry alone would open a revision"
    assert desk.states(images).count(CURRENT) == len(images) - 2


@pytest.mark.parametrize("behind", [1.0, 1e8])
def test_what_came_after_a_note_of_what_expired_counts_though_the_clock_is_behind_by_then(
    desk: Desk, images: list[Dataset], behind: float
) -> None:
    """A start before the clock is set, or a clock that was set back a little: nobody would look at it again."""
    desk.bench.time.forward(2.0)
    desk.receive(images[0])
    again = deepcopy(images[0])
    again.SeriesDescription = "another header"
    waits = desk.receive(again, at=2.0)
    desk.note("113039", images[:1], at=1.0)
    desk.bench.time.forward(-behind)
    desk.judge.settle(waits)
    assert desk.states(images) == [InstanceState.EXPIRED, CURRENT]


def test_what_came_while_the_clock_was_ahead_and_waited_has_expired_with_it(desk: Desk, images: list[Dataset]) -> None:
    desk.receive(images[0])
    again = deepcopy(images[0])
    again.SeriesDescription = "another header"
    waits = desk.receive(again, at=3600.0)
    desk.bench.time.forward(1.0)
    desk.note("113039", images[:1], at=1.0)
    desk.judge.settle(waits)
    assert desk.states(images) == [InstanceState.EXPIRED, InstanceState.QUARANTINED]


def test_what_was_set_aside_and_its_first_is_rejected_for_good_is_rejected_too(
    desk: Desk, images: list[Dataset]
) -> None:
    desk.receive(images[0])
    again = deepcopy(images[0])
    again.SeriesDescription = "another header"
    row = desk.receive(again, at=2.0)
    desk.note("113037", images[:1], at=1.0)
    desk.judge.settle(row)
    assert desk.states(images) == [OUT] * 2


# what was made of them ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rejected", "state"), [(3, WorkState.SUPERSEDED), (None, WorkState.REFUSED)])
def test_a_work_that_waits_or_runs_ends(
    bench: Bench, desk: Desk, images: list[Dataset], rejected: int | None, state: WorkState
) -> None:
    bench.receive(images)
    desk.note("113037", images[:rejected])
    assert bench.ended == (state, None if rejected else CODE)
    assert bench.work().facts[REJECTED] == "safety"


@pytest.mark.parametrize(("rejected", "state"), [(3, WorkState.SUPERSEDED), (None, WorkState.CANCELLED)])
def test_results_that_wait_are_not_delivered(
    bench: Bench, desk: Desk, images: list[Dataset], rejected: int | None, state: WorkState
) -> None:
    assert run(stages_for(bench, TAKES), bench.receive(images)) == [True] * 3
    desk.note("113001", images[:rejected])
    assert bench.work().state is state
    assert {row.state for row in bench.ledger.deliveries(bench.key)} == {DeliveryState.CANCELLED}
    assert WITHDRAWAL not in bench.work().facts


def test_results_that_are_held_and_partly_delivered_are_withdrawn(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    assert run(stages_for(bench, TAKES, ARCHIVE), bench.receive(images)) == [True] * 3
    confirm(bench, bench.key, "archive")
    for state in (WorkState.DELIVERING, WorkState.HELD):
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now())
    desk.note("113001", images[:3])
    assert bench.ended == (WorkState.CANCELLED, CODE)
    desk.withdraw("pacs")
    assert bench.work().facts[STANDING] == "archive"


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_try_under_way_of_a_work_that_is_held_is_waited_for(
    bench: Bench, desk: Desk, images: list[Dataset], confirmed: bool
) -> None:
    """Held for one destination while another one gets it: what that takes is not known yet when the note comes."""
    assert run(stages_for(bench, TAKES), bench.receive(images)) == [True] * 3
    for state in (WorkState.DELIVERING, WorkState.HELD):
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now())
    with bench.ledger.transaction() as connection:
        desk.queue.enqueue_delivery(connection, bench.key, "pacs", 1, 0.0)
    desk.note("113001", images[:3])
    desk.withdraw("pacs")
    if confirmed:
        confirm(bench, bench.key)
    desk.queue.run_due()
    desk.withdraw("pacs")
    assert bench.work().facts.get(RETRACTION) == (WISHED if confirmed else None)
    assert bench.work().facts[WITHDRAWAL] == "done"


def test_what_a_destination_has_of_a_superseded_work_is_withdrawn(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    stages = stages_for(bench, TAKES, ARCHIVE)
    assert run(stages, bench.receive(images)) == [True] * 3
    confirm(bench, bench.key)
    for state in (WorkState.DELIVERING, WorkState.SUPERSEDED):  # as an older version left it
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now())
    desk.note("113001", images)
    assert {row.state for row in bench.work().deliveries if row.destination == "archive"} == {DeliveryState.CANCELLED}
    desk.withdraw("pacs")
    assert bench.work().facts[RETRACTION] == WISHED


def test_a_note_of_ours_that_waits_in_a_work_that_is_held_holds_nothing_up(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    stages = stages_for(bench, TAKES)
    deliver(bench, images[:-1], TAKES)
    first = bench.key
    second = bench.receive(images[-1:], revision=2)
    assert run(stages, second) == [True] * 3
    for state in (WorkState.DELIVERING, WorkState.HELD):
        bench.ledger.set_work_state(second, state, at=bench.time.now())
    desk.note("113037", images)
    desk.withdraw("pacs")
    assert bench.work(first).facts[RETRACTION] == WISHED
    assert {row.state for row in bench.work(second).deliveries} == {DeliveryState.CANCELLED}


def test_results_that_are_held_of_another_series_stay_as_they_are(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    assert run(stages_for(bench, TAKES, ARCHIVE), bench.receive(images)) == [True] * 3
    confirm(bench, bench.key, "archive")
    for state in (WorkState.DELIVERING, WorkState.HELD):
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now(), reason="patient-changed")
    scout = tiny_series()[0]
    scout.SeriesInstanceUID, scout.SOPInstanceUID = "2.25.5", "2.25.6"
    desk.receive(scout)
    desk.note("113001", [scout])
    assert bench.ended == (WorkState.HELD, "patient-changed")
    desk.withdraw("archive")
    assert not {REJECTED, WITHDRAWAL, RETRACTION} & set(bench.work().facts)


def test_delivered_results_are_wished_back_once_and_others_are_named(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    deliver(bench, images, TAKES, ARCHIVE)
    desk.note("113037", images[:1])
    assert bench.ended == (WorkState.DONE, None)
    desk.withdraw("pacs")
    facts = bench.work().facts
    assert (facts[REJECTED], facts[RETRACTION], facts[STANDING]) == ("safety", WISHED, "archive")
    assert bench.events.facts("result.standing") == [
        {"work": bench.key.workflow_id, "destination": "archive", "reason": CODE}
    ]
    desk.withdraw("pacs")
    assert len(bench.events.facts("result.standing")) == 1


def test_results_of_another_series_stand(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    deliver(bench, images, TAKES)
    scout = tiny_series()[0]
    scout.SeriesInstanceUID, scout.SOPInstanceUID = "2.25.5", "2.25.6"
    desk.receive(scout)
    desk.note("113001", [scout])
    assert REJECTED not in bench.work().facts
    report = tiny_series()[0]
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "2.25.7"
    desk.receive(report)
    desk.note("113001", [report], seed="c")
    assert REJECTED not in bench.work().facts


def test_results_whose_series_is_not_known_for_now_are_not_withdrawn_for_another(
    bench: Bench, desk: Desk, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(bench, images, TAKES)
    scout = tiny_series()[0]
    scout.SeriesInstanceUID, scout.SOPInstanceUID = "2.25.5", "2.25.6"
    desk.receive(scout)
    study = str(images[0].StudyInstanceUID)
    row = desk.receive(note(study, "113001", {study: [scout]}), at=1.0)

    def fails(*_: object) -> None:
        raise StorageError("storage-failed")

    with monkeypatch.context() as patch:
        patch.setattr(Handover, "plan", fails)
        with pytest.raises(StorageError):
            desk.judge.settle(row)
    desk.judge.settle(row)
    assert REJECTED not in bench.work().facts


def test_expired_images_take_nothing_back(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    deliver(bench, images, TAKES)
    desk.note("113039", images)
    assert bench.ended == (WorkState.DONE, None)
    assert REJECTED not in bench.work().facts


@pytest.mark.parametrize(("expired", "state"), [(3, WorkState.QUEUED), (None, WorkState.REFUSED)])
def test_a_work_of_which_all_expired_ends(
    bench: Bench, desk: Desk, images: list[Dataset], expired: int | None, state: WorkState
) -> None:
    bench.receive(images)
    desk.note("113039", images[:expired])
    assert bench.work().state is state


def test_a_try_that_is_under_way_is_waited_for(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    assert run(stages_for(bench, TAKES), bench.receive(images)) == [True] * 3
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    with bench.ledger.transaction() as connection:
        desk.queue.enqueue_delivery(connection, bench.key, "pacs", 1, 600.0)
    desk.note("113037", images[:1])
    assert bench.ended == (WorkState.CANCELLED, CODE)
    desk.withdraw("pacs")
    assert bench.work().facts[WITHDRAWAL] == "open"
    confirm(bench, bench.key)  # what was on its way when the note came
    assert desk.queue.run_due() == 1, "it was hastened"
    desk.withdraw("pacs")
    assert bench.work().facts[RETRACTION] == WISHED


def test_a_note_of_ours_that_waits_holds_up_no_other_destination(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    """Where it waits for a PACS that is down, the others would keep wrong results until that is back."""
    stages = stages_for(bench, TAKES)
    assert run(stages, bench.receive(images[:-1])) == [True] * 3
    confirm(bench, bench.key)
    assert run(stages, bench.receive(images[-1:], revision=2)) == [True] * 3
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    desk.note("113037", images)
    assert bench.work().state is WorkState.CANCELLED
    assert {row.state for row in bench.work().deliveries} == {DeliveryState.CANCELLED}
    desk.withdraw("pacs")
    assert bench.work().facts[WITHDRAWAL] == "done"


def test_a_note_that_retracts_a_work_goes_though_its_images_are_rejected(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    stages = stages_for(bench, TAKES)
    assert run(stages, bench.receive(images)) == [True] * 3
    confirm(bench, bench.key)
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    retracting = RetractionDesk(bench, stages, TAKES)
    assert retracting.wish() == (bench.key,)
    retracting.retraction.sweep()
    desk.note("113037", images)
    assert bench.work().state is WorkState.DELIVERING
    waiting = [row.role for row in bench.work().deliveries if row.state is DeliveryState.WAITING]
    assert [role.value for role in waiting] == ["rejection"]


@pytest.mark.parametrize(
    ("state", "then"),
    [(DeliveryState.WAITING, None), (DeliveryState.CONFIRMED, "sent"), (DeliveryState.REFUSED, "sent")],
)
def test_what_the_note_of_a_newer_revision_retracts_is_not_retracted_twice(
    bench: Bench, desk: Desk, images: list[Dataset], state: DeliveryState, then: str | None
) -> None:
    deliver(bench, images, TAKES)
    first = bench.key
    desk.note("113037", images[-1:])
    again = replace(first, revision=2)
    rows = [row for row in bench.ledger.instances(first.study_key) if row.sop_class_uid == images[0].SOPClassUID]
    digest = input_digest([(row.instance_key, row.digest) for row in rows])
    bench.ledger.open_revision(first.study_key, digest, bench.time.now())
    bench.ledger.create_work(again, digest, bench.time.now())
    assert run(stages_for(bench, TAKES), again) == [True] * 3
    for row in bench.ledger.deliveries(again):
        if row.role is ResultRole.REJECTION:
            bench.ledger.put_deliveries([row], state, bench.time.now())
    desk.withdraw("pacs")
    retracting = RetractionDesk(bench, stages_for(bench, TAKES), TAKES)
    retracting.retraction.sweep()
    assert bench.work(first).facts.get(RETRACTION) == then
    assert len(retracting.queue.waiting) == (state is DeliveryState.REFUSED)


def newer(bench: Bench, images: list[Dataset], *settings: dict[str, Any]) -> WorkKey:
    """Results of what is left of a study, with notes on those of before."""
    again = replace(bench.key, revision=2)
    rows = [row for row in bench.ledger.instances(again.study_key) if row.sop_class_uid == images[0].SOPClassUID]
    digest = input_digest([(row.instance_key, row.digest) for row in rows])
    bench.ledger.open_revision(again.study_key, digest, bench.time.now())
    bench.ledger.create_work(again, digest, bench.time.now())
    assert run(stages_for(bench, *settings), again) == [True] * 3
    bench.ledger.set_work_state(again, WorkState.DELIVERING, at=bench.time.now())
    return again


def test_a_newer_note_that_waits_for_a_dead_destination_delays_no_other(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    """The results of the newer revision go to one destination alone, which is down: the other is to hear of it now."""
    other = {**TAKES, "name": "archive"}
    deliver(bench, images, TAKES, other, {"name": "viewer"})
    desk.note("113037", images[-1:])
    newer(bench, images, TAKES)
    for _ in range(2):
        desk.withdraw("pacs", "archive")
    first = bench.work()
    assert (first.facts[WITHDRAWAL], first.facts[RETRACTION]) == ("done", WISHED)
    retracting = RetractionDesk(bench, stages_for(bench, TAKES, other), TAKES, other)
    retracting.retraction.sweep()
    assert {name for _, name in retracting.queue.deliveries()} == {"pacs", "archive"}


def test_who_keeps_results_is_named_while_a_newer_note_waits(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    deliver(bench, images, TAKES, {"name": "viewer"})
    desk.note("113037", images[-1:])
    newer(bench, images, TAKES)
    for _ in range(2):
        desk.withdraw("pacs")
    first = bench.work()
    assert (first.facts[WITHDRAWAL], first.facts[STANDING]) == ("open", "viewer")
    assert [one["destination"] for one in bench.events.facts("result.standing")] == ["viewer"]
    bench.ledger.add_facts(first.key, {STANDING: "gone,viewer"})  # as `Leftovers` does, and tells of it
    desk.withdraw("pacs")
    assert bench.work().facts[STANDING] == "gone,viewer"
    assert [one["destination"] for one in bench.events.facts("result.standing")] == ["viewer"], "once"


def test_images_of_retracted_results_are_settled_though_a_note_waits(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    """It waits for a destination that is down: the purge of the study is not to wait for that."""
    deliver(bench, images, TAKES)
    stages = stages_for(bench, TAKES)
    retracting = RetractionDesk(bench, stages, TAKES)
    assert retracting.wish() == (bench.key,)
    retracting.retraction.sweep()
    assert bench.work().state is WorkState.DELIVERING
    desk.note("113037", images)
    desk.withdraw("pacs")
    assert (bench.work().facts[WITHDRAWAL], bench.work().state) == ("done", WorkState.DELIVERING)


def test_nothing_is_wished_back_that_nobody_has(bench: Bench, desk: Desk, images: list[Dataset]) -> None:
    assert run(stages_for(bench, TAKES), bench.receive(images)) == [True] * 3
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    desk.note("113001", images)
    desk.withdraw("pacs")
    assert bench.work().facts.keys() & {RETRACTION, STANDING} == set()
    assert RETRACTION_ATTEMPT > 1


def test_a_ledger_that_fails_is_told_and_tried_again(
    bench: Bench, desk: Desk, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(bench, images, TAKES)
    desk.note("113037", images[:1])

    def fails(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "add_facts", fails)
        desk.withdraw("pacs")
    assert bench.events.facts("retraction.failed")[0]["reason"] == "ledger-failed"
    desk.withdraw("pacs")
    assert bench.work().facts[RETRACTION] == WISHED


def test_a_disk_that_fails_is_asked_again_for_the_note(
    bench: Bench, desk: Desk, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    for image in images:
        desk.receive(image)
    study = str(images[0].StudyInstanceUID)
    row = desk.receive(note(study, "113037", {study: images}), at=1.0)

    def fails(*_: object) -> None:
        raise StorageError("storage-failed")

    with monkeypatch.context() as patch:
        patch.setattr(bench.rooms.spool, "read", fails)
        with pytest.raises(StorageError):
            desk.judge.settle(row)
    desk.judge.settle(row)
    assert set(desk.states(images)) == {OUT}


def test_what_had_expired_and_is_rejected_after_all_is_withdrawn(
    bench: Bench, desk: Desk, images: list[Dataset]
) -> None:
    deliver(bench, images, TAKES)
    desk.note("113039", images)
    desk.note("113037", images, at=2.0)
    assert set(desk.states(images)) == {OUT}
    assert bench.work().facts[WITHDRAWAL] == "open"


@pytest.mark.parametrize("behind", [86400.0, 8.5], ids=["a day", "less than since the note"])
def test_a_start_before_the_clock_is_right_takes_nothing_out_of_a_study(
    bench: Bench, images: list[Dataset], behind: float
) -> None:
    """A note of what expired, the images sent again, the node killed; it starts with a clock that is not set yet."""
    desk = Desk(bench)
    bench.time.forward(10.0)
    for image in images:
        desk.receive(image)
    note_row = desk.note("113039", images, at=1.0)
    for image in images:
        assert desk.receive(image, at=2.0).state is InstanceState.CURRENT
    bench.time.forward(-behind)
    desk.judge.settle(note_row)
    bench.time.forward(2 * behind)
    desk.judge.settle(note_row)
    assert desk.states(images).count(InstanceState.CURRENT) == len(images)
