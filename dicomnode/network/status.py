"""What answers of the DICOM network mean: DIMSE statuses (PS3.7 C, PS3.4 B.2.3) and rejections (PS3.8 9.3.4).

Pure tables: no socket, no pynetdicom.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from dicomnode.errors import PeerError, PeerRefusal

SUCCESS: Final = 0x0000
INVALID_VALUE: Final = 0x0106  # PS3.7 C.5.8: invalid attribute value
PROCESSING_FAILURE: Final = 0x0110  # PS3.7 C.5.6
DUPLICATE_INSTANCE: Final = 0x0111  # PS3.7 C.5.3
NO_SUCH_INSTANCE: Final = 0x0112  # PS3.7 C.5.11
NO_SUCH_EVENT: Final = 0x0113  # PS3.7 C.5.16
INVALID_ARGUMENT: Final = 0x0115  # PS3.7 C.5.17
MISSING_ATTRIBUTE: Final = 0x0120  # PS3.7 C.5.21
NO_SUCH_ACTION: Final = 0x0123  # PS3.7 C.5.24
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122  # PS3.7 C.5.15
UNRECOGNISED_OPERATION: Final = 0x0211  # PS3.7 C.5.14
OUT_OF_RESOURCES: Final = 0xA700  # PS3.4 Table B.2-1
DATA_SET_MISMATCH: Final = 0xA900  # PS3.4 Table B.2-1
CANNOT_UNDERSTAND: Final = 0xC000  # PS3.4 Table B.2-1


class StatusKind(StrEnum):
    """What a sender does after a status."""

    SUCCESS = "success"
    WARNING = "warning"  # taken, with a remark
    TRANSIENT = "transient"  # trying the same again can help
    PERMANENT = "permanent"  # it cannot


#: Statuses of their own, each with its clause; ranges are in `classify`.
STATUSES: Final = MappingProxyType(
    {
        0x0000: StatusKind.SUCCESS,  # PS3.7 C.1.1
        0x0001: StatusKind.WARNING,  # PS3.7 C.4: requested optional attributes are not supported
        0x0107: StatusKind.WARNING,  # PS3.7 C.4.2: attribute list error
        0x0116: StatusKind.WARNING,  # PS3.7 C.4.3: attribute value out of range
        0x0110: StatusKind.TRANSIENT,  # PS3.7 C.5.6: processing failure; what the peer says when it is in trouble
        0x0111: StatusKind.PERMANENT,  # PS3.7 C.5.3: duplicate SOP instance
        0x0112: StatusKind.PERMANENT,  # PS3.7 C.5.11: no such SOP instance
        0x0117: StatusKind.PERMANENT,  # PS3.7 C.5.7: invalid SOP instance
        0x0118: StatusKind.PERMANENT,  # PS3.7 C.5.12: no such SOP class
        0x0119: StatusKind.PERMANENT,  # PS3.7 C.5.2: class-instance conflict
        0x0122: StatusKind.PERMANENT,  # PS3.7 C.5.15: SOP class not supported
        0x0124: StatusKind.PERMANENT,  # PS3.7 C.5.22: not authorised
        0x0210: StatusKind.PERMANENT,  # PS3.7 C.5.9: duplicate invocation
        0x0211: StatusKind.PERMANENT,  # PS3.7 C.5.14: unrecognised operation
        0x0212: StatusKind.PERMANENT,  # PS3.7 C.5.10: mistyped argument
        0x0213: StatusKind.TRANSIENT,  # PS3.7 C.5.13: resource limitation
    }
)


def classify(status: int) -> StatusKind:
    """What a C-STORE status means (PS3.4 Table B.2-1, PS3.7 C); an unknown one is a permanent failure."""
    if status in STATUSES:
        return STATUSES[status]
    if status & 0xF000 == 0xB000:  # coercion, elements discarded, does not match the SOP class
        return StatusKind.WARNING
    if status & 0xFF00 == 0xA700:  # refused: out of resources
        return StatusKind.TRANSIENT
    return StatusKind.PERMANENT  # 0xA8xx, 0xA9xx, 0xCxxx, 0x01xx and what nobody defined


def error_of(status: int) -> PeerError | None:
    """Error for a status that a destination gave, or None if it took the object."""
    kind = classify(status)
    if kind is StatusKind.TRANSIENT:
        return PeerError("peer-out-of-resources", status=f"x{status:04X}")
    if kind is StatusKind.PERMANENT:
        return PeerRefusal("peer-refused-object", status=f"x{status:04X}")
    return None


#: What a peer says that accepted the presentation context and does not take the SOP Class all the same (PS3.7 C.5).
_SOP_CLASS_NOT_SUPPORTED: Final = frozenset({0x0118, 0x0122})


def is_not_supported(status: int | None, error: PeerError | None) -> bool:
    """Whether an answer says that the SOP Class is not supported, as a context or as a status."""
    if status is not None:
        return status in _SOP_CLASS_NOT_SUPPORTED
    return error is not None and error.code == "peer-context-refused"


class Rejection(NamedTuple):
    """A-ASSOCIATE-RJ (PS3.8 Table 9-21): result, source and reason."""

    result: int
    source: int
    reason: int


PROTOCOL_VERSION_NOT_SUPPORTED: Final = Rejection(1, 2, 2)
APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Rejection(1, 1, 2)
CALLING_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 3)
CALLED_AE_TITLE_NOT_RECOGNISED: Final = Rejection(1, 1, 7)
TEMPORARY_CONGESTION: Final = Rejection(2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Final = Rejection(2, 3, 2)

_REJECTED_TRANSIENT: Final = 2
_SOURCE_PRESENTATION: Final = 3


def error_of_rejection(rejection: Rejection) -> PeerError:
    """Error for an association that was rejected: retryable if the peer says transient, or is only busy."""
    transient = rejection.result == _REJECTED_TRANSIENT or rejection.source == _SOURCE_PRESENTATION
    kind = PeerError if transient else PeerRefusal
    return kind("peer-rejected", result=rejection.result, source=rejection.source, rejection_reason=rejection.reason)
