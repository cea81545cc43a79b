"""Whether queues stand still: what is due does not become ready, or what is ready does not begin though there is room.

Threads of the library see to both. They have no pulse of their own, and swallow what fails in them: their pulses are what
comes of their work. None ends the node: what fails each time, as on a full disk, a new start does not mend. Pure: it is told
what the queues hold.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from dicomnode.pulses import NEAR_SECONDS, Pulse

#: Name of the pulse of what makes ready what is due, and beginning of those of what begins it, the queue's name behind.
DELAYS: Final = "queue-delays"
STARTS: Final = "queue-starts-"


class Standstill:
    """Looks at queues from time to time; two looks that show the same are a standstill.

    Parameters
    ----------
    places
        Workflows at a time, of each queue that has more than one place.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._under_way = Counter[str]()
        self._begun = Counter[str]()
        self._seen: dict[str, int] = {}
        self._known: dict[str, Pulse] = {}
        #: Each is at work while what it stands for does not happen.
        self.pulses: list[Pulse] = []

    @contextmanager
    def one(self, queue: str) -> Iterator[None]:
        """A workflow of a queue, from its begin to its end."""
        with self._lock:
            self._begun[queue] += 1
            self._under_way[queue] += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way[queue] -= 1

    def look(self, due: int | None, ready: Collection[str]) -> None:
        """Compare with the look before.

        Parameters
        ----------
        due
            Time of day at which that was due which waits for longest; None where nothing is due.
        ready
            Queues that hold something that may begin. Where nothing began since the look before, and there was room, there
            was room all the time.
        """
        seen = {} if due is None else {DELAYS: due}
        with self._lock:
            free = [queue for queue in ready if self._under_way[queue] < self._places.get(queue, 1)]
            seen |= {f"{STARTS}{queue}": self._begun[queue] for queue in free}
        before, self._seen = self._seen, seen
        for name in {*seen, *self._known}:
            if name in seen and seen[name] == before.get(name):
                pulse = self._pulse(name)
                if not pulse.is_at_work:
                    pulse.work()
            elif (known := self._known.get(name)) is not None:
                known.rest()

    def _pulse(self, name: str) -> Pulse:
        if (found := self._known.get(name)) is None:
            found = self._known[name] = Pulse(name, NEAR_SECONDS)
            self.pulses.append(found)
        return found
