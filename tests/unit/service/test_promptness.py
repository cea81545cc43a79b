"""Short turns are asked for, for a thread and those that it starts; nothing else of its scheduling changes."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dicomnode.service import promptness


def in_a_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def known() -> bool:
    return platform.machine() in promptness._CALLS and promptness.attributes() is not None


@pytest.mark.skipif(not known(), reason="sched_getattr is not to be had here")
def test_a_thread_and_those_that_it_starts_take_short_turns() -> None:
    def short() -> tuple[Any, ...]:
        before = promptness.attributes()
        taken = promptness.take_short_turns()
        return before, taken, promptness.attributes(), in_a_thread(promptness.attributes)

    before, taken, after, child = in_a_thread(short)
    assert taken
    assert before[:5] == after[:5] == child[:5]  # size, policy, flags, nice, priority
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    if release >= (6, 12):
        assert after[5] == child[5] == promptness.TURN_NANOSECONDS != before[5]
    assert promptness.attributes() == before  # this thread's own are as they were


@pytest.mark.skipif(not known(), reason="sched_getattr is not to be had here")
def test_another_policy_stays_as_it_is() -> None:
    def batch() -> tuple[Any, ...]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return promptness.take_short_turns(), promptness.attributes()

    taken, after = in_a_thread(batch)
    assert not taken
    assert after[1] == os.SCHED_BATCH


def test_where_it_cannot_be_had_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert not promptness.take_short_turns()
    monkeypatch.undo()
    monkeypatch.setitem(promptness._CALLS, platform.machine(), (100_000, 100_000))  # no such call
    assert promptness.attributes() is None
    assert not promptness.take_short_turns()
