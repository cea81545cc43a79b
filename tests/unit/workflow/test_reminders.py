from __future__ import annotations

import pytest

from dicomnode.sections import RetentionSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import Mark, WorkState
from dicomnode.workflow.reminders import Reminder
from tests.unit.workflow.samples import STUDY, WORK, Events, Time, row

DAY = 86400.0
HOLDING = (WorkState.PREPARING, WorkState.READY, WorkState.HELD)


@pytest.fixture
def reminder(ledger: Ledger, time: Time, events: Events) -> Reminder:
    ledger.record_instances([row(0)])
    ledger.open_revision(STUDY, "digest", time.now())
    ledger.create_work(WORK, "digest", time.now())
    return Reminder(ledger, RetentionSection(days=30), sure=time.sure, emit=events)


def test_what_is_held_is_told_each_time_with_the_days_that_are_left(
    reminder: Reminder, ledger: Ledger, time: Time, events: Events
) -> None:
    reminder.sweep()
    assert events.seen == []
    for state in HOLDING:
        ledger.set_work_state(WORK, state, at=time.now())
    for days in (30.0, 29.0):
        reminder.sweep()
        assert events.seen[-1] == ("held.waiting", "warning", {"works": 1, "studies": 0, "days": days})
        time.forward(DAY)
    ledger.set_work_state(WORK, WorkState.DELIVERING, at=time.now())
    reminder.sweep()
    assert len(events.seen) == 2


def test_what_is_held_late_has_the_days_that_people_have(
    reminder: Reminder, ledger: Ledger, time: Time, events: Events
) -> None:
    time.forward(40 * DAY)
    for state in HOLDING:
        ledger.set_work_state(WORK, state, at=time.now())
    for days in (7.0, 6.0):
        reminder.sweep()
        assert events.facts("held.waiting")[-1]["days"] == days
        time.forward(DAY)


def test_results_that_wait_for_evidence_are_told_after_a_day(
    reminder: Reminder, ledger: Ledger, time: Time, events: Events
) -> None:
    for state in HOLDING[:2]:
        ledger.set_work_state(WORK, state, at=time.now())
    reminder.sweep()
    assert events.seen == []
    time.forward(DAY + 1)
    reminder.sweep()
    assert events.facts("held.waiting")[0]["works"] == 1


def test_a_flood_that_is_held_is_told_and_what_the_site_set_aside_is_not(
    reminder: Reminder, ledger: Ledger, time: Time, events: Events
) -> None:
    for mark in (Mark.OLD, Mark.CANCELLED, Mark.AGED):
        ledger.put_mark(STUDY, mark, 1, time.now())
        reminder.sweep()
    assert events.seen == []
    ledger.put_mark(STUDY, Mark.FLOOD, 1, time.now())
    reminder.sweep()
    assert events.facts("held.waiting") == [{"works": 0, "studies": 1, "days": 30.0}]
