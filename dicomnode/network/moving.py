"""The door for what a C-MOVE of ours has a source send: an AE title and a port of its own, shut while nothing is asked.

Nothing that comes here is a study by itself: an object that no request waits for is refused, whoever sends it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.errors import LimitError, NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.collected import Collected
from dicomnode.network.intake import Peer, ReceivedObject, Sink
from dicomnode.network.retrieval import Taking
from dicomnode.network.status import DATA_SET_MISMATCH, SUCCESS
from dicomnode.network_sections import ListenSection


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
    """

    def __init__(
        self, ae_title: str, listen: ListenSection, intake: IntakeSection, limits: Limits, *, emit: Emit
    ) -> None:
        self.ae_title = ae_title
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, str], Taking] = {}
        self._acceptor = Acceptor(listen, intake, ae_title, limits, self, emit=emit)

    def start(self) -> tuple[str, int]:
        """Listen; raises ConfigError ``port-unavailable``."""
        return self._acceptor.start()

    def stop(self) -> None:
        """Stop at once."""
        self._acceptor.stop()

    @contextmanager
    def open_for(self, taking: Taking) -> Iterator[None]:
        """Let in what one request waits for.

        Raises
        ------
        PeerError
            ``peer-out-of-resources`` where another request waits for the same series.
        """
        key = (taking.wanted.study_instance_uid, taking.wanted.series_instance_uid)
        with self._lock:
            if key in self._waiting:
                raise PeerError("peer-out-of-resources")
            self._waiting[key] = taking
        try:
            yield
        finally:
            with self._lock:
                del self._waiting[key]
            taking.end()

    def admit(self, peer: Peer) -> None:
        """Let an association in while anything is asked for."""
        with self._lock:
            if not self._waiting:
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
            return self._waiting.get((received.study_instance_uid, received.series_instance_uid))

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
            raise LimitError("retrieval-too-large")


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
