"""An acceptor on loopback for a test, with what was received."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from dicomnode.config import Destination, IntakeSection, ListenSection, Tls
from dicomnode.encoded import Limits
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.requestor import Requestor
from tests.unit.network.samples import Events, Recording


class Node(NamedTuple):
    acceptor: Acceptor
    reception: Recording
    events: Events
    host: str
    port: int

    def requestor(self, *, calling: str = "SENDER", called: str = "DICOMNODE", tls: Tls | None = None) -> Requestor:
        return Requestor(
            Destination(name="node", ae_title=called, host=self.host, port=self.port, timeout_seconds=20, tls=tls),
            calling,
        )


@contextmanager
def node(
    reception: Recording | None = None,
    *,
    private_sop_classes: tuple[str, ...] = (),
    intake: dict[str, Any] | None = None,
    **listen: Any,
) -> Iterator[Node]:
    """An acceptor that listens, stopped at the end."""
    reception, events = reception or Recording(), Events()
    acceptor = Acceptor(
        ListenSection(**{"port": 0, **listen}),
        IntakeSection(**(intake or {})),
        "DICOMNODE",
        Limits(),
        reception,
        emit=events,
        private_sop_classes=private_sop_classes,
    )
    host, port = acceptor.start()
    try:
        yield Node(acceptor, reception, events, host, port)
    finally:
        acceptor.stop()
