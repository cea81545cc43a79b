"""What is going on right now: which studies are arriving, over which associations, and when each fell silent.

Memory of one process; the ledger holds what must survive. Times are monotonic seconds, handed in by the caller.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from dicomnode.study import PRIORITIES

#: Beyond all priorities.
NOBODY: Final = len(PRIORITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Activity of one study.

    Attributes
    ----------
    first_received, last_received
        Monotonic seconds of its first and of its last instance since it was settled, new or sent again.
    last_released
        Monotonic seconds at which the last association that carried it ended; None while none has.
    open_associations
        Associations that carried it and are still open.
    has_moved_on
        Whether each of these has brought an instance of another study since.
    is_late
        Whether it was settled last since it would not end.
    """

    study_key: str
    first_received: float
    last_received: float
    last_released: float | None
    open_associations: int
    has_moved_on: bool = False
    is_late: bool = False


@dataclass(slots=True)
class _Study:
    first_received: float
    last_received: float
    last_released: float | None = None
    associations: set[str] = field(default_factory=set)


class ActivityTable:
    """Arrivals per study; every method may be called from any thread.

    Attributes
    ----------
    refused_from
        Senders of this priority (0 STAT, 1 routine, 2 research) and of lesser ones bring nothing for now: what they brought
        before waits for too long already. `NOBODY`: all may.
    """

    def __init__(self) -> None:
        self.refused_from = NOBODY
        self._lock = threading.Lock()
        self._opened = threading.Condition(self._lock)
        self._studies: dict[str, _Study] = {}
        self._brings: dict[str, str] = {}  # study of the last instance of each open association
        self._late: set[str] = set()
        self._arriving: dict[str, int] = {}
        self._closed: Counter[str] = Counter()

    @contextmanager
    def arriving(self, study_key: str) -> Iterator[None]:
        """While an instance is made durable: the study cannot be closed meanwhile, and a closed one is waited for."""
        self.arrives(study_key)
        try:
            yield
        finally:
            self.arrived(study_key)

    def arrives(self, study_key: str) -> None:
        """As `arriving`, until `arrived` is called."""
        with self._lock:
            while study_key in self._closed:
                self._opened.wait()
            self._arriving[study_key] = self._arriving.get(study_key, 0) + 1

    def arrived(self, study_key: str) -> None:
        """The end of `arrives`."""
        with self._lock:
            left = self._arriving.pop(study_key) - 1
            if left:
                self._arriving[study_key] = left

    @contextmanager
    def closed(self, study_key: str) -> Iterator[bool]:
        """Keep new instances of a study waiting, to shred it; False where anything of it is under way already."""
        with self._lock:
            free = study_key not in self._arriving and study_key not in self._studies
            if free:
                self._closed[study_key] += 1
        try:
            yield free
        finally:
            with self._lock:
                self._closed[study_key] -= free
                if not self._closed[study_key]:
                    del self._closed[study_key]
                    self._opened.notify_all()

    def received(self, study_key: str, association_id: str, now: float) -> None:
        """An instance of the study was made durable."""
        with self._lock:
            self._received(study_key, association_id, now)
            self._brings[association_id] = study_key

    def held(self, study_key: str, mark: str, now: float) -> None:
        """Of the study something may be durable that nobody told: it arrives as over an association, until this has `ended`."""
        with self._lock:
            self._received(study_key, mark, now)

    def _received(self, study_key: str, association_id: str, now: float) -> None:
        study = self._studies.get(study_key)
        if study is None:
            study = self._studies[study_key] = _Study(now, now)
        study.last_received = max(study.last_received, now)
        study.associations.add(association_id)

    def remembered(self, study_key: str, last_received: float) -> None:
        """A study is known from before this process began."""
        with self._lock:
            if study_key not in self._studies:
                self._studies[study_key] = _Study(last_received, last_received, last_received)

    def deaf_until(self, now: float) -> None:
        """Nobody listened until now: senders of what was remembered were not silent, they could not be heard."""
        with self._lock:
            for study in self._studies.values():
                if not study.associations:
                    study.first_received = max(study.first_received, now)
                    study.last_received = max(study.last_received, now)
                    study.last_released = now

    def ended(self, association_id: str, now: float) -> tuple[str, ...]:
        """An association was released or aborted; returns the studies that it carried."""
        with self._lock:
            self._brings.pop(association_id, None)
            carried = [key for key, study in self._studies.items() if association_id in study.associations]
            for key in carried:
                study = self._studies[key]
                study.associations.discard(association_id)
                study.last_released = now
            return tuple(carried)

    def forget(self, study_key: str, last_received: float, *, is_late: bool = False) -> None:
        """The study is settled, whoever keeps an association open; kept nonetheless if an instance came after `last_received`.

        Parameters
        ----------
        is_late
            Whether it was settled since it would not end: more is to be expected, and nothing waits for that.
        """
        with self._lock:
            (self._late.add if is_late else self._late.discard)(study_key)
            study = self._studies.get(study_key)
            if study is not None and study.last_received <= last_received:
                del self._studies[study_key]
            elif study is not None:
                study.first_received = study.last_received

    def is_awaited(self, study_key: str) -> bool:
        """Whether results wait for what still comes of a study: not where that would not end."""
        with self._lock:
            return study_key in self._studies and study_key not in self._late

    def is_open(self, study_key: str) -> bool:
        """Whether a study is known and not settled."""
        with self._lock:
            return study_key in self._studies

    def snapshot(self) -> tuple[Activity, ...]:
        """All studies that are not settled."""
        with self._lock:
            return tuple(
                Activity(
                    study_key=key,
                    first_received=study.first_received,
                    last_received=study.last_received,
                    last_released=study.last_released,
                    open_associations=len(study.associations),
                    has_moved_on=bool(study.associations)
                    and all(self._brings.get(one, key) != key for one in study.associations),
                    is_late=key in self._late,
                )
                for key, study in self._studies.items()
            )
