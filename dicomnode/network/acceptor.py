"""The listening side: associations are admitted, C-ECHO and C-STORE answered, and all of it can be drained.

How a connection is served stands in `session`, how bytes get there in `server` and `wire`; what is admitted is decided
in `judge`, what becomes of an object in `intake`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final

from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicomnode.config import IntakeSection, ListenSection
from dicomnode.encoded import Limits
from dicomnode.errors import ConfigError, NodeError
from dicomnode.events import Emit, silent
from dicomnode.network import dimse, pdu
from dicomnode.network.association import accepted_contexts, server_tls, storage_classes
from dicomnode.network.intake import Intake, Peer, Reception
from dicomnode.network.negotiation import Association, Request
from dicomnode.network.pace import Pace
from dicomnode.network.server import Connection, Server, listen
from dicomnode.network.services import Finder, echo, finding
from dicomnode.network.session import Manners, Service, Session
from dicomnode.network.status import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Rejection,
)
from dicomnode.network.wire import Wire

__all__ = ["Acceptor", "Finder", "Rules", "judge"]

_POLL_SECONDS: Final = 0.1
_JOIN_SECONDS: Final = 5.0
_REMEMBERED_REQUESTS: Final = 64
_LARGE_REQUEST_BYTES: Final = 32 * 1024  # these cost a tenth of a second: one at a time, and nobody else waits
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


class _Open:
    """The associations that are open or being let in."""

    def __init__(self) -> None:
        self._sessions: dict[Session, str] = {}
        self._changed = threading.Condition()

    def add(self, session: Session, address: str) -> tuple[int, int]:
        """Add one; how many there were before, in all and of its address."""
        with self._changed:
            before = len(self._sessions), sum(one == address for one in self._sessions.values())
            self._sessions[session] = address
            return before

    def remove(self, session: Session) -> None:
        with self._changed:
            self._sessions.pop(session, None)
            self._changed.notify_all()

    def all(self) -> tuple[Session, ...]:
        with self._changed:
            return tuple(self._sessions)

    def wait_for_none(self, deadline: float) -> bool:
        """Wait at most to the deadline (monotonic seconds); whether none is left."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sessions, max(0.0, deadline - time.monotonic()))


class _Remembered:
    """What was agreed on for the last requests, byte for byte: most senders ask the same thing each time."""

    def __init__(self, agree: Callable[[Request], Association]) -> None:
        self._agree = agree
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[Request, Association | None]] = OrderedDict()
        self._bytes = 0
        self._large = threading.Lock()

    def request(self, encoded: bytes) -> tuple[Request, Association | None]:
        """The request, read, and what is agreed on unless it is to be rejected."""
        with self._lock:
            found = self._known.get(encoded)
            if found is not None:
                self._known.move_to_end(encoded)
                return found
        with self._large if len(encoded) > _LARGE_REQUEST_BYTES else nullcontext():
            request = Request(encoded)
            found = request, None if request.rejection else self._agree(request)
        with self._lock:
            if encoded not in self._known:
                self._bytes += len(encoded)
            self._known[encoded] = found
            while len(self._known) > _REMEMBERED_REQUESTS or self._bytes > _REMEMBERED_BYTES:
                forgotten, _ = self._known.popitem(last=False)
                self._bytes -= len(forgotten)
        return found


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
    private_sop_classes
        SOP Class UIDs that are stored although no standard names them.
    finder
        Who answers C-FIND, if anybody.
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
        private_sop_classes: tuple[str, ...] = (),
        finder: Finder | None = None,
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
        contexts = {str(one.abstract_syntax): one for one in accepted_contexts(private_sop_classes)}
        services: dict[int, Service] = {dimse.C_ECHO_RQ: echo}
        if finder is not None:
            model = build_context(StudyRootQueryRetrieveInformationModelFind)
            contexts[str(model.abstract_syntax)] = model
            services[dimse.C_FIND_RQ] = finding(finder, limits)
        storage = frozenset(storage_classes(private_sop_classes))
        self._manners = Manners(
            intake=Intake(reception, limits=limits, maximum_object_bytes=intake.maximum_object_bytes, emit=emit),
            services=services,
            storage=storage,
            maximum_pdu_bytes=intake.maximum_pdu_bytes,
            silence_seconds=listen.network_timeout_seconds,
            request_seconds=listen.acse_timeout_seconds,
            pace=lambda: Pace(
                fragment_bytes=intake.minimum_fragment_bytes,
                bytes_per_second=intake.minimum_bytes_per_second,
                seconds=listen.network_timeout_seconds,
                longest_bytes=2 * intake.maximum_object_bytes,
            ),
            emit=emit,
        )
        self._remembered = _Remembered(lambda request: request.agree(contexts, storage, intake.maximum_pdu_bytes))
        self._open = _Open()
        self._draining = threading.Event()
        self._connections: dict[Session, Connection] = {}
        self._server: Server | None = None

    def start(self) -> tuple[str, int]:
        """Listen; the address and port that were bound.

        Raises
        ------
        ConfigError
            ``port-unavailable``, or ``tls-failed``.
        """
        settings = self._listen
        tls = server_tls(settings.tls) if settings.tls else None
        try:
            listener = listen(settings.host, settings.port)
        except OSError:
            raise ConfigError("port-unavailable", port=settings.port) from None
        self._server = Server(
            listener,
            self._serve,
            tls=(lambda: tls) if tls else None,
            seconds=settings.network_timeout_seconds,
            waiting_per_address=settings.waiting_per_address,
            maximum_connections=settings.maximum_connections,
            emit=self._emit,
        )
        self._server.begin()
        return self._server.address

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

    def _serve(self, connection: Connection, wire: Wire) -> None:
        session = Session(wire, self._manners, self, connection.address)
        self._connections[session] = connection
        try:
            session.run()
        finally:
            del self._connections[session]

    def enter(self, session: Session, request: memoryview) -> tuple[Peer, Association] | bytes:
        """Decide on an association request; a Violation where it cannot be read."""
        asked, association = self._remembered.request(bytes(request))
        connection = self._connections[session]
        peer = Peer(
            calling_ae_title=asked.calling_ae_title,
            called_ae_title=asked.called_ae_title,
            address=connection.address,
            association_id=secrets.token_hex(8),
        )
        before, of_address = self._open.add(session, peer.address)
        rejection = asked.rejection or judge(
            self._rules,
            peer,
            open_associations=before,
            of_address=of_address,
            draining=self._draining.is_set(),
        )
        if rejection is None:
            rejection = self._admitted(peer)
        if rejection is None and association is not None:
            return peer, association
        self._open.remove(session)
        assert rejection is not None
        self._emit(
            "association.rejected",
            level="warning",
            association=peer.association_id,
            address=peer.address,
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
            self._emit("association.refused", level="warning", association=peer.association_id, reason=error.code)
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
