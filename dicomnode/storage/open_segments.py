"""The segments that a process has open: each has one user at a time, and waits for the next record of its study.

Also the buffers that records are sealed into. Nothing of folders, keys or formats is known here.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.storage import files
from dicomnode.storage.open_segment import OpenSegment
from dicomnode.storage.writer import aligned_buffer

_IDLE_STAGES: Final = 8
_ATTEMPTS: Final = 3


class OpenSegments:
    """Open segments; safe to use from many threads.

    Parameters
    ----------
    begin
        Makes a new segment of a study.
    stage_bytes
        Size of a buffer.
    segment_bytes
        Size at which a segment is closed.
    most_open
        Segments above this number are closed, those first that were used least recently.
    blank
        Whether another segment would be made of a blank file: then one that has used up its own is closed.
    """

    def __init__(
        self,
        begin: Callable[[str, memoryview], OpenSegment],
        *,
        stage_bytes: int,
        segment_bytes: int,
        most_open: int,
        blank: Callable[[], bool] = bool,
    ) -> None:
        self._begin = begin
        self._stage_bytes = stage_bytes
        self._segment_bytes = segment_bytes
        self._most_open = most_open
        self._blank = blank
        self._lock = threading.Lock()
        self._idle: OrderedDict[str, list[OpenSegment]] = OrderedDict()
        self._busy: dict[OpenSegment, bool] = {}  # True: to be closed when its user is done
        self._purged: set[OpenSegment] = set()
        self._purges = 0
        self._stages: list[mmap.mmap] = []
        self._ended = False

    @contextlib.contextmanager
    def stage(self) -> Iterator[memoryview]:
        """A buffer that a record is sealed into, for a while."""
        buffer = self.borrow()
        try:
            yield memoryview(buffer)
        finally:
            self.bring_back(buffer)

    def borrow(self) -> mmap.mmap:
        """A buffer that a record is sealed into."""
        with self._lock:
            buffer = self._stages.pop() if self._stages else None
        return buffer or aligned_buffer(self._stage_bytes)

    def bring_back(self, buffer: mmap.mmap) -> None:
        """Give a buffer back; no view of it may be left."""
        with self._lock:
            if len(self._stages) < _IDLE_STAGES:
                self._stages.append(buffer)

    def take(self, study_key: str) -> OpenSegment:
        """A segment of the study for this thread alone."""
        for _ in range(_ATTEMPTS):
            with self._lock:
                if self._ended:
                    raise StorageError("storage-failed", closed=1)
                waiting = self._idle.get(study_key)
                if waiting:
                    open_segment = waiting.pop()
                    if not waiting:
                        del self._idle[study_key]
                    self._busy[open_segment] = False
                    return open_segment
                purges = self._purges
            with self.stage() as stage:
                open_segment = self._begin(study_key, stage)
            with self._lock:
                if purges == self._purges:
                    self._busy[open_segment] = False
                    return open_segment
            with files.disk_errors():  # a purge may have taken the new file with it: once more
                open_segment.remove()
        raise StorageError("storage-failed", attempts=_ATTEMPTS)

    def close_study(self, study_key: str) -> None:
        """Close this process's segments of a study; those in use when their users are done."""
        with self._lock:
            idle = self._idle.pop(study_key, [])
            for busy in self._busy:
                self._busy[busy] = self._busy[busy] or busy.study_key == study_key
        self._finish(idle)

    def purge(self, study_key: str) -> None:
        """Abandon the segments of a study; a record that is being appended to one fails when it ends."""
        with self._lock:
            self._purges += 1
            idle = self._idle.pop(study_key, [])
            self._purged.update(busy for busy in self._busy if busy.study_key == study_key)
        for open_segment in idle:
            open_segment.abandon()

    def close(self) -> None:
        """Close all; those in use when their users are done. Nothing is taken any more."""
        with self._lock:
            self._ended = True
            idle = [open_segment for segments in self._idle.values() for open_segment in segments]
            self._idle.clear()
            for busy in self._busy:
                self._busy[busy] = True
        self._finish(idle)

    def give_back(self, open_segment: OpenSegment, stage: memoryview) -> None:
        """The user of a segment is done; a StorageError if its study was purged meanwhile."""
        finished: list[OpenSegment] = []
        with self._lock:
            to_close = self._busy.pop(open_segment)
            purged = open_segment in self._purged
            self._purged.discard(open_segment)
            if not purged:
                if to_close or self._ended or self._is_full(open_segment):
                    finished.append(open_segment)
                else:
                    self._idle.setdefault(open_segment.study_key, []).append(open_segment)
                    self._idle.move_to_end(open_segment.study_key)
                finished += self._surplus()
        if purged:
            open_segment.abandon()
            raise StorageError("storage-failed", purged=1)
        for each in finished:
            _close(each, stage)

    def _is_full(self, open_segment: OpenSegment) -> bool:
        return open_segment.position >= self._segment_bytes or (open_segment.used_up and self._blank())

    def _surplus(self) -> list[OpenSegment]:
        """Idle segments above the cap, those first that were used least recently."""
        surplus = []
        count = len(self._busy) + sum(map(len, self._idle.values()))
        while count > self._most_open and self._idle:
            study_key, segments = next(iter(self._idle.items()))
            surplus.append(segments.pop(0))
            count -= 1
            if not segments:
                del self._idle[study_key]
        return surplus

    def retire(self, open_segment: OpenSegment) -> None:
        """After a failure: cut off what may be torn and never write there again."""
        with self._lock:
            self._busy.pop(open_segment)
            self._purged.discard(open_segment)
        with contextlib.suppress(OSError):  # a torn record behind the last whole one is not believed anyway
            if open_segment.records:
                open_segment.truncate()
            else:
                open_segment.remove()
        open_segment.abandon()

    def _finish(self, open_segments: list[OpenSegment]) -> None:
        if open_segments:
            with self.stage() as stage:
                for each in open_segments:
                    _close(each, stage)


def _close(open_segment: OpenSegment, stage: memoryview) -> None:
    """Close a segment; where the disk refuses, leave it as a crash would: its records stay readable."""
    try:
        if open_segment.records:
            open_segment.close(stage)
        else:
            open_segment.remove()
    except OSError:
        open_segment.abandon()
