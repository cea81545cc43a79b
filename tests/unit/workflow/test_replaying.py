from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

import pytest

from dicomnode.study import DeliveryRow, DeliveryState, Mark, MarkRow, ResultRole, StudyRow, WorkKey, WorkRow, WorkState
from dicomnode.workflow.explaining import StudyExplained
from dicomnode.workflow.replaying import (
    NOT_ROUTED,
    TOO_OLD,
    UNDER_WAY,
    WORKED_ON,
    Fate,
    Orders,
    Replay,
    ReplayedOrders,
    replay,
    replay_orders,
)
from dicomnode.workflow.routing import Route, Share
from tests.unit.workflow.samples import MODEL, START, STUDY


def work(state: WorkState, reason: str | None = None, *, to: tuple[str, ...] = (), **facts: Any) -> WorkRow:
    deliveries = tuple(
        DeliveryRow(
            result_id=f"{number}",
            role=ResultRole.REPORT,
            destination=name,
            state=DeliveryState.CONFIRMED,
            status=0,
            reason=None,
            attempts=1,
            updated_at=START,
        )
        for number, name in enumerate(to)
    )
    return WorkRow(
        key=WorkKey(study_key=STUDY, revision=2, model=MODEL),
        state=state,
        reason=reason,
        facts=facts,
        input_digest="d",
        created_at=START,
        settled_at=None,
        deliveries=deliveries,
    )


def study(*works: WorkRow, revision: int = 2) -> StudyRow:
    return StudyRow(
        study_key=STUDY,
        first_received_at=START,
        last_received_at=START,
        instances=1,
        quarantined=0,
        revision=revision,
        works=works,
    )


def decided(code: str | None = None, **share: Any) -> StudyExplained:
    route = Route(shares={MODEL: Share(**share)})
    return StudyExplained(
        study_key=STUDY, began_at=START.astimezone(UTC), route=route, series=(), outcomes={MODEL: code}
    )


def only(row: StudyRow, found: StudyExplained | None) -> Replay:
    (one,) = replay(row, found, ("pacs", "trial"))
    return one


DONE = work(WorkState.DONE, to=("pacs", "trial"))


def test_a_work_that_made_nothing_new_went_where_the_results_went_that_are_its_own() -> None:
    first = replace(DONE, key=replace(DONE.key, revision=1))
    found = only(study(first, work(WorkState.DONE, same_as=1)), decided())
    assert found.then == Fate(outcome=WORKED_ON, destinations=frozenset({"pacs", "trial"}))
    assert not found.differs


def test_what_would_be_the_same_does_not_differ() -> None:
    one = only(study(DONE), decided())
    assert one.then == one.now == Fate(outcome=WORKED_ON, destinations=frozenset({"pacs", "trial"}))
    assert not one.differs


def test_other_destinations_and_no_model_at_all_differ() -> None:
    fewer = only(study(DONE), decided(destinations=("pacs", "gone")))
    assert fewer.now.destinations == {"pacs"}
    assert fewer.differs
    none = only(study(DONE), None)
    assert none.now.outcome == NOT_ROUTED
    assert none.differs
    anew = only(study(), decided())
    assert (anew.then.outcome, anew.now.outcome, anew.differs) == (NOT_ROUTED, WORKED_ON, True)


@pytest.mark.parametrize(
    ("then", "code", "differs"),
    [
        (work(WorkState.REFUSED, "geometry-gap"), "geometry-gap", False),
        (work(WorkState.REFUSED, "geometry-too-few-slices"), None, True),
        (work(WorkState.REFUSED, "nothing-found"), None, False),
        (work(WorkState.FAILED, "inference-failed"), None, False),
        (work(WorkState.FAILED, "timeout", to=("pacs", "trial")), None, False),
        (work(WorkState.DONE, to=("pacs",), outcome="geometry-gap"), "geometry-gap", False),
        (work(WorkState.DONE, to=("pacs",), outcome="geometry-gap"), None, True),
        (DONE, "ai-output", True),
        (work(WorkState.INFERRING), "ai-output", False),
        (work(WorkState.FAILED), "ai-output", True),
    ],
)
def test_what_only_pixels_can_tell_is_no_difference(then: WorkRow, code: str | None, differs: bool) -> None:
    assert only(study(then), decided(code)).differs is differs


def test_works_of_older_revisions_count_for_nothing() -> None:
    assert replay(study(DONE, revision=3), None, ("pacs",)) == ()
    assert only(study(work(WorkState.QUEUED)), None).then.outcome == UNDER_WAY


def marked(row: StudyRow, mark: Mark) -> StudyRow:
    return replace(row, mark=MarkRow(mark=mark, revision=0, at=START))


def old(days: int | None) -> StudyExplained:
    found = decided()
    return replace(found, route=replace(found.route, old_days=days))


def test_a_study_that_would_be_too_old_is_told_and_one_that_was() -> None:
    stricter = only(study(DONE), old(400))
    assert stricter.now == Fate(outcome=TOO_OLD)
    assert stricter.differs
    laxer = only(marked(study(), Mark.OLD), old(None))
    assert laxer.then == Fate(outcome=TOO_OLD)
    assert laxer.differs
    assert not only(marked(study(), Mark.OLD), old(400)).differs


def test_what_somebody_released_is_worked_on_however_old_it_is() -> None:
    assert not only(marked(study(DONE), Mark.RELEASED), old(400)).differs


@pytest.mark.parametrize("mark", [Mark.FLOOD, Mark.CANCELLED])
def test_no_configuration_foresees_floods_and_orders(mark: Mark) -> None:
    one = only(marked(study(), mark), old(None))
    assert one.then == Fate(outcome=str(mark))
    assert not one.differs


TRIAL = Orders(exports=frozenset({"trial"}), priority="stat")


def ordered(row: StudyRow, found: StudyExplained | None, then: Orders = TRIAL) -> ReplayedOrders:
    return replay_orders(row, found, then, sent_as="research")


def test_what_rules_order_of_a_study_is_told_beside_what_they_ordered() -> None:
    found = decided()
    same = replace(found, route=replace(found.route, exports={"trial": ("ct",)}, priority="stat"))
    assert not ordered(study(DONE), same).differs
    assert ordered(study(DONE), found).now == Orders(exports=frozenset(), priority="research"), "as its senders"
    assert ordered(study(DONE), found).differs
    assert ordered(study(DONE), None).now == Orders(exports=frozenset(), priority="research")
    older = replace(same, route=replace(same.route, old_days=400))
    assert ordered(study(DONE), older).now == Orders(exports=frozenset(), priority="stat"), "held, and not exported"
    assert not ordered(marked(study(DONE), Mark.RELEASED), older).differs


@pytest.mark.parametrize("mark", [Mark.FLOOD, Mark.CANCELLED, None])
def test_orders_for_what_no_configuration_foresees_are_no_difference(mark: Mark | None) -> None:
    """Studies that are stopped by chance or by somebody, and one of which nothing was decided yet."""
    row = study(revision=0) if mark is None else marked(study(), mark)
    assert ordered(row, decided()).now == TRIAL
