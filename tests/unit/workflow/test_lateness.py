from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from dicomnode.config import DeliverySection
from dicomnode.sections import CompletionSection, Destination
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import (
    IN_STAGES,
    STAGE_AT,
    CircuitState,
    DeliveryRow,
    DeliveryState,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow import stages
from dicomnode.workflow.lateness import (
    AGAIN_SECONDS,
    TURN_SECONDS,
    Late,
    late,
    longest_stage,
    longest_wait,
    standing,
    waits_since,
)
from dicomnode.workflow.paces import seconds_open

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = WorkKey(study_key="ab" * 16, revision=1, model="ct-lung")
SETTINGS = DeliverySection(circuit_failures=5, longest_retry_seconds=600)
PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


def row(state: DeliveryState = DeliveryState.WAITING, **values: Any) -> DeliveryRow:
    given = {"status": None, "reason": None, "attempts": 0, "updated_at": START, "destination": "pacs", **values}
    return DeliveryRow(result_id="r", role=ResultRole.REPORT, state=state, **given)


WORK = WorkRow(
    key=KEY,
    state=WorkState.DELIVERING,
    reason=None,
    input_digest="d",
    created_at=START,
    settled_at=None,
    stages={"receive": 900.0, "prepare": 10.0, "infer": 20.0, "encode": 30.0, "wait": 40.0, "deliver": 7.0},
    deliveries=(row(), row(), row(DeliveryState.CONFIRMED)),
)
#: They may go out since then, and wait for too long after that.
FINISHED, LONGEST = START + timedelta(seconds=100), timedelta(seconds=3000)


def found(
    after: timedelta,
    work: WorkRow = WORK,
    destination: Destination | None = PACS,
    circuit: CircuitRow | None = None,
    taken: datetime | None = None,
    *,
    stat: tuple[str, ...] = (),
) -> list[Late]:
    return list(
        late(
            [work],
            {destination.name: destination} if destination else {},
            circuits={"pacs": circuit} if circuit else {},
            taken={"pacs": taken} if taken else {},
            stat=stat,
            settings=SETTINGS,
            now=FINISHED + after,
        )
    )


MOMENT = timedelta(seconds=1)


def test_results_wait_no_longer_than_as_many_tries_as_open_a_circuit() -> None:
    assert longest_wait(SETTINGS) == LONGEST.total_seconds()
    assert longest_wait(DeliverySection(circuit_failures=1000, give_up_seconds=3600)) == 3600
    assert found(LONGEST) == []
    assert found(LONGEST + MOMENT) == [Late(key=KEY, destination="pacs", since=FINISHED, objects=2, reason=None)]
    assert len(found(LONGEST + MOMENT, destination=None)) == 1  # it is not configured any more: a try is to end that


@pytest.mark.parametrize("state", [one for one in WorkState if one is not WorkState.DELIVERING])
def test_what_is_not_on_its_way_is_not_late(state: WorkState) -> None:
    assert found(timedelta(days=5), replace(WORK, state=state)) == []


def test_what_waits_for_nothing_is_not_late() -> None:
    assert found(timedelta(days=5), replace(WORK, deliveries=(row(DeliveryState.CONFIRMED),))) == []


@pytest.mark.parametrize("fact", ["retracted_at", "retried_at", "released_at"])
def test_what_was_ordered_anew_waits_since_then(fact: str) -> None:
    ordered = FINISHED + timedelta(days=2)
    work = replace(WORK, facts={fact: int(ordered.timestamp())})
    assert waits_since(work) == ordered
    assert found(timedelta(days=2) + LONGEST, work) == []
    assert len(found(timedelta(days=2) + LONGEST + MOMENT, work)) == 1


@pytest.mark.parametrize("state", list(CircuitState))
def test_an_open_circuit_is_told_already_and_a_closed_one_has_begun_anew(state: CircuitState) -> None:
    since = FINISHED + timedelta(days=1)
    circuit = CircuitRow(destination="pacs", state=state, since=since)
    assert found(timedelta(days=1) + LONGEST, circuit=circuit) == []
    assert len(found(timedelta(days=1) + LONGEST + MOMENT, circuit=circuit)) == (state is not CircuitState.OPEN)


def test_a_long_queue_that_goes_on_is_not_late_but_what_fails_in_it_is() -> None:
    day = timedelta(days=1)
    assert found(day, taken=FINISHED + day - LONGEST) == []
    assert len(found(day, taken=FINISHED + day - LONGEST - MOMENT)) == 1
    assert found(day + LONGEST, taken=FINISHED + day + LONGEST) == []
    assert len(found(day + LONGEST + MOMENT, taken=FINISHED + day + LONGEST)) == 1, "it may stand in no queue any more"
    failing = replace(WORK, deliveries=(row(attempts=3, reason="peer-out-of-resources"),))
    (one,) = found(day, failing, taken=FINISHED + day)
    assert (one.objects, one.reason) == (1, "peer-out-of-resources")


def test_hours_in_which_a_destination_gets_nothing_do_not_count() -> None:
    night = PACS.model_copy(update={"hours": ("19:00-06:30",)})
    evening, next_noon = (datetime(2026, 3, *at, tzinfo=UTC) for at in ((1, 19), (2, 12)))
    assert found(evening + LONGEST - FINISHED, destination=night) == []
    assert len(found(evening + LONGEST + MOMENT - FINISHED, destination=night)) == 1
    assert len(found(next_noon - FINISHED, destination=night)) == 1, "by day somebody looks"
    taken = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
    assert found(next_noon - FINISHED, destination=night, taken=taken) == [], "the queue goes on in the evening"


def test_hours_that_are_short_hide_nothing() -> None:
    short = PACS.model_copy(update={"hours": ("02:00-02:40",)})
    second = datetime(2026, 3, 3, 2, 10, tzinfo=UTC) - FINISHED
    assert found(second, destination=short) == []
    assert len(found(second + MOMENT, destination=short)) == 1


def test_stat_waits_for_no_hours() -> None:
    night = PACS.model_copy(update={"hours": ("19:00-06:30",)})
    assert found(LONGEST + MOMENT, destination=night) == []
    assert len(found(LONGEST + MOMENT, destination=night, stat=(KEY.study_key,))) == 1


@pytest.mark.parametrize(
    ("hours", "days", "seconds"),
    [
        ((), 2, 2 * 86_400),
        (("13:00-14:00",), 2, 7200),
        (("11:00-13:00",), 2, 4 * 3600),
        (("11:00-13:00", "22:00-13:00"), 1, 15 * 3600),
        (("22:00-06:00", "06:00-08:00"), 1, 10 * 3600),
        (("12:00-13:00",), 0, 0),
        (("22:00-06:00",), -1, 0),
    ],
)
def test_how_much_of_a_time_lies_within_hours(hours: tuple[str, ...], days: int, seconds: float) -> None:
    local = datetime(2026, 3, 3, 12, 30, tzinfo=timezone(timedelta(hours=5)))
    assert seconds_open(hours, (local - timedelta(days=days)).astimezone(UTC), local) == seconds


@pytest.mark.parametrize("state", [WorkState.QUEUED, *IN_STAGES])
def test_a_work_that_goes_no_further_is_late(state: WorkState) -> None:
    limits = {"queued_seconds": 600.0, "stage_seconds": 300.0}
    longest = timedelta(seconds=600 if state is WorkState.QUEUED else 300)
    begun = START if state is WorkState.QUEUED else START + timedelta(hours=7)
    facts = {} if state is WorkState.QUEUED else {STAGE_AT: int(begun.timestamp())}
    work = replace(WORK, state=state, facts=facts, deliveries=())
    assert list(standing([work], **limits, now=begun + longest)) == []
    found = list(standing([work], **limits, now=begun + longest + MOMENT))
    assert found == [Late(key=KEY, state=state, since=begun)]


def test_a_work_of_an_older_version_is_late_since_it_was_made() -> None:
    work = replace(WORK, state=WorkState.INFERRING)
    (found,) = standing([work], queued_seconds=600, stage_seconds=300, now=START + timedelta(seconds=301))
    assert found.since == START


def test_where_a_work_may_wait_for_any_time_it_is_not_late() -> None:
    work = replace(WORK, state=WorkState.QUEUED)
    assert list(standing([work], queued_seconds=0, stage_seconds=300, now=START + timedelta(days=9))) == []


def test_no_stage_lasts_longer_than_it_is_given_though_storage_fails_it_all_the_time() -> None:
    pauses = (min(stages._PAUSE_SECONDS * tried, stages._LONGEST_PAUSE_SECONDS) for tried in range(1, 64))
    assert max(stages._TRIES.values()) == 64
    assert sum(pauses) < AGAIN_SECONDS


@pytest.mark.parametrize(("queued", "turn"), [(3600.0, 3600.0), (0.0, TURN_SECONDS)])
def test_a_work_that_is_taken_up_again_may_wait_for_its_turn_once_more(queued: float, turn: float) -> None:
    assert longest_stage(CompletionSection(deadline_seconds=600), queued) == 600 + AGAIN_SECONDS + turn
