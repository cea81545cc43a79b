"""Rows that somebody has to decide on: one that cannot be decided for a day stops nobody, and is decided in the end."""

from __future__ import annotations

import threading
from collections import deque

from dicomnode.errors import StorageError
from dicomnode.study import InstanceRow
from dicomnode.workflow.judging import _LONGEST_SECONDS, Judging, _Held
from tests.unit.workflow.samples import STUDY, Events, row


def test_what_was_tried_for_a_day_is_tried_on(events: Events) -> None:
    """A disk that is full overnight: two to the power of its tries would be no number any more, and end the thread."""
    decided, error = list[InstanceRow](), StorageError("storage-full")

    def decide(one: InstanceRow) -> None:
        if full:
            raise error
        decided.append(one)

    full = True
    judging = Judging(decide, decided.append, closed=lambda _: None, ended=threading.Event(), emit=events)
    waiting = row(1, study_key=STUDY)
    judging._held[STUDY] = _Held(rows=deque([waiting]), tries=2000)
    judging._go_on(STUDY)
    assert decided == []
    rest = judging._rest()
    assert rest is not None
    assert 0 < rest <= _LONGEST_SECONDS
    full = False
    judging._go_on(STUDY)
    assert decided == [waiting]
