from __future__ import annotations

import threading

from dicomnode.workflow.activity import Activity, ActivityTable


def only(table: ActivityTable) -> Activity:
    (activity,) = table.snapshot()
    return activity


def test_a_study_is_open_while_an_association_carries_it() -> None:
    table = ActivityTable()
    table.received("s", "a", 1.0)
    table.received("s", "b", 2.0)
    assert only(table) == Activity(
        study_key="s", first_received=1.0, last_received=2.0, last_released=None, open_associations=2
    )
    assert table.ended("a", 3.0) == ("s",)
    assert only(table) == Activity(
        study_key="s", first_received=1.0, last_received=2.0, last_released=3.0, open_associations=1
    )
    assert table.ended("b", 4.0) == ("s",)
    assert only(table).open_associations == 0


def test_an_association_tells_every_study_that_it_carried() -> None:
    table = ActivityTable()
    table.received("s", "a", 1.0)
    table.received("t", "a", 1.0)
    table.received("u", "b", 1.0)
    assert sorted(table.ended("a", 2.0)) == ["s", "t"]
    assert table.ended("a", 2.0) == ()
    assert table.ended("never seen", 2.0) == ()


def test_an_association_has_moved_on_with_another_study_until_it_comes_back() -> None:
    table = ActivityTable()
    table.received("s", "a", 1.0)
    table.received("s", "b", 1.0)
    table.received("t", "a", 2.0)
    assert not table.snapshot()[0].has_moved_on, "one of them may bring more"
    table.ended("b", 3.0)
    assert [one.has_moved_on for one in table.snapshot()] == [True, False]
    table.received("s", "a", 4.0)
    assert [one.has_moved_on for one in table.snapshot()] == [False, True]
    table.ended("a", 5.0)
    assert [one.has_moved_on for one in table.snapshot()] == [False, False], "nothing is open"


def test_what_a_dead_receiver_left_untold_has_not_moved_on() -> None:
    table = ActivityTable()
    for study in ("s", "t", "u"):
        table.held(study, "mark", 1.0)
    assert [(one.open_associations, one.has_moved_on) for one in table.snapshot()] == [(1, False)] * 3
    assert table.ended("mark", 2.0) == ("s", "t", "u")


def test_times_never_run_backwards_when_threads_overtake_each_other() -> None:
    table = ActivityTable()
    table.received("s", "a", 5.0)
    table.received("s", "a", 4.0)
    assert only(table).last_received == 5.0


def test_what_is_remembered_counts_as_released_and_never_hides_what_came_since() -> None:
    table = ActivityTable()
    table.remembered("s", 1.0)
    assert only(table) == Activity(
        study_key="s", first_received=1.0, last_received=1.0, last_released=1.0, open_associations=0
    )
    table.received("s", "a", 7.0)
    table.remembered("s", 1.0)
    assert only(table).last_received == 7.0


def test_a_settled_study_is_forgotten_unless_it_goes_on() -> None:
    table = ActivityTable()
    table.forget("never seen", 1.0)
    table.received("s", "a", 1.0)
    table.forget("s", 1.0)
    assert table.snapshot() == (), "the association that carried it may stay open all day"
    table.received("s", "a", 2.0)
    assert only(table).open_associations == 1
    table.ended("a", 2.0)
    table.received("s", "b", 3.0)
    table.ended("b", 3.0)
    table.forget("s", 1.0)
    assert only(table).last_received == 3.0, "an instance came after the look"
    table.forget("s", 3.0)
    assert table.snapshot() == ()


def test_a_study_stays_open_until_the_last_of_several_arrivals_is_durable() -> None:
    table = ActivityTable()
    with table.arriving("a"):
        with table.arriving("a"):
            pass
        with table.closed("a") as free:
            assert not free
    with table.closed("a") as free:
        assert free


def test_a_study_is_open_until_it_is_settled() -> None:
    table = ActivityTable()
    assert not table.is_open("a")
    table.remembered("a", 1.0)
    assert table.is_open("a")
    table.forget("a", 1.0)
    assert not table.is_open("a")


def test_while_nobody_listened_no_sender_was_silent() -> None:
    table = ActivityTable()
    table.remembered("before", 1.0)
    table.received("here", "a", 2.0)
    table.deaf_until(5.0)
    before, here = table.snapshot()
    assert (before.last_received, before.last_released) == (5.0, 5.0)
    assert (here.last_received, here.last_released, here.open_associations) == (2.0, None, 1)


def test_a_study_that_two_keep_closed_stays_so_until_the_last_of_them_is_done() -> None:
    """It is being closed while it is about to be purged: what arrives then would be purged with it."""
    table, arrived = ActivityTable(), threading.Event()

    def arrive() -> None:
        with table.arriving("s"):
            arrived.set()

    thread = threading.Thread(target=arrive)
    with table.closed("s") as free:
        assert free
        with table.closed("s") as also:
            assert also
        thread.start()
        assert not arrived.wait(0.1)
    assert arrived.wait(20)
    thread.join(20)


def test_an_instance_that_comes_while_an_endless_study_settles_begins_its_time_anew() -> None:
    table = ActivityTable()
    table.received("s", "a", 1.0)
    table.received("s", "a", 5.0)
    table.forget("s", 1.0, is_late=True)
    (left,) = table.snapshot()
    assert (left.first_received, left.last_received, left.is_late) == (5.0, 5.0, True)
