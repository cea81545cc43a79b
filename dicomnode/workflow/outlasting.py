"""A ledger whose disk is full or fails, under the durable queue: its workflows wait until they can write down what they did.

The library waits so for PostgreSQL that lacks space, not for SQLite: what a workflow could not write down, its end included,
is lost with its thread. For space it waits without end: somebody makes some. What the disk itself fails with may be true of
one page alone, and never pass, while the wait holds the place of all others: that is waited for for minutes, and what is left
then is found and queued again (`claims`, `orders`). May live here: which errors are waited for, for how long, and who
waits. It knows no other way; a version that is built otherwise goes on as it did.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

from dbos import _sys_db

from dicomnode.pulses import NEAR_SECONDS, Pulse
from dicomnode.storage.database import is_of_space, is_of_the_disk

_JUDGE: Final = "retriable_sqlite_exception"
_OF_THE_LIBRARY: Final = getattr(_sys_db, _JUDGE, None)
#: What the library calls the threads that run workflows begins so. All others look again by themselves, and tell.
_WORKFLOW: Final = "dbos-executor-"
#: Name of the pulse of a workflow that waits.
LEDGER: Final = "workflow-ledger"
#: Seconds for which a disk is waited for that fails, and is not full.
_PATIENCE: Final = NEAR_SECONDS


@dataclass(slots=True)
class _Wait:
    """Of one thread.

    Attributes
    ----------
    frame
        Of the library's loop, which asks after each try: as long as the thread is in it, it waits.
    failing
        Since when the disk fails, and is not full.
    """

    frame: FrameType
    pulse: Pulse
    failing: float | None = None


class Outlasting:
    """Judges for the library what its workflows wait for; each that waits has a pulse, at work from the first refusal on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits: dict[int, _Wait] = {}

    def begin(self) -> None:
        """Have the library's workflows wait for their ledger from now on, in this process."""
        if _OF_THE_LIBRARY is not None:
            setattr(_sys_db, _JUDGE, self._is_waited_for)

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of the workflows that wait now."""
        with self._lock:
            stacks = sys._current_frames()
            waits = {thread: one for thread, one in self._waits.items() if _is_in(one.frame, stacks.get(thread))}
            self._waits = waits
            return tuple(one.pulse for one in waits.values())

    def _is_waited_for(self, error: Exception) -> bool:
        if is_of_the_disk(error) and threading.current_thread().name.startswith(_WORKFLOW):
            return self._waits_on(sys._getframe(1), has_space=not is_of_space(error))
        return bool(_OF_THE_LIBRARY is not None and _OF_THE_LIBRARY(error))

    def _waits_on(self, frame: FrameType, *, has_space: bool) -> bool:
        thread, now = threading.get_ident(), time.monotonic()
        with self._lock:
            wait = self._waits.get(thread)
            if wait is None or wait.frame is not frame:
                wait = self._waits[thread] = _Wait(frame, Pulse(LEDGER, NEAR_SECONDS))
                wait.pulse.work()
            if not has_space:
                wait.failing = None
                return True
            if wait.failing is None:
                wait.failing = now
            return now - wait.failing < _PATIENCE


def _is_in(frame: FrameType, stack: FrameType | None) -> bool:
    while stack is not None and stack is not frame:
        stack = stack.f_back
    return stack is not None
