"""What procedure steps (PS3.4 F.7) and availability notifications (PS3.4 R) say of the completeness of studies.

It is read out of their Data Sets and handed on; nothing else of them is kept.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, MutableSequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Protocol

from pydicom.dataset import Dataset

from dicomnode.encoded import Limits, read_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError
from dicomnode.network import dimse
from dicomnode.network.intake import Peer
from dicomnode.network.session import Call, Reply, Service
from dicomnode.network.status import (
    DUPLICATE_INSTANCE,
    INVALID_VALUE,
    MISSING_ATTRIBUTE,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
)

_ORDINARY_BYTES: Final = 64 * 1024  # some six hundred images are named in so many
_COSTLY: Final = threading.Lock()
PROCEDURE_STEP: Final = "1.2.840.10008.3.1.2.3.3"
INSTANCE_AVAILABILITY: Final = "1.2.840.10008.5.1.4.33"
_UNAVAILABLE: Final = "UNAVAILABLE"  # PS3.3 C.4.23.1.1


class StepState(StrEnum):
    """State of a performed procedure step (PS3.3 C.4.14), as the ledger writes it."""

    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"
    #: Discontinued since it was begun for another patient or procedure.
    WRONG_ENTRY = "wrong-entry"


#: Incorrect Worklist Entry Selected, a reason to discontinue (PS3.16 CID 9300).
_WRONG_ENTRY: Final = ("110514", "DCM")

#: Performed Procedure Step Status (0040,0252).
_STATES: Final = MappingProxyType(
    {
        "IN PROGRESS": StepState.IN_PROGRESS,
        "COMPLETED": StepState.COMPLETED,
        "DISCONTINUED": StepState.DISCONTINUED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is known of a procedure step, or of a notification, with UIDs as they came.

    Attributes
    ----------
    instances
        SOP Instance UIDs that it names; None where it says nothing of them.
    undeclared
        AE title of who sent it, where that is a modality by its own word and the configuration does not say what it is.
    """

    sop_instance_uid: str
    study_instance_uids: tuple[str, ...]
    state: StepState | None
    instances: tuple[str, ...] | None
    undeclared: str = ""


class ProcedureBook(Protocol):
    """Whoever keeps steps, durably."""

    def begin(self, step: Step) -> bool:
        """Enter one; False where it is known."""
        ...

    def update(self, step: Step) -> StepState | None:
        """Change one that is in progress; the state that it was in before, None where it is not known."""
        ...


def procedure_services(book: ProcedureBook, limits: Limits) -> dict[tuple[str, int], Service]:
    """The services, by SOP Class and Command Field."""

    def create(call: Call, data: Dataset) -> Reply:
        uid = call.command.affected_sop_instance_uid or f"2.25.{uuid.uuid4().int}"
        studies = _studies(data)
        state = _STATES.get(str(data.get("PerformedProcedureStepStatus", "")))
        if not studies or "PerformedProcedureStepStatus" not in data:
            return Reply(MISSING_ATTRIBUTE)
        if state is not StepState.IN_PROGRESS:  # PS3.4 F.7.2.1.2
            return Reply(INVALID_VALUE)
        new = book.begin(replace(_step(uid, studies, state, data), undeclared=_undeclared(call.peer, data)))
        return Reply(SUCCESS if new else DUPLICATE_INSTANCE, sop_instance_uid=uid)

    def change(call: Call, data: Dataset) -> Reply:
        said = data.get("PerformedProcedureStepStatus")
        state = _STATES.get(str(said)) if said else None
        if said and state is None:
            return Reply(INVALID_VALUE)
        if state is StepState.DISCONTINUED and _WRONG_ENTRY in _reasons(data):
            state = StepState.WRONG_ENTRY
        before = book.update(_step(call.command.requested_sop_instance_uid, (), state, data))
        if before is None:
            return Reply(NO_SUCH_INSTANCE)
        return Reply(SUCCESS if before is StepState.IN_PROGRESS else PROCESSING_FAILURE)  # PS3.4 F.7.2.2.2

    def announce(call: Call, data: Dataset) -> Reply:
        uid = call.command.affected_sop_instance_uid or f"2.25.{uuid.uuid4().int}"
        study = str(data.get("StudyInstanceUID", ""))
        if not study or "ReferencedSeriesSequence" not in data:
            return Reply(MISSING_ATTRIBUTE)
        named = tuple(_available(data))
        step = Step(
            sop_instance_uid=uid, study_instance_uids=(study,), state=StepState.COMPLETED, instances=named or None
        )
        return Reply(SUCCESS if book.begin(step) else DUPLICATE_INSTANCE, sop_instance_uid=uid)

    return {
        (PROCEDURE_STEP, dimse.N_CREATE_RQ): reading(limits, create),
        (PROCEDURE_STEP, dimse.N_SET_RQ): reading(limits, change),
        (INSTANCE_AVAILABILITY, dimse.N_CREATE_RQ): reading(limits, announce),
    }


def reading(limits: Limits, act: Callable[[Call, Dataset], Reply]) -> Service:
    """A service of one reply whose Data Set is read first; one that cannot be is a processing failure.

    Long ones are read one at a time: each keeps the process that also answers for objects busy for a second or more.
    """

    def answer(call: Call) -> Reply:
        try:
            data = read_dataset(call.data_set, call.context.transfer_syntax, limits)
        except NodeError:
            return Reply(PROCESSING_FAILURE)
        return act(call, data)

    def serve(call: Call) -> Iterator[Reply]:
        with _COSTLY if len(call.data_set) > _ORDINARY_BYTES else nullcontext(), hushed():
            reply = answer(call)
        yield reply

    return serve


def items(data: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none where it is absent or no sequence."""
    value: Any = data.get(keyword)
    return [one for one in value if isinstance(one, Dataset)] if isinstance(value, MutableSequence) else []


def _studies(data: Dataset) -> tuple[str, ...]:
    found = (str(one.get("StudyInstanceUID", "")) for one in items(data, "ScheduledStepAttributesSequence"))
    return tuple(dict.fromkeys(uid for uid in found if uid))


def _reasons(data: Dataset) -> set[tuple[str, str]]:
    """Why a step was discontinued: code values and their schemes (PS3.3 C.4.14)."""
    return {
        (str(one.get("CodeValue") or "").strip(), str(one.get("CodingSchemeDesignator") or "").strip())
        for one in items(data, "PerformedProcedureStepDiscontinuationReasonCodeSequence")
    }


def _undeclared(peer: Peer, data: Dataset) -> str:
    """AE title of a caller that performs the step itself (PS3.3 C.4.13), unless somebody said whether it is a modality.

    Whoever passes the steps of others on names another station than himself.
    """
    title = peer.calling_ae_title.strip()
    is_said = peer.rule is not None and "modality" in peer.rule.model_fields_set
    return title if not is_said and str(data.get("PerformedStationAETitle", "")).strip() == title else ""


def _step(uid: str, studies: tuple[str, ...], state: StepState | None, data: Dataset) -> Step:
    named = None
    if "PerformedSeriesSequence" in data:
        named = tuple(dict.fromkeys(_performed(data)))
    return Step(sop_instance_uid=uid, study_instance_uids=studies, state=state, instances=named)


def _performed(data: Dataset) -> Iterator[str]:
    for series in items(data, "PerformedSeriesSequence"):
        for keyword in ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence"):
            for reference in items(series, keyword):
                if uid := str(reference.get("ReferencedSOPInstanceUID", "")):
                    yield uid


def _available(data: Dataset) -> Iterator[str]:
    for series in items(data, "ReferencedSeriesSequence"):
        for reference in items(series, "ReferencedSOPSequence"):
            uid = str(reference.get("ReferencedSOPInstanceUID", ""))
            if uid and str(reference.get("InstanceAvailability", "")) != _UNAVAILABLE:
                yield uid
