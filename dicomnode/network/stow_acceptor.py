"""The listening side of STOW-RS: connections are accepted, callers known, requests let in, and all of it can be drained.

How a connection is served stands in `stow_session`. Nobody is let in without a token or a certificate that a rule asks for.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.network.admission import Open
from dicomnode.network.association import TRANSFER_SYNTAXES, storage_classes
from dicomnode.network.intake import Intake, Peer, Reception
from dicomnode.network.multipart import Unacceptable
from dicomnode.network.pace import Pace
from dicomnode.network.peers import Stranger, read_certificate, recognise_web
from dicomnode.network.places import Places
from dicomnode.network.server import Connection, Door, Server
from dicomnode.network.stow_session import Manners, StowSession
from dicomnode.network.tls import Certificates
from dicomnode.network.wire import Wire
from dicomnode.network_sections import ListenSection, PeerRule, StowSection
from dicomnode.pulses import Pulse

_JOIN_SECONDS: Final = 5.0


class StowAcceptor:
    """Listens for requests.

    Parameters
    ----------
    stow, listen, intake
        Where, and with what limits; those of associations hold for requests.
    ae_title
        AE title of the node.
    peers
        Who may call.
    reception
        Who takes what comes.
    places
        Of connections and associations, perhaps shared.
    """

    def __init__(
        self,
        stow: StowSection,
        listen: ListenSection,
        intake: IntakeSection,
        *,
        ae_title: str,
        limits: Limits,
        peers: Sequence[PeerRule],
        reception: Reception,
        places: Places,
        emit: Emit,
    ) -> None:
        self._stow = stow
        self._listen = listen
        self._ae_title = ae_title
        self._peers = tuple(one for one in peers if one.by_web)
        self._reception = reception
        self._places = places
        self._emit = emit
        self._manners = Manners(
            intake=Intake(reception, limits=limits, maximum_object_bytes=intake.maximum_object_bytes, emit=emit),
            path=stow.path,
            sop_classes=frozenset(storage_classes(intake.private_sop_classes)),
            transfer_syntaxes=frozenset(TRANSFER_SYNTAXES),
            maximum_parts=stow.maximum_parts,
            maximum_bytes=stow.maximum_request_bytes,
            retry_after_seconds=stow.retry_after_seconds,
            silence_seconds=listen.network_timeout_seconds,
            head_seconds=stow.head_seconds,
            idle_seconds=stow.idle_seconds,
            pace=lambda: Pace(
                fragment_bytes=intake.minimum_fragment_bytes,
                bytes_per_second=intake.minimum_bytes_per_second,
                seconds=listen.network_timeout_seconds,
                longest_bytes=stow.maximum_request_bytes,
            ),
            emit=emit,
        )
        self._open: Open[StowSession] = Open()
        self._connections: dict[StowSession, Connection] = {}
        self._ending = threading.Event()
        self._server: Server | None = None
        self._certificates: Certificates | None = None

    def start(self, listener: socket.socket) -> None:
        """Take requests on a socket that listens.

        Raises
        ------
        ConfigError
            ``tls-failed``.
        """
        if self._stow.tls is not None:
            self._certificates = Certificates(self._stow.tls, self._emit)
        tls = self._certificates.context if self._certificates is not None else None
        self._server = Server(
            [Door(listener=listener, tls=tls)],
            self._serve,
            seconds=self._stow.head_seconds,
            waiting_per_address=self._listen.waiting_per_address,
            places=self._places,
            emit=self._emit,
        )
        self._server.begin()

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the thread that accepts, while there is one."""
        return () if self._server is None or self.draining else (self._server.pulse,)

    @property
    def accepting(self) -> bool:
        """Whether connections are taken, or a drain has begun."""
        return self.draining or (self._server is not None and self._server.accepting)

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        return self._ending.is_set()

    def reload_certificates(self) -> None:
        """Read the files of TLS anew."""
        if self._certificates is not None:
            self._certificates.reload()

    def stop_listening(self) -> None:
        """Accept nothing more, and end the connections without a request."""
        self._ending.set()
        if self._server is None:
            return
        self._server.stop_listening()
        busy = set(self._open.all())
        for session in list(self._connections):
            if session not in busy:
                session.abort()
        self._server.shut_waiting()

    def finish(self, deadline: float) -> bool:
        """After `stop_listening`: let requests end until then (monotonic seconds), end the rest; whether none was left."""
        if self._server is None:
            return True
        clean = self._open.wait_for_none(deadline)
        self.abort()
        self._server.join(_JOIN_SECONDS)
        self._server = None
        return clean

    def abort(self) -> None:
        """End what is open, and wait for nothing."""
        for session in self._open.all():
            session.abort()

    def recognise(self, session: StowSession, token: str | None) -> Peer:
        """Who asks.

        Raises
        ------
        Unacceptable
            ``caller-unknown``, 401.
        """
        connection = self._connections[session]
        certificate = read_certificate(connection.certificate) if connection.certificate else None
        found = recognise_web(self._peers, token, connection.address, certificate)
        if isinstance(found, Stranger):
            self._emit("peer.unknown", level="warning", address=connection.address, kind=found.value)
            raise Unacceptable(401, "caller", "caller-unknown")  # a stolen token is not told that it is good
        return Peer(
            calling_ae_title=found.web_title,
            called_ae_title=self._ae_title,
            address=connection.address,
            association_id=secrets.token_hex(8),
            rule=found,
        )

    @contextmanager
    def entered(self, session: StowSession, peer: Peer) -> Iterator[None]:
        """While a request is served: an association, for the reception.

        Raises
        ------
        Unacceptable
            503: ``node-busy``, ``peer-limit``, or what the reception says.
        """
        connection = self._connections[session]
        before = self._open.add(session, connection.place, peer)
        try:
            assert peer.rule is not None
            listen = self._listen
            if self.draining or before.all >= listen.maximum_associations:
                raise Unacceptable(503, "associations", "node-busy")
            if before.of_address >= listen.associations_per_address:
                raise Unacceptable(503, "associations-of-address", "node-busy")
            if before.of_peer >= peer.rule.maximum_associations:
                raise Unacceptable(503, "associations-of-peer", "peer-limit")
            self._admit(peer)
            if self._server is not None:
                self._server.entered(connection)
            with self._associated(peer):
                yield
        finally:
            self._open.remove(session)

    def _admit(self, peer: Peer) -> None:
        try:
            self._reception.admit(peer)
        except NodeError as error:
            raise Unacceptable(503, "admission", error.code) from None

    @contextmanager
    def _associated(self, peer: Peer) -> Iterator[None]:
        aborted = True
        self._tell(peer, lambda: self._reception.opened(peer))
        try:
            yield
            aborted = False
        finally:
            self._tell(peer, lambda: self._reception.closed(peer, aborted=aborted))

    def _serve(self, connection: Connection, wire: Wire) -> None:
        session = StowSession(wire, self._manners, self, connection.address)
        self._connections[session] = connection
        try:
            session.run()
        finally:
            del self._connections[session]

    def _tell(self, peer: Peer, call: Callable[[], None]) -> None:
        try:
            call()
        except NodeError as error:
            self._emit("association.fault", level="error", association=peer.association_id, reason=error.code)
