"""Hours and means of a destination: what may go when, and that the others do not wait for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dicomnode.config import ConfigErrors, parse
from dicomnode.sections import Destination
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.study import WorkState
from dicomnode.workflow.paces import Paces, seconds_until
from tests.unit.workflow.samples import START, STUDY, Events, Time
from tests.unit.workflow.test_circuits import Ward

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def target(**changes: Any) -> Destination:
    return Destination.model_validate({**PACS, **changes})


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Ward:
    return Ward(ledger, objects, time, events)


@pytest.mark.parametrize(
    ("hours", "time", "seconds"),
    [
        ((), "12:00:00", 0),
        (("08:00-16:00",), "08:00:00", 0),
        (("08:00-16:00",), "15:59:59", 0),
        (("08:00-16:00",), "16:00:00", 16 * 3600),
        (("08:00-16:00",), "07:59:59", 1),
        (("22:00-06:30",), "23:00:00", 0),
        (("22:00-06:30",), "00:00:00", 0),
        (("22:00-06:30",), "06:30:00", 15.5 * 3600),
        (("22:00-06:30", "12:00-13:00"), "11:00:00", 3600),
        (("22:00-06:30", "12:00-13:00"), "12:30:00", 0),
    ],
)
def test_seconds_until_the_hours_begin(hours: tuple[str, ...], time: str, seconds: float) -> None:
    local = datetime.strptime(f"2026-03-01 {time}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert seconds_until(hours, local) == seconds


@pytest.mark.parametrize("hours", ["8:00-9:00", "08:00", "24:00-06:00", "08:00-08:00", "08:60-09:00", "08:00-09:00 "])
def test_hours_that_are_none_are_said(hours: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({"destinations": [{**PACS, "hours": [hours]}]})
    assert "two times of day that differ" in caught.value.problems[0]


def test_outside_its_hours_only_stat_goes_and_the_others_get_theirs(ward: Ward) -> None:
    local = ward.time.now().astimezone()
    ward.open("pacs", "archive")
    times = [f"{(local.hour + more) % 24:02}:{local.minute:02}" for more in (2, 4)]
    ward.targets["pacs"] = target(hours=["-".join(times)])
    ward.admit(1, "routine")
    ward.admit(2, "stat")
    ward.queue.run_due()
    assert ward.sent() == ["0002"]
    assert sorted(set(ward.sent("archive"))) == ["0001", "0002", "a1a1", "b2b2"]
    assert ward.ledger.circuits() == {}
    for _ in range(12):
        assert ward.sent() == ["0002"]
        ward.later(600)
    assert sorted(ward.sent()) == ["0001", "0002", "a1a1", "b2b2"]
    assert {work.state for work in ward.ledger.works()} == {WorkState.DONE}


def test_a_mean_of_objects_holds_from_work_to_work(ward: Ward) -> None:
    ward.open("pacs")
    ward.targets["pacs"] = target(objects_per_minute=6)
    for number in range(1, 5):
        ward.admit(number, "routine")
    moments = []
    for _ in range(120):
        before = len(ward.sent())
        ward.queue.run_due()
        moments += [ward.time.monotonic()] * (len(ward.sent()) - before)
        ward.time.forward(1)
    assert len(moments) == 6
    begun = moments[0]
    assert [moment - begun for moment in moments] == [0, 0, 20, 30, 40, 50]


def test_what_follows_each_other_adds_up_and_the_slower_of_both_means_holds(time: Time) -> None:
    paces = Paces(
        {"pacs": target(bytes_per_second=1000, objects_per_minute=6)}, clock=time.now, monotonic=time.monotonic
    )
    paces.passed("pacs", 2, 100)
    assert paces.wait("pacs", 1) == pytest.approx(20), "objects are the slower"
    paces.passed("pacs", 1, 100)
    assert paces.wait("pacs", 1) == pytest.approx(30), "another thread's, before the first were through"
    time.forward(100)
    paces.passed("pacs", 1, 20_000)
    assert paces.wait("pacs", 1) == pytest.approx(20), "bytes are; what is past counts no more"


def test_a_mean_of_bytes_counts_as_well_and_the_slower_of_both_holds(time: Time, ward: Ward) -> None:
    ward.open("pacs")
    ward.queue.run_due()
    (first, second) = ward.peers["pacs"].got
    size = len(first.encoded) + len(second.encoded)
    paces = Paces(
        {"pacs": target(bytes_per_second=10, objects_per_minute=1000)}, clock=time.now, monotonic=time.monotonic
    )
    assert paces.wait("pacs", 1) == 0
    paces.sent("pacs", [first, second])
    assert paces.wait("pacs", 1) == pytest.approx(size / 10)
    assert paces.wait("pacs", 0) == pytest.approx(size / 10), "STAT as well: the line is as it is"
    paces.sent("gone", [first])
    assert paces.wait("gone", 1) == 0
    assert ward.ledger.study(STUDY) is not None


def test_a_restart_is_no_way_round_a_rate(ward: Ward) -> None:
    ward.prepare("pacs")
    ward.queue.run_due()
    (sent, more) = ward.ledger.sent_since(ward.time.now())
    assert (sent[0], sent[1], sent[2] > 0, more[0]) == ("pacs", ward.time.now(), True, "pacs")
    ward.time.forward(30)
    paces = Paces({"pacs": target(objects_per_minute=1)}, clock=ward.time.now, monotonic=ward.time.monotonic)
    assert paces.wait("pacs", 0) == 0
    paces.recall(ward.ledger.sent_since(START))
    assert paces.wait("pacs", 0) == 90
    assert ward.ledger.sent_since(ward.time.now()) == ()
    slow = Paces({"pacs": target(bytes_per_second=1)}, clock=lambda: START, monotonic=ward.time.monotonic)
    slow.recall([("pacs", ward.time.now(), 50), ("gone", START, 5)])  # the clock was set back since
    assert slow.wait("pacs", 0) == 50
