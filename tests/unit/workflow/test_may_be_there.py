"""What a destination took without an answer, or without commitment, counts as there: wrong results are retracted there, too."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits, read_part10
from dicomnode.study import RETRACTION, WISHED, DeliveryState, Purpose, ResultRole, WorkKey, WorkState, World
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.notes import note_of
from dicomnode.workflow.predecessors import UNSURE, Predecessors
from dicomnode.workflow.stages import Stages
from tests.unit.workflow.test_encoding import opened, run, stages_for
from tests.unit.workflow.test_rejections import Desk as Judge
from tests.unit.workflow.test_retraction import ARCHIVE, ROLES, TAKES, Desk, named
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]


def unanswered(bench: Bench, images: list[Dataset], *settings: dict[str, Any]) -> Stages:
    """Destinations stored every object and vanished before they answered, and are not reached since."""
    stages = stages_for(bench, *(settings or (TAKES,)))
    assert run(stages, bench.receive(images)) == [True] * 3
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    for one in bench.ledger.deliveries(bench.key):
        for reason in ("peer-aborted", "peer-unreachable"):
            bench.ledger.record_delivery(
                one.result_id,
                one.destination,
                state=DeliveryState.WAITING,
                status=None,
                reason=reason,
                at=bench.time.now(),
            )
    return stages


def admission(bench: Bench, queue: Any, *destinations: str) -> Admission:
    """Lets results go."""
    return Admission(
        bench.ledger,
        queue,
        routing=None,  # type: ignore[arg-type]
        sop_classes=("1.2.840.10008.5.1.4.1.1.2",),
        destinations=destinations,
        overdue=lambda: (),
        flush=lambda _: True,
        close_segments=lambda _: None,
        arriving=lambda _: False,
        settings=DeliverySection(),
        clocks=bench.time,
        emit=bench.events,
    )


def test_they_can_be_retracted_and_are_all_named(bench: Bench, images: list[Dataset]) -> None:
    """Also where nothing was confirmed; of a note that waits or got no answer it is not known that it names anything."""
    desk = Desk(bench, unanswered(bench, images), TAKES)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert named(bench) == {opened(bench, role).SOPInstanceUID for role in ROLES}
    (note,) = [one for one in bench.work().deliveries if not one.is_result]
    at = bench.time.now()
    bench.ledger.record_delivery(
        note.result_id, "pacs", state=DeliveryState.WAITING, status=None, reason="timeout", at=at
    )
    predecessors = Predecessors(bench.rooms)
    assert len(predecessors.delivered(bench.key, "pacs", own=True, sure=False)) == len(ROLES)
    bench.ledger.record_delivery(note.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at)
    assert predecessors.delivered(bench.key, "pacs", own=True, sure=False) == ()


def test_a_retraction_names_them_beside_what_was_confirmed(bench: Bench, images: list[Dataset]) -> None:
    """In another note: some archives refuse one as a whole that names anything that they lack."""
    desk = Desk(bench, unanswered(bench, images), TAKES)
    for one in bench.ledger.deliveries(bench.key):
        if one.role is ResultRole.SEGMENTATION:
            at = bench.time.now()
            bench.ledger.record_delivery(
                one.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at
            )
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    segmentation = {opened(bench, ResultRole.SEGMENTATION).SOPInstanceUID}
    others = {opened(bench, role).SOPInstanceUID for role in ROLES} - segmentation
    assert sorted(notes(bench), key=len) == [segmentation, others]
    assert {row.state for row in bench.work().deliveries if not row.is_result} == {DeliveryState.WAITING}


def test_what_a_refused_note_of_the_unsure_names_leaves_the_others_retracted(
    bench: Bench, images: list[Dataset]
) -> None:
    test_a_retraction_names_them_beside_what_was_confirmed(bench, images)
    for row in bench.work().deliveries:
        if not row.is_result:
            sure = UNSURE not in row.form
            bench.ledger.record_delivery(
                row.result_id,
                "pacs",
                state=DeliveryState.CONFIRMED if sure else DeliveryState.REFUSED,
                status=0 if sure else 0xA772,
                reason=None if sure else "peer-refused-object",
                at=bench.time.now(),
            )
    predecessors = Predecessors(bench.rooms)
    left = [predecessors.delivered(bench.key, "pacs", own=True, sure=sure) for sure in (True, False)]
    assert [len(one) for one in left] == [0, len(ROLES) - 1]


def notes(bench: Bench, key: WorkKey | None = None) -> list[set[str]]:
    """SOP Instance UIDs in each rejection note of a work, of the bench's own if nothing is said."""
    found = []
    for row in bench.ledger.results(key or bench.key):
        if row.role is ResultRole.REJECTION:
            data = bench.rooms.objects.get(bench.key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
            note = note_of(read_part10(data, Limits()))
            assert note is not None
            found.append({str(uid) for uids in note.named.values() for uid in uids})
    return found


@pytest.mark.parametrize("title", ["113037", "113001"])
def test_made_of_images_that_are_rejected_they_are_withdrawn(bench: Bench, images: list[Dataset], title: str) -> None:
    """One destination gets a note; of the other, which takes none, people are told."""
    unanswered(bench, images, TAKES, ARCHIVE)
    judge = Judge(bench)
    judge.note(title, images)
    judge.withdraw("pacs")
    assert bench.work().facts[RETRACTION] == WISHED
    assert [one["destination"] for one in bench.events.facts("result.standing")] == ["archive"]


def test_the_note_of_a_newer_revision_names_them_and_its_report_does_not(bench: Bench, images: list[Dataset]) -> None:
    """A report must not say that it replaces one that nobody may ever find."""
    stages = unanswered(bench, images[:-1])
    first = bench.key
    second = bench.receive(images[-1:], revision=2)
    assert run(stages, second) == [True] * 3
    desk, work = Desk(bench, stages, TAKES), bench.ledger.work(second)
    assert work is not None
    with bench.ledger.transaction() as connection:
        admission(bench, desk.queue, "pacs").let_go(connection, work)
    assert "rejection" in [one.role.value for one in bench.ledger.deliveries(second)]
    assert "PredecessorDocumentsSequence" not in opened(bench, ResultRole.REPORT, second)
    assert bench.work(first).state is WorkState.CANCELLED, "what may be there may be retracted"
