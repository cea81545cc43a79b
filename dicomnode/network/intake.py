"""What comes in: the peer, the object, the port to whoever makes it durable, and the status that a sender gets.

No socket: a C-STORE request arrives as the bytes of its Data Set and leaves as a status. Nothing here decodes a Data
Set beyond the bounded scan for its UIDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dicomnode.encoded import Buffer, Limits, scan_header
from dicomnode.errors import NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.network.status import DATA_SET_MISMATCH, PROCESSING_FAILURE, SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end of an association; ``association_id`` is random, in hex."""

    calling_ae_title: str
    called_ae_title: str
    address: str
    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRequest:
    """A C-STORE request: what the command says, and the Data Set as it came."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    encoded: Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedObject:
    """An object that came, with what its first elements say; ``encoded`` is valid only during `Reception.store`."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    modality: str
    encoded: Buffer
    peer: Peer


class Reception(Protocol):
    """Whoever takes objects; called from the threads of the associations, several at a time."""

    def admit(self, peer: Peer) -> None:
        """Let an association in, or raise a NodeError: it is then rejected as transient."""
        ...

    def opened(self, peer: Peer) -> None:
        """An association was accepted."""
        ...

    def store(self, received: ReceivedObject, /) -> None:
        """Take an object: it is durable on return; a NodeError gives the sender its status."""
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
        self._reception = reception
        self._limits = limits
        self._maximum_object_bytes = maximum_object_bytes
        self._emit = emit

    def receive(self, request: StoreRequest, peer: Peer) -> int:
        """DIMSE status for one request (PS3.4 B.2.3); never raises."""
        try:
            self._reception.store(self._examined(request, peer))
        except NodeError as error:
            status = DATA_SET_MISMATCH if error.code == "object-uid-mismatch" else error.dimse_status
            self._emit(
                "object.refused",
                level="warning",
                association=peer.association_id,
                reason=error.code,
                status=f"x{status:04X}",
            )
            return status
        except Exception as error:  # noqa: BLE001 (the peer gets a status, not our fault)
            self._emit(
                "internal", level="error", association=peer.association_id, reason="internal", kind=type(error).__name__
            )
            return PROCESSING_FAILURE
        return SUCCESS

    def _examined(self, request: StoreRequest, peer: Peer) -> ReceivedObject:
        if len(memoryview(request.encoded)) > self._maximum_object_bytes:
            raise StudyError("object-too-large", limit_bytes=self._maximum_object_bytes)
        header = scan_header(request.encoded, request.transfer_syntax_uid, self._limits)
        if (header.sop_class_uid, header.sop_instance_uid) != (request.sop_class_uid, request.sop_instance_uid):
            raise StudyError("object-uid-mismatch")
        return ReceivedObject(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            study_instance_uid=header.study_instance_uid,
            series_instance_uid=header.series_instance_uid,
            transfer_syntax_uid=request.transfer_syntax_uid,
            modality=header.modality,
            encoded=request.encoded,
            peer=peer,
        )
