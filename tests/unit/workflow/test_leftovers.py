"""Earlier results at a destination that was renamed or removed: people are told, once, where no note of ours goes."""

from __future__ import annotations

from pydicom import Dataset

from dicomnode.study import STANDING, Purpose, WorkKey, WorkState, World
from tests.unit.workflow.test_encoding import confirm, run, stages_for, waiting
from tests.unit.workflow.test_retraction import TAKES, Desk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

RENAMED = {**TAKES, "name": "main-pacs"}


def first_of(bench: Bench, images: list[Dataset]) -> WorkKey:
    """A first revision that the destination has, before its name was changed."""
    first = bench.receive(images)
    assert run(stages_for(bench, TAKES), first) == [True] * 3
    confirm(bench, first)
    for state in (WorkState.DELIVERING, WorkState.DONE):
        bench.ledger.set_work_state(first, state, at=bench.time.now())
    return first


def standing(bench: Bench, key: WorkKey) -> object:
    work = bench.ledger.work(key)
    assert work is not None
    return work.facts.get(STANDING)


def test_results_at_a_pacs_whose_destination_was_renamed_are_told_once(bench: Bench, images: list[Dataset]) -> None:
    """`[[destinations]] name` alone changed; host, port and AE title are the same PACS, which now shows all revisions."""
    first = first_of(bench, images[:-2])
    told = {"work": first.workflow_id, "destination": "pacs", "reason": "destination-not-found"}
    stages = stages_for(bench, RENAMED)
    second = bench.receive(images[-2:-1], revision=2)
    assert run(stages, second) == [True] * 3
    assert standing(bench, first) == "pacs"
    assert bench.events.facts("result.standing") == [told]
    assert "rejection" not in str(waiting(bench, "main-pacs", second)), "it would name what nobody knows to be there"
    confirm(bench, second, "main-pacs")
    third = bench.receive(images[-1:], revision=3)
    assert run(stages, third) == [True] * 3
    assert bench.events.facts("result.standing") == [told], "once"
    assert waiting(bench, "main-pacs", third)[-1] == "rejection:key-objects.main-pacs"


def test_nobody_is_told_where_the_destination_is_still_configured(bench: Bench, images: list[Dataset]) -> None:
    first = first_of(bench, images[:-1])
    assert run(stages_for(bench, TAKES, RENAMED), bench.receive(images[-1:], revision=2)) == [True] * 3
    assert standing(bench, first) is None
    assert bench.events.facts("result.standing") == []


def test_what_never_arrived_stands_nowhere(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images[:-1])
    assert run(stages_for(bench, TAKES), first) == [True] * 3
    assert run(stages_for(bench, RENAMED), bench.receive(images[-1:], revision=2)) == [True] * 3
    assert standing(bench, first) is None


def test_what_a_note_took_away_before_stands_no_more(bench: Bench, images: list[Dataset]) -> None:
    first = first_of(bench, images[:-1])
    desk = Desk(bench, stages_for(bench, TAKES), TAKES)
    assert desk.wish() == (first,)
    desk.retraction.sweep()
    confirm(bench, first)
    bench.ledger.set_work_state(first, WorkState.DONE, at=bench.time.now())
    assert run(stages_for(bench, RENAMED), bench.receive(images[-1:], revision=2)) == [True] * 3
    assert standing(bench, first) is None


def test_what_is_lost_here_stands_there(bench: Bench, images: list[Dataset]) -> None:
    first = first_of(bench, images[:-1])
    for row in bench.ledger.results(first):
        bench.rooms.objects.delete(first.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
    assert run(stages_for(bench, RENAMED), bench.receive(images[-1:], revision=2)) == [True] * 3
    assert standing(bench, first) == "pacs"


def test_who_was_named_before_is_kept(bench: Bench, images: list[Dataset]) -> None:
    first = first_of(bench, images[:-1])
    bench.ledger.add_facts(first, {STANDING: "viewer"})
    assert run(stages_for(bench, RENAMED), bench.receive(images[-1:], revision=2)) == [True] * 3
    assert standing(bench, first) == "pacs,viewer"
    assert [one["destination"] for one in bench.events.facts("result.standing")] == ["pacs"]


def test_a_retraction_names_a_destination_that_is_gone(bench: Bench, images: list[Dataset]) -> None:
    """`dicomnode retract` after the name was changed."""
    first = first_of(bench, images)
    desk = Desk(bench, stages_for(bench, RENAMED), RENAMED)
    assert desk.wish() == (first,)
    desk.retraction.sweep()
    assert standing(bench, first) == "pacs"
    assert [one["destination"] for one in bench.events.facts("result.standing")] == ["pacs"]
