"""Who is let in: the rules, the associations that are open, and requests that were seen before. No socket, no thread."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from dicomnode.network.intake import Peer
from dicomnode.network.negotiation import Association, Request
from dicomnode.network.places import Counts, Place
from dicomnode.network.status import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Rejection,
)
from dicomnode.network_sections import PeerRule

_REMEMBERED_REQUESTS: Final = 64
_LARGE_REQUEST_BYTES: Final = 32 * 1024  # these cost a tenth of a second: one at a time, and nobody else waits
_Session = TypeVar("_Session")
_REMEMBERED_BYTES: Final = 256 * 1024  # of all of them: once read they take some twenty times as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who is let in."""

    ae_title: str
    calling_ae_titles: tuple[str, ...]
    require_called_ae_title: bool
    maximum_associations: int
    associations_per_address: int


def judge(
    rules: Rules, peer: Peer, *, open_associations: int, of_address: int = 0, draining: bool = False
) -> Rejection | None:
    """Why an association is not let in (PS3.8 9.3.4), or None.

    Parameters
    ----------
    open_associations, of_address
        How many others are open, in all and of the peer's address.
    """
    if rules.calling_ae_titles and peer.calling_ae_title not in rules.calling_ae_titles:
        return CALLING_AE_TITLE_NOT_RECOGNISED
    if rules.require_called_ae_title and peer.called_ae_title != rules.ae_title:
        return CALLED_AE_TITLE_NOT_RECOGNISED
    if draining:
        return TEMPORARY_CONGESTION
    if open_associations >= rules.maximum_associations or of_address >= rules.associations_per_address:
        return LOCAL_LIMIT_EXCEEDED
    return None


class Open(Generic[_Session]):
    """The associations of this process that are open or being let in, each with its place."""

    def __init__(self) -> None:
        self._sessions: dict[_Session, Place] = {}
        self._changed = threading.Condition()

    def add(self, session: _Session, place: Place, peer: Peer) -> Counts:
        """Add one; how many there were before, in all processes."""
        before = place.associate(peer.rule.name if peer.rule else None)
        with self._changed:
            self._sessions[session] = place
        return before

    def remove(self, session: _Session) -> None:
        """It ended, or was not let in."""
        with self._changed:
            place = self._sessions.pop(session, None)
            if place is not None:
                place.dissociate()
            self._changed.notify_all()

    def all(self) -> tuple[_Session, ...]:
        """All of them."""
        with self._changed:
            return tuple(self._sessions)

    def wait_for_none(self, deadline: float) -> bool:
        """Wait at most to the deadline (monotonic seconds); whether none is left."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, max(0.0, deadline - time.monotonic()))


class Remembered:
    """The last requests, byte for byte, and what was agreed on: most senders ask the same thing each time."""

    def __init__(self, agree: Callable[[Request, PeerRule | None], Association]) -> None:
        self._agree = agree
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[Request, dict[str, Association]]] = OrderedDict()
        self._bytes = 0
        self._large = threading.Lock()

    def request(self, encoded: bytes) -> Request:
        """The request, read."""
        with self._lock:
            found = self._known.get(encoded)
            if found is not None:
                self._known.move_to_end(encoded)
                return found[0]
        with self._one_at_a_time(encoded):
            request = Request(encoded)
        with self._lock:
            if encoded not in self._known:
                self._bytes += len(encoded)
            self._known[encoded] = request, {}
            while len(self._known) > _REMEMBERED_REQUESTS or self._bytes > _REMEMBERED_BYTES:
                forgotten, _ = self._known.popitem(last=False)
                self._bytes -= len(forgotten)
        return request

    def association(self, encoded: bytes, request: Request, rule: PeerRule | None) -> Association:
        """What is agreed on with whom a rule lets in."""
        name = rule.name if rule else ""
        with self._lock:
            _, agreed = self._known.get(encoded, (request, {}))
        if name not in agreed:
            with self._one_at_a_time(encoded):
                agreed[name] = self._agree(request, rule)
        return agreed[name]

    def _one_at_a_time(self, encoded: bytes) -> AbstractContextManager[object]:
        return self._large if len(encoded) > _LARGE_REQUEST_BYTES else nullcontext()
