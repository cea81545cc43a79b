"""An acceptor on loopback for a test, with what was received."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.requestor import Requestor
from dicomnode.network.session import Service
from dicomnode.network_sections import ListenSection, PeerRule
from dicomnode.sections import Destination, Tls
from tests.unit.network.samples import Events, Recording


class Node(NamedTuple):
    acceptor: Acceptor
    reception: Recording
    events: Events
    host: str
    port: int
    tls_port: int = 0

    def requestor(self, *, calling: str = "SENDER", called: str = "DICOMNODE", tls: Tls | None = None) -> Requestor:
        return Requestor(
            Destination(name="node", ae_title=called, host=self.host, port=self.port, timeout_seconds=20, tls=tls),
            calling,
        )


@contextmanager
def node(
    reception: Recording | None = None,
    *,
    peers: Sequence[dict[str, Any]] = (),
    services: Mapping[tuple[str, int], Service] | None = None,
    intake: dict[str, Any] | None = None,
    **listen: Any,
) -> Iterator[Node]:
    """An acceptor that listens, stopped at the end."""
    reception, events = reception or Recording(), Events()
    acceptor = Acceptor(
        ListenSection(**{"port": 0, "tls_port": 0, **listen}),
        IntakeSection(**(intake or {})),
        "DICOMNODE",
        Limits(),
        reception,
        emit=events,
        services=services or {},
        peers=[PeerRule.model_validate(one) for one in peers],
    )
    host, port = acceptor.start()
    try:
        yield Node(acceptor, reception, events, host, port, acceptor.addresses[-1][1])
    finally:
        acceptor.stop()
