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
NOT_AUTHORISED: Final = 0x0124  # PS3.7 C.5.22
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


#: Ranges of statuses (PS3.4 Table B.2-1; PS3.7 Annex C for 0xFE00): mask, value under it, kind. The first that fits counts.
RANGES: Final = (
    (0xF000, 0xB000, StatusKind.WARNING),  # coercion, elements discarded, does not match the SOP class
    (
        0xFFF0,
        0xA770,
        StatusKind.PERMANENT,
    ),  # dcm4chee-arc: rejected before, or a rejection note that names what it lacks
    (0xFF00, 0xA700, StatusKind.TRANSIENT),  # refused: out of resources
    (0xFF00, 0xA900, StatusKind.PERMANENT),  # data set does not match the SOP class
    (0xF000, 0xC000, StatusKind.PERMANENT),  # cannot understand
    (0x0000, 0x0000, StatusKind.PERMANENT),  # what nobody defined
)

#: What a peer says with a warning (PS3.4 Table B.2-1, PS3.7 C.4).
WARNINGS: Final = MappingProxyType(
    {
        0x0001: "requested optional attributes are not supported",
        0x0107: "attribute list error",
        0x0116: "attribute value out of range",
        0xB000: "coercion of data elements",
        0xB006: "elements discarded",
        0xB007: "data set does not match SOP class",
    }
)


def classify(status: int) -> StatusKind:
    """What a C-STORE status means (PS3.4 Table B.2-1, PS3.7 C); an unknown one is a permanent failure."""
    if status in STATUSES:
        return STATUSES[status]
    return next(kind for mask, value, kind in RANGES if status & mask == value)


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
#: What a permanent rejection means, by source and reason (PS3.8 Table 9-21); what does not stand here is permanent.
REJECTIONS: Final = MappingProxyType(
    {
        (1, 1): StatusKind.PERMANENT,  # service-user: no reason given
        (1, 2): StatusKind.PERMANENT,  # service-user: application context name not supported
        (1, 3): StatusKind.PERMANENT,  # service-user: calling AE title not recognized
        (1, 7): StatusKind.PERMANENT,  # service-user: called AE title not recognized
        (2, 1): StatusKind.PERMANENT,  # ACSE: no reason given
        (2, 2): StatusKind.PERMANENT,  # ACSE: protocol version not supported
        (3, 0): StatusKind.TRANSIENT,  # presentation: reserved; the source that speaks is busy, not unwilling
        (3, 1): StatusKind.TRANSIENT,  # presentation: temporary congestion
        (3, 2): StatusKind.TRANSIENT,  # presentation: local limit exceeded
    }
)


def classify_rejection(rejection: Rejection) -> StatusKind:
    """Whether to ask again: a peer that says "rejected-transient" (PS3.8 Table 9-21) is believed whatever its reason."""
    if rejection.result == _REJECTED_TRANSIENT:
        return StatusKind.TRANSIENT
    return REJECTIONS.get((rejection.source, rejection.reason), StatusKind.PERMANENT)


def error_of_rejection(rejection: Rejection) -> PeerError:
    """Error for an association that was rejected: retryable if that may pass by itself."""
    kind = PeerError if classify_rejection(rejection) is StatusKind.TRANSIENT else PeerRefusal
    return kind("peer-rejected", result=rejection.result, source=rejection.source, rejection_reason=rejection.reason)
