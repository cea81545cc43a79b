"""Which studies are stopped: floods of old ones, those past an age, those that somebody cancelled; and what is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicomnode.routing_rules import FloodGuardSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import Mark
from dicomnode.workflow.routing import Route
from dicomnode.workflow.standing import Ruling, Standing
from tests.unit.workflow.samples import STUDY, Time, row

OLD = Route(shares={}, age_days=400)
NEW = Route(shares={}, age_days=2)
UNKNOWN = Route(shares={})
MOST = 3


class Guard:
    """A site that works on three old studies an hour."""

    def __init__(self, ledger: Ledger, time: Time, **settings: float) -> None:
        section = FloodGuardSection.model_validate({"burst_studies": MOST, **settings})
        self.ledger, self.time = ledger, time
        self.standing = Standing(ledger, section, clock=time.now)

    def judge(self, number: int, route: Route = OLD, *, begun: bool = False, ordered: bool = False) -> Ruling:
        with self.ledger.transaction() as connection:
            return self.standing.judge(connection, key_of(number), route, revision=1, begun=begun, ordered=ordered)

    def mark(self, number: int) -> Mark | None:
        found = self.ledger.mark(key_of(number))
        return None if found is None else found.mark


def key_of(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def guard(ledger: Ledger, time: Time) -> Guard:
    return Guard(ledger, time)


def flood(guard: Guard, count: int) -> list[Ruling]:
    return [guard.judge(number) for number in range(count)]


def test_a_few_old_studies_are_worked_on_and_the_rest_of_a_flood_is_held_with_one_alert(guard: Guard) -> None:
    rulings = flood(guard, 10)
    assert [one.stopped_by for one in rulings] == [None] * MOST + [Mark.FLOOD] * 7
    assert [one.level for one in rulings[MOST:]] == ["warning"] + ["info"] * 6
    assert rulings[MOST].studies == MOST + 1


def test_new_studies_go_through_a_flood(guard: Guard) -> None:
    flood(guard, 10)
    assert guard.judge(99, NEW) == Ruling()
    assert guard.judge(98, UNKNOWN) == Ruling(), "without a date it is not old"
    assert (guard.mark(99), guard.mark(98)) == (None, None)


def test_a_flood_that_lasts_is_held_to_its_end_and_what_comes_later_is_worked_on(guard: Guard) -> None:
    flood(guard, 5)
    guard.time.forward(1800)
    for number in range(50, 50 + MOST):
        assert guard.judge(number).stopped_by is Mark.FLOOD
    guard.time.forward(1801)  # those that were worked on came more than an hour ago; those that are held did not
    assert guard.judge(60).stopped_by is Mark.FLOOD
    guard.time.forward(1800)  # of that hour one is left
    assert guard.judge(61).stopped_by is None
    assert guard.mark(4) is Mark.FLOOD, "until somebody releases it"


def test_the_first_of_the_next_flood_is_told_aloud_again(guard: Guard) -> None:
    flood(guard, 10)
    guard.time.forward(3601)
    later = [guard.judge(number) for number in range(20, 20 + MOST + 2)]
    assert [one.level for one in later if one.stopped_by] == ["warning", "info"]


def test_what_is_held_stays_held_for_its_late_images_and_is_told_once(guard: Guard) -> None:
    flood(guard, MOST + 1)
    for route in (OLD, UNKNOWN):
        assert guard.judge(MOST, route) == Ruling(stopped_by=Mark.FLOOD)
    guard.time.forward(7200)
    assert guard.judge(MOST) == Ruling(stopped_by=Mark.FLOOD)


def test_something_new_that_comes_to_a_study_that_is_held_has_it_worked_on(guard: Guard) -> None:
    flood(guard, MOST + 1)
    assert guard.judge(MOST, NEW) == Ruling(was_stopped=True)
    assert guard.mark(MOST) is Mark.RELEASED
    assert guard.judge(MOST, OLD) == Ruling()


def test_what_somebody_orders_is_worked_on_and_so_is_what_comes_to_it_later(guard: Guard) -> None:
    flood(guard, MOST + 1)
    assert guard.judge(MOST, ordered=True) == Ruling(was_stopped=True)
    assert guard.judge(MOST) == Ruling()
    assert guard.mark(MOST) is Mark.RELEASED


def test_a_study_that_was_begun_goes_on(guard: Guard) -> None:
    flood(guard, MOST + 1)
    assert guard.judge(50, begun=True) == Ruling()
    assert guard.mark(50) is None


def test_a_brake_of_nought_holds_nothing_and_lets_nothing_go(ledger: Ledger, time: Time) -> None:
    flood(Guard(ledger, time), MOST + 1)
    off = Guard(ledger, time, burst_studies=0)
    assert off.judge(50) == Ruling()
    assert off.judge(MOST) == Ruling(stopped_by=Mark.FLOOD)
    assert off.standing.is_watched(key_of(MOST))
    assert not off.standing.is_watched(key_of(77))


def test_a_study_past_the_age_of_the_site_is_held_from_the_first_with_one_alert(guard: Guard) -> None:
    past = replace(OLD, old_days=400)
    rulings = [guard.judge(number, past) for number in range(3)]
    assert {one.stopped_by for one in rulings} == {Mark.OLD}
    assert [one.level for one in rulings] == ["warning", "info", "info"]
    assert guard.judge(0, past) == Ruling(stopped_by=Mark.OLD), "told once"
    assert guard.judge(1, NEW).was_stopped
    assert guard.judge(2, OLD) == Ruling(), "the site has raised its age since"
    assert guard.judge(3, past, ordered=True) == Ruling()
    assert guard.mark(3) is Mark.RELEASED


def test_nothing_is_made_of_a_cancelled_study_until_it_is_ordered(guard: Guard) -> None:
    guard.ledger.put_mark(key_of(0), Mark.CANCELLED, 1, guard.time.now())

    def judge(revision: int, *, ordered: bool = False) -> Ruling:
        with guard.ledger.transaction() as connection:
            return guard.standing.judge(connection, key_of(0), NEW, revision=revision, begun=True, ordered=ordered)

    assert judge(2) == Ruling(stopped_by=Mark.CANCELLED, level="warning")
    assert judge(3) == Ruling(stopped_by=Mark.CANCELLED), "told once"
    assert judge(4, ordered=True) == Ruling(was_stopped=True)
    assert judge(5) == Ruling()


def test_dates_are_read_where_many_studies_come_and_of_marked_ones(guard: Guard) -> None:
    for number in range(2):
        assert not guard.standing.is_watched(STUDY), "few come"
        study = key_of(number)
        guard.ledger.record_instances([replace(row(number, study_key=study), received_at=guard.time.now())])
    assert guard.standing.is_watched(STUDY)
    guard.time.forward(3601)
    assert not guard.standing.is_watched(STUDY)
    guard.ledger.put_mark(STUDY, Mark.FLOOD, 1, guard.time.now())
    assert guard.standing.is_watched(STUDY)
    guard.ledger.purge_study(STUDY)
    assert guard.ledger.mark(STUDY) is None
