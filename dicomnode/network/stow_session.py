"""One connection of STOW-RS, from its first byte to its last: who asks, what is taken, what the answer says.

Objects go the way of a C-STORE: piece by piece into a `Transfer`. Each request is, for the reception, an association.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from dicomnode.encoded import FileHead, file_head
from dicomnode.errors import PeerError, StudyError
from dicomnode.events import Emit
from dicomnode.network.http_wire import Head, HttpWire
from dicomnode.network.intake import Intake, Peer, StoreRequest, Transfer, from_memory
from dicomnode.network.multipart import Begin, Event, Piece, Unacceptable
from dicomnode.network.pace import Pace
from dicomnode.network.status import SOP_CLASS_NOT_SUPPORTED
from dicomnode.network.stow import (
    TRANSFER_SYNTAX_NOT_SUPPORTED,
    Asked,
    Outcome,
    asked,
    http_status,
    is_dicom,
    report,
    study_of,
    token_of,
)
from dicomnode.network.wire import Wire

_FAREWELL_SECONDS: Final = 2.0
_ALLOWED: Final = "POST, OPTIONS"


class Hall(Protocol):
    """Who knows callers, lets requests in, and is told what becomes of them."""

    @property
    def draining(self) -> bool:
        """Whether no more requests are taken."""
        ...

    def recognise(self, session: StowSession, token: str | None) -> Peer:
        """Who asks; Unacceptable where nobody knows the caller."""
        ...

    def entered(self, session: StowSession, peer: Peer) -> AbstractContextManager[None]:
        """While a request is served; Unacceptable where it cannot be now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a session behaves.

    Attributes
    ----------
    intake
        Decides on objects.
    path
        Before ``/studies``.
    sop_classes, transfer_syntaxes
        What is stored.
    maximum_parts, maximum_bytes
        Of one request.
    retry_after_seconds
        Told to who cannot be served now.
    silence_seconds, head_seconds, idle_seconds
        As of `HttpWire`.
    pace
        Makes what watches one request's body.
    """

    intake: Intake
    path: str
    sop_classes: frozenset[str]
    transfer_syntaxes: frozenset[str]
    maximum_parts: int
    maximum_bytes: int
    retry_after_seconds: int
    silence_seconds: float
    head_seconds: float
    idle_seconds: float
    pace: Callable[[], Pace]
    emit: Emit


class StowSession:
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
        self._manners = manners
        self._hall = hall
        self._address = address
        self._http = HttpWire(
            wire,
            silence_seconds=manners.silence_seconds,
            head_seconds=manners.head_seconds,
            idle_seconds=manners.idle_seconds,
        )
        self._association: str | None = None

    def run(self) -> None:
        """Serve until the connection ends."""
        try:
            while self._serve_one() and self._http.renew():
                self._association = None
        except Unacceptable as refusal:
            self._refuse(refusal)
        except PeerError as error:
            self._part(error)
        except Exception as error:  # noqa: BLE001 (the peer gets a status, not our fault)
            self._manners.emit(
                "internal", level="error", association=self._association, reason="internal", kind=type(error).__name__
            )
            with suppress(PeerError):
                self._http.answer(500, {}, b"", last=True)
        finally:
            self._wire.end(_FAREWELL_SECONDS)

    def abort(self) -> None:
        """End it from another thread."""
        self._wire.interrupt()

    def _serve_one(self) -> bool:
        """Serve one request; whether another may follow."""
        head = self._http.request()
        if head is None:
            return False
        peer = self._hall.recognise(self, token_of(head.header.get("authorization", "")))
        self._association = peer.association_id
        study_instance_uid = study_of(head.target, self._manners.path)
        if head.method == "OPTIONS":
            self._http.answer(204, {"Allow": _ALLOWED}, b"", last=True)
            return False
        if head.method != "POST":
            raise Unacceptable(405, "method")
        wanted = asked(study_instance_uid, head.header)
        self._weigh(head)
        with self._hall.entered(self, peer):
            outcomes = self._store(wanted, peer)
        self._answer(wanted, outcomes)
        return not self._hall.draining

    def _weigh(self, head: Head) -> None:
        if (head.length or 0) > self._manners.maximum_bytes:
            raise Unacceptable(413, "message-length")
        if head.length == 0:
            raise Unacceptable(400, "no-parts")

    def _store(self, wanted: Asked, peer: Peer) -> list[Outcome]:
        """Take all objects of a request; each is durable or has its status by then."""
        outcomes: list[Outcome] = []
        part: _Part | None = None

        def act(event: Event) -> None:
            nonlocal part
            if isinstance(event, Begin):
                if len(outcomes) == self._manners.maximum_parts:
                    raise Unacceptable(413, "parts")
                if not is_dicom(event.header):
                    raise Unacceptable(415, "media-type")
                part = _Part(self._manners, peer, wanted.study_instance_uid)
                return
            assert part is not None
            if isinstance(event, Piece):
                part.take(event.data)
            else:
                outcomes.append(part.end())

        try:
            for data in self._http.body(self._manners.pace()):
                for event in wanted.body.feed(data):
                    act(event)
            for event in wanted.body.end():
                act(event)
        finally:
            if part is not None:
                part.close()
        return outcomes

    def _answer(self, wanted: Asked, outcomes: list[Outcome]) -> None:
        status = http_status(outcomes)
        if status == 400:
            raise Unacceptable(400, "no-parts")
        header: dict[str, str] = {"Content-Type": wanted.answer}
        if status == 503:
            header["Retry-After"] = str(self._manners.retry_after_seconds)
        failed = sum(one.status != 0 for one in outcomes)
        self._manners.emit(
            "stow.answered",
            level="warning" if failed else "info",
            association=self._association,
            address=self._address,
            http=status,
            objects=len(outcomes),
            refused=failed,
        )
        self._http.answer(status, header, report(outcomes, wanted.answer), last=self._hall.draining)

    def _refuse(self, refusal: Unacceptable) -> None:
        """Tell the log why, and the peer where it is still there."""
        header = {"Content-Type": "application/json"}
        if refusal.http == 401:
            header["WWW-Authenticate"] = "Bearer"
        elif refusal.http == 405:
            header["Allow"] = _ALLOWED
        elif refusal.http == 503:
            header["Retry-After"] = str(self._manners.retry_after_seconds)
        body = f'{{"reason":"{refusal.code}","kind":"{refusal.what}"}}'.encode("ascii")
        self._tell("stow.refused", refusal.code, refusal.what, http=refusal.http)
        with suppress(PeerError):
            self._http.answer(refusal.http, header, body, last=True)

    def _part(self, error: PeerError) -> None:
        if error.code == "timeout":
            with suppress(PeerError):
                self._http.answer(408, {}, b"", last=True)
        what = error.facts.get("what")
        self._tell("association.broken" if self._association else "connection.failed", error.code, what)

    def _tell(self, event: str, reason: str, kind: str | float | None, **more: int) -> None:
        self._manners.emit(
            event,
            level="warning",
            association=self._association,
            address=self._address,
            reason=reason,
            kind=kind,
            **more,
        )


class _Part:
    """One object of a request: its file's head is collected, its Data Set goes on to a `Transfer`."""

    def __init__(self, manners: Manners, peer: Peer, study_instance_uid: str) -> None:
        self._manners = manners
        self._peer = peer
        self._study_instance_uid = study_instance_uid
        self._collected = bytearray()
        self._named: FileHead | None = None
        self._transfer: Transfer | None = None
        self._status: int | None = None

    def take(self, data: memoryview) -> None:
        """Bytes that follow."""
        if self._transfer is not None:
            self._transfer.take(from_memory(data), len(data))
        elif self._status is None:
            self._collected += data
            self._look(whole=False)

    def end(self) -> Outcome:
        """All bytes came."""
        if self._transfer is None and self._status is None:
            self._look(whole=True)
        status = self._transfer.end() if self._transfer is not None else self._status
        assert status is not None
        self._transfer = None
        named = self._named
        return Outcome(named.sop_class_uid if named else "", named.sop_instance_uid if named else "", status)

    def close(self) -> None:
        """Give back what is held; without `end`, nothing of the object remains."""
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.close()

    def _look(self, *, whole: bool) -> None:
        try:
            named = file_head(self._collected, whole=whole)
        except StudyError as error:
            self._status = error.dimse_status
            self._manners.emit(
                "object.refused",
                level="warning",
                association=self._peer.association_id,
                address=self._peer.address,
                reason=error.code,
                status=f"x{error.dimse_status:04X}",
            )
            self._collected = bytearray()  # views of the old one live as long as the error
            return
        if named is None:
            return
        self._named = named
        request = StoreRequest(
            sop_class_uid=named.sop_class_uid,
            sop_instance_uid=named.sop_instance_uid,
            transfer_syntax_uid=named.transfer_syntax_uid,
            study_instance_uid=self._study_instance_uid,
        )
        self._transfer = self._manners.intake.begin(request, self._peer, refused=self._refused(named))
        rest = bytes(memoryview(self._collected)[named.start :])
        self._collected = bytearray()
        self._transfer.take(from_memory(memoryview(rest)), len(rest))

    def _refused(self, named: FileHead) -> int | None:
        rule = self._peer.rule
        allowed = rule.sop_classes if rule is not None else ()
        if named.sop_class_uid not in self._manners.sop_classes or (allowed and named.sop_class_uid not in allowed):
            return SOP_CLASS_NOT_SUPPORTED
        if named.transfer_syntax_uid not in self._manners.transfer_syntaxes:
            return TRANSFER_SYNTAX_NOT_SUPPORTED
        return None
