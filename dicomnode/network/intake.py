"""What comes in: the peer, the object, the port to whoever makes it durable, and the status that a sender gets.

No socket: a C-STORE request arrives as its command and pieces of its Data Set, and leaves as a status. Nothing here
decodes a Data Set beyond the bounded scan for its UIDs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from dicomnode.encoded import Header, Limits, scan_header
from dicomnode.errors import NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.network.status import DATA_SET_MISMATCH, NOT_AUTHORISED, PROCESSING_FAILURE, SUCCESS
from dicomnode.network_sections import PeerRule

_SCRATCH_BYTES: Final = 64 * 1024
#: The UIDs of ordinary objects stand here; what does not is looked for in the whole bound.
_FIRST_LOOK_BYTES: Final = 4096
_ORDINARY_BYTES: Final = 16 * 1024
#: Refusals that have a status of their own, not that of their family (PS3.4 Table B.2-1, PS3.7 9.1.1.1.9).
_STATUSES: Final = MappingProxyType({"object-uid-mismatch": DATA_SET_MISMATCH, "study-limit": NOT_AUTHORISED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of an association; ``association_id`` is random, in hex; the rule that let it in, if any."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    association_id: str
    rule: PeerRule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request: what its command says, and the transfer syntax that was agreed on for its context.

    By STOW-RS, what the file's meta information says; the study is that of the target, "" where it names none.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedObject:
    """An object that is coming, with what its first elements say."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    peer: Peer


class Sink(Protocol):
    """Where the bytes of one Data Set go as they come; used by one thread."""

    def window(self) -> memoryview:
        """Place for the next bytes; at least one, gone after `advance`."""
        ...

    def advance(self, count: int) -> None:
        """So many bytes were put into the window; a NodeError says that no more can be taken."""
        ...

    def head(self) -> memoryview:
        """What came so far, until `begin` is called."""
        ...

    def begin(self, received: ReceivedObject, /) -> None:
        """It is known whose bytes these are; a NodeError says that they are not taken."""
        ...

    def finish(self) -> None:
        """All bytes came; the object is durable on return; a NodeError gives the sender its status."""
        ...

    def close(self) -> None:
        """Give back what is held; without `finish`, nothing of the object remains."""
        ...


class Reception(Protocol):
    """Whoever takes objects; called from the threads of the associations, several at a time."""

    def admit(self, peer: Peer) -> None:
        """Let an association in, or raise a NodeError: it is then rejected as transient."""
        ...

    def opened(self, peer: Peer) -> None:
        """An association was accepted."""
        ...

    def sink(self) -> Sink:
        """Place for one object."""
        ...

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        """An association ended: called once for each that was opened."""
        ...


class Intake:
    """Decides on C-STORE requests.

    Parameters
    ----------
    reception
        Who takes the objects.
    limits
        Budget of the header scan.
    maximum_object_bytes
        Size beyond which an object is refused.
    emit
        Where events go.
    """

    def __init__(self, reception: Reception, *, limits: Limits, maximum_object_bytes: int, emit: Emit) -> None:
        self.reception = reception
        self.limits = limits
        self.maximum_object_bytes = maximum_object_bytes
        self.emit = emit
        self._costly = threading.Lock()

    def look(self, head: memoryview, transfer_syntax_uid: str, *, whole: bool) -> Header:
        """As `scan_header`; long heads one at a time, since a walk through one that was made to cost takes half a second."""
        with self._costly if len(head) > _ORDINARY_BYTES else nullcontext():
            return scan_header(head, transfer_syntax_uid, self.limits, whole=whole)

    def begin(self, request: StoreRequest, peer: Peer, *, refused: int | None = None) -> Transfer:
        """One object begins to come; to be closed. `refused` is its status where that is settled already."""
        return Transfer(self, request, peer, refused)


def from_memory(data: memoryview) -> Callable[[memoryview, int], tuple[int, int]]:
    """What `Transfer.take` fills with where the bytes are here already."""
    position = 0

    def fill(place: memoryview, left: int) -> tuple[int, int]:
        nonlocal position
        part = min(len(place), left)
        place[:part] = data[position : position + part]
        position += part
        return part, left - part

    return fill


class Transfer:
    """One C-STORE on its way in. Its methods never raise: what goes wrong becomes the status at the end.

    The bytes of an object that is refused half-way are still taken from the sender, and dropped.

    Attributes
    ----------
    fault
        Why it was refused; None where it was not, or what is known is the status alone.
    """

    def __init__(self, intake: Intake, request: StoreRequest, peer: Peer, refused: int | None) -> None:
        self._intake = intake
        self._request = request
        self._peer = peer
        self._total = 0
        self._look: int | None = _FIRST_LOOK_BYTES  # bytes after which the UIDs are looked for; None: they are known
        self._status = refused
        self.fault: NodeError | None = None
        self._scratch: memoryview | None = None
        self._sink: Sink | None = None
        if refused is None:
            try:
                self._open()
            except Exception as error:  # noqa: BLE001 (the peer gets a status, not our fault)
                self._refuse(error)

    def take(self, fill: Callable[[memoryview, int], tuple[int, int]], left: int) -> None:
        """So many bytes more of the Data Set, and those that follow them by then.

        Parameters
        ----------
        fill
            Puts bytes where they go, and says how many, and how many are left; what it raises is raised.
        """
        limit = self._intake.maximum_object_bytes
        while left:
            part, left = fill(self._window(), left)
            self._total += part
            if self._status is not None or self._sink is None:
                continue
            try:
                if self._total > limit:
                    raise StudyError("object-too-large", limit_bytes=limit)  # noqa: TRY301 (one place settles a status)
                self._sink.advance(part)
                if self._look is not None and self._total >= self._look:
                    self._begin(whole=False)
            except Exception as error:  # noqa: BLE001 (as above)
                self._refuse(error)

    def end(self) -> int:
        """All bytes came: the DIMSE status (PS3.4 B.2.3)."""
        if self._status is None:
            try:
                self._finish()
            except Exception as error:  # noqa: BLE001 (as above)
                self._refuse(error)
        self.close()
        return SUCCESS if self._status is None else self._status

    def take_whole(self, encoded: bytes | memoryview) -> int:
        """A Data Set that is here already, from its first byte to its last: its status, as of `end`."""
        data = memoryview(encoded)
        try:
            self.take(from_memory(data), len(data))
            return self.end()
        finally:
            self.close()

    def close(self) -> None:
        """Give back what is held; without `end` before it, nothing of the object remains."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _open(self) -> None:
        if not self._request.sop_class_uid or not self._request.sop_instance_uid:
            raise StudyError("object-without-uids")
        self._sink = self._intake.reception.sink()

    def _window(self) -> memoryview:
        """Place for the next bytes."""
        if self._status is None and self._sink is not None:
            try:
                return self._sink.window()
            except Exception as error:  # noqa: BLE001 (as above)
                self._refuse(error)
        if self._scratch is None:
            self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        return self._scratch

    def _finish(self) -> None:
        assert self._sink is not None
        if self._look is not None:
            self._begin(whole=True)
        self._sink.finish()

    def _begin(self, *, whole: bool) -> None:
        """Look for the UIDs in what has come; if they are not there yet, look again when there is twice as much."""
        assert self._sink is not None
        request, limits = self._request, self._intake.limits
        final = whole or self._total >= limits.header_scan_bytes
        try:
            header = self._intake.look(self._sink.head(), request.transfer_syntax_uid, whole=whole)
        except StudyError as error:
            if final or error.code == "object-too-complex":  # more bytes make it no simpler
                raise
            self._look = min(self._total * 2, limits.header_scan_bytes)
            return
        self._sink.begin(self._received(header))
        self._look = None

    def _received(self, header: Header) -> ReceivedObject:
        request = self._request
        if (header.sop_class_uid, header.sop_instance_uid) != (request.sop_class_uid, request.sop_instance_uid):
            raise StudyError("object-uid-mismatch")
        if request.study_instance_uid not in ("", header.study_instance_uid):
            raise StudyError("object-uid-mismatch")
        return ReceivedObject(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            modality=header.modality,
            peer=self._peer,
        )

    def _refuse(self, error: Exception) -> None:
        """Settle the status, tell it, and let go of what was held."""
        if isinstance(error, NodeError):
            self.fault = copy(error)  # without its traceback: that would hold this transfer, and all of the object
            self._status = _STATUSES.get(error.code, error.dimse_status)
            self._intake.emit(
                "object.refused",
                level="warning",
                association=self._peer.association_id,
                address=self._peer.address,
                reason=error.code,
                status=f"x{self._status:04X}",
            )
        else:
            self._status = PROCESSING_FAILURE
            self._intake.emit(
                "internal",
                level="error",
                association=self._peer.association_id,
                reason="internal",
                kind=type(error).__name__,
            )
        self._let_go()

    def _let_go(self) -> None:
        try:
            self.close()
        except NodeError as error:
            self._intake.emit(
                "object.refused",
                level="warning",
                association=self._peer.association_id,
                address=self._peer.address,
                reason=error.code,
            )
