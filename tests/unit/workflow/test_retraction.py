"""Results that were found wrong: who gets which note, once, and what becomes of a wish that cannot be met."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import StorageError
from dicomnode.sections import Destination
from dicomnode.storage.rows import OrderRow
from dicomnode.study import (
    RETRACTION,
    STANDING,
    WISHED,
    DeliveryRow,
    DeliveryState,
    Purpose,
    ResultRole,
    StudyRow,
    WorkKey,
    WorkState,
    World,
)
from dicomnode.workflow.delivery import RETRACTION_ATTEMPT, end_of
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.orders import concerned, to_retry
from dicomnode.workflow.predecessors import Predecessors
from dicomnode.workflow.retraction import CODE, Retraction, wish
from dicomnode.workflow.stages import Stages
from tests.unit.workflow.test_encoding import PACS, confirm, opened, run, stages_for, waiting
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

TAKES: dict[str, Any] = {"rejection_notes": True}
ARCHIVE: dict[str, Any] = {"name": "archive"}
PACS_ALONE = [Destination.model_validate({**PACS, **TAKES})]
ROLES = (ResultRole.SEGMENTATION, ResultRole.REPORT, ResultRole.KEY_IMAGE, ResultRole.KEY_OBJECTS)


class Desk:
    """A retraction with the queue that it fills."""

    def __init__(self, bench: Bench, stages: Stages, *settings: dict[str, Any]) -> None:
        self.bench = bench
        self.queue = MemoryQueue(
            run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=bench.time.monotonic
        )
        self.destinations = [Destination.model_validate({**PACS, **one}) for one in settings]
        self.retraction = Retraction(
            bench.rooms,
            self.queue,
            destinations=self.destinations,
            encoding=stages.encoding,
            clock=bench.time.now,
            emit=bench.events,
        )

    def wish(self, model: str | None = None) -> tuple[WorkKey, ...]:
        return wish(self.bench.ledger, self.bench.key.study_key, model, self.bench.time.now)


def done(bench: Bench, images: list[Dataset], *settings: dict[str, Any]) -> Desk:
    """A work whose results every destination has."""
    stages = stages_for(bench, *settings)
    key = bench.receive(images)
    assert run(stages, key) == [True] * 3
    for one in settings:
        confirm(bench, key, one.get("name", "pacs"))
    for state in (WorkState.DELIVERING, WorkState.DONE):
        bench.ledger.set_work_state(key, state, at=bench.time.now())
    return Desk(bench, stages, *settings)


def test_each_destination_that_takes_notes_gets_one_and_others_nothing(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, TAKES, ARCHIVE)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()

    assert waiting(bench)[-1] == "rejection:key-objects.pacs.wrong"
    assert "rejection" not in str(waiting(bench, "archive"))
    assert bench.work().facts[STANDING] == "archive"
    assert bench.events.facts("result.standing") == [
        {"work": bench.key.workflow_id, "destination": "archive", "reason": CODE}
    ]
    note = opened(bench, ResultRole.REJECTION)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    assert note.PatientID == opened(bench, ResultRole.REPORT).PatientID
    rejected = {
        reference.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    assert rejected == {opened(bench, role).SOPInstanceUID for role in ROLES}
    (entry,) = desk.queue.waiting
    assert (entry.key, entry.destination, entry.attempt) == (bench.key, "pacs", RETRACTION_ATTEMPT)
    assert bench.work().state is WorkState.DELIVERING
    assert bench.work().facts[RETRACTION] == "sent"


def test_a_destination_that_was_named_already_is_not_named_twice(bench: Bench, images: list[Dataset]) -> None:
    """Of results of rejected images `Withdrawal` names it, and wishes for the note."""
    desk = done(bench, images, TAKES, ARCHIVE)
    bench.ledger.add_facts(bench.key, {STANDING: "archive,gone"})
    desk.wish()
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "sent"
    assert bench.work().facts[STANDING] == "archive,gone"
    assert bench.events.facts("result.standing") == []


def test_a_second_look_and_a_second_wish_send_nothing_more(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, TAKES)
    desk.wish()
    desk.retraction.sweep()
    desk.retraction.sweep()
    assert len(desk.queue.waiting) == 1
    assert desk.wish() == ()


@pytest.mark.parametrize("unreadable", [1, len(ROLES)])
def test_what_cannot_be_read_for_now_is_waited_for_and_named(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch, unreadable: int
) -> None:
    """A note that leaves an object out would leave it standing, and nobody would look again."""
    desk = done(bench, images, TAKES)
    desk.wish()
    rows = [row.result_id for row in bench.ledger.deliveries(bench.key)][:unreadable]
    real = bench.rooms.objects.get

    def get(study_key: str, world: World, object_id: str, purpose: Purpose) -> bytes:
        if object_id in rows:
            raise StorageError("storage-failed")
        return real(study_key, world, object_id, purpose)

    monkeypatch.setattr(bench.rooms.objects, "get", get)
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == WISHED
    assert bench.events.facts("retraction.failed") == [{"work": bench.key.workflow_id, "reason": "storage-failed"}]
    assert bench.events.facts("work.retracted") == []
    monkeypatch.undo()
    desk.retraction.sweep()
    assert named(bench) == {opened(bench, role).SOPInstanceUID for role in ROLES}


def test_what_earlier_revisions_left_is_not_forgotten_over_a_passing_fault(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The note of a newer revision names all of it, or the old ones stand beside the new ones for good."""
    done(bench, images, TAKES)
    newer, predecessors = replace(bench.key, revision=2), Predecessors(bench.rooms)

    def fails(*_: object) -> bytes:
        raise StorageError("storage-failed")

    with monkeypatch.context() as patch:
        patch.setattr(bench.rooms.objects, "get", fails)
        with pytest.raises(StorageError):
            predecessors.delivered(newer, "pacs")
        with pytest.raises(StorageError):
            predecessors.report(newer)
    assert len(predecessors.delivered(newer, "pacs")) == len(ROLES)
    assert predecessors.report(newer) is not None


def test_what_is_lost_is_told_and_the_others_are_retracted(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, TAKES)
    desk.wish()
    lost = next(row for row in bench.ledger.deliveries(bench.key) if row.role is ResultRole.SEGMENTATION)
    bench.rooms.objects.delete(bench.key.study_key, World.IDENTITY, lost.result_id, Purpose.RESULT)
    desk.retraction.sweep()
    assert bench.events.facts("retraction.partial") == [
        {"work": bench.key.workflow_id, "destination": "pacs", "objects": 1}
    ]
    assert named(bench) == {opened(bench, role).SOPInstanceUID for role in ROLES[1:]}
    assert bench.work().facts[RETRACTION] == "sent"


def named(bench: Bench) -> set[str]:
    """SOP Instance UIDs in the rejection note."""
    (evidence,) = opened(bench, ResultRole.REJECTION).CurrentRequestedProcedureEvidenceSequence
    return {
        str(reference.ReferencedSOPInstanceUID)
        for series in evidence.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def test_a_crash_between_wish_and_note_makes_the_same_note(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, TAKES)
    desk.wish()
    (work,) = bench.ledger.wished_back()
    first = desk.retraction.notes(work.key, PACS_ALONE)
    again = Desk(bench, stages_for(bench, TAKES), TAKES).retraction.notes(work.key, PACS_ALONE)
    assert first == again


def test_what_a_destination_refused_or_was_never_sent_is_not_retracted(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, TAKES)
    assert run(stages, bench.receive(images)) == [True] * 3
    answers: dict[ResultRole, tuple[DeliveryState, int | None, str | None]] = {
        ResultRole.SEGMENTATION: (DeliveryState.REFUSED, 0xC000, "peer-refused-object"),
        ResultRole.REPORT: (DeliveryState.CONFIRMED, 0, None),
        ResultRole.KEY_IMAGE: (DeliveryState.WAITING, None, "peer-unreachable"),
    }
    for row in bench.ledger.deliveries(bench.key):
        if row.role in answers:
            state, status, reason = answers[row.role]
            at = bench.time.now()
            bench.ledger.record_delivery(row.result_id, "pacs", state=state, status=status, reason=reason, at=at)
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    desk = Desk(bench, stages, TAKES)
    desk.wish()
    desk.retraction.sweep()
    note = opened(bench, ResultRole.REJECTION)
    (series,) = note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    (reference,) = series.ReferencedSOPSequence
    assert reference.ReferencedSOPInstanceUID == opened(bench, ResultRole.REPORT).SOPInstanceUID


def test_nothing_delivered_is_said(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, ARCHIVE)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "nothing-delivered"
    assert bench.work().state is WorkState.DONE
    assert "retraction.empty" in {name for name, _, _ in bench.events.seen}
    assert bench.ledger.wished_back() == ()


def test_a_model_that_is_gone_is_said_and_not_asked_again(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images, TAKES)
    desk.wish()
    bench.rooms.analysts.clear()  # type: ignore[attr-defined]
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "model-not-found"
    assert bench.ledger.wished_back() == ()


@pytest.mark.parametrize("model", ["another", None])
def test_only_ended_works_of_the_model_can_be_wished_back(
    bench: Bench, images: list[Dataset], model: str | None
) -> None:
    desk = done(bench, images, TAKES)
    assert bool(desk.wish(model)) == (model is None)
    assert (bench.work().facts.get(RETRACTION) == WISHED) == (model is None)


def test_a_wish_that_came_to_nothing_can_be_entered_again(bench: Bench, images: list[Dataset]) -> None:
    """The node knew no destination that takes notes; with the next configuration it does."""
    desk = done(bench, images, {})
    desk.wish()
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "nothing-delivered"
    later = Desk(bench, stages_for(bench, TAKES), TAKES)
    assert later.wish() == (bench.key,)
    later.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "sent"
    assert waiting(bench)[-1] == "rejection:key-objects.pacs.wrong"


def test_results_stay_retractable_when_a_newer_revision_was_refused(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images[:-1], TAKES)
    first = bench.key
    second = bench.receive(images[-1:], revision=2)
    bench.ledger.set_work_state(second, WorkState.REFUSED, at=bench.time.now(), reason="geometry-gap")
    assert desk.wish() == (first,)
    desk.retraction.sweep()
    assert waiting(bench, key=first)[-1] == "rejection:key-objects.pacs.wrong"
    assert waiting(bench, key=second) == []


def test_what_a_later_note_retracted_already_is_not_retracted_again(bench: Bench, images: list[Dataset]) -> None:
    desk = done(bench, images[:-1], TAKES)
    first = bench.key
    second = bench.receive(images[-1:], revision=2)
    assert run(stages_for(bench, TAKES), second) == [True] * 3
    confirm(bench, second)
    for state in (WorkState.DELIVERING, WorkState.DONE):
        bench.ledger.set_work_state(second, state, at=bench.time.now())
    assert set(desk.wish()) == {first, second}
    desk.retraction.sweep()
    assert bench.work(first).facts[RETRACTION] == "sent"
    assert "rejection" not in str(waiting(bench, key=first))
    assert bench.events.facts("retraction.empty") == []
    assert "rejection:key-objects.pacs.wrong" in waiting(bench, key=second)


def test_a_work_under_way_is_not_touched(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, TAKES)
    bench.receive(images)
    assert Desk(bench, stages, TAKES).wish() == ()


def test_an_unknown_study_has_nothing(bench: Bench) -> None:
    assert wish(bench.ledger, "0" * 32, None, bench.time.now) == ()


@pytest.mark.parametrize("state", [WorkState.DELIVERING, WorkState.HELD, WorkState.CANCELLED, WorkState.SUPERSEDED])
def test_what_one_destination_has_is_retracted_wherever_the_work_stands_and_others_get_nothing(
    bench: Bench, images: list[Dataset], state: WorkState
) -> None:
    desk = half_done(bench, images, state)
    assert desk.wish() == (bench.key,)
    assert {row.state for row in deliveries(bench, "archive")} == {DeliveryState.CANCELLED}
    assert (bench.work().state, bench.work().facts[RETRACTION]) == (
        WorkState.SUPERSEDED if state is WorkState.SUPERSEDED else WorkState.CANCELLED,
        WISHED,
    )
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == "sent"
    assert still_waiting(bench) == [("pacs", ResultRole.REJECTION)]
    assert [(entry.destination, entry.attempt) for entry in desk.queue.waiting] == [("pacs", RETRACTION_ATTEMPT)]
    assert concerned(one_study(bench), OrderRow(verb="retry", study_key=bench.key.study_key, at=bench.time.now())) == (
        bench.work(),
    ), "the note, and nothing else"
    assert {row.role for row in to_retry(bench.work(), "")} == {ResultRole.REJECTION}
    (end, reason) = end_of([row for row in bench.work().deliveries if row.state is not DeliveryState.WAITING])
    assert (end, reason) == (WorkState.CANCELLED, CODE)


def test_a_try_that_is_under_way_is_waited_for_and_what_it_adds_is_named(bench: Bench, images: list[Dataset]) -> None:
    desk = half_done(bench, images, WorkState.DELIVERING, TAKES, {**ARCHIVE, **TAKES})
    with bench.ledger.transaction() as connection:
        desk.queue.enqueue_delivery(connection, bench.key, "archive", 1, 600.0)
    desk.wish()
    desk.retraction.sweep()
    assert bench.work().facts[RETRACTION] == WISHED
    confirm(bench, bench.key, "archive")  # what was on its way
    assert desk.queue.run_due() == 1, "it was hastened"
    desk.retraction.sweep()
    notes = [row for row in bench.work().deliveries if row.role is ResultRole.REJECTION]
    assert {(row.destination, row.state) for row in notes} == {
        ("archive", DeliveryState.WAITING),
        ("pacs", DeliveryState.WAITING),
    }


def test_a_wish_of_an_older_version_stops_what_was_tried_again_since(bench: Bench, images: list[Dataset]) -> None:
    desk = half_done(bench, images, WorkState.DELIVERING)
    bench.ledger.add_facts(bench.key, {RETRACTION: WISHED})
    desk.retraction.sweep()
    assert still_waiting(bench) == [("pacs", ResultRole.REJECTION)]
    assert bench.work().facts[RETRACTION] == "sent"


def test_dead_letters_of_wrong_results_are_settled_and_never_sent(bench: Bench, images: list[Dataset]) -> None:
    desk = half_done(bench, images, WorkState.DELIVERING)
    at = bench.time.now()
    bench.ledger.put_deliveries(deliveries(bench, "archive"), DeliveryState.REFUSED, at, reason="timeout")
    bench.ledger.set_work_state(bench.key, WorkState.FAILED, at=at, reason="timeout")
    order = OrderRow(verb="retry", study_key=bench.key.study_key, at=at)
    assert concerned(one_study(bench), order)
    desk.wish()
    assert bench.ledger.dead_letters(10) == ()
    assert concerned(one_study(bench), order) == ()


def test_a_wish_takes_the_state_that_the_work_has_by_then(bench: Bench, images: list[Dataset]) -> None:
    """Twice at once, or beside a node that goes on: what was read before is not written back."""
    desk = done(bench, images, TAKES)
    assert desk.wish() == (bench.key,)
    assert desk.wish() == ()
    assert bench.ended == (WorkState.DONE, None)


def half_done(bench: Bench, images: list[Dataset], state: WorkState, *settings: dict[str, Any]) -> Desk:
    """A work whose results the first destination has, and the archive has not."""
    both = settings or (TAKES, ARCHIVE)
    stages = stages_for(bench, *both)
    assert run(stages, bench.receive(images)) == [True] * 3
    confirm(bench, bench.key, "pacs")
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    if state is not WorkState.DELIVERING:
        bench.ledger.set_work_state(bench.key, state, at=bench.time.now())
    return Desk(bench, stages, *both)


def deliveries(bench: Bench, destination: str) -> list[DeliveryRow]:
    return [row for row in bench.work().deliveries if row.destination == destination]


def still_waiting(bench: Bench) -> list[tuple[str, ResultRole]]:
    return [(row.destination, row.role) for row in bench.work().deliveries if row.state is DeliveryState.WAITING]


def one_study(bench: Bench) -> StudyRow:
    found = bench.ledger.study(bench.key.study_key)
    assert found is not None
    return found
