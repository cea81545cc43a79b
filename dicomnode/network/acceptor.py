"""The listening side: associations are admitted, C-ECHO and C-STORE answered, and all of it can be drained.

Negotiation and PDUs are pynetdicom's (through `transport`); what is admitted is decided in `judge`, what becomes of an
object in `intake`.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicomnode.config import IntakeSection, ListenSection
from dicomnode.encoded import Limits
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import ConfigError, NodeError
from dicomnode.events import Emit, silent
from dicomnode.network.association import (
    STORAGE_SERVICE_CLASS,
    accepted_contexts,
    application_entity,
    server_tls,
    storage_classes,
)
from dicomnode.network.intake import Intake, Peer, Reception, StoreRequest
from dicomnode.network.status import (
    CALLED_AE_TITLE_NOT_RECOGNISED,
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    PROCESSING_FAILURE,
    SUCCESS,
    TEMPORARY_CONGESTION,
    Rejection,
)
from dicomnode.network.transport import Connection, Server

_PENDING: Final = 0xFF00  # PS3.4 Table C.4-1
_POLL_SECONDS: Final = 0.1


class Finder(Protocol):
    """Whoever answers C-FIND; the node itself does not, the small archive does."""

    def find(self, level: str, query: Dataset) -> Iterator[Dataset]:
        """Identifiers of what matches."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who is let in."""

    ae_title: str
    calling_ae_titles: tuple[str, ...]
    require_called_ae_title: bool
    maximum_associations: int


def judge(rules: Rules, peer: Peer, *, open_associations: int, draining: bool) -> Rejection | None:
    """Why an association is not let in (PS3.8 9.3.4), or None."""
    if rules.calling_ae_titles and peer.calling_ae_title not in rules.calling_ae_titles:
        return CALLING_AE_TITLE_NOT_RECOGNISED
    if rules.require_called_ae_title and peer.called_ae_title != rules.ae_title:
        return CALLED_AE_TITLE_NOT_RECOGNISED
    if draining:
        return TEMPORARY_CONGESTION
    if open_associations >= rules.maximum_associations:
        return LOCAL_LIMIT_EXCEEDED
    return None


class _Open:
    """The associations that were asked for: each is counted once, however it ends."""

    def __init__(self) -> None:
        self._peers: dict[Association, Peer] = {}
        self._established: set[Association] = set()
        self._changed = threading.Condition()

    def add(self, association: Association, peer: Peer) -> int:
        """Add one; how many there were before."""
        with self._changed:
            count = len(self._peers)
            self._peers[association] = peer
            return count

    def establish(self, association: Association) -> Peer | None:
        """Mark one as accepted."""
        with self._changed:
            self._established.add(association)
            return self._peers.get(association)

    def peer(self, association: Association) -> Peer | None:
        with self._changed:
            return self._peers.get(association)

    def has(self, association: Association) -> bool:
        return self.peer(association) is not None

    def remove(self, association: Association) -> Peer | None:
        """Take one out; its peer if it had been accepted."""
        with self._changed:
            peer = self._peers.pop(association, None)
            known = association in self._established
            self._established.discard(association)
            self._changed.notify_all()
            return peer if known else None

    def all(self) -> tuple[Association, ...]:
        with self._changed:
            return tuple(self._peers)

    def wait_for_none(self, deadline: float) -> bool:
        """Wait a little, at most to the deadline (monotonic seconds); whether none is left."""
        with self._changed:
            if self._peers:
                self._changed.wait(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            return not self._peers


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
        self._maximum_pdu_bytes = intake.maximum_pdu_bytes
        self._reception = reception
        self._emit = emit
        self._finder = finder
        self._rules = Rules(
            ae_title=ae_title,
            calling_ae_titles=listen.calling_ae_titles,
            require_called_ae_title=listen.require_called_ae_title,
            maximum_associations=listen.maximum_associations,
        )
        self._intake = Intake(reception, limits=limits, maximum_object_bytes=intake.maximum_object_bytes, emit=emit)
        self._contexts = accepted_contexts(private_sop_classes)
        if finder is not None:
            self._contexts.append(build_context(StudyRootQueryRetrieveInformationModelFind))
        self._storage = frozenset(storage_classes(private_sop_classes))
        self._open = _Open()
        self._draining = threading.Event()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> tuple[str, int]:
        """Listen; the address and port that were bound.

        Raises
        ------
        ConfigError
            ``port-unavailable``, or ``tls-failed``.
        """
        entity = application_entity(self._rules.ae_title)
        entity.maximum_pdu_size = self._maximum_pdu_bytes
        entity.maximum_associations = 1000  # ours are counted in `_requested`, with their own answers
        entity.network_timeout = self._listen.network_timeout_seconds
        entity.dimse_timeout = self._listen.network_timeout_seconds
        entity.acse_timeout = self._listen.acse_timeout_seconds
        tls = server_tls(self._listen.tls) if self._listen.tls else None
        try:
            server = entity.make_server(
                (self._listen.host, self._listen.port),
                contexts=self._contexts,
                ssl_context=tls,
                evt_handlers=self._handlers(),
                server_class=Server,
                request_handler=Connection,
            )
        except OSError:
            raise ConfigError("port-unavailable", port=self._listen.port) from None
        entity._servers.append(server)  # `shutdown` takes it out again
        server.silence_seconds = self._listen.network_timeout_seconds
        server.maximum_pdu_bytes = self._maximum_pdu_bytes
        server.is_open = self._open.has
        server.sweep = self._sweep
        server.emit = self._emit
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="acceptor", daemon=True
        )
        self._thread.start()
        return str(server.server_address[0]), int(server.server_address[1])

    def drain(self, timeout: float) -> bool:
        """Stop listening, let what is open finish, then abort the rest.

        Returns
        -------
        bool
            Whether every association ended by itself.
        """
        deadline = time.monotonic() + timeout
        self._draining.set()
        if self._server is None:
            return True
        self._server.shutdown()
        clean = self._open.wait_for_none(deadline)
        while not clean and time.monotonic() < deadline:
            self._sweep()
            clean = self._open.wait_for_none(deadline)
        self._server.shut_waiting()
        for association in self._server.active_associations:
            self._end(association)
        self._sweep()
        self._server = None
        return clean

    def stop(self) -> None:
        """Stop at once: associations that are open are aborted."""
        self.drain(0.0)

    def _end(self, association: Association) -> None:
        if association.is_established:
            association.abort()
        else:  # nothing was negotiated: close the connection and wake the thread that waits for a request
            transport = association.dul.socket
            if transport is not None and transport.socket is not None:
                transport._shutdown_socket()
            association.dul.to_user_queue.put(None)
        association.join(5.0)

    def _handlers(self) -> list[Any]:
        handlers: list[tuple[Any, Callable[..., Any]]] = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ESTABLISHED, self._established),
            (evt.EVT_RELEASED, self._ended),
            (evt.EVT_ABORTED, self._ended),
            (evt.EVT_SOP_COMMON, self._common_classes),
            (evt.EVT_C_STORE, self._store),
        ]
        if self._finder is not None:
            handlers.append((evt.EVT_C_FIND, self._find))
        return handlers

    def _requested(self, event: evt.Event) -> None:
        association = event.assoc
        request = association.requestor.primitive
        peer = Peer(
            calling_ae_title=str(request.calling_ae_title).strip(),
            called_ae_title=str(request.called_ae_title).strip(),
            address=str(association.requestor.address),
            association_id=secrets.token_hex(8),
        )
        before = self._open.add(association, peer)
        rejection = judge(self._rules, peer, open_associations=before, draining=self._draining.is_set())
        if rejection is None:
            rejection = self._admitted(peer)
        if rejection is not None:
            self._open.remove(association)
            self._emit(
                "association.rejected",
                level="warning",
                association=peer.association_id,
                address=peer.address,
                result=rejection.result,
                source=rejection.source,
                diagnostic=rejection.reason,
            )
            association.acse.send_reject(*rejection)
            association.kill()

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

    def _established(self, event: evt.Event) -> None:
        peer = self._open.establish(event.assoc)
        if peer is not None:
            self._tell(peer, lambda: self._reception.opened(peer))

    def _ended(self, event: evt.Event) -> None:
        self._close(event.assoc)

    def _sweep(self) -> None:
        """Close associations whose thread ended without an event, such as by a fault in pynetdicom."""
        for association in self._open.all():
            if association.ident is not None and not association.is_alive():
                self._close(association)

    def _close(self, association: Association) -> None:
        peer = self._open.remove(association)
        if peer is not None:
            aborted = not association.is_released
            self._tell(peer, lambda: self._reception.closed(peer, aborted=aborted))

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

    def _common_classes(self, event: evt.Event) -> dict[str, SOPClassCommonExtendedNegotiation]:
        """Tell pynetdicom that classes which it does not know are of the Storage Service (PS3.7 D.3.3.6)."""
        common = {}
        for context in event.assoc.requestor.primitive.presentation_context_definition_list:
            if context.abstract_syntax in self._storage:
                item = SOPClassCommonExtendedNegotiation()
                item.sop_class_uid = context.abstract_syntax
                item.service_class_uid = STORAGE_SERVICE_CLASS
                common[context.abstract_syntax] = item
        return common

    def _store(self, event: evt.Event) -> int:
        peer = self._open.peer(event.assoc)
        if peer is None:
            return PROCESSING_FAILURE
        command = event.request
        request = StoreRequest(
            sop_class_uid=str(command.AffectedSOPClassUID or ""),
            sop_instance_uid=str(command.AffectedSOPInstanceUID or ""),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            encoded=command.DataSet.getbuffer() if command.DataSet is not None else b"",
        )
        return self._intake.receive(request, peer)

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        assert self._finder is not None
        with hushed():
            query = event.identifier
            level = str(query.get("QueryRetrieveLevel", "STUDY"))
            for match in self._finder.find(level, query):
                yield _PENDING, match
        yield SUCCESS, None
