"""What a destination took without an answer, or without commitment, counts as there: wrong results are retracted there, too."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.study import RETRACTION, WISHED, DeliveryState, ResultRole, WorkState
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.predecessors import Predecessors
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
    assert len(predecessors.delivered(bench.key, "pacs", own=True)) == len(ROLES)
    bench.ledger.record_delivery(note.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at)
    assert predecessors.delivered(bench.key, "pacs", own=True) == ()


def test_a_retraction_names_them_beside_what_was_confirmed(bench: Bench, images: list[Dataset]) -> None:
    desk = Desk(bench, unanswered(bench, images), TAKES)
    for one in bench.ledger.deliveries(bench.key):
        if one.role is ResultRole.SEGMENTATION:
            at = bench.time.now()
            bench.ledger.record_delivery(
                one.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at
            )
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert named(bench) == {opened(bench, role).SOPInstanceUID for role in ROLES}


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
