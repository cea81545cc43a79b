"""What the workflow needs of rooms that it does not construct, as Protocols; the composition root hands them in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final, Protocol

from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.study import WorkKey

#: The most urgent of priorities.
STAT: Final = 0
Clock = Callable[[], datetime]
Monotonic = Callable[[], float]
#: Runs one stage of a work and returns whether the next may follow; never raises.
StageRunner = Callable[[str, WorkKey], bool]
#: Makes one try to deliver to a destination, the try's number last.
DeliveryRunner = Callable[[WorkKey, str, int], None]


class Clocks(Protocol):
    """What time it is, by the wall clock and for certain; both in UTC."""

    def now(self) -> datetime:
        """Wall clock."""
        ...

    def sure(self) -> datetime:
        """Time that has come for certain: ages are reckoned by it."""
        ...

    def late(self) -> datetime:
        """Time that may have come: by it is reckoned what a person should rather look at."""
        ...


class Revival(Enum):
    """What came of a work that is to be gone on with."""

    UNDER_WAY = "under-way"
    QUEUED = "queued"
    GIVEN_UP = "given-up"


class Queue(Protocol):
    """Durable queue of work and deliveries; both calls take part in the caller's transaction."""

    def enqueue_work(self, connection: Any, key: WorkKey, *, priority: int = 1) -> None:
        """Queue the work of one model on one revision, the lowest priority first; the same key again changes nothing."""
        ...

    def revive_work(self, key: WorkKey, *, priority: int = 1) -> Revival:
        """Queue a work that is not done, unless it is queued or under way: a stop may have ended it half-way.

        One that too many starts of the node took up is given up: it may be what ends the node.
        """
        ...

    def forget(self, study_key: str) -> None:
        """Delete all that is kept of a study's works and deliveries."""
        ...

    def enqueue_delivery(
        self, connection: Any, key: WorkKey, destination: str, attempt: int, delay: float, *, priority: int = 1
    ) -> None:
        """Queue one try to deliver, not before `delay` seconds; the same attempt again changes nothing.

        Of those that are due at a destination the most urgent goes first: 0 STAT, 1 routine, 2 research.
        """
        ...

    def revive_delivery(self, key: WorkKey, destination: str, *, priority: int = 1) -> bool:
        """Queue one more try to deliver, unless one is queued or under way; whether it did. One that waits runs at once."""
        ...

    def bring_forward(self, connection: Any, study_key: str, *, priority: int) -> None:
        """A study became as urgent as this: so does what of it is queued; what is more urgent stays so.

        A try to deliver that becomes STAT waits for nothing any more: it waited for hours, maybe, which STAT does not.
        """
        ...

    def deliveries(self) -> frozenset[tuple[str, str]]:
        """Works (by their workflow's identifier) and destinations of all tries that are queued or under way."""
        ...

    def hasten(self, longest: float, destination: str | None = None) -> int:
        """Let tries that wait for more than `longest` seconds from now run at once; how many there were.

        Of one destination, the most urgent first, or of all: no try is queued to wait for longer than the longest wait,
        unless the clock was set back since.
        """
        ...


class Finder(Protocol):
    """Another system that shows what it holds."""

    def find(self, level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        """C-FIND in the Study Root model; raises PeerError when the peer does not answer."""
        ...


class Destination(Finder, Protocol):
    """Another system that takes objects."""

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        """Send the objects; one outcome per object, never an exception for what the peer did."""
        ...

    def echo(self) -> None:
        """Ask whether it is there; raises PeerError unless it answers."""
        ...

    def probe(self, sop_class_uids: Iterable[str]) -> frozenset[str]:
        """Which of these SOP Classes it accepts; raises PeerError when it does not answer."""
        ...
