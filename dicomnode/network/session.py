"""One connection from its first byte to its last: the acceptor's side of the upper layer (PS3.8 9.2) and of DIMSE.

Its thread owns the socket. C-STORE Data Sets go from the socket into the sink's own window, every other message is
collected, within a bound, and handed to a service. What is let in and what becomes of an object is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from dicomnode.errors import PeerError
from dicomnode.events import Emit
from dicomnode.network import dimse, pdu
from dicomnode.network.ahead import Ahead
from dicomnode.network.asking import Asking, Event
from dicomnode.network.dimse import Command
from dicomnode.network.intake import Intake, Peer, StoreRequest, Transfer
from dicomnode.network.negotiation import Agreed, Association
from dicomnode.network.pace import Pace
from dicomnode.network.pdu import Item, Violation
from dicomnode.network.status import (
    CANNOT_UNDERSTAND,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    UNRECOGNISED_OPERATION,
)
from dicomnode.network.wire import Wire

#: PS3.8 9.3.2: an A-ASSOCIATE-RQ with 128 contexts of 60 transfer syntaxes is below 300 KB.
_LONGEST_REQUEST: Final = 512 * 1024
_PIECE_BYTES: Final = 16 * 1024  # memory is taken as bytes come, not as they are announced
_LONGEST_DATA_SET: Final = 1024 * 1024  # of messages other than C-STORE: identifiers and attribute lists
_FAREWELL_SECONDS: Final = 2.0  # PS3.8 9.1.5: ARTIM after the last PDU
_BY_PROVIDER: Final = 2


class Call(NamedTuple):
    """A DIMSE request other than C-STORE: command, context, encoded Data Set, and who asks."""

    command: Command
    context: Agreed
    data_set: bytes
    peer: Peer


class Reply(NamedTuple):
    """A response: status, its Data Set in the context's transfer syntax if it has one, the instance that was made."""

    status: int
    data_set: bytes | None = None
    sop_instance_uid: str = ""


#: What answers requests of one kind; an exception becomes 0x0110.
Service = Callable[[Call], Iterator[Reply]]


class Hall(Protocol):
    """Who decides whether a connection becomes an association, and is told what becomes of it."""

    def enter(self, session: Session, request: memoryview) -> tuple[Peer, Association] | bytes:
        """Peer and what was agreed on, or the bytes of a rejection."""
        ...

    def opened(self, session: Session, peer: Peer) -> None:
        """The peer was told that it is accepted."""
        ...

    def closed(self, session: Session, peer: Peer, *, aborted: bool) -> None:
        """The association ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a session behaves.

    Attributes
    ----------
    intake
        Decides on C-STORE.
    services
        What answers other requests, by SOP Class of the context and Command Field (PS3.7 E.1).
    maximum_pdu_bytes
        What was advertised.
    silence_seconds, request_seconds
        Silence that is borne in an association, and before one is asked for.
    pace
        Makes what watches one session's messages.
    emit
        Where events go.
    """

    intake: Intake
    services: Mapping[tuple[str, int], Service]
    maximum_pdu_bytes: int
    silence_seconds: float
    request_seconds: float
    pace: Callable[[], Pace]
    emit: Emit


@dataclass(slots=True)
class _Message:
    """A message whose Data Set is coming."""

    command: Command
    context_id: int
    transfer: Transfer | None
    collected: bytearray = field(default_factory=bytearray)


class Session:
    """One connection; `run` returns when it has ended, and never raises what a peer can cause.

    Parameters
    ----------
    wire
        The connection.
    manners
        How to behave.
    hall
        Who lets in.
    address
        Of the peer, for the log.
    """

    def __init__(self, wire: Wire, manners: Manners, hall: Hall, address: str) -> None:
        self._wire = wire
        self._address = address
        self._pace = manners.pace()
        self._manners = manners
        self._hall = hall
        self._ahead = Ahead(wire)
        self._contexts: Mapping[int, Agreed] = {}
        self._storage: frozenset[str] = frozenset()
        self._longest = 0
        self._peer: Peer | None = None
        self._command = bytearray()
        self._command_context = 0
        self._message: _Message | None = None
        self._follow, self._again = b"", 0  # what may follow the fragment that is being read, and the length of another
        self._asking = Asking(wire.send)

    def run(self) -> None:
        """Serve until the connection ends."""
        released = False
        try:
            self._wire.wait_at_most(self._manners.request_seconds)
            entered = self._enter()
            if entered is not None:
                released = self._associated(*entered)
        except PeerError as error:
            self._part(error)
        finally:
            if self._message is not None and self._message.transfer is not None:
                self._message.transfer.close()
            self._asking.end()
            if self._peer is not None:
                self._hall.closed(self, self._peer, aborted=not released)
            self._wire.end(_FAREWELL_SECONDS)

    @property
    def association_id(self) -> str:
        """Identifier of its association; empty before there is one."""
        return self._peer.association_id if self._peer is not None else ""

    def abort(self) -> None:
        """End it from another thread: by an A-ABORT where an association is open."""
        self._wire.interrupt(pdu.abort(_BY_PROVIDER, pdu.NOT_SPECIFIED) if self._peer is not None else b"")

    def report(self, event: Event, seconds: float) -> int | None:
        """As `Asking.report`, in this association."""
        return self._asking.report(event, self._contexts, self._longest, seconds)

    def _part(self, error: PeerError) -> None:
        """Tell the peer why, where it is still there, and the log."""
        violation = isinstance(error, Violation)
        if violation or error.code == "timeout":
            reason = error.abort_reason if isinstance(error, Violation) else pdu.NOT_SPECIFIED
            self._wire.part(pdu.abort(_BY_PROVIDER, reason))
        association = self._peer.association_id if self._peer is not None else None
        self._manners.emit(
            "association.broken" if self._peer is not None else "connection.failed",
            level="warning",
            association=association,
            address=self._address,
            reason=error.code,
            kind=error.facts.get("what"),
        )

    def _enter(self) -> tuple[Peer, Association] | None:
        self._ahead.need(1)
        self._wire.wait_at_most(self._manners.silence_seconds)
        kind, length = self._next_pdu(max(_LONGEST_REQUEST, self._manners.maximum_pdu_bytes))
        if kind == pdu.A_ABORT:
            return None
        if kind != pdu.A_ASSOCIATE_RQ:
            raise Violation(pdu.UNEXPECTED_PDU, "pdu-before-association")
        entered = self._hall.enter(self, self._request(length))
        if isinstance(entered, bytes):
            self._wire.send(entered)
            return None
        return entered

    def _request(self, length: int) -> memoryview:
        """Read a whole association request, in the time that one PDU has."""
        whole = bytearray(pdu.header(pdu.A_ASSOCIATE_RQ, length))
        end, begun = pdu.HEADER_BYTES + length, self._wire.waited
        while len(whole) < end:
            start = len(whole)
            whole.extend(bytes(min(end - start, _PIECE_BYTES)))
            with memoryview(whole)[start:] as place:
                self._ahead.fill(place)
            if self._wire.waited - begun > self._manners.silence_seconds:
                raise PeerError("timeout")
        return memoryview(whole)

    def _associated(self, peer: Peer, association: Association) -> bool:
        """Serve an association; whether it was released."""
        self._contexts = association.contexts
        self._storage = association.storage
        self._longest = association.longest_pdu
        self._peer = peer
        self._hall.opened(self, peer)
        self._ahead.widen()
        self._wire.send(association.answer)
        while True:
            kind, length = self._next_pdu(self._manners.maximum_pdu_bytes)
            if kind == pdu.P_DATA_TF:
                self._data(length)
                continue
            self._ahead.fill(memoryview(bytearray(length)))
            if kind == pdu.A_RELEASE_RQ:
                self._wire.send(pdu.RELEASE_RESPONSE)
                return True
            if kind == pdu.A_ABORT:
                return False
            raise Violation(pdu.UNEXPECTED_PDU, "pdu-in-association")

    def _next_pdu(self, longest: int) -> tuple[int, int]:
        """Type and length of the next PDU."""
        ahead = self._ahead
        if ahead.end - ahead.start < pdu.HEADER_BYTES:
            ahead.need(pdu.HEADER_BYTES, owed=self._message is not None or bool(self._command))
        kind, length = pdu.parse_header(ahead.view, ahead.start, longest)
        ahead.start += pdu.HEADER_BYTES
        return kind, length

    def _data(self, length: int) -> None:
        """Take the items of a P-DATA-TF (PS3.8 9.3.5)."""
        ahead, remaining = self._ahead, length
        while remaining:
            if remaining < pdu.ITEM_BYTES:
                raise Violation(pdu.INVALID_PARAMETER, "item-cut")
            if ahead.end - ahead.start < pdu.ITEM_BYTES:
                ahead.need(pdu.ITEM_BYTES, owed=True)
            item = pdu.parse_item(ahead.view, ahead.start, remaining)
            ahead.start += pdu.ITEM_BYTES
            remaining -= pdu.ITEM_BYTES + item.length
            self._pace.fragment(item.length, self._wire.waited)
            if item.context_id not in self._contexts:
                raise Violation(pdu.UNEXPECTED_PARAMETER, "item-context")
            if item.is_command:
                self._take_command(item)
            else:
                self._take_data(item, alone=remaining == 0 and length == item.length + pdu.ITEM_BYTES)

    def _take_command(self, item: Item) -> None:
        begun = len(self._command)
        if self._message is not None or (begun and item.context_id != self._command_context):
            raise Violation(pdu.UNEXPECTED_PARAMETER, "command-in-message")
        if begun + item.length > dimse.MAXIMUM_COMMAND_BYTES:
            raise Violation(pdu.INVALID_PARAMETER, "command-length")
        self._command_context = item.context_id
        self._command.extend(bytes(item.length))
        with memoryview(self._command)[begun:] as place:
            self._ahead.fill(place)
        if item.is_last:
            command = dimse.parse_command(self._command)
            self._command.clear()
            if not command.has_data_set:
                self._pace.next_message()
            self._begin(command, item.context_id)

    def _begin(self, command: Command, context_id: int) -> None:
        """A command is whole: its Data Set follows, or it is served now."""
        if command.command_field == dimse.C_CANCEL_RQ:  # responses go out one after the other: nothing is pending
            return
        if command.command_field & dimse.RESPONSE and not self._asking.answered(command):
            raise Violation(pdu.UNEXPECTED_PARAMETER, "response-unasked")
        message = _Message(command, context_id, None)
        if not command.has_data_set:
            if not command.command_field & dimse.RESPONSE:
                self._serve(message)
            return
        if command.command_field == dimse.C_STORE_RQ:
            message.transfer = self._transfer(command, self._contexts[context_id])
        self._message = message

    def _transfer(self, command: Command, context: Agreed) -> Transfer:
        assert self._peer is not None
        refused = None
        if not self._storage.issuperset((context.abstract_syntax, command.affected_sop_class_uid or "")):
            refused = SOP_CLASS_NOT_SUPPORTED
        request = StoreRequest(
            sop_class_uid=command.affected_sop_class_uid,
            sop_instance_uid=command.affected_sop_instance_uid,
            transfer_syntax_uid=context.transfer_syntax,
        )
        return self._manners.intake.begin(request, self._peer, refused=refused)

    def _take_data(self, item: Item, *, alone: bool) -> None:
        """Take a fragment; one that is alone in its PDU and not the last is likely to be followed by others like it."""
        message = self._message
        if message is None or message.context_id != item.context_id:
            raise Violation(pdu.UNEXPECTED_PARAMETER, "data-before-command")
        if message.transfer is not None:
            self._follow = pdu.data_header(item.length, item.context_id) if alone and not item.is_last else b""
            self._again = item.length
            message.transfer.take(self._fill, item.length)
        else:
            begun = len(message.collected)
            if begun + item.length > _LONGEST_DATA_SET:
                raise Violation(pdu.INVALID_PARAMETER, "data-set-length")
            message.collected.extend(bytes(item.length))
            with memoryview(message.collected)[begun:] as place:
                self._ahead.fill(place)
        if item.is_last:
            self._message = None
            self._pace.next_message()
            if not message.command.command_field & dimse.RESPONSE:  # what an answer says beside its status is dropped
                self._serve(message)

    def _fill(self, place: memoryview, left: int) -> tuple[int, int]:
        """Put bytes of a fragment, and of others like it that follow, into a place; how many, and how many are left."""
        if not self._follow:
            count = min(len(place), left)
            self._ahead.fill(place[:count])
            return count, left - count
        count, left, begun = self._ahead.fill_on(place, left, self._follow, self._again)
        for _ in range(begun):
            self._pace.fragment(self._again, self._wire.waited)
        return count, left

    def _serve(self, message: _Message) -> None:
        """Answer a message that is whole."""
        command = message.command
        if message.transfer is not None:
            self._answer(message, Reply(message.transfer.end()))
            return
        if command.command_field == dimse.C_STORE_RQ:  # without a Data Set
            self._answer(message, Reply(CANNOT_UNDERSTAND))
            return
        context = self._contexts[message.context_id]
        service = self._manners.services.get((context.abstract_syntax, command.command_field))
        if service is None:
            self._answer(message, Reply(UNRECOGNISED_OPERATION))
            return
        assert self._peer is not None
        call = Call(command, context, bytes(message.collected), self._peer)
        try:
            for reply in service(call):
                self._answer(message, reply)
        except PeerError:
            raise
        except Exception as error:  # noqa: BLE001 (the peer gets a status, not our fault)
            self._manners.emit(
                "internal",
                level="error",
                association=self._peer.association_id,
                reason="internal",
                kind=type(error).__name__,
            )
            self._answer(message, Reply(PROCESSING_FAILURE))

    def _answer(self, message: _Message, reply: Reply) -> None:
        encoded = dimse.response(
            message.command,
            reply.status,
            with_data_set=reply.data_set is not None,
            sop_instance_uid=reply.sop_instance_uid,
        )
        data = pdu.data_pdus(message.context_id, encoded, command=True, longest=self._longest)
        if reply.data_set is not None:
            data += pdu.data_pdus(message.context_id, reply.data_set, command=False, longest=self._longest)
        self._wire.send(data)
