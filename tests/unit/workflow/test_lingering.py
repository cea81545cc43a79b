"""Works in a stage that nobody runs: told once, and once a day; by no clock that anybody sets."""

from __future__ import annotations

import pytest

from dicomnode.storage.ledger import Ledger
from dicomnode.study import IN_STAGES, WorkState
from dicomnode.workflow.lingering import Lingering
from tests.unit.workflow.samples import STUDY, WORK, Events, Time, row

LONGEST, DAY = 9600.0, 86_400.0


@pytest.fixture
def lingering(ledger: Ledger, time: Time, events: Events) -> Lingering:
    ledger.record_instances([row(0)])
    ledger.open_revision(STUDY, "digest", time.now())
    ledger.create_work(WORK, "digest", time.now())
    return Lingering(ledger, LONGEST, monotonic=time.monotonic, emit=events)


def put(ledger: Ledger, time: Time, last: WorkState) -> None:
    for state in IN_STAGES[: IN_STAGES.index(last) + 1]:
        ledger.set_work_state(WORK, state, at=time.now())


@pytest.mark.parametrize("state", IN_STAGES)
def test_a_work_that_stands_in_a_stage_is_told_once_and_once_a_day(
    lingering: Lingering, ledger: Ledger, time: Time, events: Events, state: WorkState
) -> None:
    put(ledger, time, state)
    for seconds in (0, LONGEST):
        time.forward(seconds)
        lingering.sweep()
        assert events.seen == []
    time.forward(1)
    lingering.sweep()
    told = {"work": WORK.workflow_id, "state": state.value, "seconds": round(LONGEST + 1)}
    assert events.seen == [("work.late", "warning", told)]
    for seconds, times in ((DAY, 1), (1, 2)):
        time.forward(seconds)
        lingering.sweep()
        assert len(events.seen) == times


def test_what_goes_on_counts_anew_and_what_left_its_stages_is_not_late(
    lingering: Lingering, ledger: Ledger, time: Time, events: Events
) -> None:
    for state in (*IN_STAGES, IN_STAGES[-1]):  # the last one is tried again, as on a disk that is full
        ledger.set_work_state(WORK, state, at=time.now())
        lingering.sweep()
        time.forward(LONGEST)
        lingering.sweep()
    ledger.set_work_state(WORK, WorkState.READY, at=time.now())
    time.forward(10 * LONGEST)
    lingering.sweep()
    time.forward(10 * LONGEST)
    lingering.sweep()
    assert events.seen == []


def test_neither_a_wall_clock_that_jumps_nor_a_stop_of_the_node_makes_a_work_late(
    lingering: Lingering, ledger: Ledger, time: Time, events: Events
) -> None:
    put(ledger, time, WorkState.INFERRING)
    time.forward(10 * DAY)
    lingering.sweep()
    assert events.seen == []
