"""Copies that are sealed when nobody waits for it: when they go on, who is told, and what is let go."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

import pytest

from dicomnode.errors import StorageError
from dicomnode.study import WorkKey
from dicomnode.workflow.sealing import PATIENCE_SECONDS, Sealing
from tests.unit.workflow.samples import STUDY, Events, Time

KEY = WorkKey(study_key=STUDY, revision=1, model="lungs")
NEXT = WorkKey(study_key=STUDY, revision=2, model="lungs")


class Safe:
    """Where copies are put."""

    def __init__(self, time: Time, events: Events, places: int = 1) -> None:
        self.sealed: dict[WorkKey, list[bytes]] = {}
        self.error: Exception | None = None
        self.changed = threading.Condition()
        self.reported: list[tuple[str, BaseException]] = []
        self.sealing = Sealing(
            self.put,
            places=places,
            monotonic=time.monotonic,
            report=lambda stage, error: self.reported.append((stage, error)),
            emit=events,
        )

    def put(self, key: WorkKey, copies: Iterable[bytes]) -> None:
        for copy in copies:
            if self.error is not None:
                raise self.error
            with self.changed:
                self.sealed.setdefault(key, []).append(copy)
                self.changed.notify_all()

    def begin(self, key: WorkKey = KEY) -> deque[bytes]:
        copies = deque([b"one", b"two", b"three"])
        self.sealing.begin(key, copies)
        return copies


@pytest.fixture
def safe(time: Time, events: Events) -> Safe:
    return Safe(time, events)


def test_it_stands_back_until_its_time_has_come(safe: Safe, time: Time) -> None:
    safe.begin()
    time.forward(PATIENCE_SECONDS - 0.1)
    safe.sealing.stand_back(KEY, 1.0)
    assert safe.sealing.held_bytes == 11
    assert safe.sealing.holds(STUDY)
    assert safe.sealed == {}
    time.forward(1.0)
    safe.sealing.stand_back(KEY, 0.0)
    with safe.changed:
        assert safe.changed.wait_for(lambda: len(safe.sealed.get(KEY, ())) == 3, 30)
    safe.sealing.finish(KEY)
    assert safe.sealed == {KEY: [b"one", b"two", b"three"]}


def test_who_needs_them_has_them_sealed_at_once_and_in_order(safe: Safe) -> None:
    copies = safe.begin()
    safe.sealing.finish(KEY)
    assert safe.sealed == {KEY: [b"one", b"two", b"three"]}
    assert not copies
    assert safe.sealing.held_bytes == 0
    assert not safe.sealing.holds(STUDY)
    safe.sealing.finish(KEY)
    safe.sealing.stand_back(KEY)


@pytest.mark.parametrize("error", [None, StorageError("storage-full"), ValueError("unforeseen")])
def test_what_is_held_is_let_go_whatever_happens(
    safe: Safe, events: Events, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    told = threading.Event()
    monkeypatch.setattr("dicomnode.workflow.sealing.give_back", told.set)
    safe.error = error
    copies = safe.begin()
    safe.sealing.close(30)
    assert told.wait(30), "its memory goes back to the system"
    assert not copies
    assert safe.sealing.held_bytes == 0
    unsealed: list[dict[str, Any]] = events.facts("copies.unsealed")
    foreseen = [{"work": KEY.workflow_id, "reason": "storage-full"}]
    assert unsealed == (foreseen if isinstance(error, StorageError) else [])
    assert safe.reported == ([("seal", error)] if isinstance(error, ValueError) else [])


@pytest.mark.parametrize(("places", "sealed"), [(1, {KEY}), (2, set())])
def test_of_no_more_works_than_there_is_room_for(time: Time, events: Events, places: int, sealed: set[WorkKey]) -> None:
    safe = Safe(time, events, places)
    safe.begin()
    safe.begin(NEXT)
    assert set(safe.sealed) == sealed
    safe.sealing.close(30)
    assert set(safe.sealed) == {KEY, NEXT}


def test_a_work_that_is_prepared_again_is_sealed_again(safe: Safe) -> None:
    safe.begin()
    safe.begin()
    assert safe.sealed[KEY] == [b"one", b"two", b"three"]
    safe.sealing.finish(KEY)
    assert safe.sealed[KEY] == [b"one", b"two", b"three"] * 2


def test_an_end_is_not_waited_for_for_ever(safe: Safe) -> None:
    entered, free = threading.Event(), threading.Event()

    def put(_: WorkKey, copies: Iterable[bytes]) -> None:
        entered.set()
        free.wait(30)
        list(copies)

    safe.sealing._put = put
    safe.begin()
    safe.sealing.close(0.0)
    assert entered.wait(30)
    assert safe.sealing.held_bytes == 11
    free.set()
    safe.sealing.close(30)
    assert safe.sealing.held_bytes == 0


def no_room(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_room_for_a_thread_they_are_sealed_at_once(safe: Safe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_room)
    safe.begin()
    assert safe.sealed == {KEY: [b"one", b"two", b"three"]}
    assert not safe.sealing.holds(STUDY)
    safe.sealing.finish(KEY)
