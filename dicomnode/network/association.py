"""What associations are made of: presentation contexts, and the few private points of pynetdicom that we need.

The order of transfer syntaxes: pynetdicom's acceptor goes through *its own* list and takes the first that the
requestor proposes (`presentation.negotiate_as_acceptor`, 3.0.4), so the order below is the node's preference
(PS3.8 9.3.3.2 leaves it to the acceptor): native first, then lossless, then lossy. An object that is lossy already
comes in a context that proposes its own syntax, or senders would have to decompress it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from queue import Empty
from typing import Any, Final

from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext, build_context
from pynetdicom.sop_class import Verification

from dicomnode.encoded import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.network.transport import Entity

# pynetdicom prints AE titles, UIDs and Data Sets; the node's own events say what happened, without them.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)

#: Any storage SOP Class: what pynetdicom is told for classes that it does not know, to serve them alike.
STORAGE_SERVICE_CLASS: Final = "1.2.840.10008.4.2"

#: Storage SOP Classes that left the standard (PS3.6 A) and still lie in archives.
RETIRED_STORAGE_CLASSES: Final = (
    "1.2.840.10008.5.1.1.27",  # Stored Print
    "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image
    "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image
    "1.2.840.10008.5.1.4.1.1.3",  # Ultrasound Multi-frame Image
    "1.2.840.10008.5.1.4.1.1.5",  # Nuclear Medicine Image
    "1.2.840.10008.5.1.4.1.1.6",  # Ultrasound Image
    "1.2.840.10008.5.1.4.1.1.8",  # Standalone Overlay
    "1.2.840.10008.5.1.4.1.1.9",  # Standalone Curve
    "1.2.840.10008.5.1.4.1.1.9.1",  # Waveform, trial
    "1.2.840.10008.5.1.4.1.1.10",  # Standalone Modality LUT
    "1.2.840.10008.5.1.4.1.1.11",  # Standalone VOI LUT
    "1.2.840.10008.5.1.4.1.1.12.3",  # X-Ray Angiographic Bi-Plane Image
    "1.2.840.10008.5.1.4.1.1.77.1",  # VL Image, trial
    "1.2.840.10008.5.1.4.1.1.77.2",  # VL Multi-frame Image, trial
    "1.2.840.10008.5.1.4.1.1.88.1",  # Text SR, trial
    "1.2.840.10008.5.1.4.1.1.88.2",  # Audio SR, trial
    "1.2.840.10008.5.1.4.1.1.88.3",  # Detail SR, trial
    "1.2.840.10008.5.1.4.1.1.88.4",  # Comprehensive SR, trial
    "1.2.840.10008.5.1.4.1.1.129",  # Standalone PET Curve
)

_NATIVE: Final = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian, retired
)
_LOSSLESS: Final = (
    "1.2.840.10008.1.2.1.98",  # uncompressed, its frames encapsulated
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 lossless only
    "1.2.840.10008.1.2.4.80",  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.70",  # JPEG lossless SV1
    "1.2.840.10008.1.2.4.57",  # JPEG lossless
    "1.2.840.10008.1.2.4.58",  # JPEG lossless, process 15, retired
    "1.2.840.10008.1.2.4.65",  # JPEG lossless, hierarchical, retired
    "1.2.840.10008.1.2.4.66",  # JPEG lossless, hierarchical, retired
    "1.2.840.10008.1.2.5",  # RLE
    "1.2.840.10008.1.2.4.201",  # HTJ2K lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K lossless RPCL
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 multi-component lossless
    "1.2.840.10008.1.2.4.110",  # JPEG XL lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL recompression of JPEG
    "1.2.840.10008.1.2.8.1",  # deflated image frames
)
_LOSSY: Final = (
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.81",  # JPEG-LS near-lossless
    "1.2.840.10008.1.2.4.51",  # JPEG extended
    "1.2.840.10008.1.2.4.50",  # JPEG baseline
    "1.2.840.10008.1.2.4.52",  # JPEG extended, retired
    "1.2.840.10008.1.2.4.53",  # JPEG spectral selection, retired
    "1.2.840.10008.1.2.4.54",
    "1.2.840.10008.1.2.4.55",  # JPEG full progression, retired
    "1.2.840.10008.1.2.4.56",
    "1.2.840.10008.1.2.4.59",  # JPEG hierarchical, retired
    "1.2.840.10008.1.2.4.60",
    "1.2.840.10008.1.2.4.61",
    "1.2.840.10008.1.2.4.62",
    "1.2.840.10008.1.2.4.63",
    "1.2.840.10008.1.2.4.64",
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 multi-component
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.100",  # MPEG-2 main profile, main level
    "1.2.840.10008.1.2.4.100.1",
    "1.2.840.10008.1.2.4.101",  # MPEG-2 main profile, high level
    "1.2.840.10008.1.2.4.101.1",
    "1.2.840.10008.1.2.4.102",  # H.264 high profile
    "1.2.840.10008.1.2.4.102.1",
    "1.2.840.10008.1.2.4.103",  # H.264 BD-compatible
    "1.2.840.10008.1.2.4.103.1",
    "1.2.840.10008.1.2.4.104",  # H.264 for 2D video
    "1.2.840.10008.1.2.4.104.1",
    "1.2.840.10008.1.2.4.105",  # H.264 for 3D video
    "1.2.840.10008.1.2.4.105.1",
    "1.2.840.10008.1.2.4.106",  # H.264 stereo
    "1.2.840.10008.1.2.4.106.1",
    "1.2.840.10008.1.2.4.107",  # HEVC main
    "1.2.840.10008.1.2.4.108",  # HEVC main 10
)
#: What the node takes, best first. JPIP (.4.94, .4.95, .4.204, .4.205: pixels elsewhere) and SMPTE streams (.7.x) not.
TRANSFER_SYNTAXES: Final = (*_NATIVE, *_LOSSLESS, *_LOSSY)

#: Services that the node both gives and asks for in associations that others open; of the rest it is the SCP alone.
_BOTH_ROLES: Final = frozenset({"1.2.840.10008.1.20.1"})  # Storage Commitment, push model (PS3.4 J.3)
_REJECTED: Final = frozenset({1, 2})  # PS3.8 Table 9-21: permanent, transient
#: PS3.8 9.3.2.2: context ids are the odd numbers of one byte.
MAXIMUM_CONTEXTS: Final = 128


class SharedContexts(list[PresentationContext]):
    """Contexts that pynetdicom need not copy for each association: nothing changes them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedContexts:
        return self


def storage_classes(private_sop_classes: Iterable[str] = ()) -> tuple[str, ...]:
    """Storage SOP Classes that the node takes: those of pynetdicom, retired ones, and private ones."""
    current = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
    return tuple(dict.fromkeys((*current, *RETIRED_STORAGE_CLASSES, *private_sop_classes)))


def accepted_contexts(private_sop_classes: Iterable[str] = ()) -> SharedContexts:
    """Contexts of the acceptor: verification, and every storage SOP Class in every transfer syntax."""
    template = build_context(Verification, list(TRANSFER_SYNTAXES))
    contexts = SharedContexts([build_context(Verification, list(_NATIVE))])
    for sop_class_uid in storage_classes(private_sop_classes):
        context = copy(template)
        context.abstract_syntax = sop_class_uid
        contexts.append(context)
    return contexts


def service_context(sop_class_uid: str) -> PresentationContext:
    """Context of a service beside C-STORE; of a few the peer may propose either role, or both (PS3.7 D.3.3.4)."""
    context = build_context(sop_class_uid, list(_NATIVE))
    if sop_class_uid in _BOTH_ROLES:
        context.scu_role = context.scp_role = True
    return context


def application_entity(ae_title: str) -> Entity:
    """An application entity in the node's name."""
    entity = Entity(ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return entity


def unread_rejection(association: Association) -> Any | None:
    """A-ASSOCIATE primitive of a rejection that pynetdicom received and did not look at; None where there is none.

    A peer that rejects and closes faster than `AE.associate` looks whether it is connected is taken for one that could
    not be reached (3.0.4): the answer then lies in the queue to the user.
    """
    waiting = association.dul.to_user_queue
    while True:
        try:
            primitive = waiting.get_nowait()
        except Empty:
            return None
        if isinstance(primitive, A_ASSOCIATE) and primitive.result in _REJECTED:
            return primitive


def exchange(association: Association, request: Any, context_id: int) -> Any | None:
    """Send one DIMSE request and wait for its response; None when none came.

    pynetdicom's public `send_c_store` decodes and encodes Data Sets anew; this sends the request as it is. It pauses
    the association's reactor as `send_c_store` does (private names of 3.0.4, held by a contract test), so that it
    does not take the response for a request. The association must have a `Gate`, as those of an `Entity` have.
    """
    with quiet(association):
        association.dimse.send_msg(request, context_id)
        _, response = association.dimse.get_msg(block=True)
    return response


def is_answer(response: Any, request: Any) -> bool:
    """Whether a message is the response to a request (PS3.7 9.3): of its service, to its Message ID, with a status.

    A peer that answers one request twice, or too late, has said nothing of the next.
    """
    return (
        type(response) is type(request)
        and bool(response.is_valid_response)
        and response.MessageIDBeingRespondedTo == request.MessageID
        and response.Status is not None
    )


@contextmanager
def quiet(association: Association) -> Iterator[None]:
    """While the association's reactor stands still: what comes is for whoever asked."""
    checkpoint = association._reactor_checkpoint
    checkpoint.clear()
    while not association._is_paused and association.is_alive():
        association.join(0.001)
    try:
        yield
    finally:
        checkpoint.set()
