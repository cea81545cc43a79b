"""A queue that does not move: whose studies are refused, and that it ends by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dicomnode.errors import LimitError
from dicomnode.storage.ledger import Ledger
from dicomnode.study import PRIORITIES, WorkKey, WorkState
from dicomnode.workflow.activity import NOBODY, ActivityTable
from dicomnode.workflow.congestion import Congestion
from tests.unit.workflow.samples import MODEL, START, Events, Time, row

LONGEST = 3600.0


class Ward:
    def __init__(self, ledger: Ledger, time: Time, events: Events, longest: float = LONGEST) -> None:
        self.ledger, self.time, self.events = ledger, time, events
        self.activity = ActivityTable()
        self.congestion = Congestion(ledger, self.activity, longest, sure=time.sure, emit=events)

    def queue(self, number: int, priority: str) -> WorkKey:
        study = f"{number:032x}"
        self.ledger.record_instances([row(number, study_key=study)])
        if priority:
            self.ledger.rank_study(study, "peer", priority)
        self.ledger.open_revision(study, "digest", self.time.now())
        key = WorkKey(study_key=study, revision=1, model=MODEL)
        self.ledger.create_work(key, "digest", self.time.now())
        return key

    def refused(self) -> set[str]:
        self.congestion.sweep()
        return set(PRIORITIES[self.activity.refused_from :])


@pytest.fixture
def ward(ledger: Ledger, time: Time, events: Events) -> Ward:
    return Ward(ledger, time, events)


@pytest.mark.parametrize(
    ("priority", "refused"),
    [("stat", {"stat", "routine", "research"}), ("", {"routine", "research"}), ("research", {"research"})],
)
def test_senders_are_refused_whose_studies_would_stand_behind_what_waits_for_too_long(
    ward: Ward, priority: str, refused: set[str]
) -> None:
    key = ward.queue(1, priority)
    ward.time.forward(LONGEST)
    assert ward.refused() == set()
    ward.time.forward(1)
    assert ward.refused() == refused
    ward.queue(2, "stat")
    assert ward.refused() == refused, "what has just come waits for nothing"
    assert [one["works"] for one in ward.events.facts("queue.late")] == [1], "told once"
    assert ward.events.seen[-1][1] == "error"
    ward.ledger.set_work_state(key, WorkState.PREPARING, at=ward.time.now())
    assert ward.refused() == set()
    assert ward.events.facts("queue.recovered") == [{"works": 1}]
    assert ward.refused() == set()
    assert ward.events.names == ["queue.late", "queue.recovered"]


def test_it_is_told_when_more_are_refused(ward: Ward) -> None:
    ward.queue(1, "research")
    ward.time.forward(1)
    ward.queue(2, "routine")
    ward.time.forward(LONGEST)
    assert ward.refused() == {"research"}
    ward.time.forward(1)
    assert ward.refused() == {"routine", "research"}
    assert [(one["kind"], one["seconds"]) for one in ward.events.facts("queue.late")] == [
        ("research", LONGEST + 1),
        ("routine", LONGEST + 2),
    ]


def test_what_is_worked_on_does_not_wait(ward: Ward) -> None:
    ward.ledger.set_work_state(ward.queue(1, "stat"), WorkState.PREPARING, at=ward.time.now())
    ward.time.forward(10 * LONGEST)
    assert ward.refused() == set()


def test_a_clock_that_jumps_ahead_refuses_nobody(ward: Ward) -> None:
    ward.queue(1, "stat")
    ward.time.forward(10 * LONGEST)
    ward.congestion._sure = lambda: START + timedelta(seconds=5)
    assert ward.refused() == set()


def test_a_limit_of_nought_refuses_nobody(ledger: Ledger, time: Time, events: Events) -> None:
    ward = Ward(ledger, time, events, longest=0)
    ward.queue(1, "stat")
    time.forward(10**7)
    assert ward.refused() == set()
    assert ward.activity.refused_from == NOBODY


def test_the_code_is_one_of_what_ends_by_itself() -> None:
    assert LimitError("queue-late").retryable
