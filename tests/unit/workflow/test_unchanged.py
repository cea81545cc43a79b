"""Works on a revision that changed nothing of what a model takes: the results that were delivered stay the only ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.storage.ledger import Ledger
from dicomnode.study import (
    OPEN,
    RETRACTION,
    WISHED,
    WITHDRAWAL,
    DeliveryState,
    WorkKey,
    WorkState,
    input_digest,
)
from dicomnode.workflow.handover import Handover
from dicomnode.workflow.inputs import inputs
from dicomnode.workflow.unchanged import BASIS, ORDERED, SAME_AS, results_of, standing
from tests.unit.workflow.samples import tiny_series
from tests.unit.workflow.test_encoding import confirm, run, stages_for
from tests.unit.workflow.test_generations import uids
from tests.unit.workflow.test_rejections import Desk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]


def scout(number: int = 5) -> list[Dataset]:
    """A localizer of its own series, of the same study and patient."""
    image = tiny_series()[0]
    image.SeriesInstanceUID, image.SOPInstanceUID = f"2.25.{number}", f"2.25.{number}.1"
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return [image]


def delivered(
    bench: Bench, images: list[Dataset], settings: dict[str, object], state: WorkState = WorkState.DONE
) -> WorkKey:
    """A work whose results are where they belong."""
    key = bench.receive(images)
    assert run(stages_for(bench, settings), key) == [True] * 3
    bench.ledger.record_stage(key, "wait", 30.0)
    bench.ledger.set_work_state(key, WorkState.DELIVERING, at=bench.time.now())
    confirm(bench, key)
    bench.ledger.set_work_state(key, state, at=bench.time.now())
    return key


SETTINGS: dict[str, object] = {"report": "none"}  # neither a report that names its predecessor, nor a note


@pytest.mark.parametrize("state", [WorkState.DONE, WorkState.DELIVERING])
def test_a_late_localizer_makes_no_second_results(bench: Bench, images: list[Dataset], state: WorkState) -> None:
    first = delivered(bench, images, SETTINGS, state=state)
    second = bench.receive(scout(), revision=2)
    assert run(stages_for(bench, SETTINGS), second)[0] is False
    assert bench.ended == (WorkState.DONE, None)
    assert bench.work(second).facts[SAME_AS] == 1
    assert bench.ledger.results(second) == bench.ledger.deliveries(second) == ()
    assert bench.events.facts("work.unchanged") == [{"work": second.workflow_id, "revision": 1}]
    third = bench.receive(scout(6), revision=3)
    assert run(stages_for(bench, SETTINGS), third)[0] is False
    assert bench.work(third).facts[SAME_AS] == 1, "what made nothing is passed over"
    study = bench.ledger.study(first.study_key)
    assert study is not None
    assert results_of(study, bench.work(third)) == bench.work(first) == results_of(study, bench.work(first))
    # Somebody orders it all the same.
    bench.ledger.add_facts(third, {ORDERED: 1})
    assert standing(study, third, str(bench.work(first).facts[BASIS]), {}) is None
    fourth = bench.receive(scout(7), revision=4, facts={ORDERED: 1})
    assert run(stages_for(bench, SETTINGS), fourth) == [True] * 3
    assert uids(bench, fourth)
    assert not uids(bench, fourth) & uids(bench, first)


def test_an_order_holds_until_results_were_made(bench: Bench, images: list[Dataset]) -> None:
    """Its own work was replaced, by a late localizer, before it had made any."""
    first = delivered(bench, images, SETTINGS)
    bench.receive(scout(), revision=2, facts={ORDERED: 1})
    third = bench.receive(scout(6), revision=3)
    assert run(stages_for(bench, SETTINGS), third) == [True] * 3
    assert uids(bench, third)
    assert not uids(bench, third) & uids(bench, first)
    # From then on it is carried out.
    bench.ledger.record_stage(third, "wait", 30.0)
    bench.ledger.set_work_state(third, WorkState.DELIVERING, at=bench.time.now())
    confirm(bench, third)
    bench.ledger.set_work_state(third, WorkState.DONE, at=bench.time.now())
    fourth = bench.receive(scout(7), revision=4)
    assert run(stages_for(bench, SETTINGS), fourth)[0] is False
    assert bench.work(fourth).facts[SAME_AS] == 3


def test_an_image_of_the_series_makes_others(bench: Bench, images: list[Dataset]) -> None:
    delivered(bench, images[:-1], SETTINGS)
    second = bench.receive(images[-1:], revision=2)
    assert run(stages_for(bench, SETTINGS), second) == [True] * 3
    assert bench.ledger.results(second)


def wrong(bench: Bench, key: WorkKey) -> None:
    bench.ledger.add_facts(key, {RETRACTION: WISHED})


def refused(bench: Bench, key: WorkKey) -> None:
    one = bench.ledger.deliveries(key)[0]
    bench.ledger.record_delivery(
        one.result_id, "pacs", state=DeliveryState.REFUSED, status=0, reason=None, at=bench.time.now()
    )


def by_another_engine(bench: Bench, key: WorkKey) -> None:
    bench.ledger.add_facts(key, {BASIS: "0" * 64})


def by_an_older_version(bench: Bench, key: WorkKey) -> None:
    """Which said nothing of it."""
    bench.ledger.add_facts(key, {BASIS: ""})


@pytest.mark.parametrize("happens", [wrong, refused, by_another_engine, by_an_older_version])
def test_results_that_do_not_stand_are_made_again(
    bench: Bench, images: list[Dataset], happens: Callable[[Bench, WorkKey], None]
) -> None:
    first = delivered(bench, images, SETTINGS)
    happens(bench, first)
    second = bench.receive(scout(), revision=2)
    assert run(stages_for(bench, SETTINGS), second) == [True] * 3
    assert bench.ledger.results(second)


@pytest.mark.parametrize("others", [[{}], [SETTINGS, {**SETTINGS, "name": "archive"}]])
def test_who_is_to_get_other_forms_or_had_none_gets_them(
    bench: Bench, images: list[Dataset], others: list[dict[str, object]]
) -> None:
    delivered(bench, images, SETTINGS)
    second = bench.receive(scout(), revision=2)
    assert run(stages_for(bench, *others), second) == [True] * 3
    assert bench.ledger.results(second)


def test_results_that_wait_still_are_replaced(bench: Bench, images: list[Dataset]) -> None:
    """Whether they ever arrive is not known."""
    first = bench.receive(images)
    assert run(stages_for(bench, SETTINGS), first) == [True] * 3
    bench.ledger.set_work_state(first, WorkState.DELIVERING, at=bench.time.now())
    second = bench.receive(scout(), revision=2)
    assert run(stages_for(bench, SETTINGS), second) == [True] * 3


def test_an_image_of_the_series_that_is_rejected_later_takes_them_back(bench: Bench, images: list[Dataset]) -> None:
    first = delivered(bench, images, SETTINGS)
    second = bench.receive(scout(), revision=2)
    assert run(stages_for(bench, SETTINGS), second)[0] is False
    Desk(bench).note("113001", images[:1])
    assert bench.work(first).facts[WITHDRAWAL] == OPEN
    third = replace(first, revision=3)
    rows = inputs(bench.ledger, first.study_key, bench.rooms.sop_classes)
    digest = input_digest([(row.instance_key, row.digest) for row in rows])
    assert bench.ledger.open_revision(first.study_key, digest, bench.time.now()) == (3, True)
    bench.ledger.create_work(third, digest, bench.time.now())
    assert run(stages_for(bench, SETTINGS), third) == [True] * 3
    assert bench.ledger.results(third)


@pytest.mark.parametrize(
    "where", ["dicomnode.storage.ledger.Ledger.set_work_state", "dicomnode.storage.ledger.Ledger.record_stage"]
)
def test_a_node_that_dies_in_it_does_it_again(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    delivered(bench, images, SETTINGS)
    second, stages = bench.receive(scout(), revision=2), stages_for(bench, SETTINGS)

    def dies(self: Ledger, key: WorkKey, *rest: Any, **facts: Any) -> None:
        if where.endswith("record_stage") or WorkState.DONE in rest:
            raise KeyboardInterrupt
        kept(self, key, *rest, **facts)

    with monkeypatch.context() as killed:
        kept = Ledger.set_work_state
        killed.setattr(where, dies)
        with pytest.raises(KeyboardInterrupt):
            run(stages, second)
    assert run(stages_for(bench, SETTINGS), second)[0] is False
    assert bench.ended == (WorkState.DONE, None)
    assert Handover(bench.rooms).plan(second)["images"] == len(images)


def test_results_that_are_found_wrong_at_that_moment_are_made_again(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = delivered(bench, images, SETTINGS)
    second = bench.receive(scout(), revision=2)
    put_plan = Handover.put_plan

    def meanwhile(self: Handover, key: WorkKey, plan: Any) -> None:
        put_plan(self, key, plan)
        wrong(bench, first)

    monkeypatch.setattr(Handover, "put_plan", meanwhile)
    assert run(stages_for(bench, SETTINGS), second) == [True] * 3
    assert bench.ledger.results(second)
