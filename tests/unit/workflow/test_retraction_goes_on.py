"""A note that retracts wrong results goes whatever people and newer results do meanwhile; refused, it can be wished again."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from dicomnode.storage.rows import OrderRow
from dicomnode.study import RETRACTION, WISHED, DeliveryRow, DeliveryState, ResultRole, WorkKey, WorkState
from dicomnode.workflow.orders import Orders, is_of_any_use
from tests.unit.workflow.test_encoding import confirm, opened, run, stages_for, waiting
from tests.unit.workflow.test_may_be_there import admission
from tests.unit.workflow.test_retraction import ARCHIVE, ROLES, TAKES, Desk, done, named, one_study
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

BOTH = (TAKES, {**ARCHIVE, **TAKES})


def notes(bench: Bench, key: WorkKey | None = None) -> dict[str, tuple[DeliveryState, str | None]]:
    """How the notes of a work stand, by destination."""
    return {row.destination: (row.state, row.reason) for row in rows_of_notes(bench, key)}


def rows_of_notes(bench: Bench, key: WorkKey | None = None) -> list[DeliveryRow]:
    return [row for row in bench.ledger.deliveries(key or bench.key) if row.role is ResultRole.REJECTION]


def answer(bench: Bench, destination: str, state: DeliveryState) -> None:
    """A destination takes the note, or refuses it."""
    refused = state is DeliveryState.REFUSED
    for row in rows_of_notes(bench):
        if row.destination == destination:
            bench.ledger.record_delivery(
                row.result_id,
                destination,
                state=state,
                status=0xC000 if refused else 0,
                reason="peer-refused-object" if refused else None,
                at=bench.time.now(),
            )


def retracted(bench: Bench, images: list[Dataset]) -> Desk:
    """Results that destinations have were found wrong while these are down: notes wait."""
    desk = done(bench, images, *BOTH)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert notes(bench) == dict.fromkeys(("archive", "pacs"), (DeliveryState.WAITING, None))
    return desk


def cancel(bench: Bench, desk: Desk) -> OrderRow:
    order = OrderRow(study_key=bench.key.study_key, verb="cancel", model="", destination="", at=bench.time.now())
    bench.ledger.give_order(order)
    Orders(
        bench.ledger,
        desk.queue,
        admission=None,  # type: ignore[arg-type]
        hurry=lambda _: None,
        clock=bench.time.now,
        emit=bench.events,
    ).sweep()
    return order


def test_to_cancel_a_study_stops_no_note_that_retracts_it(bench: Bench, images: list[Dataset]) -> None:
    """`dicomnode retract`, then `dicomnode cancel` to be quite sure. A note that was refused is settled by it."""
    desk = retracted(bench, images)
    answer(bench, "archive", DeliveryState.REFUSED)
    order = cancel(bench, desk)
    assert notes(bench) == {"archive": (DeliveryState.CANCELLED, "cancelled"), "pacs": (DeliveryState.WAITING, None)}
    assert bench.work().state is WorkState.DELIVERING
    assert not is_of_any_use(one_study(bench), order, ())


def test_newer_results_stop_no_note_that_retracts_older_ones(bench: Bench, images: list[Dataset]) -> None:
    """A destination that refuses the newer results never gets their note: the wrong ones would be all that it shows."""
    desk = retracted(bench, images[:-1])
    first = bench.key
    second = bench.receive(images[-1:], revision=2)
    assert run(stages_for(bench, *BOTH), second) == [True] * 3
    work = bench.ledger.work(second)
    assert work is not None
    with bench.ledger.transaction() as connection:
        admission(bench, desk.queue, "archive", "pacs").let_go(connection, work)
    assert set(notes(bench, first).values()) == {(DeliveryState.WAITING, None)}
    assert bench.work(first).state is WorkState.DELIVERING


@pytest.mark.parametrize("cancelled", [False, True])
def test_where_a_note_was_refused_another_wish_sends_it_again_there(
    bench: Bench, images: list[Dataset], cancelled: bool
) -> None:
    """And nothing more to the destination that takes its own, nor to one that has it."""
    desk = retracted(bench, images)
    assert desk.queue.run_due() == 2
    assert desk.wish() == (), "on their way"
    answer(bench, "pacs", DeliveryState.REFUSED)
    bench.time.forward(1)
    if cancelled:
        cancel(bench, desk)
    assert desk.wish() == (bench.key,)
    assert notes(bench)["archive"] == (DeliveryState.WAITING, None), "it goes on"
    answer(bench, "archive", DeliveryState.CONFIRMED)
    desk.retraction.sweep()
    assert notes(bench) == {"archive": (DeliveryState.CONFIRMED, None), "pacs": (DeliveryState.WAITING, None)}
    assert bench.work().state is WorkState.DELIVERING
    assert [entry.destination for entry in desk.queue.waiting] == ["pacs"], "although the first try is known"
    answer(bench, "pacs", DeliveryState.CONFIRMED)
    assert desk.wish() == ()


def test_another_wish_waits_for_no_note_that_is_on_its_way(bench: Bench, images: list[Dataset]) -> None:
    """The archive stays down, and its note is tried again and again: the other one goes meanwhile."""
    desk = retracted(bench, images)
    desk.queue.run_due()
    answer(bench, "pacs", DeliveryState.REFUSED)
    with bench.ledger.transaction() as connection:
        desk.queue.enqueue_delivery(connection, bench.key, "archive", 1_000_001, 600.0)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert notes(bench) == dict.fromkeys(("archive", "pacs"), (DeliveryState.WAITING, None))
    assert bench.work().facts[RETRACTION] == "sent"
    assert sorted(entry.destination for entry in desk.queue.waiting) == ["archive", "pacs"]


def test_what_a_note_did_not_name_yet_gets_one_under_another_name(bench: Bench, images: list[Dataset]) -> None:
    """The first named the report alone (an older version asked for a confirmation) and was refused."""
    stages = stages_for(bench, TAKES)
    assert run(stages, bench.receive(images)) == [True] * 3
    for row in bench.ledger.deliveries(bench.key):
        if row.role is ResultRole.REPORT:
            bench.ledger.record_delivery(
                row.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=bench.time.now()
            )
    bench.ledger.set_work_state(bench.key, WorkState.DELIVERING, at=bench.time.now())
    desk = Desk(bench, stages, TAKES)
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert named(bench) == {opened(bench, ResultRole.REPORT).SOPInstanceUID}
    desk.queue.run_due()
    confirm(bench, bench.key)
    for row in rows_of_notes(bench):
        bench.ledger.put_deliveries([row], DeliveryState.REFUSED, bench.time.now(), reason="peer-refused-object")
    assert desk.wish() == (bench.key,)
    desk.retraction.sweep()
    assert sorted(one for one in waiting(bench) if "rejection" in one) == [
        "rejection:key-objects.pacs.wrong",
        "rejection:key-objects.pacs.wrong1",
    ]
    states = {row.form: row.state for row in rows_of_notes(bench)}
    assert states["key-objects.pacs.wrong1"] is DeliveryState.WAITING
    (last,) = [row for row in bench.ledger.results(bench.key) if row.form.endswith("wrong1")]
    assert len(bench.ledger.deliveries(bench.key)) == len(ROLES) + 2
    assert last.role is ResultRole.REJECTION


def test_a_note_that_another_one_replaced_goes_again_where_nothing_else_names_the_results(
    bench: Bench, images: list[Dataset]
) -> None:
    """The destination did not keep the other one: the first names the same, and is made under the same name."""
    desk = done(bench, images, TAKES)
    desk.wish()
    desk.retraction.sweep()
    (note,) = rows_of_notes(bench)
    bench.ledger.put_deliveries([note], DeliveryState.DOWNGRADED, bench.time.now(), reason="peer-refused-object")
    bench.ledger.add_facts(bench.key, {RETRACTION: WISHED})
    for entry in desk.queue.waiting:
        desk.queue._waiting.remove(entry)
    desk.retraction.sweep()
    assert [(one.result_id, one.state) for one in rows_of_notes(bench)] == [(note.result_id, DeliveryState.WAITING)]
