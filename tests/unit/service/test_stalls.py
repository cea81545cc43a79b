"""Threads that hang are told once, shown while they do, and end the node only where it cannot work without one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dicomnode.pulses import LOOK_SECONDS, Pulse
from dicomnode.service import stalls as room
from dicomnode.service.housekeeping import Chore, Housekeeping
from dicomnode.service.stalls import Stalls, read_stalls


class Case:
    """What a node's main thread sees."""

    def __init__(self, path: Path) -> None:
        self.now = 0.0
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.path = path
        self.stalls = Stalls(path, clock=self.clock, monotonic=lambda: self.now, emit=self.emit)

    def clock(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.now, UTC)

    def emit(self, name: str, /, *, level: str = "info", **facts: Any) -> None:
        self.told.append((name, facts))

    def look_for(self, seconds: float, *pulses: Pulse) -> bool:
        """Look again and again; whether the node is to be given up."""
        given_up = False
        for _ in range(int(seconds / LOOK_SECONDS)):
            self.now += LOOK_SECONDS
            given_up |= self.stalls.look(pulses)
            self._written()
        return given_up

    def _written(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "stalls":
                thread.join(30)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path / "stalls.json")


@contextmanager
def blocked(seconds: float) -> Iterator[tuple[Housekeeping, threading.Event]]:
    """A thread whose chore does not return before the event is set."""
    begun, answers = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        answers.wait(60)

    pulse = Pulse("errands", seconds)
    keeping = Housekeeping(
        (Chore(name="originals", act=wait, every_seconds=3600),),
        monotonic=time.monotonic, emit=lambda *_, **__: None, pulse=pulse,
    )  # fmt: skip
    keeping.begin()
    assert begun.wait(30)
    try:
        yield keeping, answers
    finally:
        answers.set()
        keeping.end(30)


def test_a_thread_that_is_blocked_in_a_call_is_told_once_and_shown_until_it_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "stalls.json"
    stalls = Stalls(
        path, clock=lambda: datetime.now(UTC), monotonic=time.monotonic, emit=lambda name, **_: told.append(name)
    )
    with blocked(0.2) as (keeping, answers):
        until = time.monotonic() + 30
        while not read_stalls(path) and time.monotonic() < until:
            assert not stalls.look([keeping.pulse])
            time.sleep(0.02)
        assert [one["thread"] for one in read_stalls(path)] == ["errands"]
        for _ in range(20):
            stalls.look([keeping.pulse])
        assert told == ["thread.stalled"]
        answers.set()
        while path.exists() and time.monotonic() < until:
            stalls.look([keeping.pulse])
            time.sleep(0.02)
    assert told == ["thread.stalled", "thread.again"]
    assert read_stalls(path) == ()


def test_what_is_told_names_the_thread_whose_it_is_and_since_when(case: Case) -> None:
    pulse = Pulse("pledges", 60.0, destination="pacs")
    pulse.work()
    assert not case.look_for(600, pulse)
    assert case.told == [
        ("thread.stalled", {"thread": "pledges", "destination": "pacs", "seconds": 60, "reason": "thread-stalled"})
    ]
    (shown,) = read_stalls(case.path)
    assert shown == {"thread": "pledges", "destination": "pacs", "since": "2027-01-15T08:00:05+00:00"}
    pulse.beat()
    case.look_for(10, pulse)
    assert not case.path.exists()


def test_the_node_is_given_up_once_for_who_it_cannot_work_without(case: Case) -> None:
    pulse = Pulse("completion", 60.0, 120.0)
    pulse.work()
    assert not case.look_for(100, pulse)
    assert case.look_for(60, pulse)
    assert not case.look_for(60, pulse)
    assert [name for name, _ in case.told] == ["thread.stalled", "node.hung"]
    assert case.told[1][1] == {"thread": "completion", "reason": "thread-stalled"}
    assert read_stalls(case.path), "a node that is ended by force leaves what it was ended for"


def test_what_a_node_before_this_one_left_is_taken_away_and_so_it_is_at_an_end_in_order(case: Case) -> None:
    case.path.write_text('[{"thread": "completion", "since": "2027-01-15T08:00:00+00:00"}]')
    case.look_for(10)
    assert not case.path.exists()
    pulse = Pulse("folder", 60.0, folder="inbox")
    pulse.work()
    case.look_for(100, pulse)
    assert case.path.exists()
    case.stalls.end()
    assert not case.path.exists()


def test_a_disk_that_does_not_answer_holds_up_no_look(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, answers, writes = threading.Event(), threading.Event(), list[Path]()

    def replace(path: Path, _pieces: object) -> None:
        writes.append(path)
        begun.set()
        answers.wait(60)

    case.look_for(5)
    monkeypatch.setattr(room, "replace_file", replace)
    pulse = Pulse("indexer", 60.0)
    pulse.work()
    for _ in range(100):
        case.now += LOOK_SECONDS
        case.stalls.look([pulse])
        if case.told:
            assert begun.wait(30)
    assert [name for name, _ in case.told] == ["thread.stalled"]
    assert len(writes) == 1, "one thread waits for it, and not one for each look"
    answers.set()
    case.look_for(5, pulse)


def test_what_the_disk_refuses_is_written_later(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse("indexer", 60.0)
    pulse.work()
    with monkeypatch.context() as patched:
        patched.setattr(room, "replace_file", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        case.look_for(100, pulse)
        assert not case.path.exists()
    case.look_for(5, pulse)
    assert read_stalls(case.path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"3", b'["x"]', b"null"])
def test_a_file_that_cannot_be_read_shows_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "stalls.json").write_bytes(content)
    assert read_stalls(tmp_path / "stalls.json") == ()
    assert read_stalls(tmp_path / "none.json") == ()


def test_what_is_shown_is_plain(case: Case) -> None:
    pulse = Pulse("delivery", 5.0, work="0123456789abcdef-1-ct-lung", destination="pacs")
    pulse.work()
    case.look_for(20, pulse)
    (shown,) = json.loads(case.path.read_bytes())
    assert sorted(shown) == ["destination", "since", "thread", "work"]
