"""Who is judged to hang: one at work that takes no step, in seconds that the process has lived through, and told once."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest

from dicomnode.pulses import LOOK_SECONDS, Judge, Pulse, Tries


class Court:
    """A judge with a clock; what it said, in words."""

    def __init__(self, *pulses: Pulse) -> None:
        self.now = 1000.0
        self.pulses: Iterable[Pulse] = pulses
        self.judge = Judge(self.now)
        self.said: list[str] = []
        self.hanging: list[str] = []

    def look(self, jump: float = LOOK_SECONDS) -> None:
        self.now += jump
        verdict = self.judge.look(self.pulses, self.now)
        self.said += [f"stalled {pulse.name} {seconds:.0f}" for pulse, seconds in verdict.stalled]
        self.said += [f"again {pulse.name} {seconds:.0f}" for pulse, seconds in verdict.again]
        self.said += [f"hung {verdict.hung.name}"] if verdict.hung is not None else []
        self.hanging = [pulse.name for pulse, _ in verdict.hanging]

    def look_for(self, seconds: float) -> None:
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.look()


def test_who_hangs_is_told_once_within_its_limit_and_once_more_when_it_goes_on() -> None:
    pulse = Pulse("completion", 30.0)
    court = Court(pulse)
    pulse.work()
    court.look_for(30)
    assert court.said == []
    court.look_for(600)
    assert court.said == ["stalled completion 30"]
    assert court.hanging == ["completion"]
    pulse.beat()
    court.look_for(10)
    assert court.said == ["stalled completion 30", "again completion 630"]
    assert court.hanging == []
    court.look_for(30)
    assert court.said[2:] == ["stalled completion 30"], "it hangs anew"
    pulse.rest()
    court.look()
    assert len(court.said) == 4
    assert court.said[3].startswith("again completion")


def test_who_rests_or_takes_steps_or_works_within_its_limit_is_not_told() -> None:
    resting, busy, slow = Pulse("indexer", 30.0, 60.0), Pulse("housekeeping", 30.0, 60.0), Pulse("exports", 7200.0)
    court = Court(resting, busy, slow)
    busy.work()
    slow.work()
    for _ in range(1000):
        court.look()
        busy.beat()
        with resting:
            pass
    assert court.said == []


def test_one_that_ends_while_it_hangs_goes_on_and_another_of_its_name_is_another() -> None:
    tries = Tries("delivery", 30.0)
    court = Court()
    with tries.one(destination="pacs"):
        for _ in range(10):
            court.pulses = tries.pulses
            court.look()
    court.pulses = tries.pulses
    court.look()
    assert court.said == ["stalled delivery 30", "again delivery 50"]
    with pytest.raises(OSError, match="dead"), tries.one(destination="pacs"):
        raise OSError("dead")
    assert tries.pulses == ()


def test_the_node_is_given_up_once_and_only_for_who_it_cannot_work_without() -> None:
    vital, other = Pulse("completion", 30.0, 60.0), Pulse("exports", 30.0)
    court = Court(other, vital)
    other.work()
    court.look_for(600)
    assert court.said == ["stalled exports 30"]
    vital.work()
    court.look_for(600)
    assert court.said[1:] == ["stalled completion 30", "hung completion"]


def test_a_process_that_was_stopped_is_not_given_up() -> None:
    pulse = Pulse("completion", 30.0, 60.0)
    court = Court(pulse)
    pulse.work()
    court.look()
    for jump in (3600.0, 86_400.0, 30.0):  # SIGSTOP, a night, a host that was overloaded: it moves on soon after
        court.look(jump)
        pulse.beat()
        court.look()
    assert court.said == []
    court.look(3600.0)  # what hangs in truth is told all the same
    court.look_for(60)
    assert court.said == ["stalled completion 30", "hung completion"]


def test_a_thread_that_dies_of_an_exception_counts_as_at_work() -> None:
    pulse = Pulse("conflicts", 30.0)
    court = Court(pulse)
    with pulse:
        assert pulse.is_at_work
    assert not pulse.is_at_work
    with pytest.raises(KeyError), pulse:
        raise KeyError("nobody foresaw it")
    court.look_for(60)
    assert court.said == ["stalled conflicts 30"]


def test_tries_of_several_threads_are_judged_each_by_itself() -> None:
    tries, begun, go_on = Tries("priors", 1.0), threading.Barrier(3), threading.Event()

    def fetch(work: str) -> None:
        with tries.one(work=work):
            begun.wait(30)
            go_on.wait(30)

    threads = [threading.Thread(target=fetch, args=(work,)) for work in ("first", "second")]
    for thread in threads:
        thread.start()
    begun.wait(30)
    assert sorted(pulse.about["work"] for pulse in tries.pulses) == ["first", "second"]
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert tries.pulses == ()
