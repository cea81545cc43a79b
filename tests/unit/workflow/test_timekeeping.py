"""Jumps of the wall clock: what is reckoned by the sure time neither ends nor is shredded for them, and yet in due time."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.workflow.timekeeping import GRACE_SECONDS, Timekeeper
from tests.unit.workflow.samples import START, Events

HOUR, DAY = 3600.0, 86400.0


class Clocks:
    """A wall clock that can be set, beside one that cannot; the node is stopped and started in between."""

    def __init__(self, folder: Path) -> None:
        self.path, self.events = folder / "clock.json", Events()
        self.wall, self.seconds = 0.0, 50.0
        self.start()

    def start(self) -> None:
        self.keeper = Timekeeper(self.path, clock=self.now, monotonic=lambda: self.seconds, emit=self.events)

    def restart(self, stopped: float = 60.0) -> None:
        """After a kill: what was not kept is lost, and the monotonic clock is another one."""
        self.wall += stopped
        self.seconds = 7.0
        self.start()

    def now(self) -> datetime:
        return START + timedelta(seconds=self.wall)

    def run(self, seconds: float) -> None:
        self.wall += seconds
        self.seconds += seconds
        self.keeper.keep()

    @property
    def sure(self) -> float:
        return (self.keeper.sure() - START).total_seconds()

    @property
    def late(self) -> float:
        return (self.keeper.late() - START).total_seconds()

    @property
    def told(self) -> list[object]:
        return [facts["seconds"] for facts in self.events.facts("clock.jumped")]


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    return Clocks(tmp_path)


def test_a_clock_that_nobody_sets_is_believed(clocks: Clocks) -> None:
    for _ in range(100):
        clocks.run(HOUR)
        clocks.wall += 2  # it drifts, and is slewed
    assert clocks.sure == clocks.wall
    clocks.restart(20 * HOUR)
    assert clocks.sure == clocks.wall
    assert clocks.told == []


@pytest.mark.parametrize("days", [7, 30])
def test_what_a_clock_gained_at_a_stroke_is_believed_when_it_stays_for_a_day(clocks: Clocks, days: float) -> None:
    clocks.run(HOUR)
    clocks.wall += days * DAY
    assert clocks.sure == HOUR
    clocks.run(GRACE_SECONDS - 1)
    assert clocks.sure == clocks.wall - days * DAY
    clocks.run(1)
    assert clocks.sure == clocks.wall
    assert clocks.told == [days * DAY]


def test_a_clock_that_is_set_right_again_was_never_believed(clocks: Clocks) -> None:
    clocks.wall += 30 * DAY
    clocks.run(HOUR)
    clocks.wall -= 30 * DAY
    assert clocks.sure == clocks.wall == HOUR
    clocks.run(2 * GRACE_SECONDS)
    assert clocks.sure == clocks.wall
    assert clocks.told == [30 * DAY, -30 * DAY]


def test_a_clock_that_is_wrong_at_a_start_is_not_believed_nor_after_the_next_ones(clocks: Clocks) -> None:
    clocks.run(HOUR)
    for _ in range(5):
        clocks.restart(30 * DAY if not clocks.told else 60.0)
        clocks.run(HOUR)
        assert clocks.sure < 7 * HOUR
    assert clocks.told == [30 * DAY]
    clocks.restart(-30 * DAY)
    assert clocks.sure == clocks.wall


def test_what_passed_while_no_node_ran_may_have_passed_and_what_a_running_one_saw_jump_has_not(clocks: Clocks) -> None:
    clocks.run(HOUR)
    clocks.wall += 5 * HOUR
    clocks.run(HOUR)
    assert (clocks.sure, clocks.late) == (2 * HOUR, 2 * HOUR)
    clocks.restart(60 * HOUR)
    assert (clocks.sure, clocks.late) == (2 * HOUR, 62 * HOUR)
    clocks.run(HOUR)
    clocks.restart(0.0)
    assert (clocks.sure, clocks.late) == (3 * HOUR, 63 * HOUR)
    clocks.wall -= 60 * HOUR
    assert clocks.late == 3 * HOUR


def test_jumps_that_an_earlier_release_wrote_down_are_those_of_a_running_node(clocks: Clocks) -> None:
    clocks.path.write_text(json.dumps({"seen": clocks.now().timestamp() + 9 * HOUR, "jumps": [[9 * HOUR, 0.0]]}))
    clocks.restart(9 * HOUR)
    assert (clocks.sure, clocks.late) == (0.0, 0.0)


def test_a_jump_that_was_not_kept_before_a_kill_is_found_again(clocks: Clocks) -> None:
    clocks.run(HOUR)
    clocks.wall += 30 * DAY
    assert clocks.sure == HOUR
    clocks.restart()
    assert clocks.sure == HOUR
    assert clocks.told == [30 * DAY, 30 * DAY + 60]


def test_a_node_that_was_off_for_a_month_goes_on_in_due_time_however_short_it_runs(clocks: Clocks) -> None:
    """An hour each week: every stop is a jump, and each is believed after so many hours."""
    clocks.run(HOUR)
    for week in range(60):
        clocks.restart(30 * DAY if not week else 7 * DAY)
        clocks.run(HOUR)
    assert clocks.wall - clocks.sure == pytest.approx(23 * 7 * DAY)
    clocks.run(GRACE_SECONDS)
    assert clocks.sure == clocks.wall


def test_a_clock_that_was_set_back_makes_nothing_older(clocks: Clocks) -> None:
    clocks.run(40 * DAY)
    clocks.restart(-39 * DAY)
    assert clocks.sure == clocks.wall == DAY
    assert clocks.told == [-39 * DAY]


def test_a_part_of_a_jump_that_is_taken_back_leaves_the_rest(clocks: Clocks) -> None:
    clocks.wall += 10 * DAY
    assert clocks.sure == 0
    clocks.wall += 20 * DAY
    assert clocks.sure == 0
    clocks.wall -= 25 * DAY
    assert clocks.sure == 0
    clocks.wall -= 5 * DAY
    assert clocks.sure == clocks.wall == 0


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"seen": "x", "jumps": []}', '{"seen": 1e300, "jumps": []}', '{"seen": 1, "jumps": [[NaN, 0]]}',
     '{"seen": 1, "jumps": [[1, -1]]}', '{"seen": 1, "jumps": [[1e99, 0]]}', '{"seen": 1}', "\\ud800"],
)  # fmt: skip
def test_what_cannot_be_read_is_as_a_first_start(clocks: Clocks, text: str) -> None:
    clocks.path.write_text(text)
    clocks.restart()
    assert clocks.sure == clocks.wall
    assert clocks.told == []


def test_a_disk_that_refuses_is_told_as_every_other_fault(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path, target: Path) -> None:
        raise OSError(28, "no")

    monkeypatch.setattr(Path, "replace", refuses)
    with pytest.raises(StorageError, match="storage-full"):
        clocks.keeper.keep()


def test_a_disk_that_does_not_give_what_was_written_down_is_no_first_start(
    clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is wrong would be believed at once."""
    clocks.run(HOUR)

    def refuses(path: Path) -> bytes:
        raise OSError(5, "no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuses)
        with pytest.raises(StorageError, match="storage-failed"):
            clocks.restart(30 * DAY)
    clocks.restart()
    assert clocks.sure == HOUR
