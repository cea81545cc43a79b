"""The listening side: associations are admitted, C-ECHO and C-STORE answered, and all of it can be drained.

How a connection is served stands in `session`, how bytes get there in `server` and `wire`; what is admitted is decided
in `judge`, what becomes of an object in `intake`.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from pynetdicom.sop_class import Verification

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.errors import ConfigError, NodeError
from dicomnode.events import Emit, silent
from dicomnode.network import dimse, pdu
from dicomnode.network.admission import Open, Remembered, Rules, judge
from dicomnode.network.asking import Event
from dicomnode.network.association import accepted_contexts, service_context, storage_classes
from dicomnode.network.intake import Intake, Peer, Reception
from dicomnode.network.negotiation import Association, Offer, Request
from dicomnode.network.pace import Pace
from dicomnode.network.pdu import Violation
from dicomnode.network.peers import Recogniser, Stranger, read_certificate, recognise
from dicomnode.network.places import Places
from dicomnode.network.server import Connection, Door, Server, listen
from dicomnode.network.services import echo
from dicomnode.network.session import Manners, Service, Session
from dicomnode.network.status import (
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Rejection,
)
from dicomnode.network.tls import Certificates
from dicomnode.network.wire import Wire
from dicomnode.network_sections import ListenSection, PeerRule
from dicomnode.pulses import Pulse

_JOIN_SECONDS: Final = 5.0
#: Listening sockets, without TLS and with it.
Listeners = tuple[socket.socket | None, socket.socket | None]


class Acceptor:
    """Listens for associations.

    Parameters
    ----------
    listen, intake
        Where, and with what limits.
    ae_title
        AE title of the node.
    limits
        Budget of the header scan.
    reception
        Who takes what comes.
    emit
        Where events go.
    peers
        Who may call, and what each may; none: whoever `listen` lets in.
    recogniser
        Knows callers in place of `peers`, where they change.
    services
        What answers other requests, by SOP Class and Command Field.
    places
        Of connections and associations, shared with other processes; none: its own.
    """

    def __init__(
        self,
        listen: ListenSection,
        intake: IntakeSection,
        ae_title: str,
        limits: Limits,
        reception: Reception,
        *,
        emit: Emit = silent,
        peers: Sequence[PeerRule] = (),
        recogniser: Recogniser | None = None,
        services: Mapping[tuple[str, int], Service] = MappingProxyType({}),
        places: Places | None = None,
    ) -> None:
        self._listen = listen
        self._reception = reception
        self._emit = emit
        self._rules = Rules(
            ae_title=ae_title,
            calling_ae_titles=listen.calling_ae_titles,
            require_called_ae_title=listen.require_called_ae_title,
            maximum_associations=listen.maximum_associations,
            associations_per_address=listen.associations_per_address,
        )
        callers = tuple(one for one in peers if one.by_dimse)
        self._recogniser = recogniser or (partial(recognise, callers) if callers else None)
        private = intake.private_sop_classes
        contexts = {str(one.abstract_syntax): one for one in accepted_contexts(private)}
        contexts |= {uid: service_context(uid) for uid, _ in services}
        self._offer = Offer(
            contexts=contexts,
            storage=frozenset(storage_classes(private)),
            maximum_pdu_bytes=intake.maximum_pdu_bytes,
        )
        self._manners = self._behaviour(
            Intake(reception, limits=limits, maximum_object_bytes=intake.maximum_object_bytes, emit=emit),
            intake,
            services,
        )
        self._remembered = Remembered(
            lambda request, rule: request.agree(self._offer.limited_to(rule.sop_classes if rule else ()))
        )
        self._open: Open[Session] = Open()
        self._places = places or Places(listen.maximum_connections)
        self._draining = threading.Event()
        self._connections: dict[Session, Connection] = {}
        self._server: Server | None = None
        self._certificates: Certificates | None = None
        self.addresses: tuple[tuple[str, int], ...] = ()

    def _behaviour(
        self, objects: Intake, intake: IntakeSection, services: Mapping[tuple[str, int], Service]
    ) -> Manners:
        return Manners(
            intake=objects,
            services={(str(Verification), dimse.C_ECHO_RQ): echo, **services},
            maximum_pdu_bytes=intake.maximum_pdu_bytes,
            silence_seconds=self._listen.network_timeout_seconds,
            request_seconds=self._listen.acse_timeout_seconds,
            pace=lambda: Pace(
                fragment_bytes=intake.minimum_fragment_bytes,
                bytes_per_second=intake.minimum_bytes_per_second,
                seconds=self._listen.network_timeout_seconds,
                longest_bytes=2 * intake.maximum_object_bytes,
            ),
            emit=self._emit,
        )

    def start(self, listeners: Listeners | None = None) -> tuple[str, int]:
        """Listen; the address and port that were bound: of the plain port where there is one.

        Parameters
        ----------
        listeners
            Sockets that listen already; none: they are opened here.

        Raises
        ------
        ConfigError
            ``port-unavailable``, or ``tls-failed``.
        """
        settings = self._listen
        if settings.tls is not None:
            self._certificates = Certificates(settings.tls, self._emit)
        plain, secured = listeners or open_listeners(settings)
        doors = [Door(listener=plain)] if plain is not None else []
        if secured is not None:
            assert self._certificates is not None
            doors.append(Door(listener=secured, tls=self._certificates.context))
        self._server = Server(
            doors,
            self._serve,
            seconds=settings.network_timeout_seconds,
            waiting_per_address=settings.waiting_per_address,
            places=self._places,
            emit=self._emit,
        )
        self._server.begin()
        self.addresses = tuple(door.address for door in doors)
        return self.addresses[0]

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the thread that accepts, while there is one."""
        return () if self._server is None or self._draining.is_set() else (self._server.pulse,)

    @property
    def accepting(self) -> bool:
        """Whether connections are taken, or a drain has begun."""
        return self._draining.is_set() or (self._server is not None and self._server.accepting)

    def reload_certificates(self) -> None:
        """Read the files of TLS anew; associations that are open go on, files that cannot be used change nothing."""
        if self._certificates is not None:
            self._certificates.reload()

    def report(self, association_id: str, event: Event, seconds: float) -> int | None:
        """Send an N-EVENT-REPORT in an association that is open; the peer's status, None where there is none.

        Raises
        ------
        PeerError
            As `Session.report`.
        """
        for session in self._open.all():
            if session.association_id == association_id:
                return session.report(event, seconds)
        return None

    def drain(self, timeout: float) -> bool:
        """Stop listening, let what is open finish, then abort the rest.

        Returns
        -------
        bool
            Whether every association ended by itself.
        """
        deadline = time.monotonic() + timeout
        self._draining.set()
        server, self._server = self._server, None
        if server is None:
            return True
        server.stop_listening()
        server.shut_waiting()
        clean = self._open.wait_for_none(deadline)
        for session in self._open.all():
            session.abort()
        server.join(_JOIN_SECONDS)
        return clean

    def stop(self) -> None:
        """Stop at once: associations that are open are aborted."""
        self.drain(0.0)

    def abort(self) -> None:
        """As `stop`, without waiting for anything: the process is about to end."""
        self._draining.set()
        if self._server is not None:
            self._server.stop_listening()
        for session in self._open.all():
            session.abort()

    def _serve(self, connection: Connection, wire: Wire) -> None:
        session = Session(wire, self._manners, self, connection.address)
        self._connections[session] = connection
        try:
            session.run()
        finally:
            del self._connections[session]

    def enter(self, session: Session, request: memoryview) -> tuple[Peer, Association] | bytes:
        """Decide on an association request; a Violation where it cannot be read."""
        encoded = bytes(request)
        asked = self._remembered.request(encoded)
        connection = self._connections[session]
        recognised = self._recognise(asked, connection)
        rule = recognised if isinstance(recognised, PeerRule) else None
        peer = Peer(
            calling_ae_title=asked.calling_ae_title,
            called_ae_title=asked.called_ae_title,
            address=connection.address,
            association_id=secrets.token_hex(8),
            rule=rule,
        )
        before = self._open.add(session, connection.place, peer)
        rejection = asked.rejection or judge(
            self._rules,
            peer,
            open_associations=before.all,
            of_address=before.of_address,
            draining=self._draining.is_set(),
        )
        if rejection is None and isinstance(recognised, Stranger):
            rejection = self._strange(peer, recognised)
        if rejection is None and rule is not None and before.of_peer >= rule.maximum_associations:
            rejection = LOCAL_LIMIT_EXCEEDED
        rejection = rejection or self._admitted(peer)
        try:
            if rejection is None:
                return peer, self._remembered.association(encoded, asked, rule)
        except Violation:
            self._open.remove(session)
            raise
        self._open.remove(session)
        return self._reject(peer, rejection)

    def _recognise(self, asked: Request, connection: Connection) -> PeerRule | Stranger | None:
        if self._recogniser is None:
            return None
        certificate = read_certificate(connection.certificate) if connection.certificate else None
        return self._recogniser(asked.calling_ae_title, connection.address, certificate)

    def _strange(self, peer: Peer, stranger: Stranger) -> Rejection:
        """Nobody that the configuration knows: told to the audit, with what did not fit."""
        self._emit(
            "peer.unknown",
            level="warning",
            association=peer.association_id,
            address=peer.address,
            calling_ae_title=peer.calling_ae_title,
            kind=stranger.value,
        )
        return CALLING_AE_TITLE_NOT_RECOGNISED

    def _reject(self, peer: Peer, rejection: Rejection) -> bytes:
        self._emit(
            "association.rejected",
            level="warning",
            association=peer.association_id,
            address=peer.address,
            peer=peer.rule.name if peer.rule else None,
            result=rejection.result,
            source=rejection.source,
            diagnostic=rejection.reason,
        )
        return pdu.reject(rejection)

    def opened(self, session: Session, peer: Peer) -> None:
        """Tell the reception of an association."""
        if self._server is not None:
            self._server.entered(self._connections[session])
        self._tell(peer, lambda: self._reception.opened(peer))

    def closed(self, session: Session, peer: Peer, *, aborted: bool) -> None:
        """Tell the reception that it ended."""
        self._open.remove(session)
        self._tell(peer, lambda: self._reception.closed(peer, aborted=aborted))

    def _admitted(self, peer: Peer) -> Rejection | None:
        try:
            self._reception.admit(peer)
        except NodeError as error:
            self._emit(
                "association.refused",
                level="warning",
                association=peer.association_id,
                address=peer.address,
                reason=error.code,
            )
            return TEMPORARY_CONGESTION
        except Exception as error:  # noqa: BLE001 (a rejection, not our fault, goes to the peer)
            self._internal(peer, error)
            return TEMPORARY_CONGESTION
        return None

    def _tell(self, peer: Peer, call: Callable[[], None]) -> None:
        try:
            call()
        except NodeError as error:
            self._emit("association.fault", level="error", association=peer.association_id, reason=error.code)
        except Exception as error:  # noqa: BLE001 (nobody is there to hand it to)
            self._internal(peer, error)

    def _internal(self, peer: Peer, error: Exception) -> None:
        self._emit(
            "internal", level="error", association=peer.association_id, reason="internal", kind=type(error).__name__
        )


def open_listeners(settings: ListenSection) -> Listeners:
    """Bind what is to be listened on: without TLS, and with it.

    Raises
    ------
    ConfigError
        ``port-unavailable``.
    """
    plain = bound(settings.host, settings.port) if settings.listens_plain else None
    if settings.tls is None:
        return plain, None
    try:
        return plain, bound(settings.host, settings.tls_port)
    except ConfigError:
        if plain is not None:
            plain.close()
        raise


def bound(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises
    ------
    ConfigError
        ``port-unavailable``.
    """
    try:
        return listen(host, port)
    except OSError:
        raise ConfigError("port-unavailable", port=port) from None
