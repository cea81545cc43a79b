"""What is begun ahead of a stage: once for the same input, kept for few works, and never two where there is room for one."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

import pytest

from dicomnode.workflow.ahead import Ahead, let_go
from tests.unit.workflow.samples import WORK

OTHER = replace(WORK, revision=WORK.revision + 1)


def test_what_was_begun_is_there_for_who_asks_as_often_as_asked() -> None:
    ahead, makes = Ahead[str](1), list[str]()
    ahead.begin(WORK, "a", lambda: makes.append("a") or "made")  # type: ignore[func-returns-value]
    ahead.begin(WORK, "a", lambda: makes.append("again") or "again")  # type: ignore[func-returns-value]
    assert [ahead.of(WORK, "a"), ahead.of(WORK, "a")] == ["made", "made"]
    assert makes == ["a"]
    assert ahead.of(WORK, "b") is None, "of another input"
    assert ahead.of(OTHER, "a") is None
    ahead.forget(WORK)
    ahead.forget(WORK)
    assert ahead.of(WORK, "a") is None


def test_of_another_input_it_is_begun_anew_when_the_first_has_ended() -> None:
    ahead, go_on, order = Ahead[str](1), threading.Event(), list[str]()

    def first() -> str:
        assert go_on.wait(30)
        order.append("first")
        return "first"

    def second() -> str:
        order.append("second")
        return "second"

    ahead.begin(WORK, "a", first)
    ahead.forget(WORK)
    threading.Timer(0.05, go_on.set).start()
    ahead.begin(WORK, "b", second)
    assert ahead.of(WORK, "b") == "second"
    assert order == ["first", "second"]


def test_what_was_begun_of_another_input_gives_way() -> None:
    ahead = Ahead[str](2)
    ahead.begin(WORK, "a", lambda: "of a")
    assert ahead.of(WORK, "a") == "of a"
    ahead.begin(WORK, "b", lambda: "of b")
    assert ahead.of(WORK, "b") == "of b"
    assert ahead.of(WORK, "a") is None


def test_a_stage_that_finds_nothing_begun_waits_for_what_nobody_asks_for() -> None:
    ahead, go_on, ended = Ahead[str](1), threading.Event(), list[bool]()
    ahead.begin(WORK, "a", lambda: ended.append(go_on.wait(30)) or "made")  # type: ignore[func-returns-value]
    ahead.forget(WORK)
    threading.Timer(0.05, go_on.set).start()
    assert ahead.of(OTHER, "b") is None
    assert ended == [True]


@pytest.mark.parametrize("places", [1, 2])
def test_of_no_more_works_than_there_is_room_for(places: int) -> None:
    ahead = Ahead[str](places)
    ahead.begin(WORK, "a", lambda: "one")
    assert ahead.of(WORK, "a") == "one"
    ahead.begin(OTHER, "a", lambda: "other")
    assert ahead.of(OTHER, "a") == "other"
    assert ahead.of(WORK, "a") == (None if places == 1 else "one")


def test_who_asks_is_told_what_went_wrong_and_then_does_it_himself() -> None:
    ahead = Ahead[str](1)

    def fails() -> str:
        raise KeyError("gone")

    ahead.begin(WORK, "a", fails)
    with pytest.raises(KeyError):
        ahead.of(WORK, "a")
    assert ahead.of(WORK, "a") is None


def test_things_are_let_go_of_one_by_one() -> None:
    things = deque([1, 2])
    one = let_go(things)
    assert next(one) == 1
    assert list(things) == [2]
    assert list(one) == [2]
    assert not things


def test_without_room_for_a_thread_the_stage_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ahead = Ahead[str](1)
    monkeypatch.setattr(threading.Thread, "start", no_room)
    ahead.begin(WORK, "a", lambda: "made")
    assert ahead.of(WORK, "a") is None
