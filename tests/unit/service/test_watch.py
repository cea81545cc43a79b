"""When a receiver counts as hanging: long silence, over many looks, and more patience with one that has just begun."""

from __future__ import annotations

from typing import Any

from dicomnode.service.watch import FIRST_SECONDS, Watch


class Seat:
    """What the watch sees of one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.reads = 0
        self.reading = True
        self.killed = 0
        self.channel = self
        self.process = self

    def kill(self) -> None:
        self.killed += 1


class Case:
    """A watch over seats with a clock."""

    def __init__(self, count: int = 1) -> None:
        self.now = 0.0
        self.told: list[dict[str, Any]] = []
        self.seats: Any = [Seat(number + 1) for number in range(count)]
        self.watch = Watch(lambda: self.seats, lambda: self.now, self._emit, silent_seconds=30.0)

    def _emit(self, name: str, /, *, level: str = "info", **facts: Any) -> None:
        assert (name, level, facts["reason"]) == ("receiver.silent", "error", "receiver-failed")
        self.told.append(facts)

    def look_for(self, seconds: float, *speaking: int) -> None:
        for _ in range(int(seconds / 5)):
            self.now += 5
            for number in speaking:
                self.seats[number - 1].reads += 1
            self.watch.look()

    @property
    def killed(self) -> list[int]:
        return [seat.killed for seat in self.seats]


def test_the_silent_one_is_killed_and_those_that_speak_are_not() -> None:
    case = Case(2)
    case.look_for(60, 1, 2)
    case.look_for(25, 1)
    assert case.killed == [0, 0]
    case.look_for(10, 1)
    assert case.killed == [0, 1]
    assert [facts["receiver"] for facts in case.told] == [2]


def test_one_that_has_said_nothing_yet_has_more_time() -> None:
    case = Case()
    case.look_for(FIRST_SECONDS)
    assert case.killed == [0]
    case.look_for(10)
    assert case.killed == [1]


def test_a_node_that_stood_still_itself_does_not_blame_its_receivers() -> None:
    case = Case()
    case.look_for(60, 1)
    case.now += 3600  # stopped, and went on: what they said meanwhile waits to be read
    case.watch.look()
    assert case.killed == [0]
    case.look_for(60, 1)
    assert case.killed == [0]


def test_a_receiver_is_not_silent_while_the_node_does_not_read() -> None:
    """The index is full: what the receiver says waits to be read."""
    case = Case(2)
    case.look_for(60, 1, 2)
    case.seats[0].reading = False
    case.look_for(600, 2)
    assert case.killed == [0, 0]
    case.seats[0].reading = True
    case.look_for(25, 2)
    assert case.killed == [0, 0], "it is given its time from then on"
    case.look_for(10, 2)
    assert case.killed == [1, 0]


def test_the_next_one_in_the_seat_begins_anew() -> None:
    case = Case()
    case.look_for(60, 1)
    case.look_for(25)
    case.seats = [Seat(1)]
    case.look_for(60)
    assert case.killed == [0]


def test_one_that_cannot_even_die_is_told_of_again() -> None:
    case = Case()
    case.look_for(10, 1)
    case.look_for(100)
    assert case.killed == [3]
    assert len(case.told) == 3
