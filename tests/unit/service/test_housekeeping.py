from __future__ import annotations

import threading
import time as clock

from dicomnode.errors import StorageError
from dicomnode.service.housekeeping import Chore, Households, Housekeeping
from tests.unit.workflow.samples import Events, Time


def keeper(time: Time, events: Events, *chores: Chore) -> Housekeeping:
    return Housekeeping(chores, monotonic=time.monotonic, emit=events)


def test_each_chore_is_done_at_once_and_then_at_its_interval() -> None:
    time, done = Time(), list[str]()
    house = keeper(
        time,
        Events(),
        Chore(name="often", act=lambda: done.append("often"), every_seconds=15),
        Chore(name="seldom", act=lambda: done.append("seldom"), every_seconds=40),
    )
    assert house.look() == 15.0
    assert done == ["often", "seldom"]
    time.forward(14)
    assert house.look() == 1.0
    for _ in range(4):
        time.forward(15)
        house.look()
    assert done == ["often", "seldom", "often", "often", "seldom", "often", "often"]


def test_a_chore_that_fails_is_told_hinders_no_other_and_is_done_again() -> None:
    time, events, done = Time(), Events(), list[str]()
    errors: list[Exception] = [ValueError("Mueller^Juergen"), StorageError("ledger-failed")]

    def fails() -> None:
        if errors:
            raise errors.pop()

    house = keeper(
        time,
        events,
        Chore(name="bad", act=fails, every_seconds=1),
        Chore(name="good", act=lambda: done.append("x"), every_seconds=1),
    )
    for _ in range(3):
        house.look()
        time.forward(1)
    assert done == ["x"] * 3
    assert [(facts["stage"], facts["reason"]) for facts in events.facts("node.fault")] == [
        ("bad", "ledger-failed"),
        ("bad", "internal"),
    ]
    assert "Mueller" not in repr(events.seen)


def test_an_end_comes_after_the_chore_that_runs_and_before_the_next() -> None:
    began, go_on, again = threading.Event(), threading.Event(), list[str]()

    def long() -> None:
        began.set()
        assert go_on.wait(10)

    house = keeper(
        Time(),
        Events(),
        Chore(name="long", act=long, every_seconds=0),
        Chore(name="never", act=lambda: again.append("x"), every_seconds=0),
    )
    house.begin()
    assert began.wait(10)
    house.end(0)
    go_on.set()
    house.end(10)
    assert not house._thread.is_alive()
    assert again == []


def test_one_that_waits_ends_at_once_and_one_that_never_began_too() -> None:
    began = threading.Event()
    house = keeper(Time(), Events(), Chore(name="once", act=began.set, every_seconds=1000))
    house.begin()
    assert began.wait(10)
    house.end(10)
    assert not house._thread.is_alive()
    keeper(Time(), Events()).end(0)


def test_a_chore_that_waits_for_somebody_keeps_no_chore_of_another_thread_from_its_time() -> None:
    go_on, done = threading.Event(), threading.Semaphore(0)
    waits = keeper(Time(), Events(), Chore(name="asks", act=lambda: go_on.wait(20), every_seconds=1000))
    works = Housekeeping(
        [Chore(name="orders", act=done.release, every_seconds=0.001)], monotonic=clock.monotonic, emit=Events()
    )
    both = Households(waits, works)
    both.begin()
    try:
        assert all(done.acquire(timeout=20) for _ in range(3))
    finally:
        go_on.set()
        both.end(20)
    assert not any(one._thread.is_alive() for one in (waits, works))
