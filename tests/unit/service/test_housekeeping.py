"""Chores are done when they are due, and outlive their faults."""

from __future__ import annotations

import threading
import time

from dicomnode.errors import StorageError
from dicomnode.service.housekeeping import Chore, Housekeeping
from tests.unit.workflow.samples import Events


class Clock:
    """Seconds that the test sets."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_chore_is_done_at_once_and_then_at_its_interval() -> None:
    clock, done = Clock(), []
    keeping = Housekeeping(
        [
            Chore(name="often", act=lambda: done.append("often"), every_seconds=10),
            Chore(name="seldom", act=lambda: done.append("seldom"), every_seconds=25),
        ],
        monotonic=clock,
        emit=Events(),
    )
    assert keeping.look() == 10
    assert done == ["often", "seldom"]
    clock.seconds = 9.0
    assert keeping.look() == 1
    clock.seconds = 25.0
    keeping.look()
    assert done == ["often", "seldom", "often", "seldom"]


def test_a_chore_that_fails_is_told_and_done_again() -> None:
    clock, log = Clock(), Events()
    faults: list[BaseException] = [StorageError("ledger-failed"), ValueError("Meier^Anna")]

    def act() -> None:
        if faults:
            raise faults.pop(0)
        log("chore.done")

    keeping = Housekeeping([Chore(name="sweep", act=act, every_seconds=1)], monotonic=clock, emit=log)
    for _ in range(3):
        keeping.look()
        clock.seconds += 1
    assert log.names == ["node.fault", "node.fault", "chore.done"]
    assert log.facts("node.fault")[0] == {"stage": "sweep", "reason": "ledger-failed"}
    assert "Meier" not in repr(log.seen)


def test_the_thread_ends_when_it_is_told_to() -> None:
    ran = threading.Event()
    keeping = Housekeeping(
        [Chore(name="one", act=ran.set, every_seconds=3600)], monotonic=time.monotonic, emit=Events()
    )
    keeping.begin()
    assert ran.wait(10)
    keeping.end(10)
    assert not any(thread.name == "housekeeping" and thread.is_alive() for thread in threading.enumerate())
