"""What an answer of a destination, or none, means for an object that was sent to it.

Decides by the answer alone, and by C-FIND where a destination calls something a duplicate; what follows is `delivery`'s. Which
notes of ours an answer makes needless stands here, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from dicomnode.encoded import Limits, scan_header
from dicomnode.errors import NodeError, PeerError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.network.status import StatusKind, classify
from dicomnode.study import DeliveryRow, DeliveryState
from dicomnode.workflow.circuits import MENDED_BY_PEOPLE
from dicomnode.workflow.ports import Destination, Finder

#: PS3.7 C.5.3: duplicate SOP instance.
DUPLICATE: Final = 0x0111
#: Why a note was made, in the name of its form: the how manieth so, of what is or may be there, and the how manieth of these.
_WHY: Final = re.compile(r"\.(wrong|late)(\d*)(-unsure)?(\d*)")


def verdict_of_duplicate(peer: Destination, sent: OutgoingObject) -> tuple[DeliveryState, str | None]:
    """What "duplicate SOP instance" (PS3.7 C.5.3) means: ours of an earlier try, if the destination shows it."""
    try:
        held = holds(peer, sent)
    except PeerError as error:
        return (DeliveryState.WAITING, error.code) if error.retryable else (DeliveryState.REFUSED, "duplicate-unproven")
    return (DeliveryState.CONFIRMED, None) if held else (DeliveryState.REFUSED, "peer-refused-object")


def holds(peer: Finder, sent: OutgoingObject) -> bool:
    """Whether the destination shows the object; it must name it by itself: some give back whatever they are asked with."""
    header = scan_header(sent.encoded, sent.transfer_syntax_uid, Limits())
    query = {
        "StudyInstanceUID": header.study_instance_uid,
        "SeriesInstanceUID": header.series_instance_uid,
        "SOPInstanceUID": "",
    }
    return any(found.get("SOPInstanceUID") == header.sop_instance_uid for found in peer.find("IMAGE", query))


def verdict(outcome: StoreOutcome) -> tuple[DeliveryState, str | None]:
    """What a peer's answer means for the delivery: its state, and the code of what went wrong."""
    if outcome.status is not None:
        kind = classify(outcome.status)
        if kind in (StatusKind.SUCCESS, StatusKind.WARNING):
            return DeliveryState.CONFIRMED, None
        if kind is StatusKind.TRANSIENT:
            return DeliveryState.WAITING, "peer-out-of-resources"
        return DeliveryState.REFUSED, "peer-refused-object"
    error: NodeError | None = outcome.error
    if error is None or error.retryable or error.code in MENDED_BY_PEOPLE:
        return DeliveryState.WAITING, "peer-aborted" if error is None else error.code
    return DeliveryState.REFUSED, error.code


def replaced_notes(rows: Sequence[DeliveryRow]) -> list[DeliveryRow]:
    """Notes of ours that were refused and made anew: one that was confirmed names all that they named.

    It names what no confirmed note did when it was made. Not one that may have been confirmed then, and was not committed to.
    """
    done = {
        (row.destination, *_kind(row)) for row in rows if row.state is DeliveryState.CONFIRMED and not row.is_result
    }
    return [
        row
        for row in rows
        if row.state is DeliveryState.REFUSED and not row.is_result and not row.sent
        for kind, number in [_kind(row)]
        if kind and any(one[:2] == (row.destination, kind) and one[2] > number for one in done)
    ]


def _kind(row: DeliveryRow) -> tuple[str, tuple[int, int]]:
    """What a note of ours was made for, and the how manieth of its kind it is; no kind: that of newer results."""
    found = _WHY.fullmatch(row.form.removeprefix(f"key-objects.{row.destination}"))
    if found is None:
        return "", (0, 0)
    return found[1] + (found[3] or ""), (int(found[2] or 0), int(found[4] or 0))
