"""The door for what a C-MOVE of ours has a source send: an AE title and a port of its own, shut while nothing is asked.

Nothing that comes here is a study by itself: an object that no request waits for is refused, whoever sends it; and nobody
is let in but the source that a request waits for, by its AE title and address (and by TLS, where `listen` says so).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.errors import LimitError, NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.collected import Collected
from dicomnode.network.intake import Peer, ReceivedObject, Sink
from dicomnode.network.peers import Certificate, Stranger, recognise
from dicomnode.network.retrieval import Taking
from dicomnode.network.status import DATA_SET_MISMATCH, SUCCESS
from dicomnode.network_sections import ListenSection, PeerRule
from dicomnode.source_sections import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    """A request, and who brings what it asked for."""

    taking: Taking
    caller: PeerRule

    def is_of(self, peer: Peer) -> bool:
        found = recognise([self.caller], peer.calling_ae_title, peer.address, None)
        return isinstance(found, PeerRule)


class MoveDoor:
    """Takes what requests wait for.

    Parameters
    ----------
    ae_title
        Ours, as sources know it.
    listen
        Where it listens.
    intake
        Limits of an object.
    sources
        Those that send here, so that one that comes while it is not asked is told from a stranger.
    """

    def __init__(
        self,
        ae_title: str,
        listen: ListenSection,
        intake: IntakeSection,
        limits: Limits,
        *,
        sources: Sequence[Source] = (),
        emit: Emit,
    ) -> None:
        self.ae_title = ae_title
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], _Waiting] = {}
        self._unasked = tuple(caller_of(one, one.move_addresses) for one in sources)
        self._acceptor = Acceptor(listen, intake, ae_title, limits, self, recogniser=self.recognise, emit=emit)

    def start(self) -> tuple[str, int]:
        """Listen; raises ConfigError ``port-unavailable``."""
        return self._acceptor.start()

    def stop(self) -> None:
        """Stop at once."""
        self._acceptor.stop()

    def reload_certificates(self) -> None:
        """Read the files of TLS anew."""
        self._acceptor.reload_certificates()

    @contextmanager
    def open_for(self, taking: Taking, source: Source) -> Iterator[None]:
        """Let in what one request waits for, from the source that was asked.

        Raises
        ------
        PeerError
            ``peer-out-of-resources`` where another request waits for the same series; ``peer-unreachable`` where the
            source's host is not known.
        """
        waiting = _Waiting(taking=taking, caller=caller_of(source, source.move_addresses or _addresses(source.host)))
        key = (taking.wanted.study_instance_uid, taking.wanted.series_instance_uid)
        with self._lock:
            if key in self._waiting:
                raise PeerError("peer-out-of-resources")
            self._waiting[key] = waiting
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[key]
            taking.end()

    def recognise(self, calling_ae_title: str, address: str, certificate: Certificate | None) -> PeerRule | Stranger:
        """Who calls: a source that something is asked of, or another of ours."""
        with self._lock:
            asked = [one.caller for one in self._waiting.values()]
        names = {one.name for one in asked}
        unasked = [one for one in self._unasked if one.name not in names]
        return recognise([*asked, *unasked], calling_ae_title, address, certificate)

    def admit(self, peer: Peer) -> None:
        """Let an association in while anything is asked of who calls."""
        with self._lock:
            if not any(one.is_of(peer) for one in self._waiting.values()):
                raise LimitError("retrieval-strange")

    def opened(self, peer: Peer) -> None:
        """Nothing to do."""

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        """Nothing to do."""

    def sink(self) -> Sink:
        """Place for one object."""
        return _Expected(self)

    def waits_for(self, received: ReceivedObject) -> Taking | None:
        """The request that an object may belong to."""
        with self._lock:
            waiting = self._waiting.get((received.study_instance_uid, received.series_instance_uid))
        return waiting.taking if waiting is not None and waiting.is_of(received.peer) else None

    def store(self, received: ReceivedObject, encoded: bytes, /) -> None:
        """Offer one object to whoever waits for it.

        Raises
        ------
        NodeError
            Where nobody does, or it is not taken.
        """
        taking = self.waits_for(received)
        if taking is None:
            raise NodeError("retrieval-strange")
        status = taking.offer(
            received.sop_class_uid, received.sop_instance_uid, received.transfer_syntax_uid, bytes(encoded)
        )
        if status == DATA_SET_MISMATCH:
            raise NodeError("retrieval-strange")
        if status != SUCCESS:
            raise taking.refusals.get(received.sop_instance_uid) or LimitError("retrieval-too-large")


class _Expected(Collected):
    """Refuses an object as soon as it says what it is, where nobody waits for it: its bytes are not collected."""

    def __init__(self, door: MoveDoor) -> None:
        super().__init__(door.store)
        self._door = door

    def begin(self, received: ReceivedObject, /) -> None:
        """It is known what comes."""
        if self._door.waits_for(received) is None:
            raise NodeError("retrieval-strange")
        super().begin(received)


def caller_of(source: Source, addresses: Sequence[str]) -> PeerRule:
    """The rule that a source fits when it sends: of these addresses and networks, any where there are none."""
    title = source.move_ae_title or source.ae_title
    return PeerRule(name=source.name, ae_title=title, addresses=tuple(addresses))


def _addresses(host: str) -> tuple[str, ...]:
    """Addresses of a host, by its name."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise PeerError("peer-unreachable") from None
    return tuple(dict.fromkeys(str(one[4][0]).partition("%")[0] for one in found))
