"""When and how fast a destination or an export may be sent to, or a source asked: hours, and means of objects and bytes. No clock of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from dicomnode.network.requestor import OutgoingObject
from dicomnode.sections import Place
from dicomnode.workflow.ports import Clock, Monotonic

_STAT: Final = 0
_DAY_SECONDS: Final = 86_400


def seconds_until(hours: Iterable[str], local: datetime) -> float:
    """Seconds until one of the hours begins; 0 within any of them, or where there are none.

    A change to or from summer time on the way is not reckoned with: whoever waits looks again.
    """
    now = local.hour * 3600 + local.minute * 60 + local.second
    waits = []
    for one in hours:
        begin, end = (_second_of(time) for time in one.split("-"))
        if (now - begin) % _DAY_SECONDS < (end - begin) % _DAY_SECONDS:
            return 0
        waits.append((begin - now) % _DAY_SECONDS)
    return min(waits, default=0)


def seconds_open(hours: Iterable[str], since: datetime, local: datetime) -> float:
    """Seconds from one time to another that lie within any of the hours; all of them where there are none."""
    spans = [tuple(_second_of(time) for time in one.split("-")) for one in hours]
    if not spans or since >= local:
        return max((local - since).total_seconds(), 0.0)
    since = since.astimezone(local.tzinfo)
    midnight = since.replace(hour=0, minute=0, second=0, microsecond=0)
    within = [
        (max(start, since), min(start + timedelta(seconds=(end - begin) % _DAY_SECONDS), local))
        for day in range(-1, (local - midnight).days + 1)
        for begin, end in spans
        for start in [midnight + timedelta(days=day, seconds=begin)]
    ]
    total, counted = timedelta(0), since
    for start, end in sorted(within):
        total += max(end - max(start, counted), timedelta(0))
        counted = max(counted, end)
    return total.total_seconds()


def _second_of(time: str) -> int:
    hour, minute = time.split(":")
    return int(hour) * 3600 + int(minute) * 60


class Paces:
    """The paces of all destinations; may be called from any thread.

    What is sent counts after it was sent, and the next waits for it: a work goes out as a whole, and the mean holds.

    Parameters
    ----------
    destinations
        By name.
    clock, monotonic
        Wall clock; seconds that nobody sets.
    """

    def __init__(self, destinations: Mapping[str, Place], *, clock: Clock, monotonic: Monotonic) -> None:
        self._destinations = destinations
        self._clock = clock
        self._monotonic = monotonic
        self._free: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, destination: str, priority: int) -> float:
        """Seconds until a work of this priority may be sent: 0 now. STAT (0) does not wait for hours."""
        target = self._destinations.get(destination)
        if target is None:
            return 0
        closed = 0 if priority == _STAT else seconds_until(target.hours, self._clock().astimezone())
        with self._lock:
            return max(closed, self._free.get(destination, 0) - self._monotonic(), 0)

    def recall(self, sent: Iterable[tuple[str, datetime, int]]) -> None:
        """What was sent before this process began, in its order: destination, when, bytes; a restart is no way round a rate."""
        now = self._clock()
        for destination, at, size in sent:
            self._pass(destination, 1, size, self._monotonic() - max((now - at).total_seconds(), 0))

    def sent(self, destination: str, objects: Sequence[OutgoingObject]) -> None:
        """Objects were sent."""
        self.passed(destination, len(objects), sum(len(one.encoded) for one in objects))

    def passed(self, destination: str, objects: int, size: int) -> None:
        """So many objects, of so many bytes together, were sent or fetched."""
        self._pass(destination, objects, size, self._monotonic())

    def _pass(self, destination: str, objects: int, size: int, at: float) -> None:
        target = self._destinations.get(destination)
        if target is None:
            return
        seconds = 60 * objects / target.objects_per_minute if target.objects_per_minute else 0.0
        if target.bytes_per_second:
            seconds = max(seconds, size / target.bytes_per_second)
        with self._lock:
            self._free[destination] = max(self._free.get(destination, at), at) + seconds
